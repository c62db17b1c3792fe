"""Symmetric 3x3 matrices by the thousand: their six numbers lie along the first axis, so that every step is one array
expression over all of them. Order: xx, xy, xz, yy, yz, zz.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FIRST, SECOND = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])  # where the six numbers stand
_PLACE = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])


def packed(matrices: Floats) -> Floats:
    """Return the six numbers (6, ...) of symmetric matrices (..., 3, 3); of others, those of the symmetric part."""
    both = matrices + np.swapaxes(matrices, -1, -2)
    return 0.5 * np.moveaxis(both[..., FIRST, SECOND], -1, 0)


def unpacked(six: Floats) -> Floats:
    """Return the matrices (..., 3, 3) of six numbers (6, ...)."""
    return np.moveaxis(six[_PLACE], (0, 1), (-2, -1))


def times(six: Floats, vectors: Floats) -> Floats:
    """Return the products (3, ...) of matrices (6, ...) and vectors (3, ...)."""
    return np.asarray(np.einsum('ij...,j...->i...', six[_PLACE], vectors))


def inverse(six: Floats, ridge: float = 0.0) -> Floats:
    """Return the inverses (6, ...) of positive definite matrices (6, ...); NaN where one is not positive definite.

    ridge: times the trace, and once more by itself, it is added to the diagonal, so that none is singular. By the
    square-root free Cholesky factors L D L^T written out, which lose no more digits than the matrix itself does.
    """
    xx, xy, xz, yy, yz, zz = six
    if ridge:
        extra = ridge * (xx + yy + zz) + ridge
        xx, yy, zz = xx + extra, yy + extra, zz + extra
    out = np.empty_like(six)
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        first = 1.0 / xx
        l21, l31 = xy * first, xz * first
        d2, e2 = yy - xy * l21, yz - xz * l21
        second = 1.0 / d2
        l32 = e2 * second
        d3 = zz - xz * l31 - e2 * l32
        third = 1.0 / d3
        m31 = l21 * l32 - l31
        out[2] = third * m31
        out[4] = -third * l32
        out[5] = third
        out[0] = first + l21 * l21 * second + m31 * out[2]
        out[1] = -l21 * second - l32 * out[2]
        out[3] = second - l32 * out[4]
        good = (xx > 0) & (d2 > 0) & (d3 > 0)
    return out if good.all() else np.where(good, out, np.nan)


def inverted(matrices: Floats) -> Floats:
    """Return the inverses (..., 3, 3) of positive definite matrices (..., 3, 3), as `inverse` does."""
    return np.ascontiguousarray(unpacked(inverse(packed(matrices))))


def least_squares(sums: Floats, ridge: float) -> Floats:
    """Return the solutions (3, ...) of normal equations (9, ...), zero where there is none."""
    points = times(inverse(sums[:6], ridge), sums[6:])
    return np.where(np.isfinite(points), points, 0.0)
