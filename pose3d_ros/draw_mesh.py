"""Pictures of meshes without a graphics card: shaded triangles, the far ones first."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera

Image = NDArray[np.uint8]

SKIN = (198, 176, 160)  # BGR
_PAPER = 250
_SHARPER = 2            # drawn this much larger and made smaller again, so that edges are smooth
_LIGHT = np.array([-0.35, 0.55, 0.75]) / np.linalg.norm([-0.35, 0.55, 0.75])
_SUBPIXEL_BITS = 4
_OVER_IMAGE, _OPACITY = (255, 225, 190), 0.65  # BGR, and how much of it: body and image can both be read
_NEAREST = 0.1          # m: what is nearer to the camera is not drawn
_CAMERA_LIGHT = np.array([-0.35, -0.55, -0.75]) / np.linalg.norm([-0.35, -0.55, -0.75])  # y down, z ahead


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
    shown = np.flatnonzero(normals[:, 2] > 0)
    order = shown[np.argsort(corners[shown][..., 2].mean(axis=1), kind='stable')]
    light = _lit(_smooth(normals, faces, len(vertices)), _LIGHT)
    base = np.tile(np.array(SKIN, dtype=np.float64), (len(faces), 1)) if colors is None else colors[faces].mean(axis=1)
    shades = np.clip(base * light[:, None], 0, 255)
    canvas = np.full((height, width, 3), _PAPER, dtype=np.uint8)
    _paint(canvas, pixels[faces[order]], shades[order])
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def draw_bodies(image: Image, camera: Camera, vertices: NDArray, faces: NDArray) -> Image:
    """Return a copy of the image (H, W, 3) BGR with the surfaces of people over it, half transparent.

    vertices (N, V, 3) m in the optical frame of the camera that the image is of; faces (F, 3), the same for all.
    """
    drawn = image.copy()
    if not len(vertices):
        return drawn
    points = vertices.reshape(-1, 3).astype(np.float64)
    joined = (faces + len(vertices[0]) * np.arange(len(vertices))[:, None, None]).reshape(-1, 3)
    pixels = camera.project(points)
    reach = 4 * max(image.shape[:2])  # beyond it, fixed-point drawing overflows
    with np.errstate(invalid='ignore'):
        usable = (points[:, 2] > _NEAREST) & (np.abs(pixels) < reach).all(axis=1)
    corners = points[joined]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    shown = np.flatnonzero(usable[joined].all(axis=1) & ((normals * corners[:, 0]).sum(axis=1) < 0))
    if not len(shown):
        return drawn
    shown = shown[np.argsort(-corners[shown, :, 2].sum(axis=1), kind='stable')]
    shades = _lit(_smooth(normals, joined, len(points))[shown], _CAMERA_LIGHT)[:, None] * _OVER_IMAGE
    polygons, size = pixels[joined[shown]], image.shape[1::-1]
    left, top = np.clip(np.floor(polygons.min(axis=(0, 1))), 0, size).astype(int).tolist()
    right, bottom = np.clip(np.ceil(polygons.max(axis=(0, 1))) + 1, 0, size).astype(int).tolist()
    part = drawn[top:bottom, left:right]
    if part.size:
        canvas = part.copy()
        _paint(canvas, polygons - (left, top), shades.clip(0, 255))
        part[:] = cv2.addWeighted(canvas, _OPACITY, part, 1 - _OPACITY, 0)
    return drawn


def _paint(canvas: Image, polygons: NDArray, shades: NDArray) -> None:
    """Fill triangles (F, 3, 2) px, the first ones first, with colours (F, 3) BGR."""
    fixed = np.round(polygons * 2 ** _SUBPIXEL_BITS).astype(np.int32)
    for polygon, shade in zip(fixed, shades.tolist()):
        # Without smooth edges: those leave a net of lines between triangles.
        cv2.fillConvexPoly(canvas, polygon, shade, cv2.LINE_8, _SUBPIXEL_BITS)


def _lit(normals: NDArray, light: NDArray) -> NDArray:
    """Return how bright (F,) triangles of unit normals (F, 3) are in light from a direction (3,), with some behind."""
    return np.asarray(0.35 + 0.65 * np.clip(normals @ light, 0, 1) + 0.1 * np.clip(-normals @ light, 0, 1))


def _smooth(normals: NDArray, faces: NDArray, count: int) -> NDArray:
    """Return unit normals (F, 3) of triangles, averaged over the vertices that they share."""
    corners, each = faces.ravel(), np.repeat(normals, 3, axis=0)
    total = np.stack([np.bincount(corners, weights=each[:, axis], minlength=count) for axis in range(3)], axis=1)
    total = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    mean = total[faces].mean(axis=1)
    return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
