"""`pose3d run --together`: the synchronised videos of several calibrated cameras to one set of people in the world."""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.calibration import CalibratedCamera, load_calibration
from pose3d_ros.cli.agreement import Agreement
from pose3d_ros.cli.body_export import remove_exports
from pose3d_ros.cli.engines import wanted
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.fused_picture import FusedPictures
from pose3d_ros.cli.progress import progress
from pose3d_ros.cli.recording import Recording, percentiles
from pose3d_ros.cli.sample_reference import limb_variation
from pose3d_ros.cli.synchronised import Shots, Synchronised
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.fuse.fuser import Fuser
from pose3d_ros.fuse.views import View
from pose3d_ros.pipeline import Pipeline, run_together
from pose3d_ros.records import Frame, Person3D
from pose3d_ros.skeleton import LIMBS12, select

WORLD = 'world'
LONGEST = 1920      # px, of the annotated video: several images share it
_FEWEST_FRAMES = 10  # of a person, to say how steady its limbs are


def run(args: argparse.Namespace) -> int:
    """Run the pipelines of all cameras and the fusion over the videos."""
    cameras = cameras_of(args.calibration, args.videos, args.cameras)
    videos = {name: VideoReader(path) for name, path in zip(cameras, args.videos)}
    for name, video in videos.items():
        video.check_size(cameras[name].camera)
    if args.offsets and len(args.offsets) != len(videos):
        raise UserError(f'--offsets: {len(args.offsets)} given for {len(videos)} videos; give one for each, in order')
    footage = Synchronised(videos, args.offsets)
    pipelines = Pipeline.open_group(len(videos), detector_model=args.model, engines=wanted(args), search=args.search,
                                    stature=args.stature, lifter=args.lifter)
    team = Team(dict(zip(cameras, pipelines)), cameras)
    try:
        record(team, footage, args.out)
    finally:
        team.close()
    return 0


def cameras_of(calibration: Path, videos: Sequence[Path], names: Sequence[str] = ()) -> dict[str, CalibratedCamera]:
    """Return the camera of each video by name: as names say, in order, else as the videos are called.

    Raises UserError for a single video, two videos of one camera, and cameras that are unknown or have no place.
    """
    if len(videos) < 2:
        raise UserError('the videos of two cameras at least are needed to fuse what they show')
    if names and len(names) != len(videos):
        raise UserError(f'--cameras: {len(names)} given for {len(videos)} videos; give one for each, in order')
    known = load_calibration(calibration)
    chosen: dict[str, CalibratedCamera] = {}
    for video, name in zip(videos, names or [video.stem for video in videos]):
        if name not in known:
            raise UserError(f'{calibration}: no camera {name!r}; it has: {", ".join(known)}. Say which camera each '
                            'video is of with --cameras, in the order of the videos')
        if name in chosen:
            raise UserError(f'{video}: another video is of camera {name!r} already; a camera has one video (--cameras '
                            'says which camera each is of)')
        if known[name].camera_T_world is None:
            raise UserError(f'{calibration}: camera {name!r} has no camera_T_world; without its place in the world its '
                            'people cannot be brought together with others')
        chosen[name] = known[name]
    return chosen


