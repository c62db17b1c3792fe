"""`pose3d evaluate geometric`: the tables of the geometry-driven method, from the runs of `pose3d train geometric`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose3d_ros.cli.chart import chart, write_chart
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.train import load_split, positive

if TYPE_CHECKING:
    from pose3d_ros.train.geometric_tables import Figures, TrainedVariant

PEOPLE, SEED, FEWEST = 16384, 3000, 20
MEASURES = ('n', 'mpjpe_mm', 'pa_mpjpe_mm', 'n_mpjpe_mm', 'mrpe_mm', 'crossview_px')


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate geometric`."""
    parser = subparsers.add_parser(
        'geometric', help='the geometry-driven method: its tables, on a recording with truth',
        description='Evaluates the variants found in --runs on a recording that none was trained on, every view by '
                    'itself, all 17 joints. What is asked for besides comes as further tables.')
    parser.add_argument('--runs', type=Path, required=True, metavar='DIR', help='the --out of `pose3d train geometric`')
    parser.add_argument('--recording', type=Path, required=True, metavar='NPZ', help='of `pose3d record --split test`')
    parser.add_argument('--truth', type=Path, required=True, metavar='NPZ', help='its true joints')
    parser.add_argument('--occluded', type=Path, metavar='DIR',
                        help='runs of transform and no_confidence where the body hides more, for the table on '
                             'confidence (default: those of --runs)')
    parser.add_argument('--extrinsics', type=Path, metavar='NPZ',
                        help='the recording trained on: how well its people tell where the cameras stand')
    parser.add_argument('--robot', action='store_true', help='also before cameras of robots; needs --data')
    parser.add_argument('--data', type=Path, nargs='+', default=[], metavar='NPZ', help='motion capture, for --robot')
    parser.add_argument('--leave-out', nargs='*', default=[], metavar='SUBJECT', help='subjects not to use')
    parser.add_argument('--split', choices=('val', 'test'), default='test', help='of --data; do not tune on test')
    parser.add_argument('--people', type=positive, default=PEOPLE, metavar='N', help='drawn for --robot')
    parser.add_argument('--errors', default='blazepose_full', metavar='NAME', help='error model, for --robot')
    parser.add_argument('--curves', type=Path, metavar='PNG',
                        help='loss and MPJPE while training with and without pre-training; needs --watched')
    parser.add_argument('--watched', type=Path, nargs=2, metavar='NPZ',
                        help='the --validation of the training, and its true joints')
    parser.add_argument('--threads', type=int, default=0, metavar='N', help='0: as many as there are cores')
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate what there is, print tables."""
    from pose3d_ros.train.loop import CheckpointError, limit_threads
    from pose3d_ros.train.recording import RecordingError

    if args.curves and not args.watched:
        raise UserError('--curves needs --watched VAL.npz VAL_TRUTH.npz, the recording that training was watched on')
    if args.robot and not args.data:
        raise UserError('--robot needs --data FILES: people to stand before the robot')
    if args.threads:
        limit_threads(args.threads)
    try:
        runs = _load(args.runs)
        found = evaluate(args, runs)
        if args.curves:
            found |= draw_curves(args, runs)
    except (CheckpointError, RecordingError) as error:
        raise UserError(str(error)) from error
    if args.json:
        write_json(args.json, found)
    return 0


def _load(folder: Path) -> dict[str, TrainedVariant]:
    from pose3d_ros.train.geometric_tables import load_variants

    found = load_variants(folder)
    if not found:
        raise UserError(f'{folder} holds no variant: train first (pose3d train geometric --out {folder} ...)')
    return found


def evaluate(args: argparse.Namespace, runs: Mapping[str, TrainedVariant]) -> dict[str, Any]:
    """Return all figures by table and variant; print each table when it is there. Raises RecordingError."""
    from pose3d_ros.train.geometric_tables import compare, extrinsics_figures, on_recording, on_strangers
    from pose3d_ros.train.recording import load_recording, load_truth

    recording, truth = load_recording(args.recording), load_truth(args.truth)

    def measure(title: str, variants: Mapping[str, TrainedVariant],
                test: Callable[[TrainedVariant], Figures]) -> dict[str, Figures]:
        rows = {name: test(variant) for name, variant in variants.items()}
        show(title, rows)
        return rows

    rows = measure(f'{len(recording)} moments, each of {recording.rays.shape[1]} views by itself', runs,
                   lambda variant: on_recording(variant, recording, truth))
    found: dict[str, Any] = {**rows, 'geometric_ratios': compare(rows)}
    show('ratios of MPJPE', {'': found['geometric_ratios']}, 2)
    weighted = {name: runs.get(name) for name in ('transform', 'no_confidence')}
    if args.occluded:
        weighted = {name: _load(args.occluded).get(name) for name in weighted}
    if all(weighted.values()):
        named = {'confidence_on': weighted['transform'], 'confidence_off': weighted['no_confidence']}
        found |= measure('confidence weights', {name: variant for name, variant in named.items() if variant},
                         lambda variant: on_recording(variant, recording, truth))
    if args.extrinsics:
        found['extrinsics'] = extrinsics_figures(load_recording(args.extrinsics))
        show('extrinsics from people against given ones', {'estimated': found['extrinsics']}, 3)
    if args.robot:
        people = _strangers(args)
        others = measure('cameras of robots, never trained on', runs, lambda variant: on_strangers(variant, people))
        found |= {f'robot_{name}': row for name, row in others.items()}
    found['geometric_training'] = {name: {'steps': variant.step, 'minutes': variant.seconds / 60,
                                          'width': variant.settings.width} for name, variant in runs.items()}
    return found


def _strangers(args: argparse.Namespace) -> Any:
    """Return held-out people before cameras of robots. Raises UserError."""
    from pose3d_ros.train.error_fit import ErrorModelError, load_errors
    from pose3d_ros.train.geometric_tables import Strangers

    try:
        errors = load_errors(args.errors)
    except ErrorModelError as error:
        raise UserError(str(error)) from error
    people = Strangers.draw(load_split(args, args.split), args.people, errors, np.random.default_rng(SEED))
    if len(people.rays) < FEWEST:
        raise UserError(f'only {len(people.rays)} of {args.people} people are in view whole: raise --people')
    return people


def show(title: str, rows: Mapping[str, Mapping[str, float]], digits: int = 1) -> None:
    """Print a table: a row per variant, a column per measure."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    names.sort(key=lambda name: MEASURES.index(name) if name in MEASURES else len(MEASURES))
    if not names:
        return
    print(title)
    print_table([['', *names], *([variant, *(_cell(row.get(name), digits) for name in names)]
                                 for variant, row in rows.items())])
    print()


