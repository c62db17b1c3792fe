"""`pose3d convert calibration`: the calibration of another tool, as this project's YAML and as static TF."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pose3d_ros.calibration import (
    CalibratedCamera,
    load_calibration,
    save_calibration,
    static_transform_launch,
    static_transforms,
    with_up,
)
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import print_table

_UNITS = {'m': 1.0, 'cm': 0.01, 'mm': 0.001}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `convert calibration`."""
    parser = subparsers.add_parser(
        'convert', help='show and convert calibrations of other tools; static TF from them',
        description='Show and convert files of other tools.')
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    calibration = kinds.add_parser(
        'calibration', help='a calibration of ROS, OpenCV, Kalibr, Pose2Sim, aniposelib or Qualisys',
        description='Show the cameras of a calibration file (ROS, OpenCV, Kalibr, Pose2Sim, aniposelib, Qualisys, or '
                    'our own; told by its content), and write them as YAML and as static TF. See docs/calibration.md.')
    calibration.add_argument('file', type=Path, metavar='FILE')
    calibration.add_argument('--out', type=Path, metavar='FILE', help='write the cameras as YAML of this project')
    calibration.add_argument('--static-tf', type=Path, metavar='FILE',
                             help='write their places as TF: a launch file if FILE ends in .py, else a shell script')
    calibration.add_argument('--parent', default='world', metavar='FRAME',
                             help='TF frame that is the world of the calibration (default: world)')
    calibration.add_argument('--unit', choices=_UNITS,
                             help='of the translations in OpenCV and TOML files, which do not say it (default: m)')
    calibration.add_argument('--up', type=_direction, metavar='X,Y,Z',
                             help='what is up in the world of the file; written files then have z up. Where the world '
                                  'is an upright camera (Kalibr, OpenCV): --up=0,-1,0')
    calibration.add_argument('--size', type=_size, metavar='WIDTHxHEIGHT',
                             help='of the images in px, for OpenCV files that do not say it')


def run(args: argparse.Namespace) -> int:
    """Show the cameras, and write what is asked for. Raises CalibrationError and UserError."""
    cameras = load_calibration(args.file, unit_m=None if args.unit is None else _UNITS[args.unit], size=args.size)
    if args.up is not None:
        cameras = with_up(cameras, args.up)
    show(cameras)
    targets = [path for path in (args.out, args.static_tf) if path is not None]
    for path in targets:
        if path.exists() and path.samefile(args.file):
            raise UserError(f'{path}: is the file that is read; write to another one')
    if args.static_tf:  # composed before anything is written
        text = (static_transform_launch if args.static_tf.suffix == '.py' else _script)(cameras, args.parent)
    try:
        if args.out:
            save_calibration(args.out, cameras, f'From {args.file.name}. Pixels; metres; camera_T_world: '
                                                'x_camera = R x_world + t.')
        if args.static_tf:
            args.static_tf.parent.mkdir(parents=True, exist_ok=True)
            args.static_tf.write_text(text, encoding='utf-8')
    except OSError as error:
        raise UserError(f'{error.filename}: cannot be written ({error.strerror}); choose another place') from error
    for path in targets:
        print(f'wrote {path}')
    return 0


def show(cameras: Mapping[str, CalibratedCamera]) -> None:
    """Print a line per camera: its lens, where it stands and where it looks, in the world of the file."""
    rows = [['camera', 'size px', 'focal px', 'centre px', 'view deg', 'lens', 'distortion', 'place m', 'looks along']]
    for name, calibrated in cameras.items():
        camera, pose = calibrated.camera, calibrated.camera_T_world
        degrees = np.degrees(2 * np.arctan2((camera.width, camera.height), (2 * camera.fx, 2 * camera.fy)))
        place = ('-', '-')
        if pose is not None:
            world_T_camera = np.linalg.inv(pose)
            place = _vector(world_T_camera[:3, 3]), _vector(world_T_camera[:3, 2])
        rows.append([name, f'{camera.width}x{camera.height}', f'{camera.fx:.1f} {camera.fy:.1f}',
                     f'{camera.cx:.1f} {camera.cy:.1f}', f'{degrees[0]:.0f}x{degrees[1]:.0f}', camera.model,
                     ' '.join(f'{value:.4g}' for value in camera.distortion) or '-', *place])
    print_table(rows)


def _vector(values: np.ndarray) -> str:
    return ' '.join(f'{value + 0.0:.3f}' for value in np.round(values, 3))


def _script(cameras: Mapping[str, CalibratedCamera], parent: str) -> str:
    """Return a shell script that publishes the places until it is interrupted."""
    commands = static_transforms(cameras, parent).splitlines()
    started = [f'{command} & pids="$pids $!"' for command in commands]
    return '\n'.join(['#!/bin/sh', "trap 'kill $pids' INT TERM", *started, 'wait', ''])


def _direction(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(','))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f'{text!r} is no direction such as 0,-1,0')
    return values


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text)
    if not found:
        raise argparse.ArgumentTypeError(f'{text!r} is no size such as 1280x720')
    return int(found[1]), int(found[2])
