"""`pose3d export absolute`: a trained lifting network as the ONNX file that robots run."""

from __future__ import annotations

import argparse
from pathlib import Path

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.train import add_data_options, load_split

SAMPLES = 32768
SEED = 2000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export`."""
    parser = subparsers.add_parser('export', help='export a trained network to ONNX (needs PyTorch)')
    networks = parser.add_subparsers(dest='network', metavar='NETWORK', required=True)
    absolute = networks.add_parser(
        'absolute', help='absolute 3D pose from one 2D pose (AbsPoseLifter)',
        description='Write the averaged weights as ONNX, with uncertainties measured on the validation split of '
                    '--data, and check the file against PyTorch.')
    add_data_options(absolute)
    absolute.add_argument('--out', type=Path, required=True, metavar='DIR', help='the folder of `pose3d train`')
    absolute.add_argument('--onnx', type=Path, metavar='FILE', help='default: DIR/absolute.onnx')


def run(args: argparse.Namespace) -> int:
    """Calibrate, export, check."""
    import numpy as np

    from pose3d_ros.train.absolute import CHECKPOINT, CheckpointError, load_average, predict
    from pose3d_ros.train.calibrate import calibrate
    from pose3d_ros.train.export import ExportError, export, git_commit
    from pose3d_ros.train.samples import POPULATION, make_samples

    try:
        network, command = load_average(args.out / CHECKPOINT)
    except CheckpointError as error:
        raise UserError(str(error)) from error
    samples = make_samples(load_split(args, 'val'), SAMPLES, np.random.default_rng(SEED), POPULATION)
    uncertainty = calibrate(samples, *predict(network, samples))
    path = args.onnx or args.out / 'absolute.onnx'
    extra = {'data': ' '.join(file.name for file in args.data) + (
                 f' without {" ".join(args.leave_out)}' if args.leave_out else ''),
             'training_command': command, 'commit': git_commit()}
    try:
        difference = export(network, path, uncertainty, extra)
    except ExportError as error:
        raise UserError(str(error)) from error
    print(f'{path}: {path.stat().st_size / 1e6:.1f} MB, within {1000 * difference:.4f} mm of PyTorch')
    return 0
