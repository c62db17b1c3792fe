"""Adaptation to a site on the sample footage: fitted to its first 60 %, measured on its last 40 % (docs/adapt.md).

python benchmarks/site_sample.py [--data MOCAP.npz] [--out DIR] [--json FILE]; needs `pose3d fetch` of the sample, of
the full and the heavy model, and PyTorch. What is detected, and a training that was interrupted, stay in --out.

Measured apart from what the command says of itself: the lifters run as in a node over all four videos, and in the last
40 % of the frames one camera's man is compared with where the others detected him (cross-view error), and with the
triangulation of all four by the heavy model, as `pose3d evaluate sample` does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pose3d_ros.cli.adapt import adapted, add_parser, command_of, learnable
from pose3d_ros.cli.adapt_report import verdict, write_report
from pose3d_ros.cli.evaluate_sample import CALIBRATION, DEFAULT_MODEL, REFERENCE_MODEL, load_views
from pose3d_ros.cli.figures import print_table, write_json
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.sample_reference import View, build_reference
from pose3d_ros.cli.sample_scores import Scores, add_up, on_subject, score
from pose3d_ros.cli.site_views import Footage, footage_of
from pose3d_ros.fuse import views as fuse_views
from pose3d_ros.lift import DEFAULT_LIFTER, Lifter
from pose3d_ros.records import Person3D
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.store import ModelStore
from pose3d_ros.skeleton import LIMBS12, select

HOLD_OUT = 0.4


def main(words: Sequence[str]) -> int:
    """Adapt, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('out/site_sample'))
    parser.add_argument('--data', type=Path, nargs='+')
    parser.add_argument('--minutes', type=float, default=float('inf'))
    parser.add_argument('--steps', type=int)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path)
    own = parser.parse_args(words)
    given = {name: getattr(own, name) for name in ('data', 'minutes', 'steps', 'seed')}
    views = load_views(config_file(CALIBRATION))
    args = adapt_arguments(views, own.out, given)
    footage = footage_of(args, own.out / f'people_{DEFAULT_MODEL}.npz')
    report = adapted(args, footage, learnable(args.lifter, own.out))
    write_report(own.out / 'report.html', report, footage, command_of(args))
    print(verdict(report))
    args.model = REFERENCE_MODEL
    heavy = footage_of(args, own.out / f'people_{REFERENCE_MODEL}.npz')
    reference = build_reference(views, [[view.people_2d for view in heavy.views[each.name]] for each in views])
    frames = len(reference.points)
    first = round((1 - HOLD_OUT) * frames)
    figures: dict[str, dict[str, float]] = {}
    for name, chosen in (('before', DEFAULT_LIFTER), ('after', own.out / 'lifter.onnx' if report.adapted else None)):
        lifted = {view.name: lift(footage.views[view.name], view, chosen) for view in views}
        parts = [held_out(view, reference.in_view(view), footage, lifted[view.name], first) for view in views]
        found = add_up(parts).figures()
        figures[name] = {'crossview_px': crossview(views, footage, reference.points, lifted, first),
                         **{key: found[key] for key in ('mrpe_mm', 'mpjpe_mm', 'pa_mpjpe_mm')}}
    show_and_write(figures, report.adapted, own.json)
    return 0


def adapt_arguments(views: Sequence[View], out: Path, given: dict[str, object]) -> argparse.Namespace:
    """Return the arguments of `pose3d adapt` for the sample."""
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    folder = Path(ModelStore().path('sample'))
    args = parser.parse_args(['adapt', *(str(folder / f'{view.name}.mp4') for view in views), '--out', str(out),
                              '--calibration', str(config_file(CALIBRATION)), '--hold-out', str(HOLD_OUT),
                              '--model', DEFAULT_MODEL])
    vars(args).update(given)
    return args


def lift(seen: Sequence[fuse_views.View], view: View, name: str | Path) -> list[list[Person3D]]:
    """Return the people of a camera in space, frame by frame, by a lifter."""
    lifter = Lifter.open(name, engines=Wanted('cpu', threads=1))
    try:
        return [lifter(each.people_2d, view.camera, each.stamp_ns) for each in seen]
    finally:
        lifter.engine.close()


def held_out(view: View, points: np.ndarray, footage: Footage, lifted: list[list[Person3D]], first: int) -> Scores:
    """Return the scores of a camera in the frames from `first` on."""
    tracked = [each.people_2d for each in footage.views[view.name]][first:len(points)]
    return score(view.camera.project(points)[first:], points[first:], tracked, tracked, lifted[first:len(points)])


def crossview(views: Sequence[View], footage: Footage, reference: np.ndarray, lifted: dict[str, list[list[Person3D]]],
              first: int) -> float:
    """Return the mean over cameras and frames of the median distance [px], over joints and the other cameras, between
    the man as one camera places him and where the others detected him.
    """
    errors = []
    for frame in range(first, len(reference)):
        seen = {view.name: subject(view, footage, reference[frame], frame) for view in views}
        for view in views:
            person = seen[view.name]
            in_space = next((each for each in lifted[view.name][frame] if person and each.id == person.id), None)
            if in_space is None:
                continue
            world = np.linalg.inv(view.camera_T_world)
            points = select(in_space.position, in_space.skeleton, LIMBS12) @ world[:3, :3].T + world[:3, 3]
            off = []
            for other in views:
                there = seen[other.name]
                if other is not view and there is not None:
                    local = points @ other.camera_T_world[:3, :3].T + other.camera_T_world[:3, 3]
                    pixels = other.camera.project(local)
                    off.append(np.linalg.norm(pixels - select(there.pixels, there.skeleton, LIMBS12), axis=1))
            if off and np.isfinite(off).any():
                errors.append(float(np.nanmedian(off)))
    return float(np.mean(errors))


def subject(view: View, footage: Footage, points: np.ndarray, frame: int):  # noqa: ANN201 (a Person2D or None)
    """Return the man as a camera detected him in a frame, None where it did not."""
    local = points @ view.camera_T_world[:3, :3].T + view.camera_T_world[:3, 3]
    return next(iter(on_subject(footage.views[view.name][frame].people_2d, view.camera.project(local))), None)


def show_and_write(figures: dict[str, dict[str, float]], is_adapted: bool, path: Path | None) -> None:
    """Print the table, and write the figures."""
    before, after = figures['before'], figures['after']
    gains = {name: 1 - after[name] / before[name] for name in before}
    print_table([['last 40 %', *before], *([name, *(f'{value:.1f}' for value in row.values())]
                                          for name, row in figures.items()),
                 ['gain %', *(f'{100 * value:.1f}' for value in gains.values())]])
    if path:
        values = {'adapted': is_adapted, 'crossview_gain': gains['crossview_px'], 'mrpe_gain': gains['mrpe_mm'],
                  'mpjpe_gain': gains['mpjpe_mm'],
                  **{f'{when}.{name}': value for when, row in figures.items() for name, value in row.items()}}
        write_json(path, {f'site_sample.{name}': value for name, value in values.items()})


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
