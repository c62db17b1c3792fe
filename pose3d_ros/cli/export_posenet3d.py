"""`pose3d export posenet3d`: teacher and student as the lifter that gives joints and bodies."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.body_model import MANNEQUIN
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.exported import tell
from pose3d_ros.cli.train import add_data_options, load_split
from pose3d_ros.cli.train_posenet3d import VARIANTS, body_arrays

if TYPE_CHECKING:
    from pose3d_ros.nets.posenet3d_lifter import PoseNet3DLifter

# That of train/posenet3d_variants.py, which would bring PyTorch with it; a test compares.
DEPLOYED = 'robust_student'
STUDENTS = tuple(name for name in VARIANTS if 'student' in name or name in ('finetuned', 'robust'))
CALIBRATION, LABORATORY, SEED = 8192, 4096, 3000
ERRORS = 'blazepose_full'


def add_export_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export posenet3d`."""
    parser = networks.add_parser(
        'posenet3d', help='the lifter that gives joints and a body model, learnt from 2D alone',
        description='Write teacher and student as one ONNX file. How sure it is, and where it takes metres from, is '
                    'found on the validation split of --data; the networks themselves never saw a 3D pose. The file is '
                    'checked against PyTorch.')
    add_data_options(parser)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the folder of `pose3d train posenet3d`')
    parser.add_argument('--variant', default=DEPLOYED, choices=STUDENTS, metavar='NAME',
                        help=f'of {", ".join(STUDENTS)} (default %(default)s)')
    parser.add_argument('--body-model', type=Path, default=MANNEQUIN, metavar='NPZ',
                        help='that it was trained with (default: the mannequin that ships)')
    parser.add_argument('--onnx', type=Path, metavar='FILE', help='default: DIR/posenet3d.onnx')


def export(args: argparse.Namespace) -> int:
    """Calibrate, export, check."""
    from pose3d_ros.nets.body_model import BodyModel
    from pose3d_ros.train import export_posenet3d
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError
    from pose3d_ros.train.onnx_file import ExportError
    from pose3d_ros.train.posenet3d_student import load_student

    arrays, digest = body_arrays(args.body_model)
    checkpoint = args.out / args.variant / CHECKPOINT
    try:
        network, settings, _, command = load_student(checkpoint, BodyModel(arrays), digest)
    except CheckpointError as error:
        raise UserError(str(error)) from error
    lifter = export_posenet3d.make_lifter(network)
    lines = _calibrate(lifter, args)
    path = args.onnx or args.out / 'posenet3d.onnx'
    extra = {'calibrated_on': ' '.join(file.name for file in args.data) + (
                 f' without {" ".join(args.leave_out)}' if args.leave_out else ''),
             'training_command': command, 'variant': args.variant, 'adaptation': settings.adaptation}
    try:
        difference = export_posenet3d.export(lifter, path, (args.body_model.stem, digest), extra)
    except ExportError as error:
        raise UserError(str(error)) from error
    tell(path, difference, *lines)
    return 0


def _calibrate(lifter: PoseNet3DLifter, args: argparse.Namespace) -> list[str]:
    """Find where metres come from and how sure the lifter is; return what to say of that. Raises UserError."""
    import numpy as np

    from pose3d_ros.train import export_posenet3d as file
    from pose3d_ros.train.error_fit import load_errors
    from pose3d_ros.train.even_samples import even_samples, laboratory_samples
    from pose3d_ros.train.filming import Film
    from pose3d_ros.train.metrics import coverage
    from pose3d_ros.train.samples import POPULATION

    validation = load_split(args, 'val')
    rng = np.random.default_rng(SEED)
    people = even_samples(validation, CALIBRATION, rng, POPULATION, file.STEP_S, lifter.shown)
    filmed = laboratory_samples(validation, LABORATORY, rng, Film(takes=1, body=POPULATION.body), load_errors(ERRORS),
                                lifter.shown)
    file.set_bones(lifter, load_split(args, 'train'))
    errors = file.choose_size(lifter, people)
    depth = file.fit_spread(lifter, people)
    factors = file.calibrate(lifter, people)
    lines = [f'metres from {lifter.size}: root errors with known statures '
             + ', '.join(f'{name} {1000 * error:.0f} mm' for name, error in errors.items()),
             f'distance within {100 * depth[1]:.1f} % for people seen whole, {100 * depth[0]:.1f} % for others; '
             f'standard deviations of the joints times {factors.min():.2f} to {factors.max():.2f}']
    for name, samples in (('robots\' cameras', people), ('a laboratory', filmed)):
        relative, root, covariance = file.predict(lifter, samples, np.tile(file.ADULTS, (len(samples), 1)))
        placed = np.isfinite(root).all(axis=1)
        error = (samples.points - root[:, None] - relative)[placed]
        lines.append(f'before {name}: {100 * placed.mean():.0f} % show both hips, 90 % ellipsoids hold '
                     f'{100 * coverage(error, covariance[placed].astype(np.float64), file.SHARE):.1f} %')
    return lines
