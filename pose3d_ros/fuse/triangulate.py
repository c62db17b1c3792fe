"""Robust triangulation: many points at once, each from the views that agree on it.

All views together propose a point (linear least squares); so does every pair of views where that point leaves a doubt.
The proposal with least truncated reprojection error wins and is polished on the views that agree with it. With the
handful of cameras that watch one place this exhaustive search is cheap, and unlike random sampling it gives the same
answer every time. What one camera alone thinks of a joint's place (a Gaussian prior) takes part like one more view.

Every step is one array expression over views, subsets and points (arrays end with the axis of the points, which makes
them long where the machine is fast).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.symmetric import FIRST, SECOND, Floats, inverse, least_squares, packed, times, unpacked

Bools = NDArray[np.bool_]

_POLISH_STEPS = 6
_SETTLED = 1e-6    # m; a polishing step that moves a point no farther is its last: the next would be far shorter
_MIN_DEPTH = 1e-3  # m; a point nearer than this to a camera's plane counts as behind the camera
_RIDGE = 1e-12     # far below any real information
_BLOCK = 4096      # points worked on at a time, so that memory stays bounded
# Rows (a1 a2 a3 b) of the equations a X = b: the products that make up the normal equations, 6 of the matrix, 3 of b.
_LEFT, _RIGHT = np.append(FIRST, [0, 1, 2]), np.append(SECOND, [3, 3, 3])


@dataclass(frozen=True)
class Triangulated:
    """Points from several views; `...` is the shape of the points asked for.

    points (..., 3) m in the common frame, NaN where fewer than two views agree and there is no prior; covariance
    (..., 3, 3) m^2, from the sigmas of the views used and the prior's; used (V, ...) bool, the views a point rests on;
    residual (V, ...) distance between the measured and the reprojected ray (x/z, y/z; times the focal length: px), NaN
    where a view saw nothing; cost (...) the sum over views of confidence * min((residual/sigma)^2, gate^2), and of the
    prior likewise, NaN where there is no point; prior_share (...) in 0..1, how much of what is known of the point is
    the prior's, NaN where there is no point.
    """

    points: Floats
    covariance: Floats
    used: Bools
    residual: Floats
    cost: Floats
    prior_share: Floats


def triangulate(
    rays: Floats,
    camera_T_world: Floats,
    sigma: Floats | float,
    confidence: Floats | None = None,
    *,
    gate: float = 4.0,
    prior: Floats | None = None,
    prior_covariance: Floats | None = None,
    start: Floats | None = None,
) -> Triangulated:
    """Find the points that several calibrated views see.

    rays (V, ..., 2) undistorted and normalised (x/z, y/z), NaN where a view does not see the point; camera_T_world
    (V, 4, 4), a view without a finite one sees nothing; sigma, broadcast to (V, ...), one standard deviation of a ray's
    coordinates (px / focal length); confidence (V, ...) in 0..1 weighs the views, 1 when not given; gate, in sigmas: a
    view farther away is left out.

    prior (..., 3) m and prior_covariance (..., 3, 3) m^2, in the common frame: what is thought of the points apart from
    these rays, left out like a view beyond the gate; none where it is not finite or not positive definite. With it one
    view makes a point, and where no view sees the point it is the prior. start (..., 3) m: where the points are
    expected, NaN where they are not; where all views agree with it, nothing else is proposed.

    Raises ValueError when the shapes disagree, for fewer than two views without a prior, and for half a prior.
    """
    shape, views = rays.shape[1:-1], rays.shape[0]
    if views < (2 if prior is None else 1) or rays.shape[-1] != 2 or camera_T_world.shape != (views, 4, 4):
        raise ValueError(f'rays {rays.shape} and camera_T_world {camera_T_world.shape}: expected (V, ..., 2), (V, 4, 4)'
                         ' with at least 2 views (1 where there is a prior)')
    if (prior is None) != (prior_covariance is None):
        raise ValueError('a prior needs both prior and prior_covariance')
    known: Bools = np.asarray(np.isfinite(camera_T_world).all(axis=(-2, -1)))
    flat = np.moveaxis(np.asarray(rays, dtype=np.float64).reshape(views, -1, 2), -1, 1)  # (V, 2, N)
    deviation = np.broadcast_to(np.asarray(sigma, dtype=np.float64), rays.shape[:-1]).reshape(views, -1)
    trust = np.ones(deviation.shape) if confidence is None else np.nan_to_num(np.broadcast_to(
        np.asarray(confidence, dtype=np.float64), rays.shape[:-1])).reshape(views, -1)
    seen = np.isfinite(flat).all(axis=1) & (deviation > 0) & (trust > 0) & known[:, None]
    mean, information, told = _of_prior(prior, prior_covariance, shape)
    if start is not None and start.shape != (*shape, 3):
        raise ValueError(f'start {start.shape}: expected {(*shape, 3)}')
    begin = None if start is None else np.asarray(start, dtype=np.float64).reshape(-1, 3).T
    problem = _Problem(
        np.where(seen[:, None], flat, 0.0), np.where(known[:, None, None], camera_T_world[:, :3, :3], np.eye(3)),
        np.where(known[:, None], camera_T_world[:, :3, 3], 0.0), np.where(seen, deviation, 1.0),
        np.where(seen, trust, 0.0), seen, mean, information, told, gate, begin)
    blocks = [problem.of(slice(first, first + _BLOCK)).solve() for first in range(0, max(flat.shape[-1], 1), _BLOCK)]
    points, covariance, used, residual, cost, share = (np.concatenate(parts, axis=-1) for parts in zip(*blocks))
    return Triangulated(
        np.moveaxis(points, 0, -1).reshape(*shape, 3), unpacked(covariance).reshape(*shape, 3, 3),
        used.reshape(views, *shape), residual.reshape(views, *shape), cost.reshape(shape), share.reshape(shape))


def _of_prior(mean: Floats | None, covariance: Floats | None, shape: tuple[int, ...]) -> tuple[Floats, Floats, Bools]:
    """Return mean (3, N), information (6, N) and whether there is any (N,), zero where there is none."""
    count = int(np.prod(shape))
    if mean is None or covariance is None:
        return np.zeros((3, count)), np.zeros((6, count)), np.zeros(count, dtype=bool)
    if mean.shape != (*shape, 3) or covariance.shape != (*shape, 3, 3):
        raise ValueError(f'prior {mean.shape} and prior_covariance {covariance.shape}: expected {(*shape, 3)} and '
                         f'{(*shape, 3, 3)}')
    place = np.asarray(mean, dtype=np.float64).reshape(count, 3).T
    information = inverse(packed(np.asarray(covariance, dtype=np.float64).reshape(count, 3, 3)))
    told = np.isfinite(place).all(axis=0) & np.isfinite(information).all(axis=0)
    return np.where(told, place, 0.0), np.where(told, information, 0.0), told


@dataclass(frozen=True)
class _Seen:
    """Points (3, ..., N) as the views have them.

    depth (V, ..., N) m; off (V, 2, ..., N), measured minus projected ray; squared (V, ..., N), its squared length in
    sigmas, infinite behind a camera; prior (..., N) squared distance from the prior in sigmas.
    """

    depth: Floats
    off: Floats
    squared: Floats
    prior: Floats


@dataclass(frozen=True)
class _Problem:
    """N points in V views: rays (V, 2, N), rotation (V, 3, 3), shift (V, 3), sigma, trust and seen (V, N); prior's mean
    (3, N), information (6, N) and whether there is one, told (N,); start (3, N).
    """

    rays: Floats
    rotation: Floats
    shift: Floats
    sigma: Floats
    trust: Floats
    seen: Bools
    mean: Floats
    information: Floats
    told: Bools
    gate: float
    start: Floats | None

    def of(self, chosen: slice | NDArray[np.intp]) -> _Problem:
        """Return the problem of some of the points."""
        return _Problem(self.rays[..., chosen], self.rotation, self.shift, self.sigma[:, chosen], self.trust[:, chosen],
                        self.seen[:, chosen], self.mean[:, chosen], self.information[:, chosen], self.told[chosen],
                        self.gate, None if self.start is None else self.start[:, chosen])

    def solve(self) -> tuple[Floats, Floats, Bools, Floats, Floats, Floats]:
        """Return points (3, N), covariance (6, N), used (V, N), residual (V, N), cost (N,) and prior's share (N,)."""
        points, used, anchored, view = self.polished(self.best_proposal())
        good = anchored | (used.sum(axis=0) >= 2)
        covariance = inverse(self.normal_equations(points, view, used, anchored)[0], _RIDGE)
        doubled = np.array([1.0, 2.0, 2.0, 1.0, 2.0, 1.0])  # the off-diagonal ones stand for two
        share = np.einsum('k,kn,kn->n', doubled / 3.0, covariance, np.where(anchored, self.information, 0.0))
        points, covariance, cost, share = (np.where(good, values, np.nan) for values in (
            points, covariance, self.cost(view), np.clip(share, 0.0, 1.0)))
        residual = np.where(self.seen & good, np.sqrt(view.squared) * self.sigma, np.nan)
        return points, covariance, used & good, residual, cost, share

    def look(self, points: Floats) -> _Seen:
        """Return how the views have the points (3, ..., N)."""
        views, middle = len(self.rays), (1,) * (points.ndim - 2)
        local = (self.rotation.reshape(-1, 3) @ points.reshape(3, -1)).reshape(views, 3, *points.shape[1:])
        local += self.shift.reshape(views, 3, *middle, 1)
        depth = local[:, 2]
        nearest = np.maximum(depth, _MIN_DEPTH)
        off = self.rays.reshape(views, 2, *middle, points.shape[-1]) - local[:, :2] / nearest[:, None]
        sigma = self.sigma.reshape(views, *middle, points.shape[-1])
        squared = np.where(depth < _MIN_DEPTH, np.inf, (off[:, 0] ** 2 + off[:, 1] ** 2) / sigma**2)
        if not self.told.any():
            return _Seen(nearest, off, squared, np.zeros(points.shape[1:]))
        away = points - self.mean.reshape(3, *middle, points.shape[-1])
        pull = times(self.information.reshape(6, *middle, points.shape[-1]), away)
        return _Seen(nearest, off, squared, (away * pull).sum(axis=0))

    def cost(self, view: _Seen) -> Floats:
        """Return the truncated squared errors summed over views and prior, (..., N)."""
        trust = self.trust.reshape(len(self.trust), *(1,) * (view.squared.ndim - 2), view.squared.shape[-1])
        total = np.sum(trust * np.minimum(view.squared, self.gate**2), axis=0)
        return total + np.minimum(view.prior, self.gate**2) if self.told.any() else total

    def agreeing(self, view: _Seen) -> tuple[Bools, Bools]:
        """Return the views (V, N) and the priors (N,) within the gate."""
        return self.seen & (view.squared <= self.gate**2), self.told & (view.prior <= self.gate**2)

    def best_proposal(self) -> Floats:
        """Return the proposal (3, N) with the least truncated error: subsets of two, and all together."""
        views, witnesses = len(self.seen), self.seen.sum(axis=0) + self.told
        if self.start is None:
            points = self.linear(np.ones((1, views + 1), dtype=bool))[:, 0]
            lowest = self.cost(self.look(points))
            # Whatever leaves out a view pays the gate for it: what all say at a lower price is not to be beaten.
            price = np.where(self.seen, self.trust, 1.0).min(axis=0) * self.gate**2
            unclear = (lowest >= price) & ((witnesses > 2) | (self.told & (witnesses > 1)))
        else:
            expected = np.isfinite(self.start[0])
            points = np.where(expected, self.start, 0.0)
            view = self.look(points)
            lowest = np.where(expected, self.cost(view), np.inf)
            unclear = (witnesses > 1) & ~(expected & (~self.seen | (view.squared <= self.gate**2)).all(axis=0))
        doubtful = np.flatnonzero(unclear)
        if len(doubtful):
            better, cost = self.of(doubtful).searched()
            points[:, doubtful] = np.where(cost < lowest[doubtful], better, points[:, doubtful])
        return points

    def searched(self) -> tuple[Floats, Floats]:
        """Return the best of the subsets of two, of all views and of the prior alone: points (3, N) and cost (N,)."""
        views = len(self.seen)
        sets = [list(pair) for pair in combinations(range(views), 2)] + ([list(range(views))] if views > 2 else [])
        if self.told.any():
            sets += [[view, views] for view in range(views)] + [[views]]
        subsets = np.array([[view in members for view in range(views + 1)] for members in sets])
        points = self.linear(subsets)
        enough = (subsets[:, :-1] @ self.seen.astype(np.float64) >= 2) | (subsets[:, -1:] & self.told)
        cost = np.where(enough, self.cost(self.look(points)), np.inf)
        best = cost.argmin(axis=0)
        return np.take_along_axis(points, best[None, None], axis=1)[:, 0], np.take_along_axis(cost, best[None], 0)[0]

    def linear(self, subsets: Bools) -> Floats:
        """Solve (x R3 - R1) X = t1 - x t3 (and y with R2) for subsets (S, V + 1) of the views and the prior: (3, S, N).

        The equations measure metres instead of sigmas; a second pass divides by the depth that the first one found or
        that the prior says.
        """
        rows = np.empty((len(self.rays), 2, 4, self.rays.shape[-1]))
        rows[:, :, :3] = self.rays[:, :, None] * self.rotation[:, None, 2, :, None] - self.rotation[:, :2, :, None]
        rows[:, :, 3] = self.shift[:, :2, None] - self.rays * self.shift[:, None, 2:]
        products = _products(rows) * (self.trust / self.sigma**2)[:, None]  # (V, 9, N)
        chosen = subsets[:, :-1].astype(np.float64)
        points = least_squares(np.tensordot(chosen, products, 1).swapaxes(0, 1), _RIDGE)
        depth = self.depth(points)
        anchored = subsets[:, -1:] & self.told  # (S, N)
        if anchored.any():
            depth = np.where(anchored, self.depth(self.mean[:, None]), depth)
        weight = chosen.T[:, :, None] / np.maximum(depth, 0.1) ** 2  # (V, S, N)
        sums = np.einsum('vsn,vkn->ksn', weight, products)
        if anchored.any():
            sums += np.where(anchored, np.concatenate(
                [self.information, times(self.information, self.mean)])[:, None], 0.0)
        return least_squares(sums, _RIDGE)

    def depth(self, points: Floats) -> Floats:
        """Return the depth (V, ..., N) m of points (3, ..., N) in the views."""
        depth = self.rotation[:, 2] @ points.reshape(3, -1) + self.shift[:, 2:]
        return depth.reshape(len(depth), *points.shape[1:])

    def normal_equations(self, points: Floats, view: _Seen, used: Bools, anchored: Bools) -> tuple[Floats, Floats]:
        """Return the Gauss-Newton matrix (6, N) and right side (3, N) at points (3, N)."""
        rows = np.empty((len(self.rays), 2, 4, self.rays.shape[-1]))
        projected = self.rays - view.off
        rows[:, :, :3] = self.rotation[:, :2, :, None] - projected[:, :, None] * self.rotation[:, None, 2, :, None]
        rows[:, :, :3] /= view.depth[:, None, None]
        rows[:, :, 3] = view.off
        sums = np.einsum('vn,vkn->kn', used * self.trust / self.sigma**2, _products(rows))
        if anchored.any():
            information = np.where(anchored, self.information, 0.0)
            sums += np.concatenate([information, times(information, self.mean - points)])
        return sums[:6], sums[6:]

    def polished(self, points: Floats) -> tuple[Floats, Bools, Bools, _Seen]:
        """Minimise the error on the views within the gate; return points (3, N), those views, priors, how they look."""
        view = self.look(points)
        cost = self.cost(view)
        used, anchored = self.agreeing(view)
        going = np.ones(cost.shape, dtype=bool)
        for _ in range(_POLISH_STEPS):
            matrix, vector = self.normal_equations(points, view, used, anchored)
            step = times(inverse(matrix, _RIDGE), vector)
            moved = self.look(points + step)
            new_cost = self.cost(moved)
            better = going & (new_cost < cost)  # a step that makes things worse is not taken
            if not better.any():
                break
            points, cost = np.where(better, points + step, points), np.where(better, new_cost, cost)
            view = _Seen(*(np.where(better, new, old) for new, old in (
                (moved.depth, view.depth), (moved.off, view.off), (moved.squared, view.squared),
                (moved.prior, view.prior))))
            used, anchored = self.agreeing(view)
            going = better & (np.abs(step).max(axis=0) > _SETTLED)
            if not going.any():
                break
        return points, used, anchored, view


def _products(rows: Floats) -> Floats:
    """Return the normal equations (V, 9, N), unweighted, of rows (V, 2, 4, N) = (a1 a2 a3 b)."""
    both = rows[:, :, _LEFT]
    both *= rows[:, :, _RIGHT]
    return both[:, 0] + both[:, 1]
