"""What the user knows of the people and of the floor under the camera: options of `pose3d run` and `pose3d demo`."""

from __future__ import annotations

import argparse
import math
from typing import Any

from pose3d_ros.cli.errors import UserError
from pose3d_ros.records import GroundPlane


def add_floor_options(parser: argparse.ArgumentParser) -> None:
    """Add --stature, --camera-height, --camera-pitch and --camera-roll."""
    group = parser.add_argument_group(
        'size and floor', 'one camera alone cannot tell a tall person far away from a small one near by')
    group.add_argument('--stature', type=float, default=0.0, metavar='M', help='of everybody in view, if it is known')
    group.add_argument('--camera-height', type=float, default=0.0, metavar='M',
                       help='of a camera at a fixed place, above the floor that people stand on; statures are learned '
                            'from it')
    group.add_argument('--camera-pitch', type=float, default=0.0, metavar='DEG', help='positive: it looks down')
    group.add_argument('--camera-roll', type=float, default=0.0, metavar='DEG', help='positive: it leans to its right')


def floor_of(args: argparse.Namespace) -> GroundPlane | None:
    """Return the floor that the options say, None without. Raises UserError for options that say nothing sensible."""
    if args.stature and not 0.5 <= args.stature <= 2.5:
        raise UserError(f'--stature {args.stature:g}: expected metres, 0.5 to 2.5')
    if not args.camera_height:
        if args.camera_pitch or args.camera_roll:
            raise UserError('--camera-pitch and --camera-roll need --camera-height: how high above the floor is it?')
        return None
    if not 0 < args.camera_height <= 50:
        raise UserError(f'--camera-height {args.camera_height:g}: expected metres above the floor, up to 50')
    if not (abs(args.camera_pitch) <= 90 and abs(args.camera_roll) <= 180):
        raise UserError('--camera-pitch is within -90 to 90 degrees, --camera-roll within -180 to 180')
    return GroundPlane.under_camera(args.camera_height, math.radians(args.camera_pitch), math.radians(args.camera_roll))


def node_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Return the same as parameters of mono_node, without those that were not given."""
    parameters: dict[str, Any] = {'stature': args.stature} if args.stature else {}
    if args.camera_height:
        parameters |= {'ground_source': 'parameters', 'camera_height': args.camera_height,
                       'camera_pitch': args.camera_pitch, 'camera_roll': args.camera_roll}
    return parameters
