"""`pose3d evaluate sample`: one camera at a time against what four cameras together say."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pose3d_ros.calibration import load_calibration
from pose3d_ros.cli.engines import BLAZEPOSE, add_engine_options, add_lifter_option, wanted
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.progress import progress
from pose3d_ros.cli.sample_reference import Reference, View, build_reference
from pose3d_ros.cli.sample_scores import Scores, add_up, score
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.detect import Detector
from pose3d_ros.lift import DEFAULT_LIFTER, Lifter
from pose3d_ros.pipeline import Pipeline
from pose3d_ros.records import Frame, Person2D, Person3D
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.store import ModelStore

CALIBRATION = 'samples/single_person.yaml'
DEFAULT_MODEL = 'full'
STATURE = 1.72  # m, of the man in the sample
REFERENCE_MODEL = 'heavy'
_TOP = ('person_share', 'id_switches', 'swap_share', 'raw_swap_share', 'part_swap_share')


@dataclass(frozen=True)
class Run:
    """What a pipeline gave for one video, one entry per frame: people as detected, with ids, and in space."""

    detected: list[list[Person2D]]
    tracked: list[list[Person2D]]
    lifted: list[list[Person3D]]


class Recorded:
    """A detector that remembers what it found, which the tracker may then relabel."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.found: list[list[Person2D]] = []

    def __call__(self, frame: Frame) -> list[Person2D]:
        """Detect and remember."""
        self.found.append(self._detector(frame))
        return self.found[-1]

    def reset(self) -> None:
        """Forget the past, what was found as well."""
        self._detector.reset()
        self.found = []


    def close(self) -> None:
        """Release the detector's networks."""
        self._detector.close()


