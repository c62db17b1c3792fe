"""`pose3d train absolute`, `pose3d export absolute`: AbsPoseLifter as published, with the variants of its tables."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.exported import tell
from pose3d_ros.cli.train import add_data_options, add_training_options, command_line, load_split, positive

if TYPE_CHECKING:
    from pose3d_ros.train.error_fit import FittedErrors

STEPS, WIDTH, DROPOUT, BATCH, BODY = 6000, 1024, 0.0, 256, 'recombined'
DEFAULT_VARIANT = 'mixture'
DEFAULT_ERRORS = 'blazepose_full'


def add_train_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train absolute`."""
    parser = networks.add_parser(
        'absolute', help='AbsPoseLifter as published: one complete 2D pose in pixels, cameras of a laboratory',
        description='Train variants of AbsPoseLifter on recorded 3D poses seen by the cameras of a laboratory, one '
                    'after the other, each in its own folder of --out: the same command again continues. Afterwards: '
                    'pose3d evaluate paper --runs DIR, pose3d export absolute --out DIR.')
    add_data_options(parser)
    add_training_options(parser, STEPS)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument('--variants', nargs='+', default=[DEFAULT_VARIANT], metavar='NAME',
                        help='rows of the tables: baseline location scale exact (Table 1), mixture gaussian (Table 2), '
                             f'canonical direct (Table 5); default {DEFAULT_VARIANT}; --steps and --minutes count '
                             'for each')
    chosen.add_argument('--all', action='store_true', help='all variants')
    parser.add_argument('--errors', default=DEFAULT_ERRORS, metavar='NAME',
                        help='error model: one of the package or a .json of `pose3d evaluate errors --save` '
                             '(default %(default)s)')
    parser.add_argument('--width', type=positive, default=WIDTH, metavar='N',
                        help='features of the residual blocks (default %(default)s; published: 4096)')
    parser.add_argument('--dropout', type=float, default=DROPOUT, metavar='P',
                        help='default %(default)s: samples never repeat (published: 0.5)')
    parser.add_argument('--body', choices=('recorded', 'scaled', 'recombined'), default=BODY,
                        help='how recorded bodies are varied: in size and proportions, with limbs of other frames '
                             '(default %(default)s)')
    parser.add_argument('--batch', type=positive, default=BATCH, metavar='N', help='people per step '
                        '(default %(default)s)')


def add_export_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export absolute`."""
    parser = networks.add_parser(
        'absolute', help='AbsPoseLifter as published',
        description='Write the averaged weights of a variant as ONNX (pixels, principal point, focal length to joints '
                    'in metres), and check the file against PyTorch.')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the folder of `pose3d train`')
    parser.add_argument('--variant', default=DEFAULT_VARIANT, metavar='NAME', help='default %(default)s')
    parser.add_argument('--onnx', type=Path, metavar='FILE', help='default: DIR/absolute_VARIANT.onnx')


def train(args: argparse.Namespace) -> int:
    """Train one variant after the other, until done or interrupted; the same command continues."""
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, TrainingError, limit_threads
    from pose3d_ros.train.published import VARIANTS, PublishedSettings, train_variant

    names = list(VARIANTS) if args.all else list(dict.fromkeys(args.variants))
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise UserError(f'no variant {", ".join(unknown)}; there are {", ".join(VARIANTS)}')
    if args.threads:
        limit_threads(args.threads)
    errors = load_error_models(args.errors)
    training, validation = load_split(args, 'train'), load_split(args, 'val')
    print(f'{len(training)} frames of {len(set(training.subject))} subjects to train on, '
          f'{len(validation)} of {len(set(validation.subject))} to validate')
    settings = PublishedSettings(width=args.width, dropout=args.dropout, batch=args.batch, body=args.body)
    settings = replace(settings, loop=replace(settings.loop, steps=args.steps, seed=args.seed))
    defaults = (('steps', STEPS), ('minutes', float('inf')), ('seed', 0), ('width', WIDTH), ('dropout', DROPOUT),
                ('batch', BATCH), ('body', BODY))
    for name in names:
        command = f'{command_line(args, defaults)} --variants {name}'
        try:
            run = train_variant(name, training, validation, errors, args.out / name, settings, args.minutes, command)
        except (CheckpointError, TrainingError) as error:
            raise UserError(str(error)) from error
        print(f'{name}: {run.step} steps in {run.seconds / 60:.1f} minutes: {args.out / name / CHECKPOINT}')
    return 0


def load_error_models(name: str) -> dict[str, FittedErrors]:
    """Return the mixture and the single Gaussian called NAME and NAME_gaussian. Raises UserError."""
    from pose3d_ros.train.error_fit import ErrorModelError, load_errors
    from pose3d_ros.train.published import GAUSSIAN, MIXTURE

    stem, dot, suffix = name.rpartition('.json') if name.endswith('.json') else (name, '', '')
    try:
        return {MIXTURE: load_errors(name), GAUSSIAN: load_errors(f'{stem}_gaussian{dot}{suffix}')}
    except ErrorModelError as error:
        raise UserError(str(error)) from error


def export(args: argparse.Namespace) -> int:
    """Export and check."""
    from pose3d_ros.train.export_published import export_published
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError
    from pose3d_ros.train.onnx_file import ExportError
    from pose3d_ros.train.published import load_variant

    path = args.onnx or args.out / f'absolute_{args.variant}.onnx'
    try:
        network, variant, command = load_variant(args.out / args.variant / CHECKPOINT)
        difference = export_published(network, variant.canonical, path, {'training_command': command})
    except (CheckpointError, ExportError) as error:
        raise UserError(str(error)) from error
    tell(path, difference)
    return 0
