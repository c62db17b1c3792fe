"""Places of the sample's cameras from the people in it: the table of docs/extrinsics.md.

python benchmarks/extrinsics.py [--joints FILE] [--json FILE]; needs `pose3d fetch` of the sample and the heavy model.
About a minute; --joints keeps what was detected, for another time.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).resolve().parent))

from board import board_rms_px  # noqa: E402

from pose3d_ros.cli.calibrate_videos import cameras_of  # noqa: E402
from pose3d_ros.cli.evaluate_sample import CALIBRATION, REFERENCE_MODEL, load_views  # noqa: E402
from pose3d_ros.cli.figures import add_json_option, print_table, write_json  # noqa: E402
from pose3d_ros.cli.places import config_file  # noqa: E402
from pose3d_ros.cli.progress import progress  # noqa: E402
from pose3d_ros.cli.sample_reference import View, build_reference, largest, limb_variation  # noqa: E402
from pose3d_ros.cli.video import VideoReader  # noqa: E402
from pose3d_ros.fuse.extrinsics.adjust import places_of  # noqa: E402
from pose3d_ros.fuse.extrinsics.estimate import ExtrinsicsSettings, estimate  # noqa: E402
from pose3d_ros.fuse.extrinsics.frame import fitted  # noqa: E402
from pose3d_ros.fuse.extrinsics.tracks import sightings, watched  # noqa: E402
from pose3d_ros.fuse.triangulate import triangulate  # noqa: E402
from pose3d_ros.pipeline import Pipeline  # noqa: E402
from pose3d_ros.records import Person2D  # noqa: E402
from pose3d_ros.runtime.store import ModelStore  # noqa: E402
from pose3d_ros.skeleton import LIMBS12, select  # noqa: E402

WAYS = {
    'refined': ExtrinsicsSettings(),
    'refined, places to 0.05 m': ExtrinsicsSettings(place_sigma=0.05),
    'refined, places a start only': ExtrinsicsSettings(place_sigma=0.0),
    'refined, in step': ExtrinsicsSettings(clocks=False),
    'from nothing, size of the places': ExtrinsicsSettings(refine=False),
    'from nothing, stature 1.72 m': ExtrinsicsSettings(refine=False, stature=1.72),
}
AHEAD, REACH, POINTS = 4.0, 0.4, 60  # m before the cameras, m around there: the points known by the reference


def detect(views: list[View], folder: Path) -> list[list[tuple[int, list[Person2D]]]]:
    """Return the tracked people of each view, frame by frame with their stamps."""
    pipeline, found = Pipeline.open(detector_model=REFERENCE_MODEL), []
    for view in views:
        pipeline.reset()
        frames = VideoReader(folder / f'{view.name}.mp4').frames(view.camera)
        found.append([(frame.stamp_ns, pipeline.track(pipeline.detect(frame), frame.stamp_ns))
                      for frame in progress(frames, desc=view.name, unit='frame')])
    pipeline.close()
    return found


def known_points_px(poses: np.ndarray, truth: np.ndarray, focal: float) -> float:
    """Return the RMS reprojection [px] of points that poses (V, 4, 4) triangulate, projected by the true ones."""
    ahead = np.array([0.0, 0.0, AHEAD, 1.0])
    middle = np.mean([np.linalg.inv(pose) @ ahead for pose in truth], axis=0)[:3]
    points = middle + np.random.default_rng(0).uniform(-REACH, REACH, (POINTS, 3))
    local = np.einsum('vij,nj->vni', truth[:, :3, :3], points) + truth[:, None, :3, 3]
    residual = triangulate(local[..., :2] / local[..., 2:], poses, 30 / focal, gate=10.0).residual
    return float(np.sqrt(np.mean((residual * focal) ** 2)))


def agreement(views: list[View], people: list[list[list[Person2D]]], poses: np.ndarray) -> dict[str, float]:
    """Return how well the twelve limb joints of the man agree, each frame for itself, triangulated as in fusion.

    Joints weigh by their own sigma; what is 4 sigmas off in a view is left out there. Distances are those of the views
    used; limb lengths as in limb_variation(): the eight bones of arms and legs, nothing smoothed, nothing left out.
    """
    rays, sigma = (np.full((len(views), len(people[0]), len(LIMBS12), *shape), np.nan) for shape in ((2,), ()))
    focal = np.array([np.sqrt(view.camera.fx * view.camera.fy) for view in views])[:, None, None]
    for view, frames in enumerate(people):
        for frame, found in enumerate(frames):
            man = largest(found)
            if man is not None:
                rays[view, frame] = select(man.rays, man.skeleton, LIMBS12)
                sigma[view, frame] = select(man.sigma, man.skeleton, LIMBS12, axis=-1)
    result = triangulate(rays, poses, np.nan_to_num(sigma, nan=1.0) / focal)
    off = (result.residual * focal)[result.used]
    seen = np.isfinite(result.residual).sum()
    return {'median_px': float(np.median(off)), 'mean_px': float(np.mean(off)),
            'cameras_dropped': float(len(views) * (1 - result.used.sum() / max(seen, 1))),
            'limb_cv': limb_variation(result.points)}


def measure(views: list[View], people: list[list[list[Person2D]]], poses: np.ndarray) -> dict[str, float]:
    """Return the figures of poses (V, 4, 4): agreement, the board, and against the places of the views.

    equal_*: agreement with all joints held for equally exact, 5 px, as in `pose3d evaluate sample`.
    """
    truth = np.array([view.camera_T_world for view in views])
    equal = build_reference([View(view.name, view.camera, pose) for view, pose in zip(views, poses)], people)
    best = fitted(poses, truth, keep_size=False)
    turns = Rotation.from_matrix(best[:, :3, :3] @ np.swapaxes(truth[:, :3, :3], 1, 2)).magnitude()
    size = [np.linalg.norm(places_of(each) - places_of(each).mean(axis=0)) for each in (poses, truth)]
    return {**agreement(views, people, poses), 'board_rms_px': board_rms_px(views, poses),
            'equal_mean_px': equal.reprojection_px, 'equal_dropped': len(views) * equal.dropped_share,
            'equal_limb_cv': equal.limb_variation, 'worst_deg': float(np.degrees(turns.max())),
            'worst_m': float(np.linalg.norm(places_of(best) - places_of(truth), axis=1).max()),
            'size_ratio': float(size[0] / size[1]),
            'known_points_px': known_points_px(poses, truth, float(np.mean([view.camera.fx for view in views])))}


def detected(views: list[View], folder: Path, kept: Path | None) -> list[list[tuple[int, list[Person2D]]]]:
    """Return what detect() does, or did when it was kept in a file of one's own."""
    if kept is not None and kept.exists():
        return pickle.loads(kept.read_bytes())
    found = detect(views, folder)
    if kept is not None:
        kept.write_bytes(pickle.dumps(found))
    return found