class Team:
    """The pipelines of several cameras in their places, and the fusion of what they see."""

    def __init__(self, pipelines: Mapping[str, Pipeline], cameras: Mapping[str, CalibratedCamera],
                 fuser: Fuser | None = None) -> None:
        """pipelines: by camera, of one group; cameras: all with places."""
        self.cameras = dict(cameras)
        self.fuser = fuser or Fuser()
        self.stage_ms: dict[str, list[float]] = defaultdict(list)
        self.agreement = Agreement(cameras)
        self._pipelines = dict(pipelines)

    def __call__(self, shots: Shots) -> list[Person3D]:
        """Return the people in the world at one moment."""
        names = list(shots.images)
        frames = [Frame(image, stamp, self.cameras[name].camera, name) for name, (stamp, image) in shots.images.items()]
        results = run_together([self._pipelines[name] for name in names], frames) if frames else []
        views = []
        for name, frame, result in zip(names, frames, results):
            pose, camera = self.cameras[name].camera_T_world, frame.camera
            assert pose is not None  # cameras_of() has seen to it
            views.append(View(name, pose, frame.stamp_ns, result.people_2d, float(np.sqrt(camera.fx * camera.fy)),
                              camera.width, camera.height, result.people))
        started = time.perf_counter()
        people = self.fuser(views, shots.stamp_ns)
        self.stage_ms['fuse'].append(1e3 * (time.perf_counter() - started))
        self.agreement.add(views, people)
        if results:  # detection is one call for all cameras, what follows is of each
            self.stage_ms['detect'].append(results[0].stage_ms['detect'])
            for stage in ('track', 'lift', 'refine'):
                self.stage_ms[stage].append(sum(result.stage_ms[stage] for result in results))
        return people

    def close(self) -> None:
        """Release the networks."""
        for pipeline in self._pipelines.values():
            pipeline.close()


def record(team: Team, footage: Synchronised, out: Path) -> dict[str, Any]:
    """Run the team over the footage and leave all files in a folder; return summary.json."""
    pictures = FusedPictures(team.cameras)
    tracks: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    counts: Counter[int] = Counter()
    remove_exports(out)
    started = time.perf_counter()
    with Recording(out, footage.fps, footage.count, pictures.picture, LONGEST) as recording:
        for shots in progress(footage, total=footage.count or None, unit='frame'):
            people = team(shots)
            recording.add_people(shots.stamp_ns, WORLD, people)
            recording.add_image(shots.stamp_ns, pictures.draw(
                {name: image for name, (_, image) in shots.images.items()}, people))
            counts[len(people)] += 1
            for person in people:
                tracks[person.id].append(select(person.position, person.skeleton, LIMBS12))
        if min(footage.missing.values()) == recording.frames:
            raise UserError('the videos hold no images that can be decoded')
        summary = {
            'people': people_figures(counts, len(tracks)),
            'fps': round(recording.frames / (time.perf_counter() - started), 1),
            'stage_ms': {stage: percentiles(team.stage_ms[stage])['p50']
                         for stage in ('detect', 'track', 'lift', 'refine', 'fuse')},
            'limb_variation': round(steadiness(tracks.values()), 4),
            'cameras': {name: {'video': str(footage.videos[name].path), 'missing_frames': footage.missing[name],
                               **team.agreement.figures(name)} for name in team.cameras},
            'fuser': dict(sorted(team.fuser.counters.items())),
        }
        recording.finish(summary)
    for name, missing in footage.missing.items():
        if missing:
            print(f'{footage.videos[name].path}: {missing} of {recording.frames} frames could not be decoded; the '
                  'other cameras went on without them')
    print(f'{recording.frames_with_people} of {recording.frames} frames with people; see {out}')
    return summary


def people_figures(counts: Mapping[int, int], ids: int) -> dict[str, Any]:
    """Return how many people there were; counts: frames by their number of people, ids: how many people in all."""
    return {'mean': round(sum(number * times for number, times in counts.items()) / max(sum(counts.values()), 1), 2),
            'ids': ids, 'frames_by_number': {str(number): counts[number] for number in sorted(counts)}}


def steadiness(tracks: Any) -> float:
    """Return how much the limbs of people change their length: std / mean, mean over limbs, then over people's frames.

    tracks: of each person a list of its limb joints (12, 3) m over the frames. NaN where nobody was there for long.
    """
    known = [np.array(track) for track in tracks if len(track) >= _FEWEST_FRAMES]
    values = np.array([limb_variation(track) for track in known])
    weights = np.array([len(track) for track in known])
    told = np.isfinite(values)
    return float(np.average(values[told], weights=weights[told])) if told.any() else float('nan')
