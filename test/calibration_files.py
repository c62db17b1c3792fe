"""Calibration files as other tools write them, of cameras that are known."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

SIZE = (1280, 720)
needs_toml = pytest.mark.skipif(not any(find_spec(name) for name in ('tomllib', 'tomli')),
                                reason='tomli is not installed')
K = np.array([[910.5, 0.0, 641.25], [0.0, 912.25, 355.75], [0.0, 0.0, 1.0]])
BROWN = [-0.21, 0.07, 1.5e-3, -2.5e-3, -0.012]
RATIONAL = [0.31, -0.05, 1.5e-3, -2.5e-3, 0.004, 0.42, 0.03, 0.001]
FISHEYE = [-0.012, 0.035, -0.02, 0.004]


def pose(vector: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """Return the (4, 4) of a rotation vector (rad) and a translation (m)."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(vector).as_matrix()
    matrix[:3, 3] = shift
    return matrix


RIG = {'front': pose((1.2, -0.4, 0.3), (0.5, -0.25, 2.75)), 'back': pose((-0.7, 2.1, 0.5), (-0.3, 0.6, 3.5))}


def points() -> np.ndarray:
    """Return (200, 3) m in view of a camera that looks along +z."""
    return np.random.default_rng(3).uniform((-1.0, -0.6, 2.0), (1.0, 0.6, 5.0), (200, 3))


def projected(camera_points: np.ndarray, distortion: list[float], *, fisheye: bool = False) -> np.ndarray:
    """Return what OpenCV makes of points (N, 3) in the optical frame: pixels (N, 2)."""
    project: Any = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
    shaped = camera_points[None] if fisheye else camera_points
    origin = np.zeros(3)
    return project(shaped, origin, origin, K, np.array(distortion))[0].reshape(-1, 2)


def write_opencv(path: Path, entries: Mapping[str, Any]) -> Path:
    """Write entries with cv2.FileStorage; the suffix of path decides between YAML, XML and JSON."""
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for name, value in entries.items():
        storage.write(name, np.array(value) if isinstance(value, list) else value)
    storage.release()
    return path


OPENCV: dict[str, Any] = {'nframes': 20, 'image_width': SIZE[0], 'image_height': SIZE[1], 'flags': 0,
                          'fisheye_model': 0, 'camera_matrix': K, 'distortion_coefficients': np.array(BROWN)[:, None],
                          'avg_reprojection_error': 0.21}
PAIR = pose((0.02, -0.15, 0.01), (-0.12, 0.003, 0.004))
OPENCV_PAIR: dict[str, Any] = {'image_width': SIZE[0], 'image_height': SIZE[1], 'M1': K, 'D1': [BROWN], 'M2': K,
                               'D2': [RATIONAL], 'R': PAIR[:3, :3], 'T': PAIR[:3, 3:], 'Q': np.eye(4)}

KALIBR = """cam0:
  cam_overlaps: [1, 2]
  camera_model: pinhole
  distortion_coeffs: [-0.21, 0.07, 0.0015, -0.0025]
  distortion_model: radtan
  intrinsics: [910.5, 912.25, 641.25, 355.75]
  resolution: [1280, 720]
  rostopic: /front/image_raw
  T_cam_imu:
  - [0, 1, 0, 5]
  - [1, 0, 0, 5]
  - [0, 0, -1, 5]
  - [0, 0, 0, 1]
cam1:
  T_cn_cnm1:
  - [0.0, 0.0, -1.0, 0.5]
  - [0.0, 1.0, 0.0, 0.0]
  - [1.0, 0.0, 0.0, 1.5]
  - [0.0, 0.0, 0.0, 1.0]
  camera_model: pinhole
  distortion_coeffs: [-0.012, 0.035, -0.02, 0.004]
  distortion_model: equidistant
  intrinsics: [910.5, 912.25, 641.25, 355.75]
  resolution: [1280, 720]
cam2:
  T_cn_cnm1:
  - [1.0, 0.0, 0.0, -0.25]
  - [0.0, 0.0, -1.0, 0.0]
  - [0.0, 1.0, 0.0, 0.75]
  - [0.0, 0.0, 0.0, 1.0]
  camera_model: pinhole
  distortion_coeffs: []
  distortion_model: none
  intrinsics: [910.5, 912.25, 641.25, 355.75]
  resolution: [1280, 720]
"""


def toml_of(poses: Mapping[str, np.ndarray], distortion: list[float], *, fisheye: bool = False,
            unit_m: float = 1.0) -> str:
    """Return the TOML of Pose2Sim and aniposelib: sections cam_N, with the names of poses."""
    sections = []
    for number, (name, place) in enumerate(poses.items()):
        vector, shift = cv2.Rodrigues(place[:3, :3])[0].ravel(), place[:3, 3] / unit_m
        sections.append(f'[cam_{number}]\nname = "{name}"\nsize = [ {SIZE[0]}.0, {SIZE[1]}.0,]\n'
                        f'matrix = {K.tolist()}\ndistortions = {distortion}\nrotation = {vector.tolist()}\n'
                        f'translation = {shift.tolist()}\nfisheye = {str(fisheye).lower()}\n')
    return '\n'.join([*sections, '[metadata]\nadjusted = false\nerror = 0.0\n'])


QUALISYS_LENS = {'focalLengthU': 64 * 910.5, 'focalLengthV': 64 * 912.25, 'centerPointU': 64 * 641.25,
                 'centerPointV': 64 * 355.75, 'skew': 0.0, 'radialDistortion1': -0.21, 'radialDistortion2': 0.07,
                 'radialDistortion3': -0.012, 'tangentalDistortion1': 1.5e-3, 'tangentalDistortion2': -2.5e-3,
                 'sensorMinU': 0, 'sensorMaxU': 64 * 1280 - 1, 'sensorMinV': 0, 'sensorMaxV': 64 * 720 - 1}
FULL = (0, 1279, 0, 719)


def qualisys_of(poses: Mapping[str, np.ndarray], region: tuple[int, int, int, int] | None = FULL, camera: str = '',
                lens: Mapping[str, float] = QUALISYS_LENS) -> str:
    """Return the XML of Qualisys: x right, y up, z backwards; mm; region: left, right, top, bottom of the video."""
    elements = []
    for name, place in poses.items():
        world_T_camera = np.linalg.inv(place)
        right, up, back = world_T_camera[:3, 0], -world_T_camera[:3, 1], -world_T_camera[:3, 2]
        axes = ' '.join(f'r{row}{column}="{axis[column - 1]:.17g}"' for row, axis in enumerate((right, up, back), 1)
                        for column in (1, 2, 3))
        position = ' '.join(f'{axis}="{1000 * value:.17g}"' for axis, value in zip('xyz', world_T_camera[:3, 3]))
        ends = '' if region is None else ' '.join(
            f'{key}="{value}"' for key, value in zip(('left', 'right', 'top', 'bottom'), region))
        view = '' if region is None else f'<fov_video {ends}/>'
        numbers = ' '.join(f'{key}="{value:.17g}"' for key, value in lens.items())
        elements.append(f'<camera active="1" serial="{name}" viewrotation="0" {camera}>{view}'
                        f'<transform {position} {axes}/><intrinsic {numbers}/></camera>')
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<calibration><cameras>{"".join(elements)}</cameras></calibration>'
