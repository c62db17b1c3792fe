"""Qualisys' calibration as QTM exports it (.qca.txt, XML): a camera element each, with its lens and its place.

Units and conventions, and how far they are known:
- focalLengthU/V, centerPointU/V and the extent of the sensor are in 1/64 px of the sensor.
- fov_video is the part of the sensor that the video shows (px, both ends included); video_resolution (such as 540p),
  where it stands, the size to which the camera scales it, from 1080p.
- radialDistortion, tangentalDistortion (sic) act on rays, as OpenCV's k and p, and have no unit. (Pose2Sim divides them
  by 64 as well, which all but removes them.)
- transform x, y, z is where the camera stands, mm; the rows of r are its axes in the world, which look right, up and
  backwards: turned by 180 degrees about the first they are the optical frame.
- viewrotation tells how QTM turns the picture on its screen. Lens and place are those of the sensor, unturned.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np

from pose3d_ros.calibration.places import CalibratedCamera, pose_of
from pose3d_ros.camera import CalibrationError, Camera

_SUBPIXELS = 64.0
_FULL_RESOLUTION = 1080
_SMALLEST = 100  # px of a sensor
_OPTICAL_T_QUALISYS = np.diag([1.0, -1.0, -1.0])


def read_qualisys(root: ElementTree.Element, source: str) -> dict[str, CalibratedCamera]:
    """Return the active cameras under their serial number. Raises CalibrationError."""
    elements = root.findall('cameras/camera')
    if not elements:
        raise CalibrationError(f'{source}: has no cameras/camera; expected a calibration exported by QTM')
    cameras: dict[str, CalibratedCamera] = {}
    for number, element in enumerate(elements, 1):
        if element.get('active', '1') == '0':
            continue  # was switched off: its numbers are those of some time before
        name = element.get('serial') or ''
        if not name or name in cameras:
            raise CalibrationError(f'{source}: camera {number} has no serial of its own ({name!r})')
        where = f'{source}: camera {name}'
        cameras[name] = CalibratedCamera(_lens(element, where), _pose(_child(element, 'transform', where), where))
    if not cameras:
        raise CalibrationError(f'{source}: none of its {len(elements)} cameras is active')
    return cameras


def _lens(element: ElementTree.Element, source: str) -> Camera:
    lens = _child(element, 'intrinsic', source)
    fx, fy, cx, cy = (_number(lens, f'{key}', source) / _SUBPIXELS
                      for key in ('focalLengthU', 'focalLengthV', 'centerPointU', 'centerPointV'))
    if _number(lens, 'skew', source, 0.0) != 0:
        raise CalibrationError(f'{source}: skew is {lens.get("skew")}; pixels that are not upright are not supported')
    left, top, width, height = _region(element, lens, source)
    radial = [_number(lens, f'radialDistortion{n}', source, 0.0) for n in (1, 2, 3)]
    tangential = [_number(lens, f'tangentalDistortion{n}', source, 0.0) for n in (1, 2)]
    camera = Camera.from_info(width, height, [fx, 0, cx - left, 0, fy, cy - top, 0, 0, 1],
                              [*radial[:2], *tangential, radial[2]], 'plumb_bob', topic=source)
    scale = _resolution(element, source) / _FULL_RESOLUTION
    return camera if scale == 1 else camera.resized(round(width * scale), round(height * scale))


def _region(element: ElementTree.Element, lens: ElementTree.Element, source: str) -> tuple[int, int, int, int]:
    """Return left, top, width, height of the video on the sensor, px; the whole sensor where nothing is said."""
    sensor = [(_number(lens, f'sensorMax{axis}', source) - _number(lens, f'sensorMin{axis}', source) + 1) / _SUBPIXELS
              for axis in 'UV']
    region = element.find('fov_video')
    if region is None:
        left, top, width, height = 0, 0, math.ceil(sensor[0]), math.ceil(sensor[1])
    else:
        left, right, top, bottom = (int(_number(region, key, f'{source}: fov_video'))
                                    for key in ('left', 'right', 'top', 'bottom'))
        width, height = right - left + 1, bottom - top + 1
    if width <= 1 or height <= 1:
        raise CalibrationError(f'{source}: shows a video of {width} x {height} px; it is no video camera, leave it out '
                               'of the file')
    if sensor[0] < max(left + width - 1, _SMALLEST) or sensor[1] < max(top + height - 1, _SMALLEST):
        raise CalibrationError(f'{source}: shows {width} x {height} px of a sensor of {sensor[0]:.1f} x {sensor[1]:.1f}'
                               ' px; its numbers must be in 1/64 px, as QTM exports them (other tools write px)')
    return left, top, width, height


def _resolution(element: ElementTree.Element, source: str) -> int:
    """Return the lines of the video mode; 1080, the whole sensor, where none is named."""
    mode = (element.get('video_resolution') or '').strip()
    if mode.upper() in ('', 'N/A'):
        return _FULL_RESOLUTION
    if not mode.lower().endswith('p') or not mode[:-1].isdigit() or int(mode[:-1]) == 0:
        raise CalibrationError(f'{source}: video_resolution {mode!r} is not known; expected such as 1080p or 540p')
    return int(mode[:-1])


def _pose(transform: ElementTree.Element, source: str) -> np.ndarray:
    axes = np.array([[_number(transform, f'r{row}{column}', source) for column in (1, 2, 3)] for row in (1, 2, 3)])
    place = np.array([_number(transform, axis, source) for axis in 'xyz']) / 1000.0  # mm
    rotation = _OPTICAL_T_QUALISYS @ pose_of(axes, np.zeros(3), f'{source}: transform')[:3, :3]
    return pose_of(rotation, -rotation @ place, f'{source}: transform')


def _child(element: ElementTree.Element, tag: str, source: str) -> ElementTree.Element:
    child = element.find(tag)
    if child is None:
        raise CalibrationError(f'{source}: its element {tag} is missing')
    return child


def _number(element: ElementTree.Element, key: str, source: str, default: float | None = None) -> float:
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        value = float(text or '')
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CalibrationError(f'{source}: {element.tag} {key} must be a finite number, not {text!r}')
    return value
