"""Robust triangulation: many points at once, each from the views that agree on it.

Every pair of views, and all views together, propose a point (linear least squares); the proposal with least truncated
reprojection error wins and is polished on the views that agree with it. With the handful of cameras that watch one
place this exhaustive search is cheap, and unlike random sampling it gives the same answer every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_POLISH_STEPS = 6
_MIN_DEPTH = 1e-3  # m; a point nearer than this to a camera's plane counts as behind the camera


@dataclass(frozen=True)
class Triangulated:
    """Points from several views; `...` is the shape of the points asked for.

    points (..., 3) m in the common frame, NaN where fewer than two views agree; covariance (..., 3, 3) m^2, from the
    sigmas of the views used; used (V, ...) bool, the views a point rests on; residual (V, ...) distance between the
    measured and the reprojected ray (x/z, y/z; times the focal length: px), NaN where a view saw nothing;
    cost (...) the sum over views of confidence * min((residual/sigma)^2, gate^2), NaN where there is no point.
    """

    points: Floats
    covariance: Floats
    used: NDArray[np.bool_]
    residual: Floats
    cost: Floats


def triangulate(
    rays: Floats,
    camera_T_world: Floats,
    sigma: Floats | float,
    confidence: Floats | None = None,
    *,
    gate: float = 4.0,
) -> Triangulated:
    """Find the points that several calibrated views see.

    rays (V, ..., 2) undistorted and normalised (x/z, y/z), NaN where a view does not see the point; camera_T_world
    (V, 4, 4); sigma, broadcast to (V, ...), one standard deviation of a ray's coordinates (px / focal length);
    confidence (V, ...) in 0..1 weighs the views, 1 when not given; gate, in sigmas: a view farther away is left out.
    Raises ValueError when the shapes disagree or fewer than two views are given.
    """
    shape, views = rays.shape[1:-1], rays.shape[0]
    if views < 2 or rays.shape[-1] != 2 or camera_T_world.shape != (views, 4, 4):
        raise ValueError(f'rays {rays.shape} and camera_T_world {camera_T_world.shape}: expected (V, ..., 2), (V, 4, 4)'
                         ' with at least 2 views')
    flat = np.asarray(rays, dtype=np.float64).reshape(views, -1, 2)
    deviation = np.broadcast_to(np.asarray(sigma, dtype=np.float64), rays.shape[:-1]).reshape(views, -1)
    trust = np.ones(flat.shape[:2]) if confidence is None else np.broadcast_to(
        np.nan_to_num(np.asarray(confidence, dtype=np.float64)), rays.shape[:-1]).reshape(views, -1)
    seen = np.isfinite(flat).all(axis=-1) & (deviation > 0) & (trust > 0)
    problem = _Problem(np.where(seen[..., None], flat, 0.0), camera_T_world[:, :3, :3], camera_T_world[:, :3, 3],
                       np.where(seen, deviation, 1.0), np.where(seen, trust, 0.0), gate)
    points, used = _polish(problem, _best_proposal(problem, seen), seen)

    good = used.sum(axis=0) >= 2
    points = np.where(good[:, None], points, np.nan)
    used &= good
    distance = problem.distance(points)
    cost = np.where(good, problem.cost(np.nan_to_num(points)), np.nan)
    information = problem.normal_equations(np.nan_to_num(points), used)[0]
    covariance = np.where(good[:, None, None], np.linalg.inv(_conditioned(information)), np.nan)
    return Triangulated(
        points.reshape(*shape, 3), covariance.reshape(*shape, 3, 3), used.reshape(views, *shape),
        np.where(seen, distance, np.nan).reshape(views, *shape), cost.reshape(shape))


@dataclass(frozen=True)
class _Problem:
    """N points in V views: rays (V, N, 2), rotation (V, 3, 3), shift (V, 3), sigma and trust (V, N)."""

    rays: Floats
    rotation: Floats
    shift: Floats
    sigma: Floats
    trust: Floats
    gate: float

    def in_cameras(self, points: Floats) -> Floats:
        """Return points (..., N, 3) of the common frame in each camera, (..., V, N, 3)."""
        return np.einsum('vij,...nj->...vni', self.rotation, points) + self.shift[:, None]

    def distance(self, points: Floats) -> Floats:
        """Return how far from its measured ray each point (..., N, 3) projects: (..., V, N), inf behind a camera."""
        local = self.in_cameras(points)
        depth = np.maximum(local[..., 2], _MIN_DEPTH)
        off = np.linalg.norm(local[..., :2] / depth[..., None] - self.rays, axis=-1)
        return np.where(local[..., 2] < _MIN_DEPTH, np.inf, off)

    def cost(self, points: Floats) -> Floats:
        """Return the truncated squared error summed over views, (..., N)."""
        return np.sum(self.trust * np.minimum(self.distance(points) / self.sigma, self.gate) ** 2, axis=-2)

    def linear(self, chosen: NDArray[np.bool_]) -> Floats:
        """Solve (x R3 - R1) X = t1 - x t3 (and y with R2) for the chosen views (V, N): points (N, 3).

        The equations measure metres instead of pixels; a second pass divides by the depth that the first one found.
        """
        rows = self.rays[..., None] * self.rotation[:, None, 2:3] - self.rotation[:, None, :2]  # (V, N, 2, 3)
        right = self.shift[:, None, :2] - self.rays * self.shift[:, None, 2:]                   # (V, N, 2)
        weight = chosen * self.trust / self.sigma**2
        points = _solve(rows, right, weight)
        depth = np.maximum(self.in_cameras(points)[..., 2], 0.1)
        return _solve(rows, right, weight / depth**2)

    def normal_equations(self, points: Floats, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return the Gauss-Newton matrix (N, 3, 3) and right side (N, 3) of the reprojection error at points (N, 3)."""
        local = self.in_cameras(points)
        depth = np.maximum(local[..., 2], _MIN_DEPTH)[..., None]
        projected = local[..., :2] / depth
        slope = (self.rotation[:, None, :2] - projected[..., None] * self.rotation[:, None, 2:3]) / depth[..., None]
        weight = chosen * self.trust / self.sigma**2
        matrix = np.einsum('vn,vnki,vnkj->nij', weight, slope, slope)
        return matrix, np.einsum('vn,vnki,vnk->ni', weight, slope, self.rays - projected)


