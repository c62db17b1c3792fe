"""Fewer triangles for a body model, so that its surface can be shown many times a second.

Vertices are merged into neighbours, one edge after the other, where that changes the surface least: Garland, Heckbert,
"Surface Simplification Using Quadric Error Metrics" (SIGGRAPH 1997), summed over several poses of the body (as in
Mohr, Gleicher, "Deformation Sensitive Decimation", 2003), so that joints keep what they need to bend. What remains are
vertices of the model itself: skinned alone they are where the whole model has them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial.transform import Rotation

from pose3d_ros.body_model import JOINTS, BodyModel
from pose3d_ros.body_model_file import BodyArrays
from pose3d_ros.skeleton import SMPL24

Array = NDArray[np.float64]

# What the surface is looked at in: degrees about the fixed axes x, y, z in this order. The first is the rest pose.
_POSES: tuple[dict[str, tuple[float, float, float]], ...] = (
    {},
    {'left_shoulder': (0, 0, -70), 'right_shoulder': (0, 0, 70), 'left_elbow': (0, -80, 0), 'right_elbow': (0, 80, 0),
     'left_hip': (-85, 0, 8), 'right_hip': (-85, 0, -8), 'left_knee': (90, 0, 0), 'right_knee': (90, 0, 0),
     'left_wrist': (0, 0, -30), 'right_wrist': (0, 0, 30), 'spine1': (15, 0, 0), 'neck': (15, 20, 0)},
    {'left_shoulder': (0, -50, 55), 'right_shoulder': (0, 50, -55), 'left_elbow': (0, -30, 0),
     'right_elbow': (0, 30, 0), 'left_hip': (25, 0, 15), 'right_hip': (-30, 0, -15), 'left_knee': (40, 0, 0),
     'right_knee': (15, 0, 0), 'left_ankle': (25, 0, 0), 'right_ankle': (-20, 0, 0), 'spine2': (-15, 20, 0)},
)
_LEAST_AGREEMENT = 0.3   # cosine of the angle by which a triangle may be turned from what it was at first, in any pose
_EVEN = 1e-3             # weight of an edge's squared length beside squared distances from the surface
_NEXT, _AFTER_NEXT = [1, 2, 0], [2, 0, 1]
_SHARE = 0.08            # of the vertices that are merged before all costs are worked out anew


def decimate(model: BodyModel, triangles: int = 1200) -> tuple[BodyModel, NDArray[np.intp]]:
    """Return a model of so many triangles, or one less, and which vertices (v,) of the given one it consists of.

    Its vertices are those of the given model in every pose and shape, its joints too; a closed surface stays closed.
    There are more triangles than asked for where merging further would tear or turn over the surface.
    """
    faces = _merged_faces(model, triangles)
    kept = np.unique(faces).astype(np.intp)
    new = np.full(len(model), -1, dtype=np.int32)
    new[kept] = np.arange(len(kept), dtype=np.int32)
    whole = model.arrays
    small = replace(whole, template=whole.template[kept], shapedirs=whole.shapedirs[kept],
                    posedirs=whole.posedirs[kept], weights=whole.weights[kept], faces=new[faces],
                    regressor=_regressor(whole, kept))
    return replace(model, arrays=small), kept


def _regressor(whole: BodyArrays, kept: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the smallest weights (24, v) by which these vertices give the joints of the whole model in every shape."""
    columns = np.concatenate([whole.template[:, :, None], whole.shapedirs], axis=2).reshape(len(whole.template), -1)
    columns = np.column_stack([columns, np.ones(len(columns))]).astype(np.float64)   # the last: weights sum to one
    weights, *_ = np.linalg.lstsq(columns[kept].T, (whole.regressor @ columns).T, rcond=None)
    return np.ascontiguousarray(weights.T, dtype=np.float32)


