"""From a field to a closed mesh of triangles: surface nets, then vertices moved on to the surface and spread evenly.

S. F. F. Gibson, "Constrained elastic surface nets" (MICCAI 1998): a vertex in every cell of a grid that the surface
passes, and a quadrangle around every edge of the grid that it cuts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from scipy.spatial import cKDTree

from pose3d_ros.mannequin.field import Field

MIRROR = np.array([-1.0, 1.0, 1.0])
_STEP = 1e-6  # m, for slopes of the field


def ticks(spans: Sequence[tuple[float, float]], start: float) -> NDArray[np.float64]:
    """Return grid lines from start, of which the distance goes over from span to span. spans: (up to, distance), m."""
    edges, steps = [start], []
    middles, sizes = [], []
    for end, step in spans:
        middles += [edges[-1] + 0.25 * (end - edges[-1]), edges[-1] + 0.75 * (end - edges[-1])]
        sizes += [step, step]
        edges.append(end)
        steps.append(step)
    fine = np.linspace(start, edges[-1], 4001)
    density = 1 / np.interp(fine, middles, sizes)
    passed = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(fine))])
    return np.interp(np.linspace(0, passed[-1], round(float(passed[-1])) + 1), passed, fine)


def surface_nets(field: Field, axes: tuple[NDArray, NDArray, NDArray]) -> tuple[NDArray, NDArray[np.int64]]:
    """Return vertices (V, 3) and quadrangles (Q, 4), counter-clockwise seen from outside, of where the field is zero.

    axes: grid lines along x, y and z; the surface must not leave the grid.
    """
    grid = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1)
    values = field(grid)
    inside = values < 0
    cells = tuple(size - 1 for size in values.shape)
    total, number = np.zeros((*cells, 3)), np.zeros(cells)
    cut_edges = []
    for axis in range(3):
        lower, upper = _halves(axis, slice(None))
        cut = inside[lower] != inside[upper]
        a, b = values[lower][cut], values[upper][cut]
        share = (a / (a - b))[:, None]
        crossing = np.zeros((*cut.shape, 3))
        crossing[cut] = (1 - share) * grid[lower][cut] + share * grid[upper][cut]
        for shift in np.ndindex(2, 2):  # the four cells around an edge
            view = _around(axis, shift, cells)
            total += crossing[view]
            number += cut[view]
        cut_edges.append(cut)
    has = number > 0
    index = np.full(cells, -1)
    index[has] = np.arange(has.sum())
    vertices = total[has] / number[has][:, None]
    return vertices, _quadrangles(index, inside, cut_edges)


def _halves(axis: int, others: slice) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    lower, upper = [others] * 3, [others] * 3
    lower[axis], upper[axis] = slice(None, -1), slice(1, None)
    return tuple(lower), tuple(upper)


def _around(axis: int, shift: tuple[int, ...], cells: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the view of the edges along an axis that belong to the cells on one of the four sides."""
    sides = iter(shift)
    return tuple(slice(None) if other == axis else slice(start := next(sides), start + cells[other])
                 for other in range(3))


def _quadrangles(index: NDArray, inside: NDArray, cut_edges: list[NDArray]) -> NDArray[np.int64]:
    quads = []
    for axis, cut in enumerate(cut_edges):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        at = np.argwhere(cut)
        corners = []
        for back_u, back_v in ((1, 1), (0, 1), (0, 0), (1, 0)):
            cell = at.copy()
            cell[:, u] -= back_u
            cell[:, v] -= back_v
            corners.append(index[tuple(cell.T)])
        quad = np.stack(corners, axis=1)
        outward = inside[tuple(at.T)]  # from inside to outside along the axis: seen from its end, u to v turns left
        quads.append(np.where(outward[:, None], quad, quad[:, ::-1]))
    return np.concatenate(quads)


def split(vertices: NDArray, quads: NDArray) -> NDArray[np.int64]:
    """Return quadrangles (Q, 4) as triangles (2 Q, 3), cut along their shorter diagonal."""
    corners = vertices[quads]
    first = np.linalg.norm(corners[:, 0] - corners[:, 2], axis=1)
    second = np.linalg.norm(corners[:, 1] - corners[:, 3], axis=1)
    # Mirror images have the same lengths, but not to the last bit.
    turned = np.where((first <= second + 1e-9)[:, None], quads, np.roll(quads, -1, axis=1))
    return np.concatenate([turned[:, [0, 1, 2]], turned[:, [0, 2, 3]]])


def slope(field: Field, points: NDArray) -> NDArray:
    """Return the gradient (N, 3) of a field at points (N, 3)."""
    steps = _STEP * np.eye(3)  # to both sides: in the middle of a symmetric body it is level
    return np.stack([(field(points + step) - field(points - step)) / (2 * _STEP) for step in steps], axis=-1)


def neighbours(faces: NDArray, count: int) -> csr_matrix:
    """Return which vertices share an edge of triangles or quadrangles, as a matrix (V, V) of zeros and ones."""
    a, b = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    matrix = csr_matrix((np.ones(len(a)), (a, b)), shape=(count, count))
    matrix = matrix + matrix.T
    matrix.data[:] = 1
    return matrix


def averaging(faces: NDArray, count: int) -> csr_matrix:
    """Return the matrix (V, V) that replaces each vertex' value by the mean of its neighbours'."""
    matrix = neighbours(faces, count)
    return diags(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix


def mirror_images(vertices: NDArray) -> NDArray[np.intp]:
    """Return for each vertex (V, 3) the index of its mirror image in the plane x = 0. Raises ValueError."""
    distance, other = cKDTree(vertices).query(vertices * MIRROR)
    if distance.max() > 1e-6 or not np.array_equal(other[other], np.arange(len(vertices))):
        raise ValueError(f'the mesh is not symmetric: {distance.max():.2g} m')
    return np.asarray(other, dtype=np.intp)


def relaxed(field: Field, vertices: NDArray, faces: NDArray, other: NDArray, rounds: int = 6) -> NDArray:
    """Return vertices spread more evenly over the surface of the field, and on it. other (V,): mirror_images()."""
    mean = averaging(faces, len(vertices))
    for number in range(rounds):
        vertices = on_surface(field, vertices + 0.5 * (mean @ vertices - vertices), 3 if number == rounds - 1 else 1)
        # In the creases of the middle, rounding would decide to which side a vertex goes.
        vertices = 0.5 * (vertices + vertices[other] * MIRROR)
    return vertices


def on_surface(field: Field, vertices: NDArray, steps: int = 1) -> NDArray:
    """Return vertices moved to where the field is zero, by Newton's method and never more than 2 cm at a time."""
    for _ in range(steps):
        gradient = slope(field, vertices)
        length = np.linalg.norm(gradient, axis=1, keepdims=True)
        move = field(vertices)[:, None] / np.maximum(length, 0.3)
        vertices = vertices - np.clip(move, -0.02, 0.02) * gradient / np.maximum(length, 1e-6)
    return vertices