def _cell(value: float | None, digits: int) -> str:
    if value is None:
        return ''
    return str(value) if isinstance(value, int) else f'{value:.{digits}f}'


def draw_curves(args: argparse.Namespace, runs: Mapping[str, TrainedVariant]) -> dict[str, Any]:
    """Draw loss and MPJPE with and without pre-training (the paper's Figure 6); return how the two ended."""
    from pose3d_ros.train.geometric_tables import curves
    from pose3d_ros.train.recording import load_recording, load_truth

    validation, truth = load_recording(args.watched[0]), load_truth(args.watched[1])
    lines = {label: curves(runs[name], validation, truth) for label, name in (
        ('with pre-training', 'transform'), ('without', 'no_pretraining')) if name in runs}
    if not lines:
        raise UserError(f'--curves: {args.runs} holds neither transform nor no_pretraining')
    pictures = [chart(title, 'steps', unit, {label: (line['step'], line[key]) for label, line in lines.items()})
                for title, unit, key in (('Loss (base-10 logarithm)', 'log10 of equation 6, then 7', 'log_loss'),
                                         ('MPJPE of held-out people', 'mm', 'mpjpe_mm'))]
    write_chart(args.curves, np.vstack(pictures))
    print(f'{args.curves}: loss and MPJPE of {" and ".join(lines)}')
    return {'pretraining': {f'{key}_{"with" if label.startswith("with ") else "without"}_mm': float(value)
                            for label, line in lines.items()
                            for key, value in (('mpjpe_last', line['mpjpe_mm'][-1]),
                                               ('mpjpe_worst', line['mpjpe_mm'].max()))}}