def _merged_faces(model: BodyModel, triangles: int) -> NDArray[np.int32]:
    """Return the triangles (F, 3) that are left, as indices of the model's vertices."""
    points, _ = model.pose(np.stack([_turned(pose) for pose in _POSES]))
    points = points.transpose(1, 0, 2).astype(np.float64)                          # (V, K, 3)
    faces = model.faces.copy()
    quadrics = _Quadrics(points, faces)
    first = _unit(_normals(points[faces]))
    while len(faces) > triangles:
        merges = _round(points, faces, first, quadrics, (len(faces) - triangles + 1) // 2)
        if not merges:
            break
        into = np.arange(len(points), dtype=np.int32)
        for vertex, other in merges:
            into[vertex] = other
            quadrics.add(vertex, other)
        faces = into[faces]
        left = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
        faces, first = faces[left], first[left]
    return faces


def _turned(degrees: dict[str, tuple[float, float, float]]) -> Array:
    rotations = np.tile(np.eye(3), (JOINTS, 1, 1))
    for joint, angles in degrees.items():
        rotations[SMPL24.index(joint)] = Rotation.from_euler('xyz', angles, degrees=True).as_matrix()
    return rotations


class _Quadrics:
    """Of each vertex the sum of squared distances (times area) from the planes that it stands for, in every pose."""

    def __init__(self, points: Array, faces: NDArray[np.int32]) -> None:
        """points (V, K, 3) m; faces (F, 3)."""
        corners = points[faces]                                                     # (F, 3, K, 3)
        normals = _normals(corners)
        double_area = np.linalg.norm(normals, axis=-1, keepdims=True)
        normals = _unit(normals)
        offset = -(normals * corners[:, 0]).sum(axis=-1, keepdims=True)
        plane = np.concatenate([normals, offset], axis=-1)                          # (F, K, 4)
        each = double_area[..., None] / 6 * plane[..., :, None] * plane[..., None, :]
        self._sums = np.zeros((*points.shape[:2], 4, 4))
        self._area = np.zeros(len(points))
        for corner in range(3):
            np.add.at(self._sums, faces[:, corner], each)
            np.add.at(self._area, faces[:, corner], double_area[:, 0, 0] / 6)
        self._points = np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=-1)

    def cost(self, vertices: NDArray, others: NDArray) -> Array:
        """Return what it costs (m^4) to merge each vertex into another one."""
        place = self._points[others]
        off = (place * (self._sums[vertices] @ place[..., None])[..., 0]).sum(axis=(1, 2))
        length = ((self._points[vertices] - place) ** 2).sum(axis=(1, 2))
        return np.asarray(off + _EVEN * self._area[vertices] * length)

    def add(self, vertex: int, other: int) -> None:
        """Have a vertex stand for the planes of another too."""
        self._sums[other] += self._sums[vertex]
        self._area[other] += self._area[vertex]


def _round(points: Array, faces: NDArray[np.int32], first: Array, quadrics: _Quadrics, most: int,
           ) -> list[tuple[int, int]]:
    """Return merges (vertex, into which), the cheapest first, that do not touch each other's neighbourhoods.

    points (V, K, 3) m; faces (F, 3); first (F, K, 3): their unit normals before anything was merged.
    """
    vertices, others, neighbours = _candidates(faces, len(points))
    cost = quadrics.cost(vertices, others)
    order = np.argsort(cost, kind='stable')
    around = _faces_around(faces, len(points))
    most = min(most, max(1, int(_SHARE * len(np.unique(faces)))))
    taken = np.zeros(len(points), dtype=bool)
    merges: list[tuple[int, int]] = []
    for vertex, other in zip(vertices[order].tolist(), others[order].tolist()):
        ring = neighbours.indices[neighbours.indptr[vertex]:neighbours.indptr[vertex + 1]]
        if taken[vertex] or taken[ring].any():
            continue
        those = around.indices[around.indptr[vertex]:around.indptr[vertex + 1]]
        if _keep_their_side(points, faces[those], first[those], vertex, other):
            taken[ring] = taken[vertex] = True
            merges.append((vertex, other))
            if len(merges) == most:
                break
    return merges


def _candidates(faces: NDArray[np.int32], count: int) -> tuple[NDArray, NDArray, csr_matrix]:
    """Return the merges that leave the topology as it is: which vertex, into which; and who neighbours whom (V, V).

    The ends of an edge within the surface have two neighbours in common, and no more. Vertices at a border stay.
    """
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    directed = csr_matrix((np.ones(len(start), dtype=np.int32), (start, end)), shape=(count, count))
    both = (directed + directed.T).tocsr()
    neighbours = csr_matrix((np.ones_like(both.data), both.indices, both.indptr), shape=both.shape)
    uneven = (directed - directed.T).tocsr()
    uneven.eliminate_zeros()
    border = (uneven.getnnz(axis=1) > 0) | (both.max(axis=1).toarray()[:, 0] > 2)
    shared = (neighbours @ neighbours).multiply(neighbours).tocoo()
    good = (shared.data == 2) & ~border[shared.row]
    return shared.row[good], shared.col[good], neighbours


def _faces_around(faces: NDArray[np.int32], count: int) -> csr_matrix:
    """Return which faces each vertex has, as a matrix (V, F)."""
    rows = np.repeat(np.arange(len(faces)), 3)
    return csr_matrix((np.ones(faces.size, dtype=np.int8), (faces.ravel(), rows)), shape=(count, len(faces)))


def _keep_their_side(points: Array, around: NDArray[np.int32], first: Array, vertex: int, other: int) -> bool:
    """Tell whether the triangles around a vertex face as at first in every pose when it is merged into another."""
    left = ~(around == other).any(axis=1)
    normals = _normals(points[np.where(around[left] == vertex, other, around[left])])
    lengths = np.sqrt((normals * normals).sum(axis=-1))
    return bool(((normals * first[left]).sum(axis=-1) > _LEAST_AGREEMENT * lengths).all())


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


def _normals(corners: Array) -> Array:
    """Return the normals (F, K, 3), as long as twice the area, of corners (F, 3, K, 3)."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # np.cross takes three times as long for so few.
    return np.asarray(a[..., _NEXT] * b[..., _AFTER_NEXT] - a[..., _AFTER_NEXT] * b[..., _NEXT])
