"""Places of cameras as static TF: what to run, or a launch file.

TF wants parent_T_camera of the optical frame (REP-105: the pose of the child in its parent; REP-103: x right, y down,
z forward, frames named *_optical_frame), the inverse of camera_T_world. Parent and child follow in the same transform,
so no rotation between body and optical axes is left to add.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.calibration.places import CalibratedCamera
from pose3d_ros.camera import CalibrationError

_KEYS = ('--x', '--y', '--z', '--qx', '--qy', '--qz', '--qw')
_LAUNCH = '''"""Where the cameras are, as static TF: {parent} -> their optical frames. Made by pose3d."""

from launch import LaunchDescription
from launch_ros.actions import Node

# child: x, y, z in {parent} (m), and the quaternion x, y, z, w of its optical axes there
PLACES = {{
{places}
}}


def generate_launch_description():
    """One static_transform_publisher per camera."""
    keys = {keys!r}
    return LaunchDescription([
        Node(package='tf2_ros', executable='static_transform_publisher', name='place_of_' + child.replace('/', '_'),
             arguments=[*(word for pair in zip(keys, map(repr, place)) for word in pair),
                        '--frame-id', {parent!r}, '--child-frame-id', child])
        for child, place in PLACES.items()])
'''


def optical_frame(name: str) -> str:
    """Return the TF frame of the camera called name: what TF and launch would stumble over becomes an underscore."""
    return f'{re.sub("[^A-Za-z0-9_]+", "_", name)}_optical_frame'


def check_frame(name: str) -> None:
    """Raise CalibrationError for what cannot be the name of a TF frame."""
    if not re.fullmatch(r'[A-Za-z_][A-Za-z0-9_/]*', name):
        raise CalibrationError(f'{name!r} is no TF frame: letters, digits, _ and / only, and no / in front')


def static_transforms(cameras: Mapping[str, CalibratedCamera | NDArray[np.float64]], parent: str = 'world') -> str:
    """Return a `ros2 run tf2_ros static_transform_publisher` line per camera that has a place.

    cameras: or camera_T_world (4, 4) alone, by name. parent is the frame that is the world of the calibration. Raises
    CalibrationError when there is nothing to say.
    """
    lines = []
    for child, place in _places(cameras, parent, {}).items():
        words = [word for key, value in zip(_KEYS, place) for word in (key, repr(value))]
        lines.append(shlex.join(['ros2', 'run', 'tf2_ros', 'static_transform_publisher', *words,
                                 '--frame-id', parent, '--child-frame-id', child]))
    return '\n'.join(lines) + '\n'


def static_transform_launch(cameras: Mapping[str, CalibratedCamera | NDArray[np.float64]], parent: str = 'world',
                            frames: Mapping[str, str] | None = None) -> str:
    """Return a launch file (Python) that publishes the same transforms. Raises CalibrationError as above.

    frames: the optical frames of cameras that call them otherwise, by name.
    """
    places = '\n'.join(f'    {child!r}: {place!r},' for child, place in _places(cameras, parent, frames or {}).items())
    return _LAUNCH.format(parent=parent, places=places, keys=_KEYS)


def _places(cameras: Mapping[str, CalibratedCamera | NDArray[np.float64]], parent: str,
            frames: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    """Return x, y, z (m) and the quaternion x, y, z, w of each optical frame in the world, which is parent."""
    check_frame(parent)
    places: dict[str, tuple[float, ...]] = {}
    for name, calibrated in cameras.items():
        pose = calibrated.camera_T_world if isinstance(calibrated, CalibratedCamera) else calibrated
        if pose is None:
            continue
        frame = frames.get(name) or optical_frame(name)
        if frame in places or frame == parent:
            raise CalibrationError(f'camera {name!r} gets the frame {frame}, which is taken; rename it')
        place = np.linalg.inv(pose)
        quaternion = Rotation.from_matrix(place[:3, :3]).as_quat()
        places[frame] = tuple(float(value) for value in (*place[:3, 3], *quaternion))
    if not places:
        raise CalibrationError('none of the cameras has a place, so there is no static TF; calibrate their extrinsics')
    return places
