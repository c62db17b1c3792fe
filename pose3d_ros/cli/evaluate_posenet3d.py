"""`pose3d evaluate posenet3d`: the tables of PoseNet3D, from the runs of `pose3d train posenet3d`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose3d_ros.body_model import MANNEQUIN
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.progress import progress
from pose3d_ros.cli.train_posenet3d import body_arrays

if TYPE_CHECKING:
    from pose3d_ros.train.posenet3d_tables import Figures, Scene, TrainedVariant

MOMENTS = 4000
TABLES = {
    'nine frames around the moment; [d]: with a detector\'s 2D': {
        'P-MPJPE': 'p_mpjpe_mm', 'P-MPJPE [d]': 'p_mpjpe_detected_mm', 'MPJVE': 'mpjve_gt_mm', 'MPJVE [d]': 'mpjve_mm',
        'MBLSTD': 'mblstd_gt_mm', 'MBLSTD [d]': 'mblstd_mm', 'flipped': 'flipped_share',
        'flipped [d]': 'flipped_detected_share'},
    'causal: nine frames that end at the moment; single: the moment, copied nine times': {
        'causal': 'p_mpjpe_causal_mm', 'causal [d]': 'p_mpjpe_causal_detected_mm', 'MPJVE': 'mpjve_causal_gt_mm',
        'MPJVE [d]': 'mpjve_causal_mm', 'single': 'p_mpjpe_single_mm', 'single [d]': 'p_mpjpe_single_detected_mm'},
    'bodies': {
        'joints outside': 'outside_share', 'by mm': 'outside_mm', '|shape|': 'shape_abs', 'turned by deg': 'turned_deg',
        'over 90 deg': 'turned_far_share', 'backwards': 'backwards_share'},
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate posenet3d`."""
    parser = subparsers.add_parser(
        'posenet3d', help='PoseNet3D: its tables, on a recording with truth',
        description='Evaluates the variants found in --runs on whole clips of a recording that none was trained on, '
                    'every view by itself: 14 joints, in mm. MPJVE is per frame at 30 Hz; it and MBLSTD are of '
                    'sequences that were brought to the truth frame by frame (rotation, shift and scale), as P-MPJPE '
                    'does.')
    parser.add_argument('--runs', type=Path, required=True, metavar='DIR', help='the --out of `pose3d train posenet3d`')
    parser.add_argument('--recording', type=Path, required=True, metavar='NPZ',
                        help='of `pose3d record --split test --errors none`')
    parser.add_argument('--truth', type=Path, required=True, metavar='NPZ', help='its true joints')
    parser.add_argument('--detected', type=Path, nargs=2, metavar='NPZ',
                        help="another recording, with a detector's errors, and its true joints: for smoothness, and "
                             'P-MPJPE a second time')
    parser.add_argument('--body-model', type=Path, default=MANNEQUIN, metavar='NPZ',
                        help='that the students were trained with (default: the mannequin that ships)')
    parser.add_argument('--moments', type=int, default=MOMENTS, metavar='N',
                        help='of a longer recording some clips are left out, evenly (default %(default)s; 0: all)')
    parser.add_argument('--pictures', type=Path, metavar='DIR', help='also draw what the tables say')
    parser.add_argument('--threads', type=int, default=0, metavar='N', help='0: as many as there are cores')
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate what there is, print tables."""
    from pose3d_ros.train.loop import CheckpointError, limit_threads
    from pose3d_ros.train.recording import RecordingError

    if args.threads:
        limit_threads(args.threads)
    try:
        runs = _load(args)
        scene = _scene(args.recording, args.truth, args.moments)
        detected = _scene(args.detected[0], args.detected[1], args.moments) if args.detected else None
    except (CheckpointError, RecordingError) as error:
        raise UserError(str(error)) from error
    found = evaluate(runs, scene, detected)
    if args.pictures:
        from pose3d_ros.cli.posenet3d_pictures import draw

        for path in draw(args.pictures, runs, scene, detected or scene, found):
            print(path)
    if args.json:
        write_json(args.json, found)
    return 0


def _load(args: argparse.Namespace) -> dict[str, TrainedVariant]:
    from pose3d_ros.nets.body_model import BodyModel
    from pose3d_ros.train.posenet3d_tables import load_variants

    arrays, digest = body_arrays(args.body_model)
    found = load_variants(args.runs, BodyModel(arrays), digest)
    if not found:
        raise UserError(f'{args.runs} holds no variant: train first (pose3d train posenet3d --out {args.runs} ...)')
    return found


def _scene(recording: Path, truth: Path, moments: int) -> Scene:
    from pose3d_ros.train.posenet3d_tables import Scene
    from pose3d_ros.train.recording import load_recording, load_truth

    return Scene.of(load_recording(recording), load_truth(truth), moments)


def evaluate(runs: Mapping[str, TrainedVariant], scene: Scene, detected: Scene | None) -> dict[str, Any]:
    """Return all figures by variant or table, and print the tables."""
    from pose3d_ros.train.posenet3d_bodies import adaptation_figures, body_figures
    from pose3d_ros.train.posenet3d_tables import bone_deviation, compare, figures, with_average

    rows: dict[str, Figures] = {'truth': {'mblstd_gt_mm': bone_deviation(scene.truth, scene)}}
    for name in progress(runs, desc='variants', unit='variant'):
        variant = runs[name]
        rows |= figures(variant, scene, detected)
        if variant.student is not None:
            rows[name] |= body_figures(variant, scene)
    rows = with_average(rows)
    found: dict[str, Any] = {**rows, 'posenet3d_ratios': compare(rows)}
    print(f'{len(scene)} poses in {scene.sequence[-1] + 1} sequences, each view by itself; mm\n')
    for title, columns in TABLES.items():
        show(title, columns, rows)
    if found['posenet3d_ratios']:
        show('ratios', {name: name for name in found['posenet3d_ratios']}, {'': found['posenet3d_ratios']}, 2)
    adapted = {name: adaptation_figures(variant, scene) for name, variant in runs.items()
               if variant.student is not None and variant.student.adaptation.kind == 'convex'}
    if adapted:
        columns = {key.removesuffix('_mm').replace('_', ' '): key for key in next(iter(adapted.values()))}
        show('joints on the body at rest moved by adaptation, and how far hips are apart (mm)', columns, adapted)
        found |= {f'{name}_adaptation': row for name, row in adapted.items()}
    found['posenet3d_training'] = {name: {'steps': variant.step, 'minutes': variant.seconds / 60,
                                          'width': variant.width} for name, variant in runs.items()}
    return found


def show(title: str, columns: Mapping[str, str], rows: Mapping[str, Figures], digits: int = 1) -> None:
    """Print a table of those rows that have something of its columns, and of those columns that have anything."""
    columns = {heading: key for heading, key in columns.items() if any(key in row for row in rows.values())}
    rows = {name: row for name, row in rows.items() if any(key in row for key in columns.values())}
    if not rows:
        return
    print(title)
    print_table([['', *columns], *([name, *(_cell(row.get(key), key, digits) for key in columns.values())]
                                   for name, row in rows.items())])
    print()


def _cell(value: float | None, key: str, digits: int) -> str:
    if value is None:
        return ''
    if key.endswith('_share'):
        return f'{100 * value:.1f} %'
    return f'{value:.{2 if key == "shape_abs" else digits}f}'
