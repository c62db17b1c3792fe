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
    views, frames = rays.shape[:2]
    if views > _MOST_VIEWS:
        raise ValueError(f'{views} views: exchanged sides are resolved for at most {_MOST_VIEWS}')
    spread = np.broadcast_to(np.asarray(sigma, dtype=np.float64), rays.shape[:-1])
    trust = np.ones(spread.shape) if confidence is None else np.broadcast_to(confidence, spread.shape)
    cases = (np.arange(2**views)[:, None] >> np.arange(views)) & 1 == 1  # (S, V): the views exchanged
    found = np.zeros((2, views, frames), dtype=bool)
    for part, names in _SCORED.items():
        pairs = [(skeleton.index(name), skeleton.index(mirrored(name))) for name in names
                 if {name, mirrored(name)} <= set(skeleton.joints)]
        if not pairs:
            continue
        points, cost = _every_case(rays, camera_T_world, spread, trust, cases, np.array(pairs), gate)
        path = _cheapest_path(points, cost + swap_price * cases.sum(axis=1)[:, None], step)
        found[part] = cases[path].T
    return found


def with_sides(values: NDArray, exchanged: NDArray[np.bool_], skeleton: Skeleton) -> NDArray:
    """Return values (V, T, J, ...) with left and right exchanged where exchanged (2, V, T) says so."""
    flip = np.where(skeleton.lower, exchanged[LOWER][..., None], exchanged[UPPER][..., None])  # (V, T, J)
    flip = flip.reshape(*flip.shape, *(1,) * (values.ndim - 3))
    return np.where(flip, values[:, :, skeleton.mirror], values)


def _every_case(rays: Floats, camera_T_world: Floats, sigma: Floats, trust: Floats, cases: NDArray[np.bool_],
                pairs: NDArray[np.intp], gate: float) -> tuple[Floats, Floats]:
    """Triangulate the pairs (P, 2) for every case (S, V): points (S, T, P, 2 sides, 3) and summed cost (S, T)."""

    def chosen(values: NDArray) -> NDArray:
        """Return (V, S, T, P, ...): the joint that each view gives for the left side in each case."""
        left, right = values[:, None, :, pairs[:, 0]], values[:, None, :, pairs[:, 1]]
        exchanged = cases.T[:, :, None, None]
        return np.where(exchanged.reshape(*exchanged.shape, *(1,) * (left.ndim - 4)), right, left)

    result = triangulate(chosen(rays), camera_T_world, chosen(sigma), chosen(trust), gate=gate)
    seen = np.isfinite(chosen(rays)).all(axis=-1)
    nothing = gate**2 * np.sum(np.where(seen, chosen(trust), 0.0), axis=0)  # no point: every view is left out
    cost = np.where(np.isnan(result.cost), nothing, result.cost)
    # what is left in one case is right in the case with all views the other way round
    return np.stack([result.points, result.points[::-1]], axis=3), (cost + cost[::-1]).sum(axis=-1)


def _cheapest_path(points: Floats, cost: Floats, step: float, most: float = 9.0) -> NDArray[np.intp]:
    """Return the case (T,) of each frame on the cheapest way through cost (S, T) and the jumps between points."""
    frames = cost.shape[1]
    total, came_from = cost[:, 0], np.zeros((frames, len(cost)), dtype=np.intp)
    last = points[:, 0]  # where each joint was last seen, were the case s true
    for frame in range(1, frames):
        now = points[:, frame]
        jump = np.minimum(np.sum((now[:, None] - last) ** 2, axis=-1) / step**2, most)  # (S now, S before, P, 2)
        through = total + np.where(np.isnan(jump), most, jump).sum(axis=(-2, -1))
        came_from[frame] = through.argmin(axis=1)
        total = cost[:, frame] + through.min(axis=1)
        last = np.where(np.isnan(now), last[came_from[frame]], now)
    path = np.zeros(frames, dtype=np.intp)
    path[-1] = total.argmin()
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return path
