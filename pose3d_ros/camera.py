"""A calibrated camera: pixels <-> rays <-> points in its optical frame (x right, y down, z forward).

Pixel (0, 0) is the centre of the first pixel, as in OpenCV and ROS. Everything is computed in float64 over any leading
dimensions. What is not known or not possible is NaN: a NaN or infinite input, a point behind the camera, a pixel or
ray beyond the angle up to which the lens is one to one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose3d_ros.distortion import EquidistantLens, Lens, PolynomialLens

Array = NDArray[np.float64]

# Accepted numbers of coefficients; the first is the usual one. More are accepted when the surplus ones are zero (some
# drivers fill a fixed number of places).
COEFFICIENTS = {'pinhole': (0,), 'plumb_bob': (5, 4), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}
_ALIASES = {'fisheye': 'equidistant', 'none': 'pinhole'}
_FARTHEST = 1e12  # beyond, a coordinate counts as infinite


class CalibrationError(ValueError):
    """A calibration that cannot be right, or cannot be used. The message names its source, the reason and the cure."""


@dataclass(frozen=True)
class Camera:
    """Intrinsics of one camera. Raises CalibrationError for values that cannot be right.

    width, height: px of the image. fx, fy, cx, cy: px. model: 'pinhole', 'plumb_bob' (4 or 5 coefficients),
    'rational_polynomial' (8, or OpenCV's 12 and 14) or 'equidistant' (4; alias 'fisheye'); distortion: coefficients in
    the order of OpenCV and ROS.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: str = 'pinhole'
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        model, distortion = _checked_distortion(self.model, self.distortion)
        size = {name: int(getattr(self, name)) for name in ('width', 'height')}
        matrix = {name: float(getattr(self, name)) for name in ('fx', 'fy', 'cx', 'cy')}
        if min(size.values()) <= 0:
            raise CalibrationError(f'the image size {self.width} x {self.height} px is not positive; the driver must '
                                   'fill it in')
        if not all(math.isfinite(value) for value in matrix.values()):
            raise CalibrationError(f'the intrinsics {matrix} are not finite; repair or repeat the calibration')
        if self.fx <= 0 or self.fy <= 0:
            raise CalibrationError(f'the focal lengths fx {self.fx:g}, fy {self.fy:g} px must be positive')
        for name, value in {**size, **matrix, 'model': model, 'distortion': distortion}.items():
            object.__setattr__(self, name, value)  # plain Python values, whatever was given

    @cached_property
    def K(self) -> Array:  # noqa: N802 (the name it has in every book)
        """Camera matrix (3, 3), read-only."""
        matrix = np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])
        matrix.flags.writeable = False
        return matrix

    @cached_property
    def _lens(self) -> Lens | None:
        return _lens_of(self.model, self.distortion)

    def undistort(self, pixels: ArrayLike) -> Array:
        """Return the rays (..., 2) [x/z, y/z] that reach pixels (..., 2).

        NaN where the lens has no ray for the pixel. Rays end at 89.9 degrees from the axis: a fisheye that looks
        further gives NaN there. Inverts distort to 1e-6 px.
        """
        u, v = _split(pixels, 2, 'pixels')
        x, y = (u - self.cx) / self.fx, (v - self.cy) / self.fy
        if self._lens is not None:
            x, y = self._lens.undistort(x, y)
        return np.stack((x, y), axis=-1)

    def distort(self, rays: ArrayLike) -> Array:
        """Return the pixels (..., 2) at which rays (..., 2) [x/z, y/z] arrive, inside the image or not.

        NaN for a ray beyond the angle up to which the lens is one to one.
        """
        return self._distort(*_split(rays, 2, 'rays'))

    def _distort(self, x: Array, y: Array) -> Array:
        if self._lens is not None:
            x, y = self._lens.distort(x, y)
        return np.stack((x * self.fx + self.cx, y * self.fy + self.cy), axis=-1)

    def project(self, points: ArrayLike) -> Array:
        """Return the pixels (..., 2) of points (..., 3) m in the optical frame; NaN where z <= 0."""
        x, y, z = _split(points, 3, 'points')
        z = np.where(z > 1e-9, z, np.nan)  # below a nanometre the direction is noise
        return self._distort(*_finite((x / z, y / z)))

    def back_project(self, pixels: ArrayLike, depth: ArrayLike) -> Array:
        """Return the points (..., 3) m at depth (...) m along +z (not along the ray) behind pixels (..., 2).

        depth broadcasts against the leading dimensions of pixels. NaN where depth <= 0 or the pixel has no ray.
        """
        rays = self.undistort(pixels)
        z = np.asarray(depth, dtype=np.float64)
        try:
            shape = np.broadcast_shapes(rays.shape[:-1], z.shape)
        except ValueError:
            raise ValueError(f'pixels {np.shape(pixels)} and depth {z.shape} do not fit together') from None
        z = np.where((z > 0) & (z < _FARTHEST), z, np.nan)
        x, y = rays[..., 0] * z, rays[..., 1] * z
        return np.stack((x, y, np.where(np.isnan(x), np.nan, np.broadcast_to(z, shape))), axis=-1)

    def resized(self, width: int, height: int) -> Camera:
        """Return the camera of the same view scaled to another size (px), as cv2.resize scales: edges stay edges."""
        if width <= 0 or height <= 0:
            raise CalibrationError(f'an image cannot be resized to {width} x {height} px')
        sx, sy = width / self.width, height / self.height
        return Camera(width, height, self.fx * sx, self.fy * sy, (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5,
                      self.model, self.distortion)

    @classmethod
    def from_info(cls, width: int, height: int, k: Sequence[float], d: Sequence[float], distortion_model: str,
                  r: Sequence[float] = (), p: Sequence[float] = (), binning_x: int = 0, binning_y: int = 0,
                  roi: Sequence[int] = (0, 0, 0, 0), rectified: bool = False, topic: str = 'camera_info') -> Camera:
        """Return the camera of the images that come with a sensor_msgs/CameraInfo, from its plain values.

        k (9), d (n), r (9), p (12) row by row; roi: x_offset, y_offset, width, height in full-resolution pixels, all
        zero for the full image; binning 0 means 1. rectified: the images are rectified, so P holds their intrinsics
        and there is no distortion; rays are then in the rectified frame (K and D do not matter, nor does Tx of P).
        Region and binning change the principal point and the focal lengths as image_geometry does. topic names the
        source in errors. Raises CalibrationError.
        """
        try:
            fx, fy, cx, cy = _from_matrix('P', p, 4) if rectified else _from_matrix('K', k, 3)
            model, distortion = ('pinhole', ()) if rectified else _checked_distortion(distortion_model, d)
            full = cls(width, height, fx, fy, cx, cy, model, distortion)
            _check_plausible(full)
            return full._reduced(max(int(binning_x), 1), max(int(binning_y), 1), tuple(int(v) for v in roi))
        except CalibrationError as error:
            raise CalibrationError(f'{topic}: {error}') from None

    def to_info(self) -> dict[str, Any]:
        """Return the values for a sensor_msgs/CameraInfo: width, height, distortion_model, d, k, r, p (lists of float).

        The image is raw; its rectification keeps K (p = [K 0]) and does not rotate. A pinhole is a plumb_bob of zeros.
        """
        fx, fy, cx, cy = self.fx, self.fy, self.cx, self.cy
        pinhole = self.model == 'pinhole'
        return {'width': self.width, 'height': self.height,
                'distortion_model': 'plumb_bob' if pinhole else self.model,
                'd': [0.0] * 5 if pinhole else list(self.distortion),
                'k': [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
                'r': [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
                'p': [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]}

    def _reduced(self, binning_x: int, binning_y: int, roi: tuple[int, ...]) -> Camera:
        """Return the camera of a region of the sensor (full-resolution px), then binned: u' = (u - offset)/binning."""
        left, top, width, height = roi if any(roi) else (0, 0, self.width, self.height)
        if width <= 0 or height <= 0 or left < 0 or top < 0 or left + width > self.width or top + height > self.height:
            raise CalibrationError(f'the region of interest {width} x {height} px at ({left}, {top}) is not within the '
                                   f'{self.width} x {self.height} px of the sensor')
        if width < binning_x or height < binning_y:
            raise CalibrationError(f'binning {binning_x} x {binning_y} leaves nothing of {width} x {height} px')
        return Camera(width // binning_x, height // binning_y, self.fx / binning_x, self.fy / binning_y,
                      (self.cx - left) / binning_x, (self.cy - top) / binning_y, self.model, self.distortion)


@lru_cache(maxsize=64)  # preparing a lens takes 10 ms, and a driver sends its CameraInfo with every image
def _lens_of(model: str, distortion: tuple[float, ...]) -> Lens | None:
    if model == 'pinhole':
        return None
    return EquidistantLens(distortion) if model == 'equidistant' else PolynomialLens(distortion)


def _split(values: ArrayLike, size: int, what: str) -> tuple[Array, ...]:
    """Return the last axis as separate float64 arrays, NaN throughout a row that is not finite in full."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != size:
        raise ValueError(f'{what} are {array.shape}, expected (..., {size})')
    return _finite(tuple(array[..., axis] for axis in range(size)))


def _finite(columns: tuple[Array, ...]) -> tuple[Array, ...]:
    known = np.abs(columns[0]) < _FARTHEST
    for column in columns[1:]:
        known = known & (np.abs(column) < _FARTHEST)
    return columns if known.all() else tuple(np.where(known, column, np.nan) for column in columns)


def _from_matrix(name: str, values: Sequence[float], columns: int) -> tuple[float, float, float, float]:
    """Return fx, fy, cx, cy of the K (3 x 3) or P (3 x 4) of a CameraInfo."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size != 3 * columns:
        raise CalibrationError(f'{name} has {numbers.size} values instead of {3 * columns}')
    matrix = numbers.reshape(3, columns)
    if not np.isfinite(matrix).all():
        raise CalibrationError(f'{name} holds values that are not finite; repair or repeat the calibration')
    if matrix[0, 0] == 0:
        raise CalibrationError(
            f'the camera is not calibrated ({name}[0] is 0): calibrate it (ros2 run camera_calibration '
            'cameracalibrator) and load the result into the camera driver (usually its parameter camera_info_url)'
            + (', or use the image that is not rectified' if name == 'P' else ''))
    if matrix[0, 1] != 0 or matrix[1, 0] != 0 or tuple(matrix[2, :3]) != (0.0, 0.0, 1.0):
        raise CalibrationError(f'{name} is not of the form [fx 0 cx; 0 fy cy; 0 0 1]')
    return float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])


def _checked_distortion(model: str, values: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """Return the model by its own name and as many coefficients as it takes. Raises CalibrationError."""
    distortion = tuple(float(v) for v in values)
    if not all(math.isfinite(v) for v in distortion):
        raise CalibrationError('the distortion D holds values that are not finite; repair or repeat the calibration')
    model = _ALIASES.get(model, model)
    if model == '' and not any(distortion):
        model = 'pinhole'  # drivers of rectified or simulated cameras leave the name empty
    if model not in COEFFICIENTS:
        raise CalibrationError(f'unknown distortion model {model!r}; known: {", ".join(COEFFICIENTS)}')
    if model == 'plumb_bob' and not distortion:
        return 'pinhole', ()
    counts = COEFFICIENTS[model]
    while len(distortion) not in counts and len(distortion) > min(counts) and distortion[-1] == 0:
        distortion = distortion[:-1]
    if len(distortion) not in counts:
        raise CalibrationError(f'{model} takes {" or ".join(str(c) for c in sorted(counts))} distortion coefficients, '
                               f'not {len(distortion)}')
    return model, distortion


def _check_plausible(camera: Camera) -> None:
    """Raise CalibrationError for focal lengths or a principal point that no full image has."""
    width, height = camera.width, camera.height
    if camera.fx < width / 100 or camera.fy < height / 100:
        raise CalibrationError(f'the focal lengths fx {camera.fx:g}, fy {camera.fy:g} px are too short for '
                               f'{width} x {height} px: they must be in pixels')
    if not (-width <= camera.cx <= 2 * width and -height <= camera.cy <= 2 * height):
        raise CalibrationError(f'the principal point ({camera.cx:g}, {camera.cy:g}) px is far outside the '
                               f'{width} x {height} px of the image')