def _solve(rows: Floats, right: Floats, weight: Floats) -> Floats:
    matrix = np.einsum('vn,vnki,vnkj->nij', weight, rows, rows)
    vector = np.einsum('vn,vnki,vnk->ni', weight, rows, right)
    return np.linalg.solve(_conditioned(matrix), vector[..., None])[..., 0]


def _conditioned(matrix: Floats) -> Floats:
    """Return the matrices (N, 3, 3) with a ridge far below any real information, so that none is singular."""
    ridge = 1e-12 * np.trace(matrix, axis1=-2, axis2=-1) + 1e-12
    return matrix + ridge[:, None, None] * np.eye(3)


def _best_proposal(problem: _Problem, seen: NDArray[np.bool_]) -> Floats:
    """Return the proposal (N, 3) with the least truncated error among all pairs of views and all views together."""
    views = len(seen)
    subsets = [list(pair) for pair in combinations(range(views), 2)] + ([list(range(views))] if views > 2 else [])
    best, lowest = np.zeros((seen.shape[1], 3)), np.full(seen.shape[1], np.inf)
    for subset in subsets:
        chosen = np.zeros_like(seen)
        chosen[subset] = seen[subset]
        points = problem.linear(chosen)
        cost = np.where(chosen.sum(axis=0) >= 2, problem.cost(points), np.inf)
        better = cost < lowest
        best, lowest = np.where(better[:, None], points, best), np.where(better, cost, lowest)
    return best


def _polish(problem: _Problem, points: Floats, seen: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """Minimise the reprojection error on the views within the gate; return points (N, 3) and those views (V, N)."""
    used = seen & (problem.distance(points) <= problem.gate * problem.sigma)
    cost = problem.cost(points)
    for _ in range(_POLISH_STEPS):
        matrix, vector = problem.normal_equations(points, used)
        candidate = points + np.linalg.solve(_conditioned(matrix), vector[..., None])[..., 0]
        candidate_cost = problem.cost(candidate)
        better = candidate_cost < cost  # a step that makes things worse is not taken
        if not better.any():
            break
        points, cost = np.where(better[:, None], candidate, points), np.where(better, candidate_cost, cost)
        used = seen & (problem.distance(points) <= problem.gate * problem.sigma)
    return points, used
