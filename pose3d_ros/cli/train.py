"""`pose3d train NETWORK`: train a network from motion capture, or from what cameras saw."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.cli.errors import UserError

if TYPE_CHECKING:
    from pose3d_ros.train.mocap import Mocap

NETWORKS = {
    'lifter': 'pose3d_ros.cli.train_lifter',
    'absolute': 'pose3d_ros.cli.train_absolute',
    'geometric': 'pose3d_ros.cli.train_geometric',
    'posenet3d': 'pose3d_ros.cli.train_posenet3d',
    'parts_images': 'pose3d_ros.cli.train_parts_images',
    'parts': 'pose3d_ros.cli.train_parts',
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train` and its networks."""
    parser = subparsers.add_parser('train', help='train a lifting network (needs PyTorch)')
    networks = parser.add_subparsers(dest='network', metavar='NETWORK', required=True)
    for module in NETWORKS.values():
        importlib.import_module(module).add_train_parser(networks)


def run(args: argparse.Namespace) -> int:
    """Train until done, or until interrupted; the same command continues."""
    return int(importlib.import_module(NETWORKS[args.network]).train(args))


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add `--data` and `--leave-out`."""
    parser.add_argument('--data', type=Path, nargs='+', required=True, metavar='NPZ',
                        help='motion capture: 17 joints, clips with subject and split (train, val, test)')
    parser.add_argument('--leave-out', nargs='*', default=[], metavar='SUBJECT', help='subjects not to use')


def add_training_options(parser: argparse.ArgumentParser, steps: int) -> None:
    """Add what every training has: where, how long, which chance, how many threads."""
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='checkpoint and log.csv')
    parser.add_argument('--steps', type=positive, default=steps, metavar='N', help='length of the training (default '
                        '%(default)s)')
    parser.add_argument('--minutes', type=float, default=float('inf'), metavar='M', help='stop after this time')
    parser.add_argument('--seed', type=int, default=0, help='of everything that is drawn at random (default 0)')
    parser.add_argument('--threads', type=int, default=0, metavar='N', help='0: as many as there are cores')


def load_split(args: argparse.Namespace, split: str) -> Mocap:
    """Return one split of the data asked for. Raises UserError."""
    from pose3d_ros.train.mocap import MocapError, load_mocap

    try:
        return load_mocap(args.data, split, args.leave_out)
    except MocapError as error:
        raise UserError(str(error)) from error


def command_line(args: argparse.Namespace, defaults: Iterable[tuple[str, object]]) -> str:
    """Return the command as it will be noted in checkpoints: without the folders of this machine.

    defaults: name and default of the options that matter; those that differ are named.
    """
    words = [f'pose3d train {args.network} --data', *(path.name for path in args.data)]
    if args.leave_out:
        words += ['--leave-out', *args.leave_out]
    words += [f'--{name} {getattr(args, name)}' for name, default in defaults if getattr(args, name) != default]
    return ' '.join(words)


def positive(text: str) -> int:
    """Return a whole number above 0, for argparse."""
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError('must be above 0')
    return value
