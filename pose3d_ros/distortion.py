"""Lens models of ROS CameraInfo, on normalised coordinates: ideal rays (x/z, y/z) <-> where the lens puts them.

Both models work on pairs of float64 arrays of one shape, pass NaN through, and give NaN beyond the angle up to which
the lens maps every ray to a place of its own. Past that angle the polynomials fold back, and would put a point far
outside the view into the middle of the picture.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pair = tuple[Array, Array]

WIDEST_ANGLE = np.radians(89.9)  # rays are x/z, y/z: at 90 degrees they end
_STEPS = 1024                    # entries of the inverse table: leaves one or two Newton steps to do
_DIRECTIONS = 72
_CONVERGED = 1e-13               # normalised; times a focal length of 5000 px still far below 1e-6 px
_ACCEPTED = 1e-11
_MAX_NEWTON = 30


class Lens(Protocol):
    """limit: length of the longest ray hypot(x/z, y/z) that the lens maps one to one."""

    limit: float

    def distort(self, x: Array, y: Array) -> Pair:
        """Return where the lens puts the ray (x, y), NaN beyond the limit."""

    def undistort(self, x: Array, y: Array) -> Pair:
        """Return the ray that the lens puts at (x, y), NaN where there is none."""


class PolynomialLens:
    """OpenCV's main lens model: ROS plumb_bob and rational_polynomial.

    coefficients: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tau_x tau_y]]]] as OpenCV orders them: radial (Brown 1966,
    rational after Claus and Fitzgibbon 2005), tangential, thin prism, and tilted sensor (radians).
    """

    def __init__(self, coefficients: tuple[float, ...]) -> None:
        values = [float(c) for c in coefficients] + [0.0] * (14 - len(coefficients))
        self._k1, self._k2, self._p1, self._p2, self._k3, self._k4, self._k5, self._k6 = values[:8]
        self._prism = tuple(values[8:12]) if any(values[8:12]) else None
        self._rational = any(values[5:8])
        self._tilt = _tilt_matrix(values[12], values[13]) if any(values[12:14]) else None
        self._untilt = None if self._tilt is None else np.linalg.inv(self._tilt).astype(np.float64)
        self.limit = self._find_limit(round_lens=not any(values[2:4]) and self._prism is None)
        self._table_ray = np.tan(np.linspace(0.0, np.arctan(self.limit), _STEPS))
        self._table_bent = self._table_ray * self._radial(self._table_ray**2)[0]
        turn = np.linspace(0.0, 2 * np.pi, _DIRECTIONS, endpoint=False)
        edge_x, edge_y = self._bend(self.limit * np.cos(turn), self.limit * np.sin(turn))[:2]
        self._farthest_bent = 1.001 * float(np.hypot(edge_x, edge_y).max())

    def distort(self, x: Array, y: Array) -> Pair:
        """Return where the lens puts the ray (x, y), NaN beyond the limit."""
        inside = x * x + y * y <= self.limit**2
        if not inside.all():
            x, y = np.where(inside, x, np.nan), np.where(inside, y, np.nan)
        bent_x, bent_y = self._bend(x, y)[:2]
        return (bent_x, bent_y) if self._tilt is None else _apply(self._tilt, bent_x, bent_y)

    def undistort(self, x: Array, y: Array) -> Pair:
        """Return the ray that the lens puts at (x, y), NaN where there is none. Table look-up, then Newton in 2D."""
        if self._untilt is not None:
            x, y = _apply(self._untilt, x, y)
        bent = np.maximum(np.hypot(x, y), 1e-30)
        bent = np.where(bent <= self._farthest_bent, bent, np.nan)
        scale = np.interp(bent, self._table_bent, self._table_ray) / bent
        ray_x, ray_y = x * scale, y * scale
        for _ in range(_MAX_NEWTON):
            bent_x, bent_y, xx, xy, yx, yy = self._bend_with_slopes(ray_x, ray_y)
            miss_x, miss_y = bent_x - x, bent_y - y
            miss = np.abs(miss_x) + np.abs(miss_y)
            if not (miss > _CONVERGED * (1.0 + bent)).any():
                break
            det = xx * yy - xy * yx
            det = np.where(np.abs(det) > 1e-9, det, 1e-9)
            ray_x, ray_y = self._within(ray_x - (yy * miss_x - xy * miss_y) / det,
                                        ray_y - (xx * miss_y - yx * miss_x) / det)
        found = (miss <= _ACCEPTED * (1.0 + bent)) & (ray_x * ray_x + ray_y * ray_y <= self.limit**2)
        return (ray_x, ray_y) if found.all() else (np.where(found, ray_x, np.nan), np.where(found, ray_y, np.nan))

    def _within(self, x: Array, y: Array) -> Pair:
        """Pull rays beyond the limit back to it: Newton must not leave the part of the lens that is one to one."""
        shrink = np.minimum(1.0, self.limit / np.maximum(np.hypot(x, y), 1e-30))
        return x * shrink, y * shrink

    def _radial(self, r2: Array) -> Pair:
        """Return the radial factor and its derivative by r2."""
        k1, k2, k3 = self._k1, self._k2, self._k3
        top = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        top_slope = k1 + r2 * (2 * k2 + r2 * (3 * k3))
        if not self._rational:
            return top, top_slope
        k4, k5, k6 = self._k4, self._k5, self._k6
        bottom = 1.0 + r2 * (k4 + r2 * (k5 + r2 * k6))
        bottom = np.where(np.abs(bottom) > 1e-12, bottom, 1e-12)
        factor = top / bottom
        return factor, (top_slope - factor * (k4 + r2 * (2 * k5 + r2 * (3 * k6)))) / bottom

    def _bend(self, x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        """Return the distorted x and y (before the tilt), the radial factor and its derivative by r2."""
        p1, p2 = self._p1, self._p2
        r2 = x * x + y * y
        factor, slope = self._radial(r2)
        cross = 2.0 * (p1 * y + p2 * x)
        bent_x = x * (factor + cross) + p2 * r2
        bent_y = y * (factor + cross) + p1 * r2
        if self._prism is not None:
            s1, s2, s3, s4 = self._prism
            bent_x = bent_x + r2 * (s1 + r2 * s2)
            bent_y = bent_y + r2 * (s3 + r2 * s4)
        return bent_x, bent_y, factor, slope

    def _bend_with_slopes(self, x: Array, y: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Return distorted x, y and their Jacobian (dx/dx, dx/dy, dy/dx, dy/dy), before the tilt."""
        p1, p2 = self._p1, self._p2
        bent_x, bent_y, factor, slope = self._bend(x, y)
        slope_x, slope_y = 2.0 * slope * x, 2.0 * slope * y
        mixed = slope_x * y + 2.0 * (p1 * x + p2 * y)
        xx = factor + slope_x * x + 2.0 * p1 * y + 6.0 * p2 * x
        yy = factor + slope_y * y + 6.0 * p1 * y + 2.0 * p2 * x
        xy = yx = mixed
        if self._prism is not None:
            s1, s2, s3, s4 = self._prism
            r2 = x * x + y * y
            along_x, along_y = 2.0 * (s1 + 2.0 * s2 * r2), 2.0 * (s3 + 2.0 * s4 * r2)
            xx, xy, yx, yy = xx + along_x * x, xy + along_x * y, yx + along_y * x, yy + along_y * y
        return bent_x, bent_y, xx, xy, yx, yy

    def _find_limit(self, round_lens: bool) -> float:
        """Return the radius of the largest disc of rays on which the Jacobian keeps both eigenvalues positive."""
        turn = np.linspace(0.0, 2 * np.pi, 1 if round_lens else _DIRECTIONS, endpoint=False)[:, None]
        angles = np.linspace(0.0, WIDEST_ANGLE, 2 * _STEPS)
        for _ in range(2):  # coarse, then within the step where it happens
            radius = np.tan(angles)
            _, _, xx, xy, yx, yy = self._bend_with_slopes(radius * np.cos(turn), radius * np.sin(turn))
            folded = ((xx * yy - xy * yx <= 0) | (xx + yy <= 0)).any(axis=0)
            if not folded.any():
                return float(radius[-1])
            first = max(int(np.argmax(folded)), 1)
            angles = np.linspace(angles[first - 1], angles[first], 2 * _STEPS)
        return float(radius[first - 1])


