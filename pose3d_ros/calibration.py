"""Calibration files: the camera_info YAML of ROS, and the project's own file of several cameras with their places.

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

The intrinsics are those of the images that will be used, not of the sensor: no region, no binning.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.camera import CalibrationError, Camera

_FARTHEST = 1000.0  # m; a camera farther from the origin is most likely given in millimetres


@dataclass(frozen=True)
class CalibratedCamera:
    """Intrinsics and, where the file has it, the place of a camera.

    camera_T_world: (4, 4) float64, maps points (m) of the world to the optical frame; None where unknown.
    """

    camera: Camera
    camera_T_world: NDArray[np.float64] | None = None  # noqa: N815 (a_T_b: maps b to a)


def load_calibration(path: str | Path) -> dict[str, CalibratedCamera]:
    """Return the cameras of a calibration file by name, in the order of the file.

    A camera_info file of ROS gives one, under its camera_name (or the name of the file). Raises CalibrationError naming
    the file, the camera and the value at fault.
    """
    path = Path(path).expanduser()
    document = _read(path)
    if 'cameras' in document:
        entries = document['cameras']
        if not isinstance(entries, Mapping) or not entries:
            raise CalibrationError(f"{path}: 'cameras' must map at least one name to a camera")
    elif 'camera_matrix' in document:
        entries = {document.get('camera_name') or path.stem: document}
    else:
        raise CalibrationError(f"{path}: neither 'cameras' nor 'camera_matrix' in it; expected a camera_info YAML of "
                               'ROS or a calibration file of pose3d_ros')
    return {str(name): _camera(entry, f'{path}: camera {name}') for name, entry in entries.items()}


def load_camera(path: str | Path, name: str = '') -> CalibratedCamera:
    """Return one camera of a calibration file; name may be left out where the file holds only one.

    Raises CalibrationError as load_calibration, and for a name that the file lacks (lists those it has).
    """
    cameras = load_calibration(path)
    known = ', '.join(cameras)
    if name in cameras:
        return cameras[name]
    if name:
        raise CalibrationError(f'{path}: no camera {name!r}; it has: {known}')
    if len(cameras) > 1:
        raise CalibrationError(f'{path}: holds several cameras, name one of: {known}')
    return next(iter(cameras.values()))


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
            rotation = Rotation.from_matrix(pose[:3, :3]).as_rotvec()
            entries[name]['camera_T_world'] = {'rotation': [float(v) for v in rotation],
                                               'translation': [float(v) for v in pose[:3, 3]]}
    head = ''.join(f'# {line}'.rstrip() + '\n' for line in comment.splitlines())
    _write(Path(path), head + _dump({'cameras': entries}))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise CalibrationError(f'{path}: cannot be read ({error.strerror}); check the path') from None
    except UnicodeDecodeError:
        raise CalibrationError(f'{path}: is not a text file') from None
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        where = f' in line {mark.line + 1}' if mark else ''
        reason = getattr(error, 'problem', None) or error
        raise CalibrationError(f'{path}: is not valid YAML{where} ({reason})') from None
    if not isinstance(document, Mapping):
        raise CalibrationError(f'{path}: is empty or not a mapping; expected a camera_info YAML')
    return document


def _camera(entry: Any, source: str) -> CalibratedCamera:
    if not isinstance(entry, Mapping):
        raise CalibrationError(f'{source}: is not a mapping')
    model = entry.get('distortion_model', '')
    if not isinstance(model, str):
        raise CalibrationError(f'{source}: distortion_model is not a name')
    distortion = _matrix(entry, 'distortion_coefficients', source) if 'distortion_coefficients' in entry else []
    camera = Camera.from_info(_count(entry, 'image_width', source), _count(entry, 'image_height', source),
                              _matrix(entry, 'camera_matrix', source), distortion, model, topic=source)
    if 'camera_T_world' not in entry:
        return CalibratedCamera(camera)
    return CalibratedCamera(camera, _pose(entry['camera_T_world'], f'{source}: camera_T_world'))


def _pose(entry: Any, source: str) -> NDArray[np.float64]:
    if not isinstance(entry, Mapping):
        raise CalibrationError(f'{source}: is not a mapping with rotation and translation')
    rotation, translation = (_numbers(entry.get(key), f'{source}: {key}') for key in ('rotation', 'translation'))
    for key, values in (('rotation', rotation), ('translation', translation)):
        if len(values) != 3 or not np.isfinite(values).all():
            raise CalibrationError(f'{source}: {key} must be three finite numbers')
    if np.linalg.norm(translation) > _FARTHEST:
        raise CalibrationError(f'{source}: translation is over {_FARTHEST:g} m long; it must be in metres')
    if np.linalg.norm(rotation) > 2 * np.pi:
        raise CalibrationError(f'{source}: rotation turns by more than a full turn; it must be in radians')
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(rotation).as_matrix()
    pose[:3, 3] = translation
    return pose


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
    data = _numbers(matrix['data'], f'{source}: {key}')
    rows, columns = matrix.get('rows'), matrix.get('cols')
    if isinstance(rows, int) and isinstance(columns, int) and rows * columns != len(data):
        raise CalibrationError(f'{source}: {key} says {rows} x {columns}, but has {len(data)} values')
    return data


def _numbers(values: Any, source: str) -> list[float]:
    if not isinstance(values, list):
        raise CalibrationError(f'{source}: is not a list of numbers')
    try:
        return [float(value) for value in values]  # YAML 1.1 takes 1e-05 for text: float() reads it all the same
    except (TypeError, ValueError):
        raise CalibrationError(f'{source}: holds something that is not a number: {values!r}') from None


def _entry(camera: Camera) -> dict[str, Any]:
    info = camera.to_info()
    return {'image_width': camera.width, 'image_height': camera.height, 'camera_matrix': _block(info['k'], 3),
            'distortion_model': info['distortion_model'], 'distortion_coefficients': _block(info['d'], 1)}


def _block(data: list[float], rows: int) -> dict[str, Any]:
    return {'rows': rows, 'cols': len(data) // rows, 'data': data}


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, default_flow_style=None, width=200)


def _write(path: Path, text: str) -> None:
    path = path.expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.{os.getpid()}.part')  # a reader never sees half a file
    part.write_text(text, encoding='utf-8')
    os.replace(part, path)
