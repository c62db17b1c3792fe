"""`pose3d train absolute`: train the lifting network from motion capture."""

from __future__ import annotations

import argparse
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.cli.errors import UserError

if TYPE_CHECKING:
    from pose3d_ros.train.mocap import Mocap

PROGRESS_EVERY = 1000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train`."""
    parser = subparsers.add_parser('train', help='train a lifting network (needs PyTorch)')
    networks = parser.add_subparsers(dest='network', metavar='NETWORK', required=True)
    absolute = networks.add_parser(
        'absolute', help='absolute 3D pose from one 2D pose (AbsPoseLifter)',
        description='Train on recorded 3D poses seen by virtual cameras. Progress is kept in --out: the same command '
                    'again continues. Afterwards: pose3d export absolute --out DIR.')
    add_data_options(absolute)
    absolute.add_argument('--out', type=Path, required=True, metavar='DIR', help='checkpoint and log.csv')
    absolute.add_argument('--steps', type=_positive, metavar='N', help='length of the training (default 40000)')
    absolute.add_argument('--minutes', type=float, default=math.inf, metavar='M', help='stop after this time')
    absolute.add_argument('--batch', type=_positive, metavar='N', help='people per step (default 256)')
    absolute.add_argument('--width', type=_positive, metavar='N', help='features of the residual blocks (default 768)')
    absolute.add_argument('--seed', type=int, help='of everything that is drawn at random (default 0)')
    absolute.add_argument('--threads', type=int, default=0, metavar='N', help='0: as many as there are cores')
    absolute.add_argument('--validate-every', type=_positive, metavar='STEPS', help=f'default {PROGRESS_EVERY}')


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add `--data` and `--leave-out`."""
    parser.add_argument('--data', type=Path, nargs='+', required=True, metavar='NPZ',
                        help='motion capture: 17 joints, clips with subject and split (train, val, test)')
    parser.add_argument('--leave-out', nargs='*', default=[], metavar='SUBJECT', help='subjects not to use')


def load_split(args: argparse.Namespace, split: str) -> Mocap:
    """Return one split of the data asked for. Raises UserError."""
    from pose3d_ros.train.mocap import MocapError, load_mocap

    try:
        return load_mocap(args.data, split, args.leave_out)
    except MocapError as error:
        raise UserError(str(error)) from error


def run(args: argparse.Namespace) -> int:
    """Train until done, or until interrupted; the same command continues."""
    from pose3d_ros.train.absolute import CHECKPOINT, CheckpointError, TrainSettings, limit_threads, train
    from pose3d_ros.train.samples import SampleSettings

    given = {part.name: getattr(args, part.name, None) for part in fields(TrainSettings)}
    settings = replace(TrainSettings(), **{name: value for name, value in given.items() if value is not None})
    if args.threads:
        limit_threads(args.threads)
    training, validation = load_split(args, 'train'), load_split(args, 'val')
    print(f'{len(training)} frames of {len(set(training.subject))} subjects to train on, '
          f'{len(validation)} of {len(set(validation.subject))} to validate')
    try:
        finished = train(training, validation, args.out, settings, SampleSettings(), args.minutes, _command(args))
    except CheckpointError as error:
        raise UserError(str(error)) from error
    print(f'{finished.step} steps in {finished.seconds / 60:.1f} minutes: {args.out / CHECKPOINT}')
    return 0


def _command(args: argparse.Namespace) -> str:
    """Return the command as it will be noted in the exported file: without the folders of this machine."""
    words = ['pose3d train absolute --data', *(path.name for path in args.data)]
    if args.leave_out:
        words += ['--leave-out', *args.leave_out]
    for name in ('steps', 'minutes', 'batch', 'width', 'seed'):
        value = getattr(args, name)
        if value is not None and value != math.inf:
            words.append(f'--{name} {value:g}')
    return ' '.join(words)


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError('must be above 0')
    return value
