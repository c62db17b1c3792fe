"""Which views have left and right exchanged? Several views and time together can tell.

A single detector often exchanges the sides of a person seen from behind, and is sure of it. Two views that disagree do
not meet in space, and a body does not jump to its mirror image from one frame to the next, so: for every frame, every
set of exchanged views is given the reprojection error of its triangulation, a small price per exchanged view and the
price of the jump from the frame before, and the cheapest way through the sequence is taken (Viterbi). All views
exchanged together meet just as well as none: there the price per exchanged view, summed over the sequence, makes it a
vote. Arms and legs are judged separately, since detectors exchange them separately.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.triangulate import Floats, triangulate
from pose3d_ros.skeleton import Skeleton, mirrored

UPPER, LOWER = 0, 1
_SCORED = {UPPER: ('left_shoulder', 'left_elbow', 'left_wrist'), LOWER: ('left_hip', 'left_knee', 'left_ankle')}
_MOST_VIEWS = 8


def exchanged_views(
    rays: Floats,
    camera_T_world: Floats,
    sigma: Floats | float,
    skeleton: Skeleton,
    *,
    confidence: Floats | None = None,
    gate: float = 4.0,
    swap_price: float = 2.0,
    step: float = 0.05,
) -> NDArray[np.bool_]:
    """Return which views have the sides exchanged: (2, V, T) bool for the upper and the lower body.

    rays (V, T, J, 2) of one person in the order of skeleton, camera_T_world (V, 4, 4), sigma and confidence (broadcast
    to V, T, J) as for `triangulate`. swap_price: what one exchanged view costs in one frame, in squared sigmas; step:
    how far a joint may well move from frame to frame, m. Raises ValueError for more than 8 views (2^V cases compared).
    """
    cases = _cases(rays)
    pairs, part = _pairs(skeleton)
    points, cost = _every_case(rays, camera_T_world, sigma, confidence, cases, pairs, part, gate)
    path = _cheapest_path(points, cost + swap_price * cases.sum(axis=1)[:, None, None], part, step)
    return np.moveaxis(cases[path], -1, 1)


def with_sides(values: NDArray, exchanged: NDArray[np.bool_], skeleton: Skeleton) -> NDArray:
    """Return values (V, T, J, ...) with left and right exchanged where exchanged (2, V, T) says so."""
    flip = np.where(skeleton.lower, exchanged[LOWER][..., None], exchanged[UPPER][..., None])  # (V, T, J)
    flip = flip.reshape(*flip.shape, *(1,) * (values.ndim - 3))
    return np.where(flip, values[:, :, skeleton.mirror], values)


def _cases(rays: Floats) -> NDArray[np.bool_]:
    """Return all sets of exchanged views, (S, V), the complement of each as far from the end as it from the start."""
    views = len(rays)
    if views > _MOST_VIEWS:
        raise ValueError(f'{views} views: exchanged sides are resolved for at most {_MOST_VIEWS}')
    return (np.arange(2**views)[:, None] >> np.arange(views)) & 1 == 1


def _pairs(skeleton: Skeleton) -> tuple[NDArray[np.intp], Floats]:
    """Return the joints (P, 2), left and right, by which sides are judged, and the part each belongs to, (2, P)."""
    found = [(part, skeleton.index(name), skeleton.index(mirrored(name))) for part, names in _SCORED.items()
             for name in names if {name, mirrored(name)} <= set(skeleton.joints)]
    table = np.array(found, dtype=np.intp).reshape(-1, 3)
    return table[:, 1:], (table[:, 0] == np.array([[UPPER], [LOWER]])).astype(np.float64)


def _every_case(rays: Floats, camera_T_world: Floats, sigma: Floats | float, confidence: Floats | None,
                cases: NDArray[np.bool_], pairs: NDArray[np.intp], part: Floats, gate: float) -> tuple[Floats, Floats]:
    """Triangulate the pairs (P, 2) for every case (S, V): points (S, T, P, 2 sides, 3), summed cost (S, T, 2 parts)."""
    spread = np.broadcast_to(np.asarray(sigma, dtype=np.float64), rays.shape[:-1])
    trust = np.ones(spread.shape) if confidence is None else np.broadcast_to(confidence, spread.shape)

    def chosen(values: NDArray) -> NDArray:
        """Return (V, S, T, P, ...): the joint that each view gives for the left side in each case."""
        left, right = values[:, None, :, pairs[:, 0]], values[:, None, :, pairs[:, 1]]
        exchanged = cases.T[:, :, None, None]
        return np.where(exchanged.reshape(*exchanged.shape, *(1,) * (left.ndim - 4)), right, left)

    of_left, weight = chosen(rays), chosen(trust)
    result = triangulate(of_left, camera_T_world, chosen(spread), weight, gate=gate)
    seen = np.isfinite(of_left).all(axis=-1)
    nothing = gate**2 * np.sum(np.where(seen, weight, 0.0), axis=0)  # no point: every view is left out
    cost = np.where(np.isnan(result.cost), nothing, result.cost)
    # what is left in one case is right in the case with all views the other way round
    return np.stack([result.points, result.points[::-1]], axis=3), _of_parts(cost + cost[::-1], part)


def _of_parts(values: Floats, part: Floats) -> Floats:
    """Return values (..., P) summed over the pairs of each part of the body, (..., 2)."""
    return values @ part.T


def _jumps(now: Floats, before: Floats, step: float, most: float = 9.0) -> Floats:
    """Return the squared steps from before to now (..., P, 2, 3), at most `most` for each joint, summed: (..., P)."""
    jump = np.minimum(np.sum((now - before) ** 2, axis=-1) / step**2, most)
    return np.where(np.isnan(jump), most, jump).sum(axis=-1)


def _cheapest_path(points: Floats, cost: Floats, part: Floats, step: float) -> NDArray[np.intp]:
    """Return the case (2, T) of each part and frame on the cheapest way through cost (S, T, 2) and the jumps."""
    cases, frames, parts = cost.shape
    total, came_from = cost[:, 0], np.zeros((frames, cases, parts), dtype=np.intp)
    of_pair = part.argmax(axis=0)  # (P,)
    last = points[:, 0]  # where each joint was last seen, were the case s true
    for frame in range(1, frames):
        now = points[:, frame]
        through = total + _of_parts(_jumps(now[:, None], last, step), part)  # (S now, S before, 2)
        came_from[frame] = through.argmin(axis=1)
        total = cost[:, frame] + through.min(axis=1)
        past = last[came_from[frame][:, of_pair], np.arange(len(of_pair))]  # (S, P, 2, 3)
        last = np.where(np.isnan(now), past, now)
    path = np.zeros((frames, parts), dtype=np.intp)
    path[-1] = total.argmin(axis=0)
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame], np.arange(parts)]
    return path.T
