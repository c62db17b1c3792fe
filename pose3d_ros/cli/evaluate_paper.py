"""`pose3d evaluate paper`: the tables of AbsPoseLifter, on our data, from the runs of `pose3d train absolute --all`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.train import add_data_options, load_split, positive

if TYPE_CHECKING:
    from pose3d_ros.train.mocap import Mocap
    from pose3d_ros.train.published_tables import Trained

SAMPLES, SEED = 16384, 3000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate paper`."""
    parser = subparsers.add_parser(
        'paper', help='AbsPoseLifter as published: the tables of the paper, on held-out motion capture',
        description='Evaluates the variants found in --runs on held-out people in front of the cameras of a laboratory,'
                    ' all 17 joints: with exact 2D poses, with the errors of a detector, with mixed focal lengths.')
    add_data_options(parser)
    parser.add_argument('--runs', type=Path, required=True, metavar='DIR', help='the --out of `pose3d train absolute`')
    parser.add_argument('--split', choices=('val', 'test'), default='test', help='do not tune on test')
    parser.add_argument('--samples', type=positive, default=SAMPLES, metavar='N')
    parser.add_argument('--seed', type=int, default=SEED)
    parser.add_argument('--errors', default='blazepose_full', metavar='NAME', help='error model tested with')
    parser.add_argument('--residuals', type=Path, metavar='NPZ',
                        help='also test with errors as they were measured, of `pose3d evaluate errors --residuals`')
    parser.add_argument('--threads', type=int, default=0, metavar='N', help='0: as many as there are cores')
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate what there is, print tables."""
    from pose3d_ros.train.loop import limit_threads

    if args.threads:
        limit_threads(args.threads)
    trained = load_runs(args.runs)
    found = evaluate(args, trained, load_split(args, args.split))
    show(found)
    if args.json:
        write_json(args.json, found)
    return 0


def load_runs(folder: Path) -> dict[str, Trained]:
    """Return the variants found in a folder. Raises UserError."""
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError
    from pose3d_ros.train.published import VARIANTS
    from pose3d_ros.train.published_tables import load_trained

    found: dict[str, Trained] = {}
    for name in VARIANTS:
        path = folder / name / CHECKPOINT
        if path.exists():
            try:
                found[name] = load_trained(path)
            except CheckpointError as error:
                raise UserError(str(error)) from error
    if not found:
        raise UserError(f'{folder} holds no variant: train first (pose3d train absolute --all --out {folder})')
    return found


def evaluate(args: argparse.Namespace, trained: Mapping[str, Trained], mocap: Mocap) -> dict[str, Any]:
    """Return all figures: by table and variant, and the comparisons made of them."""
    from pose3d_ros.cli.train_absolute import load_error_models
    from pose3d_ros.train.published import MIXTURE
    from pose3d_ros.train.published_tables import HeldOut, compare, table

    residuals = load_residuals(args.residuals) if args.residuals else None
    tests = HeldOut.draw(mocap, args.samples, args.seed, load_error_models(args.errors)[MIXTURE], residuals)
    tables = table(trained, tests)
    return {**compare(tables), **tables,
            'lab_training': {name: {'steps': run.step, 'minutes': run.seconds / 60} for name, run in trained.items()}}


def load_residuals(path: Path) -> np.ndarray:
    """Return measured errors (N, 17, 2), NaN-free rows only. Raises UserError."""
    try:
        with np.load(path, allow_pickle=False) as data:
            errors = data['errors']
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f'{path}: not a file of `pose3d evaluate errors --residuals` ({error})') from error
    errors = errors[np.isfinite(errors).all(axis=(1, 2))] if errors.ndim == 3 else errors[:0]
    if not len(errors):
        raise UserError(f'{path}: no frame with all joints')
    return errors


def show(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one table per test, then the comparisons."""
    tables = {name: rows for name, rows in found.items() if all(isinstance(row, dict) for row in rows.values())}
    for test, variants in tables.items():
        names = list(dict.fromkeys(key for values in variants.values() for key in values))
        print_table([[test, *names], *([variant, *(f'{values[name]:.1f}' if name in values else '' for name in names)]
                                       for variant, values in variants.items())])
        print()
    for name, values in found.items():
        if name not in tables:
            print(f'{name}: ' + ', '.join(f'{key} {value:.3g}' for key, value in values.items()))