class EquidistantLens:
    """Kannala-Brandt fisheye (Kannala and Brandt 2006, eq. 6 with four terms), ROS equidistant, OpenCV fisheye.

    The ray at angle theta from the axis lands at theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8).
    """

    def __init__(self, coefficients: tuple[float, ...]) -> None:
        self._k = tuple(float(c) for c in coefficients)
        angles = np.linspace(0.0, WIDEST_ANGLE, _STEPS)
        for _ in range(2):
            folded = self._bend(angles)[1] <= 0
            if not folded.any():
                break
            first = max(int(np.argmax(folded)), 1)
            angles = np.linspace(angles[first - 1], angles[first], _STEPS)
        else:
            angles = angles[:first]
        self._widest = float(angles[-1])
        self.limit = float(np.tan(self._widest))
        self._table_angle = np.linspace(0.0, self._widest, _STEPS)
        self._table_bent = self._bend(self._table_angle)[0]

    def distort(self, x: Array, y: Array) -> Pair:
        """Return where the lens puts the ray (x, y), NaN beyond the limit."""
        length = np.maximum(np.hypot(x, y), 1e-30)
        scale = self._bend(np.arctan(length))[0] / length
        scale = np.where(length <= self.limit, scale, np.nan)
        return x * scale, y * scale

    def undistort(self, x: Array, y: Array) -> Pair:
        """Return the ray that the lens puts at (x, y), NaN where there is none. Table look-up, then Newton in theta."""
        bent = np.maximum(np.hypot(x, y), 1e-30)
        angle = np.interp(bent, self._table_bent, self._table_angle)
        for _ in range(_MAX_NEWTON):
            reached, slope = self._bend(angle)
            miss = reached - bent
            if not (np.abs(miss) > _CONVERGED * (1.0 + bent)).any():
                break
            angle = np.clip(angle - miss / np.maximum(slope, 1e-9), 0.0, self._widest)
        scale = np.where(np.abs(miss) <= _ACCEPTED * (1.0 + bent), np.tan(angle) / bent, np.nan)
        return x * scale, y * scale

    def _bend(self, angle: Array) -> Pair:
        """Return the distorted angle and its derivative."""
        k1, k2, k3, k4 = self._k
        a2 = angle * angle
        return (angle * (1.0 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4)))),
                1.0 + a2 * (3 * k1 + a2 * (5 * k2 + a2 * (7 * k3 + a2 * (9 * k4)))))


def _tilt_matrix(tau_x: float, tau_y: float) -> Array:
    """Return the homography (3, 3) of a sensor tilted about x and then y, in radians (OpenCV's calib3d model)."""
    cx, sx, cy, sy = np.cos(tau_x), np.sin(tau_x), np.cos(tau_y), np.sin(tau_y)
    turn = np.array([[cy, 0.0, -sy], [0.0, 1.0, 0.0], [sy, 0.0, cy]]) @ np.array(
        [[1.0, 0.0, 0.0], [0.0, cx, sx], [0.0, -sx, cx]])
    onto_sensor = np.array([[turn[2, 2], 0.0, -turn[0, 2]], [0.0, turn[2, 2], -turn[1, 2]], [0.0, 0.0, 1.0]])
    return onto_sensor @ turn


def _apply(homography: Array, x: Array, y: Array) -> Pair:
    """Return the points (x, y) mapped by a homography (3, 3); NaN on and beyond its horizon."""
    (a, b, c), (d, e, f), (g, h, i) = homography
    depth = g * x + h * y + i
    depth = np.where(depth > 1e-9, depth, np.nan)
    return (a * x + b * y + c) / depth, (d * x + e * y + f) / depth
