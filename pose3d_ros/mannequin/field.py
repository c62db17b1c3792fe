"""The mannequin as an implicit surface: about how far (m) a point is outside the body, negative inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from pose3d_ros.mannequin import proportions as figure

Field = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def body(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the field (...,) m at points (..., 3) m. It is the same for mirror images, to the last bit."""
    points = np.concatenate([abs(points[..., :1]), points[..., 1:]], axis=-1)
    part = {name: field(points) for name, field in _PARTS.items()}
    trunk = melt(melt(part['trunk'], part['chest'], 0.08), part['buttock'], 0.08)
    trunk = melt(trunk, part['trapezius'], 0.05)
    leg = melt(part['leg'], melt(part['foot'], part['heel'], 0.02), 0.035)
    leg = -melt(-leg, points[..., 1], 0.012)  # the sole is flat
    arm = melt(part['arm'], melt(part['hand'], part['thumb'], 0.015), 0.02)
    head = melt(melt(part['skull'], part['jaw'], 0.05), part['ear'], 0.02)
    head = melt(melt(head, part['neck'], 0.025), part['nose'], 0.025)
    return melt(melt(melt(trunk, leg, 0.06), arm, 0.06), head, 0.03)


def melt(a: NDArray, b: NDArray, radius: float) -> NDArray:
    """Return the union of two fields, with the crease between them filled to about this radius (m)."""
    near = np.maximum(radius - abs(a - b), 0) / radius
    return np.minimum(a, b) - near ** 3 * radius / 6


def ellipsoid(centre: tuple[float, float, float], axes: tuple[float, float, float]) -> Field:
    """Return the field of an ellipsoid."""
    middle, half = np.array(centre), np.array(axes)
    return lambda points: _to_ellipse(points - middle, half, 2.0)


def tube(stations: NDArray[np.float64], along: int, power: float = 2.0) -> Field:
    """Return the field of a tube with round ends.

    stations (S, 5): points of the axis, and half the thickness there: along x of a tube that goes along y or z, along z
    of one that goes along x; then along the other direction. power: of the norm; above 2 the section is a rounded box.
    """
    stations = stations[np.argsort(stations[:, along])]
    across = (2, 1) if along == 0 else tuple(axis for axis in range(3) if axis != along)
    curve = PchipInterpolator(stations[:, along], stations, axis=0)
    first, last = stations[0, along], stations[-1, along]

    def field(points: NDArray[np.float64]) -> NDArray[np.float64]:
        at = curve(np.clip(points[..., along], first, last))
        end = np.minimum(at[..., 3], at[..., 4])
        offset = np.stack([points[..., across[0]] - at[..., across[0]], points[..., across[1]] - at[..., across[1]],
                           points[..., along] - at[..., along]], axis=-1)
        return _to_ellipse(offset, np.stack([at[..., 3], at[..., 4], end], axis=-1), power)

    return field


def _to_ellipse(offset: NDArray, half: NDArray, power: float) -> NDArray:
    """Return about the distance of points to an ellipsoid about the origin: exact on it, and near it to first order."""
    scaled = abs(offset) / half
    norm = (scaled ** power).sum(axis=-1) ** (1 / power) + 1e-9
    slope = np.linalg.norm((scaled / norm[..., None]) ** (power - 1) / half, axis=-1) + 1e-9
    return (norm - 1) / slope


_PARTS: dict[str, Field] = {
    'trunk': tube(figure.TRUNK, along=1, power=2.5), 'neck': tube(figure.NECK, along=1),
    'leg': tube(figure.LEG, along=1), 'foot': tube(figure.FOOT, along=2), 'arm': tube(figure.ARM, along=0),
    'hand': tube(figure.HAND, along=0), 'thumb': tube(figure.THUMB, along=0),
    'trapezius': tube(figure.TRAPEZIUS, along=0),
    'skull': ellipsoid(*figure.SKULL), 'jaw': ellipsoid(*figure.JAW), 'nose': ellipsoid(*figure.NOSE),
    'ear': ellipsoid(*figure.EAR), 'chest': ellipsoid(*figure.CHEST), 'buttock': ellipsoid(*figure.BUTTOCK),
    'heel': ellipsoid(*figure.HEEL),
}
