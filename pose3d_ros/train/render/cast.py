"""What a camera sees of solids: rays against tapered capsules, in closed form, the nearest hit counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.train.render.shots import Shots

NOTHING = 255    # in Hits.part: the background
_NEAREST = 0.2   # m: solids nearer to the camera are left out
_EPSILON = np.float32(1e-9)


@dataclass(frozen=True)
class Solids:
    """P tapered capsules for each of B people: all balls whose middle and radius change evenly from start to end.

    start, end (B, P, 3) m in the optical frame; radius (B, P, 2) m at start and end, 0: this one has none of it.
    """

    start: NDArray[np.float32]
    end: NDArray[np.float32]
    radius: NDArray[np.float32]


@dataclass(frozen=True)
class Hits:
    """What each ray (B, size, size) meets: depth m along z (inf: nothing), part (NOTHING or index of the solid), and
    along, the place on the solid's axis from 0 (start) to 1 (end)."""

    depth: NDArray[np.float32]
    part: NDArray[np.uint8]
    along: NDArray[np.float32]


def cast(solids: Solids, shots: Shots, size: int) -> Hits:
    """See solids through the crops of shots, sampled size times a side."""
    count, parts = solids.start.shape[:2]
    x, y = shots.rays(size)
    depth = np.full(count * size * size, np.inf, dtype=np.float32)
    part = np.full(count * size * size, NOTHING, dtype=np.uint8)
    along = np.zeros(count * size * size, dtype=np.float32)
    for index in range(parts):
        solid = (solids.start[:, index], solids.end[:, index], solids.radius[:, index])
        pixels, row, column = _box_pixels(*solid, shots, size)
        if not len(row):
            continue
        first = np.repeat(np.arange(count, dtype=np.int32) * size, pixels)
        z, t = _meet(x.ravel()[first + column], y.ravel()[first + row], pixels, *solid)
        pixel = (first + row) * size + column
        nearer = np.flatnonzero(z < depth[pixel])
        pixel = pixel[nearer]
        depth[pixel], along[pixel], part[pixel] = z[nearer], t[nearer], index
    return Hits(*(array.reshape(count, size, size) for array in (depth, part, along)))


def _box_pixels(start: NDArray, end: NDArray, radius: NDArray, shots: Shots,
                size: int) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
    """Return how many pixels of each image (B,) one solid per image may cover, boxes around both end balls, and row
    and column of all these, image after image."""
    scale = size / shots.size
    ends = np.stack([start, end], axis=1)
    z = np.maximum(ends[..., 2], _NEAREST)
    rays = ends[..., :2] / z[..., None]
    spread = radius / np.maximum(z - radius, _NEAREST / 2) * np.sqrt(1 + np.square(rays).sum(axis=-1))
    middle = (rays * shots.focal[:, None, None] + shots.principal[:, None] + 0.5) * scale
    reach = (spread * (shots.focal * scale)[:, None])[..., None] + 1
    low = np.clip(np.floor((middle - reach).min(axis=1)), 0, size).astype(np.int32)
    high = np.clip(np.ceil((middle + reach).max(axis=1)), 0, size).astype(np.int32)
    width, height = np.maximum(high - low, 0).T.astype(np.intp)
    there = (radius.max(axis=1) > 0) & ((ends[..., 2] - radius).min(axis=1) > _NEAREST)
    pixels = np.where(there, width * height, 0)
    table = np.stack([np.cumsum(pixels) - pixels, np.maximum(width, 1), low[:, 0], low[:, 1]]).astype(np.int32)
    first, width, left, top = np.repeat(table, pixels, axis=1)
    row, column = np.divmod(np.arange(len(first), dtype=np.int32) - first, width)
    return pixels, row + top, column + left


def _meet(x: NDArray, y: NDArray, pixels: NDArray, start: NDArray, end: NDArray,
          radius: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where rays (x, y, 1) (N,) meet the solid of their image, which has pixels (B,) of the rays:
    depth (inf: nowhere), place on the axis.

    The balls |s v - a - t d| = r + t k are met at the smallest s where the best t fulfils it, which is a quadratic
    equation in s; where that t lies beyond an end, the ball at the end is met, or nothing.
    """
    axis = end - start
    k = radius[:, 1] - radius[:, 0]
    span = (axis * axis).sum(axis=1) - k * k
    cone = span > 1e-8          # otherwise one end ball holds the other
    inverse = np.where(cone, 1 / np.where(cone, span, 1), 0)
    g = k * radius[:, 0] - (axis * start).sum(axis=1)
    c = (start * start).sum(axis=1) - radius[:, 0] ** 2
    c_end = (end * end).sum(axis=1) - radius[:, 1] ** 2
    table = np.concatenate([start.T, axis.T, [g, inverse, c, c_end, cone]]).astype(np.float32)
    ax, ay, az, dx, dy, dz, g, inverse, c, c_end, cone = np.repeat(table, pixels, axis=1)

    vv = x * x + y * y + 1
    va = x * ax + y * ay + az
    dv = x * dx + y * dy + dz
    share = dv * inverse
    a2 = vv - dv * share
    b = va + g * share          # s = (b - sqrt(b^2 - a2 c')) / a2
    square = b * b - a2 * (c - g * g * inverse)
    a2 = np.where(np.abs(a2) > _EPSILON, a2, _EPSILON)   # negative where one looks along a cone: the same root
    s = (b - np.sqrt(np.maximum(square, 0))) / a2
    t = (g + s * dv) * inverse
    on_side = (square >= 0) & (s > 0) & (t >= 0) & (t <= 1) & (cone > 0)
    depth = np.where(on_side, s, np.float32(np.inf))
    along = np.where(on_side, t, 0)
    for ahead, constant, place in ((va, c, 0), (va + dv, c_end, 1)):
        square = ahead * ahead - vv * constant
        ball = np.where(square >= 0, (ahead - np.sqrt(np.maximum(square, 0))) / vv, np.float32(np.inf))
        nearer = ball < depth
        depth = np.where(nearer, ball, depth)
        along = np.where(nearer, np.float32(place), along)
    return depth, along
