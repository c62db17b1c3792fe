"""`pose3d evaluate parts`: the ablation of the parts network, from the runs of `pose3d train parts`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.train import add_data_options, load_split, positive
from pose3d_ros.cli.train_parts import add_lifter_option

PEOPLE, SEED, FEWEST = 32768, 3000, 20
LATENCY_S = 12.0  # in all
NOTE = """mm, the pelvis at the origin, statures known, means over the seeds (+-: their deviation); mpjpe: all 17.
attributes: classes right as often as from the paper's image network; attributes_detector: from relative depth; refined:
the same, and the pose of the window lifter to begin with (_start); _unknown: the same without attributes."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate parts`."""
    parser = subparsers.add_parser(
        'parts', help='the parts network: its ablation per joint, parameters and latency',
        description='Evaluates the variants found in --runs, all of one length, on held-out people as virtual robot '
                    "cameras see them, with a 2D detector's errors: those in view with all limb joints, and everybody.")
    add_data_options(parser)
    parser.add_argument('--runs', type=Path, required=True, metavar='DIR', help='the --out of `pose3d train parts`')
    parser.add_argument('--split', choices=('val', 'test'), default='test', help='do not tune on test (default: test)')
    parser.add_argument('--people', type=positive, default=PEOPLE, metavar='N', help=f'drawn (default {PEOPLE})')
    parser.add_argument('--seed', type=int, default=SEED, help=f'of the people (default {SEED})')
    add_lifter_option(parser, 'whose pose refined begins with')
    parser.add_argument('--threads', type=int, default=0, metavar='N', help='0: as many as there are cores')
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate what there is, print the tables."""
    from pose3d_ros.train.load_lifter import LifterFileError
    from pose3d_ros.train.loop import CheckpointError, limit_threads

    if args.threads:
        limit_threads(args.threads)
    try:
        found = evaluate(args)
    except (CheckpointError, LifterFileError) as error:
        raise UserError(str(error)) from error
    if args.json:
        write_json(args.json, found)
    return 0


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures by row; print the tables. Raises CheckpointError, LifterFileError, UserError."""
    from pose3d_ros.train.load_lifter import fingerprint, load_lifter
    from pose3d_ros.train.parts_data import draw
    from pose3d_ros.train.parts_tables import latency, load_rows, measure, parameters
    from pose3d_ros.train.samples import EVALUATION

    rows = load_rows(args.runs)
    if not rows:
        raise UserError(f'{args.runs} holds no training: train first (pose3d train parts --out {args.runs} ...)')
    refined = {row.lifter for row in rows.values() if row.lifter}
    if refined - {fingerprint(args.lifter)}:
        raise UserError(f'{args.runs}: refined was trained on another lifter; give that one with --lifter')
    mocap = load_split(args, args.split)
    people = draw(mocap, args.people, np.random.default_rng(args.seed), EVALUATION,
                  lifter=load_lifter(args.lifter)[0] if refined else None)
    whole = people.where(people.whole)
    if len(whole) < FEWEST:
        raise UserError(f'only {len(whole)} of {args.people} people are in view whole: raise --people')
    found: dict[str, Any] = measure(rows, whole, args.seed)
    everybody = measure(rows, people, args.seed)
    costs = latency({name: next(iter(row.networks.values())) for name, row in rows.items()}, LATENCY_S)
    for name, row in rows.items():
        found[name] |= {**costs[name], 'parameters': parameters(next(iter(row.networks.values()))),
                        'steps': row.steps, 'width': row.width, 'seeds': len(row.networks)}
    print(f'{args.split}: subjects {", ".join(sorted(set(mocap.subject)))}; {len(whole)} people in view whole of '
          f'{len(people)}, seed {args.seed}')
    show(found)
    print('everybody, in view or not')
    show(everybody)
    print(NOTE)
    if {'baseline', 'progressive'} <= set(costs):
        found['latency_ratio'] = costs['progressive']['latency_ratio']
    return found | {f'{name}_everybody': row for name, row in everybody.items()}


def show(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table: a row per variant, a column per kind of joint, and what it costs."""
    from pose3d_ros.train.parts_tables import KINDS

    table = [['', *KINDS, 'mpjpe', '+-', '/baseline', 'weights', 'us', '/baseline']]
    for name, row in rows.items():
        table.append([name, *(f'{row[f"{kind}_mm"]:.1f}' for kind in KINDS), f'{row["mpjpe_mm"]:.1f}',
                      f'{row["mpjpe_mm_std"]:.2f}', _cell(row.get('over_baseline'), 3),
                      _cell(row.get('parameters'), 0), _cell(row.get('latency_us'), 0),
                      _cell(row.get('latency_ratio'), 2)])
    used = [column for column in range(len(table[0])) if any(row[column] for row in table[1:])]
    print_table([[row[column] for column in used] for row in table])
    print()


def _cell(value: float | None, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f}'
