"""The TOML of Pose2Sim and aniposelib: a section per camera, and one called metadata.

size [width, height], matrix (3 x 3) px, distortions (OpenCV's order), rotation (rotation vector, rad) and translation:
x_camera = R x_world + t in the optical frame; fisheye = true: distortions are those of cv2.fisheye. The unit is that of
the calibration board: metres with Pose2Sim, often millimetres with aniposelib, and the file does not tell.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from pose3d_ros.calibration.places import CalibratedCamera, metres, pose_of_vectors
from pose3d_ros.calibration.values import listed, rows_of, size_of
from pose3d_ros.camera import CalibrationError, Camera

_PARSER = 'tomllib' if sys.version_info >= (3, 11) else 'tomli'


def read_toml(text: str, source: str, unit_m: float | None = None) -> dict[str, CalibratedCamera]:
    """Return the cameras under their name, or that of their section. unit_m: m per unit of the translations.

    Raises CalibrationError, also where Python has no TOML reader.
    """
    cameras: dict[str, CalibratedCamera] = {}
    for section, entry in _parsed(text, source).items():
        if section == 'metadata' or not isinstance(entry, Mapping):
            continue
        name = str(entry.get('name') or section)
        if name in cameras:
            raise CalibrationError(f'{source}: two cameras are called {name!r}')
        cameras[name] = _camera(entry, f'{source}: camera {name}', unit_m)
    if not cameras:
        raise CalibrationError(f'{source}: has no section of a camera; expected the TOML of Pose2Sim or aniposelib')
    return cameras


def _parsed(text: str, source: str) -> Mapping[str, Any]:
    try:
        parser = importlib.import_module(_PARSER)
    except ModuleNotFoundError:
        raise CalibrationError(f'{source}: is TOML; this Python reads it with the package {_PARSER}, which is missing: '
                               f'pip install {_PARSER}') from None
    try:
        return parser.loads(text)
    except parser.TOMLDecodeError as error:
        raise CalibrationError(f'{source}: is not valid TOML ({error})') from None


def _camera(entry: Mapping[str, Any], source: str, unit_m: float | None) -> CalibratedCamera:
    width, height = size_of(listed(entry, 'size', source, (2,)), f'{source}: size')
    matrix = [value for row in rows_of(entry, 'matrix', source, 3, 3) for value in row]
    fisheye = entry.get('fisheye', False)
    if not isinstance(fisheye, bool):
        raise CalibrationError(f'{source}: fisheye must be true or false, not {fisheye!r}')
    distortion = listed(entry, 'distortions', source, (4,) if fisheye else (4, 5, 8, 12, 14))
    model = 'equidistant' if fisheye else 'plumb_bob' if len(distortion) <= 5 else 'rational_polynomial'
    camera = Camera.from_info(width, height, matrix, distortion, model, topic=source)
    if 'rotation' not in entry and 'translation' not in entry:
        return CalibratedCamera(camera)  # Pose2Sim, intrinsics only
    rotation, translation = (listed(entry, key, source, (3,)) for key in ('rotation', 'translation'))
    return CalibratedCamera(camera, pose_of_vectors(rotation, metres(translation, unit_m, source), source))
