"""`pose3d train lifter`, `pose3d export lifter`: the lifting network that ships."""

from __future__ import annotations

import argparse
from pathlib import Path

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.exported import tell
from pose3d_ros.cli.train import add_data_options, add_training_options, command_line, load_split, positive

STEPS, WIDTH = 30000, 512
SAMPLES, SEED = 16384, 2000


def add_train_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train lifter`."""
    parser = networks.add_parser(
        'lifter', help='the lifter that ships: joints in metres, with covariances, from any robot camera',
        description='Train on recorded 3D motion seen by virtual robot cameras. Progress is kept in --out: the same '
                    'command again continues. Afterwards: pose3d export lifter --out DIR.')
    add_data_options(parser)
    add_training_options(parser, STEPS)
    parser.add_argument('--width', type=positive, default=WIDTH, metavar='N', help='features of the residual blocks '
                        '(default %(default)s)')


def add_export_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export lifter`."""
    parser = networks.add_parser(
        'lifter', help='the lifter that ships',
        description='Write the averaged weights as ONNX, with covariances calibrated on the validation split of '
                    '--data, and check the file against PyTorch.')
    add_data_options(parser)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the folder of `pose3d train`')
    parser.add_argument('--onnx', type=Path, metavar='FILE', help='default: DIR/lifter.onnx')


def train(args: argparse.Namespace) -> int:
    """Train until done, or until interrupted; the same command continues."""
    from pose3d_ros.train.lifter import LifterSettings
    from pose3d_ros.train.lifter import train as train_lifter
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, LoopSettings, TrainingError, limit_threads
    from pose3d_ros.train.samples import SampleSettings

    if args.threads:
        limit_threads(args.threads)
    training, validation = load_split(args, 'train'), load_split(args, 'val')
    print(f'{len(training)} frames of {len(set(training.subject))} subjects to train on, '
          f'{len(validation)} of {len(set(validation.subject))} to validate')
    command = command_line(args, (('steps', STEPS), ('minutes', float('inf')), ('seed', 0), ('width', WIDTH)))
    try:
        finished = train_lifter(training, validation, args.out, LifterSettings(width=args.width),
                                LoopSettings(steps=args.steps, seed=args.seed), SampleSettings(), args.minutes, command)
    except (CheckpointError, TrainingError) as error:
        raise UserError(str(error)) from error
    print(f'{finished.step} steps in {finished.seconds / 60:.1f} minutes: {args.out / CHECKPOINT}')
    return 0


def export(args: argparse.Namespace) -> int:
    """Calibrate, export, check."""
    import numpy as np

    from pose3d_ros.train.export import calibrate
    from pose3d_ros.train.export import export as export_lifter
    from pose3d_ros.train.lifter import load_trained
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError
    from pose3d_ros.train.onnx_file import ExportError
    from pose3d_ros.train.samples import POPULATION, make_samples

    try:
        network, command = load_trained(args.out / CHECKPOINT)
    except CheckpointError as error:
        raise UserError(str(error)) from error
    trust = calibrate(network, make_samples(load_split(args, 'val'), SAMPLES, np.random.default_rng(SEED), POPULATION))
    path = args.onnx or args.out / 'lifter.onnx'
    extra = {'data': ' '.join(file.name for file in args.data) + (
                 f' without {" ".join(args.leave_out)}' if args.leave_out else ''),
             'training_command': command}
    try:
        difference = export_lifter(network, path, extra)
    except ExportError as error:
        raise UserError(str(error)) from error
    tell(path, difference, f'calibrated on the validation split: standard deviations times {trust:.3f}')
    return 0
