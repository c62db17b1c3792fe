"""The camera_info YAML of ROS, and the project's own file of several cameras with their places: read and written.

One camera (what camera_calibration and camera_info_manager write): image_width, image_height, camera_name,
camera_matrix {rows, cols, data}, distortion_model, distortion_coefficients {...}, rectification_matrix {...},
projection_matrix {...}.

Several cameras:

    cameras:
      NAME:
        image_width: ...            # the same keys as above; only image_width, image_height, camera_matrix,
        ...                         # distortion_model and distortion_coefficients are needed
        camera_T_world:             # optional: x_camera = R x_world + t, in the optical frame
          rotation: [rx, ry, rz]    # rotation vector: axis times angle, rad
          translation: [x, y, z]    # m

In a file of places alone, the cameras have nothing but camera_T_world.

The intrinsics are those of the images that will be used, not of the sensor: no region, no binning.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.calibration.places import CalibratedCamera, pose_of, pose_of_vectors
from pose3d_ros.calibration.values import mapping, numbers
from pose3d_ros.camera import CalibrationError, Camera

_INTRINSICS = {'image_width', 'camera_matrix'}  # a camera that has neither is a place alone


def read_own(document: Mapping[str, Any], source: str, name: str) -> dict[str, CalibratedCamera]:
    """Return the cameras of a parsed file, a camera_info file's under its camera_name or name.

    Raises CalibrationError.
    """
    if 'cameras' in document:
        entries = _cameras(document, source)
    elif 'camera_matrix' in document:
        entries = {document.get('camera_name') or name: document}
    else:
        raise CalibrationError(f"{source}: neither 'cameras' nor 'camera_matrix' in it; expected a camera_info YAML of "
                               'ROS or a calibration file of another tool (docs/calibration.md)')
    return {str(key): _camera(entry, f'{source}: camera {key}') for key, entry in entries.items()}


def read_places(document: Mapping[str, Any], source: str) -> dict[str, NDArray[np.float64]]:
    """Return camera_T_world (4, 4) of those cameras of a parsed file with `cameras` that have one.

    Raises CalibrationError.
    """
    places = {}
    for name, entry in _cameras(document, source).items():
        where = f'{source}: camera {name}'
        if 'camera_T_world' in mapping(entry, where):
            places[str(name)] = _pose(entry['camera_T_world'], f'{where}: camera_T_world')
    return places


def read_lenses(document: Mapping[str, Any], source: str) -> dict[str, Camera]:
    """Return the intrinsics of those cameras of a parsed file with `cameras` that have some. Raises CalibrationError.
    """
    lenses = {}
    for name, entry in _cameras(document, source).items():
        where = f'{source}: camera {name}'
        if _INTRINSICS & set(mapping(entry, where)):
            lenses[str(name)] = _camera(entry, where).camera
    return lenses


def save_camera(path: str | Path, camera: Camera, name: str = 'camera') -> None:
    """Write a camera_info YAML file of ROS, as camera_info_manager reads it (file:// URL). Replaces the file whole."""
    info = camera.to_info()
    _write(Path(path), _dump({'camera_name': name, **_entry(camera), 'rectification_matrix': _block(info['r'], 3),
                              'projection_matrix': _block(info['p'], 3)}))


def save_calibration(path: str | Path, cameras: Mapping[str, CalibratedCamera], comment: str = '') -> None:
    """Write a calibration file of several cameras; comment (may have several lines) stands at its head."""
    entries = {}
    for name, calibrated in cameras.items():
        entries[name] = _entry(calibrated.camera)
        pose = calibrated.camera_T_world
        if pose is not None:
            entries[name]['camera_T_world'] = _vectors(pose)
    _write(Path(path), _head(comment) + _dump({'cameras': entries}))


def save_places(path: str | Path, places: Mapping[str, NDArray[np.float64]], comment: str = '') -> None:
    """Write a file of places alone: camera_T_world (4, 4) by name of camera; comment (several lines) at its head.

    Raises CalibrationError for what is no rotation, or not finite.
    """
    entries = {name: {'camera_T_world': _vectors(pose_of(pose[:3, :3], pose[:3, 3], f'{path}: camera {name}'))}
               for name, pose in places.items()}
    _write(Path(path), _head(comment) + _dump({'cameras': entries}))


def _cameras(document: Mapping[str, Any], source: str) -> Mapping[Any, Any]:
    entries = document['cameras']
    if not isinstance(entries, Mapping) or not entries:
        raise CalibrationError(f"{source}: 'cameras' must map at least one name to a camera")
    return entries


def _camera(entry: Any, source: str) -> CalibratedCamera:
    model = mapping(entry, source).get('distortion_model', '')
    if not isinstance(model, str):
        raise CalibrationError(f'{source}: distortion_model is not a name')
    if 'camera_T_world' in entry and not _INTRINSICS & set(entry):
        raise CalibrationError(f'{source}: is a place without intrinsics; give a calibration that has image_width, '
                               'image_height and camera_matrix too')
    distortion = _matrix(entry, 'distortion_coefficients', source) if 'distortion_coefficients' in entry else []
    camera = Camera.from_info(_count(entry, 'image_width', source), _count(entry, 'image_height', source),
                              _matrix(entry, 'camera_matrix', source), distortion, model, topic=source)
    if 'camera_T_world' not in entry:
        return CalibratedCamera(camera)
    return CalibratedCamera(camera, _pose(entry['camera_T_world'], f'{source}: camera_T_world'))


def _pose(entry: Any, source: str) -> NDArray[np.float64]:
    if not isinstance(entry, Mapping):
        raise CalibrationError(f'{source}: is not a mapping with rotation and translation')
    rotation, translation = (numbers(entry.get(key), f'{source}: {key}') for key in ('rotation', 'translation'))
    return pose_of_vectors(rotation, translation, source)


def _vectors(pose: NDArray[np.float64]) -> dict[str, list[float]]:
    return {'rotation': [float(v) for v in Rotation.from_matrix(pose[:3, :3]).as_rotvec()],
            'translation': [float(v) for v in pose[:3, 3]]}


def _count(entry: Mapping[str, Any], key: str, source: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise CalibrationError(f'{source}: {key} must be a positive whole number of pixels, not {value!r}')
    return value


def _matrix(entry: Mapping[str, Any], key: str, source: str) -> list[float]:
    """Return the data of a {rows, cols, data} matrix, row by row."""
    matrix = entry.get(key)
    if not isinstance(matrix, Mapping) or 'data' not in matrix:
        raise CalibrationError(f'{source}: {key} is missing or not of the form {{rows, cols, data}}')
    data = numbers(matrix['data'], f'{source}: {key}')
    rows, columns = matrix.get('rows'), matrix.get('cols')
    if isinstance(rows, int) and isinstance(columns, int) and rows * columns != len(data):
        raise CalibrationError(f'{source}: {key} says {rows} x {columns}, but has {len(data)} values')
    return data


def _entry(camera: Camera) -> dict[str, Any]:
    info = camera.to_info()
    return {'image_width': camera.width, 'image_height': camera.height, 'camera_matrix': _block(info['k'], 3),
            'distortion_model': info['distortion_model'], 'distortion_coefficients': _block(info['d'], 1)}


def _block(data: list[float], rows: int) -> dict[str, Any]:
    return {'rows': rows, 'cols': len(data) // rows, 'data': data}


def _head(comment: str) -> str:
    return ''.join(f'# {line}'.rstrip() + '\n' for line in comment.splitlines())


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, default_flow_style=None, width=200)


def _write(path: Path, text: str) -> None:
    path = path.expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.{os.getpid()}.part')  # a reader never sees half a file
    try:
        part.write_text(text, encoding='utf-8')
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
