"""`pose3d train geometric`, `pose3d export geometric`: the geometry-driven lifter, from cameras alone."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.exported import tell
from pose3d_ros.cli.train import add_training_options, positive

if TYPE_CHECKING:
    from pose3d_ros.train.geometric import GeometricSettings
    from pose3d_ros.train.loop import Run
    from pose3d_ros.train.recording import Recording

STEPS, WIDTH, DROPOUT, BATCH, BACKBONE = 6000, 256, 0.1, 256, 'paper'
DEFAULT_VARIANT = 'transform'
# Those of train/geometric_variants.py and of nets/geometric.py, which would bring PyTorch with them; a test compares.
VARIANTS = ('reprojection_only', 'adversarial', 'transform', 'augmented', 'supervised', 'no_pretraining',
            'no_confidence', 'estimated', 'pelvis')
BACKBONES = ('paper', 'reslinear', 'temporal')


def add_train_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train geometric`."""
    parser = networks.add_parser(
        'geometric', help='without labels: from what several calibrated cameras saw of the same people',
        description='Train variants of the geometry-driven lifter on a recording (pose3d record), one after the other, '
                    'each in its own folder of --out: the same command again continues. No 3D pose is read, but for '
                    'adversarial (--prior) and supervised (--truth), which are there to compare with. Afterwards: '
                    'pose3d evaluate geometric --runs DIR, pose3d export geometric --out DIR.')
    parser.add_argument('--recording', type=Path, required=True, metavar='NPZ', help='2D joints to train on')
    parser.add_argument('--validation', type=Path, required=True, metavar='NPZ', help='2D joints to watch it on')
    add_training_options(parser, STEPS)
    parser.add_argument('--variants', nargs='+', default=[DEFAULT_VARIANT], choices=VARIANTS, metavar='NAME',
                        help=f'of {", ".join(VARIANTS)} (default {DEFAULT_VARIANT}); --steps and --minutes count for '
                             'each')
    parser.add_argument('--truth', type=Path, metavar='NPZ', help='true joints of --recording, for supervised')
    parser.add_argument('--prior', type=Path, metavar='NPZ', help='true joints of any other recording, for adversarial')
    parser.add_argument('--backbone', choices=BACKBONES, default=BACKBONE,
                        help='paper: 4 residual blocks; reslinear: 2; temporal: convolutions over 27 frames '
                             '(default %(default)s)')
    parser.add_argument('--width', type=positive, default=WIDTH, metavar='N',
                        help='features of the hidden layers (default %(default)s; published: 1024)')
    parser.add_argument('--dropout', type=float, default=DROPOUT, metavar='P', help='default %(default)s')
    parser.add_argument('--batch', type=positive, default=BATCH, metavar='N',
                        help='pairs of views per step (default %(default)s)')


def add_export_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export geometric`."""
    parser = networks.add_parser(
        'geometric', help='the geometry-driven lifter',
        description='Write the averaged weights of a variant as ONNX (rays of 17 joints to joints in metres), and '
                    'check the file against PyTorch.')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the folder of `pose3d train`')
    parser.add_argument('--variant', default=DEFAULT_VARIANT, choices=VARIANTS, metavar='NAME',
                        help='default %(default)s')
    parser.add_argument('--onnx', type=Path, metavar='FILE', help='default: DIR/geometric_VARIANT.onnx')


def train(args: argparse.Namespace) -> int:
    """Train one variant after the other, until done or interrupted; the same command continues."""
    from pose3d_ros.train.geometric import GeometricSettings
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, TrainingError, limit_threads
    from pose3d_ros.train.recording import RecordingError, load_recording

    names = list(dict.fromkeys(args.variants))
    for name, option in (('adversarial', 'prior'), ('supervised', 'truth')):
        if name in names and getattr(args, option) is None:
            raise UserError(f'{name} needs 3D poses: give --{option} FILE, of `pose3d record --truth FILE`')
    if not 0 <= args.dropout < 1:
        raise UserError(f'--dropout {args.dropout:g}: expected 0 or more, and less than 1')
    if args.threads:
        limit_threads(args.threads)
    try:
        recording, validation = load_recording(args.recording), load_recording(args.validation)
        print(f'{len(recording)} moments of {recording.rays.shape[1]} cameras to train on, '
              f'{len(validation)} to watch it')
        settings = GeometricSettings(backbone=args.backbone, width=args.width, dropout=args.dropout, batch=args.batch)
        settings = replace(settings, loop=replace(settings.loop, steps=args.steps, seed=args.seed))
        for name in names:
            run = _train(name, args, recording, validation, settings)
            print(f'{name}: {run.step} steps in {run.seconds / 60:.1f} minutes: {args.out / name / CHECKPOINT}')
    except (CheckpointError, RecordingError, TrainingError) as error:
        raise UserError(str(error)) from error
    return 0


def _train(name: str, args: argparse.Namespace, recording: Recording, validation: Recording,
           settings: GeometricSettings) -> Run:
    """Train a variant; only those that need 3D poses have the module that knows them."""
    from pose3d_ros.train.geometric_variants import train_self_supervised

    out, limits = args.out / name, (args.minutes, _command(args, name))
    if name not in ('adversarial', 'supervised'):
        return train_self_supervised(name, recording, validation, out, settings, *limits)
    from pose3d_ros.train import geometric_labels
    from pose3d_ros.train.recording import load_truth

    if name == 'adversarial':
        return geometric_labels.train_adversarial(recording, validation, load_truth(args.prior), out, settings, *limits)
    return geometric_labels.train_supervised(recording, load_truth(args.truth), validation, out, settings, *limits)


def _command(args: argparse.Namespace, name: str) -> str:
    """Return the command as it will be noted in checkpoints: without the folders of this machine."""
    words = [f'pose3d train geometric --recording {args.recording.name} --variants {name}']
    if name in ('adversarial', 'supervised'):
        option = 'prior' if name == 'adversarial' else 'truth'
        words.append(f'--{option} {getattr(args, option).name}')
    defaults = (('steps', STEPS), ('minutes', float('inf')), ('seed', 0), ('backbone', BACKBONE), ('width', WIDTH),
                ('dropout', DROPOUT), ('batch', BATCH))
    words += [f'--{option} {getattr(args, option)}' for option, default in defaults if getattr(args, option) != default]
    return ' '.join(words)


def export(args: argparse.Namespace) -> int:
    """Export and check."""
    from pose3d_ros.train.export_geometric import export_geometric
    from pose3d_ros.train.geometric import load_trained
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError
    from pose3d_ros.train.onnx_file import ExportError

    path = args.onnx or args.out / f'geometric_{args.variant}.onnx'
    try:
        network, settings, command = load_trained(args.out / args.variant / CHECKPOINT)
        difference = export_geometric(network, path, {
            'training_command': command, 'variant': settings.variant, 'backbone': settings.backbone})
    except (CheckpointError, ExportError) as error:
        raise UserError(str(error)) from error
    tell(path, difference)
    return 0
