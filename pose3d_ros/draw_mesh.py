"""Pictures of meshes without a graphics card: shaded triangles, the far ones first."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

SKIN = (198, 176, 160)  # BGR
_PAPER = 250
_SHARPER = 2            # drawn this much larger and made smaller again, so that edges are smooth
_LIGHT = np.array([-0.35, 0.55, 0.75]) / np.linalg.norm([-0.35, 0.55, 0.75])
_SUBPIXEL_BITS = 4


def turned(degrees: float) -> NDArray[np.float64]:
    """Return the rotation (3, 3) that shows a body (y up, facing +z) from front (0), left (90), behind (180)."""
    angle = np.radians(-degrees)
    return np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])


def draw_mesh(vertices: NDArray, faces: NDArray, view: NDArray | None = None, size: tuple[int, int] = (360, 480),
              span: float = 2.0, centre: Sequence[float] = (0, 0, 0), colors: NDArray | None = None) -> Image:
    """Return a picture (height, width, 3) BGR of a mesh, seen from far away along -z, y up.

    vertices (V, 3) m; faces (F, 3); view (3, 3): a rotation before drawing; size: width, height in px; span: m from the
    lower to the upper border; centre: the point (3,) m in the middle of the picture; colors (V, 3) BGR 0..255.
    """
    width, height = (_SHARPER * value for value in size)
    points = vertices - np.asarray(centre, dtype=np.float64)
    if view is not None:
        points = points @ np.asarray(view).T
    scale = height / span
    pixels = np.stack([width / 2 + scale * points[:, 0], height / 2 - scale * points[:, 1]], axis=-1)
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1)
    normals = _smooth(normals, faces, len(vertices)) if len(faces) else normals
    shown = np.flatnonzero((length > 0) & (np.cross(corners[:, 1] - corners[:, 0],
                                                    corners[:, 2] - corners[:, 0])[:, 2] > 0))
    order = shown[np.argsort(corners[shown][..., 2].mean(axis=1), kind='stable')]
    light = 0.35 + 0.65 * np.clip(normals @ _LIGHT, 0, 1) + 0.1 * np.clip(-normals @ _LIGHT, 0, 1)
    base = np.tile(np.array(SKIN, dtype=np.float64), (len(faces), 1)) if colors is None else colors[faces].mean(axis=1)
    shades = np.clip(base * light[:, None], 0, 255)
    canvas = np.full((height, width, 3), _PAPER, dtype=np.uint8)
    polygons = np.round(pixels[faces] * 2 ** _SUBPIXEL_BITS).astype(np.int32)
    for face in order.tolist():
        # Without smooth edges: those leave a net of lines between triangles.
        cv2.fillConvexPoly(canvas, polygons[face], shades[face].tolist(), cv2.LINE_8, _SUBPIXEL_BITS)
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _smooth(normals: NDArray, faces: NDArray, count: int) -> NDArray:
    """Return unit normals (F, 3) of triangles, averaged over the vertices that they share."""
    total = np.zeros((count, 3))
    for corner in range(3):
        np.add.at(total, faces[:, corner], normals)
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    mean = total[faces].mean(axis=1)
    return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