def main() -> None:
    """Measure what is shipped, every way, and the reference itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--joints', type=Path, metavar='FILE', help='keep what is detected there, or take it')
    add_json_option(parser)
    args = parser.parse_args()
    folder, views = Path(ModelStore().path('sample')), load_views(config_file(CALIBRATION))
    shipped = {name: camera.camera_T_world for name, camera in cameras_of(
        config_file(CALIBRATION), folder / 'Calib.qca.txt', [Path(view.name) for view in views], []).items()}
    found = detected(views, folder, args.joints)
    people = [[people for _, people in frames] for frames in found]
    cameras = [watched(view.name, view.camera, sightings(frames)) for view, frames in zip(views, found)]
    results = {'as shipped': measure(views, people, np.array(list(shipped.values())))}
    for way, settings in WAYS.items():
        done = estimate(cameras, shipped, settings)
        results[way] = {**measure(views, people, done.camera_T_world),
                        'worst_offset_ms': float(1e3 * np.abs(done.offsets).max())}
    results['reference'] = measure(views, people, np.array([view.camera_T_world for view in views]))
    keys = list(dict.fromkeys(key for values in results.values() for key in values))
    print_table([['', *keys], *([way, *(f'{values[key]:.3f}' if key in values else '-' for key in keys)]
                                for way, values in results.items())])
    if args.json:
        main_way = results['refined']
        write_json(args.json, {
            'sample': {'reprojection_px': main_way['median_px'],
                       **{key: main_way[key] for key in ('cameras_dropped', 'limb_cv', 'board_rms_px')}}, **results})


if __name__ == '__main__':
    main()
