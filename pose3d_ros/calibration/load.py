"""Which tool wrote a calibration file: told by what is in it, whatever its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml
from numpy.typing import NDArray

from pose3d_ros.calibration.kalibr import is_kalibr, read_kalibr
from pose3d_ros.calibration.opencv_storage import read_opencv
from pose3d_ros.calibration.own import read_lenses, read_own, read_places
from pose3d_ros.calibration.places import CalibratedCamera
from pose3d_ros.calibration.qualisys import read_qualisys
from pose3d_ros.calibration.toml_cameras import read_toml
from pose3d_ros.camera import CalibrationError, Camera

_TOML_LINE = re.compile(r'^[ \t]*(\[[^\[\],]+\][ \t]*(#.*)?|[\w."-]+[ \t]*=.*)$', re.MULTILINE)
_YAML_LINE = re.compile(r'^[ \t]*[\w."-]+[ \t]*:', re.MULTILINE)
_CLOSEST = 0.01   # m between two cameras: closer, a unit has been given that the file does not have


def load_calibration(path: str | Path, *, unit_m: float | None = None,
                     size: tuple[int, int] | None = None) -> dict[str, CalibratedCamera]:
    """Return the cameras of a calibration file by name, in the order of the file.

    Reads the YAML of this project, camera_info YAML of ROS, OpenCV's FileStorage (YAML, XML, JSON), Kalibr's camera
    chain, the TOML of Pose2Sim and aniposelib, and Qualisys' XML (docs/calibration.md). A file of one camera gives it
    under its camera_name (or the name of the file). For what a file may not say: unit_m is m per unit of its
    translations (OpenCV and TOML; None: metres), size the width and height of the images, px (OpenCV). Raises
    CalibrationError naming the file, the camera and the value at fault.
    """
    path = Path(path).expanduser()
    cameras = _read(_content(path), path, unit_m, size)
    if unit_m is not None:
        _check_apart(cameras, str(path))
    return cameras


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


def load_places(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """Return camera_T_world (4, 4) of the cameras of a calibration file by name, of those that have a place.

    Reads what load_calibration reads, and files of this project whose cameras have no intrinsics. Raises
    CalibrationError, also where no camera has a place.
    """
    path = Path(path).expanduser()
    data = _content(path)
    document = _own_document(data)
    if document is not None:
        places = read_places(document, str(path))
    else:
        places = {name: camera.camera_T_world for name, camera in _read(data, path, None, None).items()
                  if camera.camera_T_world is not None}
    if not places:
        raise CalibrationError(f'{path}: none of the cameras has a place (camera_T_world); find their places with '
                               'pose3d calibrate extrinsics')
    return places


def load_lenses(path: str | Path) -> dict[str, Camera]:
    """Return the intrinsics of the cameras of a calibration file by name, of those that have some.

    Reads what load_calibration reads, and files of this project whose cameras have places alone. Raises
    CalibrationError.
    """
    path = Path(path).expanduser()
    data = _content(path)
    document = _own_document(data)
    if document is not None:
        return read_lenses(document, str(path))
    return {name: camera.camera for name, camera in _read(data, path, None, None).items()}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CalibrationError(f'{path}: cannot be read ({error.strerror}); check the path') from None


def _own_document(data: bytes) -> Mapping[str, Any] | None:
    """Return the parsed file where it is this project's own of several cameras, else None."""
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError):
        return None  # of another tool, or broken: _read tells
    return document if isinstance(document, Mapping) and 'cameras' in document else None


def _read(data: bytes, path: Path, unit_m: float | None, size: tuple[int, int] | None) -> dict[str, CalibratedCamera]:
    source = str(path)
    if data.removeprefix(b'\xef\xbb\xbf').lstrip().startswith(b'<'):
        root = _xml(data, source)
        if root.tag == 'calibration':
            _refuse(source, unit_m=unit_m, size=size)
            return read_qualisys(root, source)
        if root.tag != 'opencv_storage':
            raise CalibrationError(f'{source}: is XML with the root {root.tag!r}; expected calibration (Qualisys) or '
                                   'opencv_storage (OpenCV)')
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError:
        raise CalibrationError(f'{source}: is not a text file') from None
    if 'opencv-matrix' in text or 'opencv_storage' in text:
        return read_opencv(text, source, path.stem, unit_m, size)
    _refuse(source, size=size)
    if _is_toml(text):
        return read_toml(text, source, unit_m)
    _refuse(source, unit_m=unit_m)
    document = _yaml(text, source)
    if is_kalibr(document):
        return read_kalibr(document, source)
    return read_own(document, source, path.stem)


def _is_toml(text: str) -> bool:
    """Tell whether the first line that is no comment is one of TOML and none of YAML."""
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith('#')), '')
    return bool(_TOML_LINE.match(first)) and not _YAML_LINE.match(first)


def _xml(data: bytes, source: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter: an encoding that is none
        raise CalibrationError(f'{source}: is not valid XML ({error})') from None


def _yaml(text: str, source: str) -> Mapping[str, Any]:
    if text.startswith('%YAML:'):  # the first line of OpenCV's files, which others put above ordinary YAML
        text = text.partition('\n')[2]
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        where = f' in line {mark.line + 1}' if mark else ''
        reason = ' '.join(str(getattr(error, 'problem', None) or error).split())  # on one line
        raise CalibrationError(f'{source}: is not valid YAML{where} ({reason})') from None
    except ValueError as error:  # such as a date that is none
        raise CalibrationError(f'{source}: is not valid YAML ({error})') from None
    if not isinstance(document, Mapping):
        raise CalibrationError(f'{source}: is empty or not a mapping; expected a calibration (docs/calibration.md)')
    return document


def _refuse(source: str, *, unit_m: float | None = None, size: tuple[int, int] | None = None) -> None:
    """Raise CalibrationError for what is said about a file that says it itself."""
    for option, value in (('unit', unit_m), ('size', size)):
        if value is not None:
            raise CalibrationError(f'{source}: files of this format say their {option}; leave --{option} out')


def _check_apart(cameras: Mapping[str, CalibratedCamera], source: str) -> None:
    """Raise CalibrationError when cameras stand in one another by the unit that was given."""
    places = {name: np.linalg.inv(camera.camera_T_world)[:3, 3] for name, camera in cameras.items()
              if camera.camera_T_world is not None}
    for first, second in combinations(places, 2):
        apart = float(np.linalg.norm(places[first] - places[second]))
        if apart < _CLOSEST:
            raise CalibrationError(f'{source}: in that unit {first} and {second} stand {1000 * apart:.2g} mm apart; '
                                   'give the unit that the file is in')