class Replayed:
    """A detector that says again what another one found."""

    def __init__(self, found: list[list[Person2D]]) -> None:
        self.found = found
        self._frames = iter(found)

    def __call__(self, frame: Frame) -> list[Person2D]:
        """Return the people of the next frame."""
        return next(self._frames)

    def reset(self) -> None:
        """Start again."""
        self._frames = iter(self.found)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate sample`."""
    parser = subparsers.add_parser(
        'sample', help='real footage: four cameras watch one man on a beam',
        description='Mono 3D people of each sample camera against the robust triangulation of all four.')
    parser.add_argument('--models', nargs='+', choices=BLAZEPOSE, default=['full', 'heavy'],
                        help='2D models to evaluate (default: full heavy)')
    parser.add_argument('--stature', type=_stature, default=STATURE, metavar='M',
                        help='given to the lifter in the rows with stature (default: %(default)s, the man\'s own)')
    parser.add_argument('--frames', type=int, default=0, help='of each camera, from the start (default: all)')
    add_lifter_option(parser)
    add_engine_options(parser)
    add_json_option(parser)


def _stature(text: str) -> float:
    value = float(text)
    if not 0.5 <= value <= 2.5:
        raise argparse.ArgumentTypeError('expected metres, 0.5 to 2.5')
    return value


def run(args: argparse.Namespace) -> int:
    """Evaluate, print tables and write the JSON file."""
    folder = ModelStore().path('sample')
    views = load_views(config_file(CALIBRATION))
    videos = [VideoReader(Path(folder) / f'{view.name}.mp4') for view in views]
    models = list(dict.fromkeys(args.models))
    runs: dict[str, list[Run]] = {}
    for model in dict.fromkeys([REFERENCE_MODEL, *models]):
        runs[model], runs[f'{model}_stature'] = run_model(
            model, views, videos, wanted(args), args.stature, args.frames, args.lifter)
    reference = build_reference(views, [run.detected for run in runs[REFERENCE_MODEL]])
    scores = {name: [score(view.camera.project(reference.in_view(view)), reference.in_view(view), run.detected,
                           run.tracked, run.lifted) for view, run in zip(views, runs[name])]
              for name in (f'{model}{given}' for given in ('', '_stature') for model in models)}
    show(reference, views, scores)
    if args.json:
        write_json(args.json, figures(reference, views, scores))
    return 0


def load_views(path: Path) -> list[View]:
    """Return the cameras of a calibration file with their places. Raises UserError when a place is missing."""
    views = []
    for name, calibrated in load_calibration(path).items():
        if calibrated.camera_T_world is None:
            raise UserError(f'{path}: camera {name} has no camera_T_world; several cameras need their places')
        views.append(View(name, calibrated.camera, calibrated.camera_T_world))
    return views


def run_model(model: str, views: Sequence[View], videos: Sequence[VideoReader], engines: Wanted, stature: float,
              frames: int = 0, lifter: str = DEFAULT_LIFTER) -> tuple[list[Run], list[Run]]:
    """Run one pipeline over all videos, as a node would: frame by frame, stamped by the video's frame rate.

    frames: at most so many of each video, 0 for all; lifter: as of Pipeline.open. Returns what came of it when nothing
    is known of the people, and, from the same 2D joints, when they are known to be `stature` m tall.
    """
    pipeline = Pipeline.open(detector_model=model, engines=engines, lifter=lifter)
    detector = Recorded(pipeline.detect)
    unknown = _run(pipeline, [detector] * len(views), views, videos, frames, model)
    pipeline.lift.close()
    pipeline.lift = Lifter.open(lifter, engines=engines, stature=stature)
    given = _run(pipeline, [Replayed(run.detected) for run in unknown], views, videos, frames, f'{model}, stature')
    detector.close()
    pipeline.lift.close()
    return unknown, given


def _run(pipeline: Pipeline, detectors: Sequence[Recorded | Replayed], views: Sequence[View],
         videos: Sequence[VideoReader], frames: int, title: str) -> list[Run]:
    """Run a pipeline over all videos, each with its own detector."""
    runs = []
    with progress(total=sum(min(video.count, frames or video.count) for video in videos), unit='frame',
                  desc=f'{title:14}') as bar:
        for detector, view, video in zip(detectors, views, videos):
            pipeline.detect = detector  # type: ignore[assignment]
            pipeline.reset()
            found = Run(detector.found, [], [])
            for frame in islice(video.frames(view.camera), frames or None):
                result = pipeline(frame)
                found.tracked.append(result.people_2d)
                found.lifted.append(result.people)
                bar.update()
            runs.append(found)
    return runs


def show(reference: Reference, views: Sequence[View], scores: dict[str, list[Scores]]) -> None:
    """Print the reference's own quality, then a table with one line per model and camera."""
    print(f'reference: {len(reference.points)} frames, {len(views)} views of {REFERENCE_MODEL} 2D; reprojection '
          f'{reference.reprojection_px:.1f} px with {len(views) * reference.dropped_share:.2f} of {len(views)} views '
          f'dropped per joint, limb lengths vary by {100 * reference.limb_variation:.1f} %, '
          f'sides exchanged in {100 * reference.exchanged_share:.1f} % of the views')
    rows = [['model          camera', 'one person %', 'id switches', 'swapped %', '(unguarded)', '(arms, legs)',
             'MPJPE mm', 'PA-MPJPE mm', 'MRPE mm', 'MPJVE mm', 'MBLSTD mm', '3D %']]
    for model, parts in scores.items():
        for name, part in [*((view.name, part) for view, part in zip(views, parts)), ('all', add_up(parts))]:
            values = part.figures()
            rows.append([f'{model:13}  {name}', f'{100 * values["person_share"]:.1f}', f'{values["id_switches"]:.0f}',
                         f'{100 * values["swap_share"]:.1f}', f'{100 * values["raw_swap_share"]:.1f}',
                         f'{100 * values["part_swap_share"]:.1f}',
                         *(f'{values[key]:.0f}' for key in ('mpjpe_mm', 'pa_mpjpe_mm', 'mrpe_mm')),
                         *(f'{values[key]:.1f}' for key in ('mpjve_mm', 'mblstd_mm')),
                         f'{100 * values["frames_3d_share"]:.1f}'])
    print_table(rows)
    print('errors on the 12 limb joints; MPJPE after aligning the mid-hips, MRPE of the mid-hip in the camera frame;\n'
          '_stature: the lifter was told how tall the man is, which one camera cannot see; MPJVE from frame to frame,\n'
          'MBLSTD of the eight bones of the limbs;\n'
          'swapped: frames with left and right exchanged, of those where it can be told: the body after the guard,\n'
          'the body without the guard, arms and legs each by themselves after the guard')


def figures(reference: Reference, views: Sequence[View], scores: dict[str, list[Scores]]) -> dict[str, Any]:
    """Return the figures: the default model's under their own names, then by model, then by model and camera."""
    totals = {model: add_up(parts).figures() for model, parts in scores.items()}
    main = DEFAULT_MODEL if DEFAULT_MODEL in scores else next(iter(scores))
    return {
        **{key: value for key, value in totals[main].items() if key in _TOP},
        'frames': len(views) * len(reference.points),
        'reference_reprojection_px': reference.reprojection_px,
        'reference_dropped_views': len(views) * reference.dropped_share,
        'reference_limb_variation': reference.limb_variation,
        'reference_exchanged_share': reference.exchanged_share,
        **{model: {**totals[model], **{view.name: part.figures() for view, part in zip(views, parts)}}
           for model, parts in scores.items()},
    }
