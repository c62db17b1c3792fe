"""Places of the sample's cameras from the people in it: the table of docs/extrinsics.md.

python benchmarks/extrinsics.py [--json FILE]; needs `pose3d fetch` of the sample and the heavy model; about a minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from pose3d_ros.cli.calibrate_videos import cameras_of
from pose3d_ros.cli.evaluate_sample import CALIBRATION, REFERENCE_MODEL, load_views
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.progress import progress
from pose3d_ros.cli.sample_reference import View, build_reference
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.fuse.extrinsics.adjust import places_of
from pose3d_ros.fuse.extrinsics.estimate import ExtrinsicsSettings, estimate
from pose3d_ros.fuse.extrinsics.frame import fitted
from pose3d_ros.fuse.extrinsics.tracks import sightings, watched
from pose3d_ros.fuse.triangulate import triangulate
from pose3d_ros.pipeline import Pipeline
from pose3d_ros.records import Person2D
from pose3d_ros.runtime.store import ModelStore

WAYS = {
    'refined': ExtrinsicsSettings(),
    'refined, places to 0.02 m': ExtrinsicsSettings(place_sigma=0.02),
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


def measure(views: list[View], people: list[list[list[Person2D]]], poses: np.ndarray) -> dict[str, float]:
    """Return the figures of poses (V, 4, 4) against those of the views."""
    truth = np.array([view.camera_T_world for view in views])
    reference = build_reference([View(view.name, view.camera, pose) for view, pose in zip(views, poses)], people)
    best = fitted(poses, truth, keep_size=False)
    turns = Rotation.from_matrix(best[:, :3, :3] @ np.swapaxes(truth[:, :3, :3], 1, 2)).magnitude()
    size = [np.linalg.norm(places_of(each) - places_of(each).mean(axis=0)) for each in (poses, truth)]
    return {'reprojection_px': reference.reprojection_px, 'cameras_dropped': len(views) * reference.dropped_share,
            'limb_cv': reference.limb_variation, 'worst_deg': float(np.degrees(turns.max())),
            'worst_m': float(np.linalg.norm(places_of(best) - places_of(truth), axis=1).max()),
            'size_ratio': float(size[0] / size[1]),
            'known_points_px': known_points_px(poses, truth, float(np.mean([view.camera.fx for view in views])))}


def main() -> None:
    """Measure what is shipped, every way, and the reference itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_json_option(parser)
    args = parser.parse_args()
    folder, views = Path(ModelStore().path('sample')), load_views(config_file(CALIBRATION))
    shipped = {name: camera.camera_T_world for name, camera in cameras_of(
        config_file(CALIBRATION), folder / 'Calib.qca.txt', [Path(view.name) for view in views], []).items()}
    found = detect(views, folder)
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
        write_json(args.json, results)


if __name__ == '__main__':
    main()
