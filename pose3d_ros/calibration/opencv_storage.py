"""cv2.FileStorage (YAML, XML or JSON): one camera, or a stereo pair, as OpenCV's samples and many scripts write it.

One camera: camera_matrix, distortion_coefficients, image_width, image_height, fisheye_model (calibration.cpp). A pair:
M1, D1, M2, D2 and R, T (stereo_calib.cpp, its two files put into one): x_2 = R x_1 + T, so the world is camera1. Names
differ from script to script: the usual ones are known. Other entries (flags, errors, rectification) are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.calibration.places import CalibratedCamera, metres, pose_of
from pose3d_ros.calibration.values import size_of
from pose3d_ros.camera import CalibrationError, Camera

_MATRIX = ('camera_matrix', 'Camera_Matrix', 'cameraMatrix', 'CameraMatrix', 'K', 'M', 'mtx')
_DISTORTION = ('distortion_coefficients', 'Distortion_Coefficients', 'distCoeffs', 'dist_coeffs', 'dist_coeff',
               'distortion', 'D', 'dist')
_WIDTH, _HEIGHT = ('image_width', 'image_Width', 'width'), ('image_height', 'image_Height', 'height')
_SIZE = ('image_size', 'imageSize', 'ImageSize', 'size', 'resolution')
_ROTATION, _TRANSLATION = ('R', 'rotation'), ('T', 'translation')


class _Storage:
    """The entries of a file by the first of several names. Raises CalibrationError naming the entry."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        try:
            self._file = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
            self.names = set(self._file.root().keys()) if self._file.isOpened() else set()
        except (cv2.error, SystemError):
            self.names = set()
        if not self.names:
            raise CalibrationError(f'{source}: OpenCV cannot read it (cv2.FileStorage); it must start with %YAML:1.0, '
                                   '<?xml or {, and be whole')

    def find(self, names: Iterable[str]) -> str:
        return next((name for name in names if name in self.names), '')

    def matrix(self, name: str) -> NDArray[np.float64]:
        node = self._file.getNode(name)
        try:
            if node.isSeq():
                return np.array([node.at(i).real() for i in range(node.size())])
            found = node.mat() if node.isMap() else None
        except cv2.error:
            found = None
        if found is None:
            raise CalibrationError(f'{self.source}: {name} is not a matrix')
        return np.asarray(found, dtype=np.float64)

    def value(self, name: str) -> Any:
        node = self._file.getNode(name)
        if node.isString():
            return node.string()
        return node.real() if node.isInt() or node.isReal() else None


def read_opencv(text: str, source: str, name: str, unit_m: float | None = None,
                size: tuple[int, int] | None = None) -> dict[str, CalibratedCamera]:
    """Return the camera under its camera_name (or name), or a pair as camera1 and camera2. Raises CalibrationError.

    unit_m: m per unit of T. size: px of the images, for files that do not say it.
    """
    storage = _Storage(text, source)
    pixels = _image_size(storage, size)
    matrix = storage.find(_MATRIX)
    if matrix:
        entry = storage.value('camera_name') if 'camera_name' in storage.names else ''
        return {str(entry or name): CalibratedCamera(_lens(storage, matrix, storage.find(_DISTORTION), pixels))}
    pair = [(storage.find(_numbered(_MATRIX, n)), storage.find(_numbered(_DISTORTION, n))) for n in (1, 2)]
    if not all(matrix for matrix, _ in pair):
        raise CalibrationError(
            f'{source}: holds neither camera_matrix nor M1 and M2 (it has {", ".join(sorted(storage.names))}); a '
            'stereo calibration in two files, intrinsics and extrinsics, must be put into one')
    first, second = (CalibratedCamera(_lens(storage, *names, pixels)) for names in pair)
    pose = _pose(storage, unit_m)
    if pose is not None:
        first, second = CalibratedCamera(first.camera, np.eye(4)), CalibratedCamera(second.camera, pose)
    return {'camera1': first, 'camera2': second}


def _numbered(names: Iterable[str], number: int) -> list[str]:
    return [f'{name}{gap}{number}' for name in names for gap in ('', '_')]


def _image_size(storage: _Storage, size: tuple[int, int] | None) -> tuple[int, int]:
    wide, high, both = storage.find(_WIDTH), storage.find(_HEIGHT), storage.find(_SIZE)
    if wide and high:
        found = [storage.value(wide), storage.value(high)]
    elif both:
        found = list(storage.matrix(both).ravel())
    elif size is None:
        raise CalibrationError(f'{storage.source}: image_width and image_height are missing; add them, or: pose3d '
                               'convert calibration FILE --size WIDTHxHEIGHT --out FILE.yaml')
    else:
        return size_of(size, storage.source)
    if any(value is None or isinstance(value, str) for value in found):
        raise CalibrationError(f'{storage.source}: the image size must be two numbers, not {found}')
    pixels = size_of(found, storage.source)
    if size is not None and pixels != tuple(size):
        raise CalibrationError(f'{storage.source}: is for {pixels[0]} x {pixels[1]} px, not {size[0]} x {size[1]}; '
                               'leave --size out')
    return pixels


def _lens(storage: _Storage, matrix: str, distortion: str, size: tuple[int, int]) -> Camera:
    source = f'{storage.source}: {matrix}'
    k = storage.matrix(matrix)
    if k.shape != (3, 3):
        raise CalibrationError(f'{source} must be 3 x 3, not {" x ".join(map(str, k.shape))}')
    coefficients = storage.matrix(distortion).ravel().tolist() if distortion else []
    model = _model(storage, len(coefficients))
    return Camera.from_info(*size, k.ravel().tolist(), coefficients, model, topic=source)


def _model(storage: _Storage, count: int) -> str:
    """Return the lens model: named, or fisheye by its flag, or OpenCV's main one by its number of coefficients."""
    named = storage.value('distortion_model') if 'distortion_model' in storage.names else None
    if named:
        return str(named)
    flag = storage.find(('fisheye_model', 'fisheye'))
    if flag and storage.value(flag):
        return 'equidistant'
    return 'plumb_bob' if count <= 5 else 'rational_polynomial'


def _pose(storage: _Storage, unit_m: float | None) -> NDArray[np.float64] | None:
    names = storage.find(_ROTATION), storage.find(_TRANSLATION)
    if not any(names):
        return None
    if not all(names):
        raise CalibrationError(f'{storage.source}: of R and T one is missing')
    rotation, translation = (storage.matrix(name) for name in names)
    if rotation.size == 3:
        rotation = np.asarray(cv2.Rodrigues(rotation.reshape(3))[0], dtype=np.float64)
    if translation.size != 3:
        raise CalibrationError(f'{storage.source}: T must be three numbers, not {translation.size}')
    source = f'{storage.source}: R, T'
    return pose_of(rotation, metres(translation.ravel(), unit_m, source), source)
