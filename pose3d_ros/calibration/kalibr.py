"""Kalibr's camchain YAML: cam0, cam1, ... each with its lens, its size and its place relative to the one before.

camera_model pinhole with distortion_model radtan (plumb_bob), equidistant or none; intrinsics [fu, fv, pu, pv] px;
resolution [width, height]; T_cn_cnm1 (4 x 4, m) maps points of the camera before into this one. The world is cam0.
T_cam_imu is of no use here. Format: the wiki of ethz-asl/kalibr, page "yaml formats".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from pose3d_ros.calibration.places import CalibratedCamera, pose_of
from pose3d_ros.calibration.values import given, listed, mapping, rows_of, size_of
from pose3d_ros.camera import CalibrationError, Camera

_LENSES = {'radtan': 'plumb_bob', 'equidistant': 'equidistant', 'none': 'pinhole'}
_NAME = re.compile(r'cam(\d+)')


def is_kalibr(document: Mapping[str, Any]) -> bool:
    """Tell whether a parsed YAML file is a camera chain of Kalibr."""
    return any(_NAME.fullmatch(str(name)) for name in document)


def read_kalibr(document: Mapping[str, Any], source: str) -> dict[str, CalibratedCamera]:
    """Return the cameras by name. Places are known where the chain is (of one camera alone: none).

    Raises CalibrationError.
    """
    chain = sorted((int(found[1]), str(name)) for name in document if (found := _NAME.fullmatch(str(name))))
    entries = [(name, mapping(document[name], f'{source}: camera {name}')) for _, name in chain]
    if [number for number, _ in chain] != list(range(len(chain))):
        raise CalibrationError(f'{source}: the chain has gaps: {", ".join(name for name, _ in entries)}')
    placed = any('T_cn_cnm1' in entry for _, entry in entries)
    pose = np.eye(4)
    cameras = {}
    for number, (name, entry) in enumerate(entries):
        where = f'{source}: camera {name}'
        if placed and number:
            matrix = np.array(rows_of(entry, 'T_cn_cnm1', where, 4, 4))
            if not np.allclose(matrix[3], (0, 0, 0, 1)):
                raise CalibrationError(f'{where}: T_cn_cnm1 must end with the row 0 0 0 1')
            pose = pose_of(matrix[:3, :3], matrix[:3, 3], f'{where}: T_cn_cnm1') @ pose
        cameras[name] = CalibratedCamera(_lens(entry, where), pose.copy() if placed else None)
    return cameras


def _lens(entry: Mapping[str, Any], source: str) -> Camera:
    model, distortion = given(entry, 'camera_model', source), given(entry, 'distortion_model', source)
    if model != 'pinhole':
        raise CalibrationError(f'{source}: camera_model {model!r} is not supported; calibrate with pinhole-radtan, or '
                               'with pinhole-equi for a fisheye')
    if distortion not in _LENSES:
        raise CalibrationError(f'{source}: distortion_model {distortion!r} is not supported; known: '
                               f'{", ".join(_LENSES)}')
    fx, fy, cx, cy = listed(entry, 'intrinsics', source, (4,))
    width, height = size_of(listed(entry, 'resolution', source, (2,)), f'{source}: resolution')
    coefficients = [] if distortion == 'none' else listed(entry, 'distortion_coeffs', source, (4,))
    return Camera.from_info(width, height, [fx, 0, cx, 0, fy, cy, 0, 0, 1], coefficients, _LENSES[distortion],
                            topic=source)
