"""Robust bundle adjustment over rays: places of cameras, joints, bone lengths and clocks, all at once.

Residuals with a soft-L1 loss: every joint in every camera, in standard deviations; every bone at every moment, as the
relative difference to its usual length (an unknown of its own, one per person and bone). Where the places are roughly
known, they pull, squared: nobody's detector says so, and there are no outliers among them. Else the first camera is the
origin, and the size of everything is held at what it was at the start, since rays do not tell it.
The Jacobian is written out and sparse. A camera's clock enters by the slope of the rays, valid for about a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array
from scipy.spatial.transform import Rotation

from pose3d_ros.fuse.extrinsics.chain import BONES
from pose3d_ros.fuse.extrinsics.together import Together, points_of
from pose3d_ros.fuse.extrinsics.tracks import Floats

BONE_SIGMA = 0.05  # of its length: what a detector's bones vary by
_CLOCK_SIGMA = 0.5  # s; only so that people who stand still leave the clocks alone
_HOLD = 1e3  # weight of the held size
_ANGLE_SIGMA = 0.2  # rad; of known places, only so that nothing is left open
_MEMORY = 1.0  # s; a detector's errors of frames nearer than this are the same error: the integral of their correlation
_MIN_DEPTH = 1e-3
_LEAST_GAIN = 1e-7  # of the cost; a step that gains less is the last
_TRIES = 8  # with ever more damping, for a step


@dataclass(frozen=True)
class Adjusted:
    """poses (V, 4, 4) camera_T_world, what the clocks show more than assumed (V,) s, joints (N, J, 3), NaN: none."""

    poses: Floats
    offsets: Floats
    points: Floats


def adjust(together: Together, poses: Floats, clocks: bool, known: Floats | None = None, place_sigma: float = 0.03,
           slack: float = 0.0, steps: int = 60) -> Adjusted:
    """Improve poses (V, 4, 4) camera_T_world; the first one stays, unless places are known.

    clocks: estimate offsets as well. known (V, 4, 4): poses whose places are known up to place_sigma [m] each.
    slack [rad]: one standard deviation of the angles of `poses`.
    """
    places = None if known is None else _Places(known, place_sigma / np.sqrt(_repeats(together)))
    problem = _Problem(together, poses, points_of(together.looser(slack), poses), clocks, places)
    return problem.result(_least(problem, steps))


def _least(problem: _Problem, steps: int) -> Floats:
    """Return the unknowns with the least soft-L1 cost: Levenberg-Marquardt, reweighted, on the normal equations.

    (scipy.optimize.least_squares solves each step by lsmr where the Jacobian is sparse. With bones that tie joints
    together it stops centimetres before the minimum.)
    """
    x, damping = problem.start, 1e-4
    residuals = problem.residuals(x)
    for _ in range(steps):
        jacobian = problem.jacobian(x)
        weight = np.ones(len(residuals))
        weight[:problem.robust] /= np.sqrt(1 + residuals[:problem.robust]**2)
        weighted = diags_array(weight) @ jacobian
        normal, gradient = jacobian.T @ weighted, weighted.T @ residuals
        cost, better = _cost(residuals, problem.robust), False
        for _ in range(_TRIES):
            step = _solve((normal + diags_array(damping * normal.diagonal() + 1e-9)).tocsr(), -gradient,
                          problem.at_point, 3 * problem.shape[1])
            candidate = problem.residuals(x + step)
            gain = cost - _cost(candidate, problem.robust)
            better = gain >= 0
            if better:
                break
            damping *= 10
        if not better:
            break
        x, residuals, damping = x + step, candidate, max(damping / 10, 1e-10)
        if gain <= _LEAST_GAIN * cost:
            break
    return x


def _solve(normal: csr_matrix, right: Floats, start: int, size: int) -> Floats:
    """Solve normal equations whose unknowns from `start` on are tied together only in blocks of `size`.

    These are eliminated first (Schur complement): what is left is as small as the cameras and bones are few.
    """
    blocks = normal[start:, start:].tobsr((size, size)).data  # (N, size, size): the diagonal is never zero
    across = normal[start:, :start].toarray().reshape(len(blocks), size, start)
    sides = np.concatenate([across, right[start:].reshape(len(blocks), size, 1)], axis=2)
    solved = np.linalg.solve(blocks, sides)
    reduced = np.einsum('nsa,nsb->ab', across, solved)
    few = np.linalg.solve(normal[:start, :start].toarray() - reduced[:, :-1], right[:start] - reduced[:, -1])
    return np.concatenate([few, (solved[..., -1] - solved[..., :-1] @ few).ravel()])


def _cost(residuals: Floats, robust: int) -> float:
    """Return the cost: the squares of residuals, of the first `robust` ones twice their size where they are large."""
    return float(np.sum(2 * (np.sqrt(1 + residuals[:robust]**2) - 1)) + np.sum(residuals[robust:]**2))


def _repeats(together: Together) -> float:
    """Return how many of the moments tell the same, since errors of detection last longer than a frame."""
    stamps = np.unique(together.stamp)
    return float(max(1.0, len(stamps) * _MEMORY / (stamps[-1] - stamps[0] + _MEMORY))) if len(stamps) else 1.0


@dataclass(frozen=True)
class _Places:
    """Poses (V, 4, 4) that are roughly known, and the standard deviation [m] of their places."""

    poses: Floats
    sigma: float

    def residuals(self, poses: Floats) -> Floats:
        """Return those of all places and all angles, (6 V,)."""
        turned = Rotation.from_matrix(poses[:, :3, :3] @ np.swapaxes(self.poses[:, :3, :3], 1, 2)).as_rotvec()
        return np.concatenate([(places_of(poses) - places_of(self.poses)) / self.sigma, turned / _ANGLE_SIGMA],
                              axis=1).ravel()

    def jacobian(self, poses: Floats, turn: Floats) -> Floats:
        """Return the derivatives (V, 6, 6) by the unknowns of each pose; turn (V, 3, 3): _left_jacobian of these."""
        back = np.swapaxes(poses[:, :3, :3], 1, 2)
        blocks = np.zeros((len(poses), 6, 6))
        blocks[:, :3, :3] = -back @ _cross(poses[:, :3, 3]) @ turn / self.sigma
        blocks[:, :3, 3:] = -back / self.sigma
        blocks[:, 3:, :3] = np.eye(3) / _ANGLE_SIGMA  # near enough: known poses are a few degrees off
        return blocks


def places_of(poses: Floats) -> Floats:
    """Return where cameras (V, 4, 4) camera_T_world are in the world, (V, 3) m."""
    return -np.einsum('vji,vj->vi', poses[:, :3, :3], poses[:, :3, 3])


class _Problem:
    """Unknowns: 6 for each pose that is free, V - 1 clocks, G * B logarithms of bone lengths, 3 N J of joints."""

    def __init__(self, together: Together, poses: Floats, points: Floats, clocks: bool, places: _Places | None) -> None:
        self.shape, self.clocks, self.first, self.places = points.shape, clocks, poses, places
        views = len(poses)
        self.fixed = 1 if places is None else 0  # cameras that stay
        known = np.asarray(np.isfinite(points).all(axis=-1))
        self.known = known
        number = np.arange(known.size).reshape(known.shape)
        seen = np.isfinite(together.rays).all(axis=-1) & known
        self.view, row, joint = np.nonzero(seen)
        self.point = number[row, joint]
        self.ray, self.slope, self.sigma = together.rays[seen], together.slopes[seen], together.sigma[seen]
        both = known[:, BONES[:, 0]] & known[:, BONES[:, 1]]
        row, bone = np.nonzero(both)
        self.ends = number[row[:, None], BONES[bone]]
        groups = int(together.person.max()) + 1 if len(together.person) else 0
        self.bone = together.person[row] * len(BONES) + bone
        self.robust = 2 * len(self.ray) + len(self.bone)  # residuals of what detectors say; they come first
        self.at_clock = 6 * (views - self.fixed)
        self.at_bone = self.at_clock + views - 1
        self.at_point = self.at_bone + groups * len(BONES)
        joints = np.nan_to_num(points).reshape(-1, 3)
        length = np.linalg.norm(joints[self.ends[:, 0]] - joints[self.ends[:, 1]], axis=-1)
        usual = np.zeros(groups * len(BONES))
        for which in np.unique(self.bone):
            usual[which] = np.log(max(float(np.median(length[self.bone == which])), 1e-9))
        self.size = float(np.sum(poses[1:, :3, 3] ** 2))
        free = poses[self.fixed:, :3, 3]
        self.start = np.concatenate([np.concatenate([np.zeros_like(free), free], axis=1).ravel(), np.zeros(views - 1),
                                     usual, joints.ravel()])

    def result(self, x: Floats) -> Adjusted:
        """Return what the unknowns mean."""
        poses, offsets, _, points = self._parts(x)
        return Adjusted(poses, offsets, np.where(self.known[..., None], points.reshape(self.shape), np.nan))

    def _parts(self, x: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return poses (V, 4, 4), clocks (V,), logarithms of bone lengths, joints (N J, 3)."""
        poses = self.first.copy()
        change = x[:self.at_clock].reshape(-1, 6)
        turn = Rotation.from_rotvec(change[:, :3]).as_matrix()
        poses[self.fixed:, :3, :3] = turn @ self.first[self.fixed:, :3, :3]
        poses[self.fixed:, :3, 3] = change[:, 3:]
        clocks = np.concatenate([[0.0], x[self.at_clock:self.at_bone]])
        return poses, clocks, x[self.at_bone:self.at_point], x[self.at_point:].reshape(-1, 3)

    def _in_cameras(self, poses: Floats, points: Floats) -> tuple[Floats, Floats]:
        """Return each sighting's joint in its camera (S, 3), and before the shift (S, 3)."""
        turned = np.einsum('sij,sj->si', poses[self.view, :3, :3], points[self.point])
        return turned + poses[self.view, :3, 3], turned

    def residuals(self, x: Floats) -> Floats:
        """Return 2 S of sightings, then those of bones, clocks, and the size or the places."""
        poses, clocks, logs, points = self._parts(x)
        local, _ = self._in_cameras(poses, points)
        projected = local[:, :2] / np.maximum(local[:, 2:], _MIN_DEPTH)
        off = (projected - self.ray - self.slope * clocks[self.view, None]) / self.sigma[:, None]
        length = np.linalg.norm(points[self.ends[:, 0]] - points[self.ends[:, 1]], axis=-1)
        held = (np.array([_HOLD * (np.sum(poses[1:, :3, 3] ** 2) / self.size - 1)]) if self.places is None
                else self.places.residuals(poses))
        return np.concatenate([off.ravel(), (length * np.exp(-logs[self.bone]) - 1) / BONE_SIGMA,
                               clocks[1:] / _CLOCK_SIGMA, held])

    def jacobian(self, x: Floats) -> csr_matrix:
        """Return the derivatives of the residuals by the unknowns."""
        poses, clocks, logs, points = self._parts(x)
        local, turned = self._in_cameras(poses, points)
        depth = np.maximum(local[:, 2], _MIN_DEPTH)
        by_local = np.zeros((len(local), 2, 3))
        by_local[:, 0, 0] = by_local[:, 1, 1] = 1 / depth
        by_local[:, :, 2] = np.where(local[:, 2:] > _MIN_DEPTH, -local[:, :2] / depth[:, None] ** 2, 0.0)
        by_local /= self.sigma[:, None, None]
        blocks = _Blocks()
        sighting = 2 * np.arange(len(local))
        blocks.add(sighting, self.at_point + 3 * self.point, by_local @ poses[self.view, :3, :3])
        free = self.view >= self.fixed
        which = self.view[free] - self.fixed
        turn = _left_jacobian(x[:self.at_clock].reshape(-1, 6)[:, :3])
        blocks.add(sighting[free], 6 * which, -by_local[free] @ _cross(turned[free]) @ turn[which])
        blocks.add(sighting[free], 6 * which + 3, by_local[free])
        if self.clocks:
            late = self.view > 0
            blocks.add(sighting[late], self.at_clock + self.view[late] - 1,
                       -(self.slope[late] / self.sigma[late, None])[..., None])
        start = self._add_bones(blocks, 2 * len(local), logs, points)
        cameras = np.arange(len(poses) - 1)
        blocks.add(start + cameras, self.at_clock + cameras, np.full((len(cameras), 1, 1), 1 / _CLOCK_SIGMA))
        start += len(cameras)
        if self.places is None:
            blocks.add(np.full(len(cameras), start), 6 * cameras + 3, 2 * _HOLD / self.size * poses[1:, None, :3, 3])
            return blocks.matrix(start + 1, len(x))
        at = 6 * np.arange(len(poses))
        blocks.add(start + at, at, self.places.jacobian(poses, turn))
        return blocks.matrix(start + 6 * len(poses), len(x))

    def _add_bones(self, blocks: _Blocks, start: int, logs: Floats, points: Floats) -> int:
        """Add the derivatives of the bones from a row on, and return the row after them."""
        between = points[self.ends[:, 0]] - points[self.ends[:, 1]]
        length = np.maximum(np.linalg.norm(between, axis=-1, keepdims=True), 1e-9)
        scale = np.exp(-logs[self.bone])[:, None] / BONE_SIGMA
        bones = start + np.arange(len(between))
        for end, sign in ((0, 1.0), (1, -1.0)):
            blocks.add(bones, self.at_point + 3 * self.ends[:, end], (sign * scale * between / length)[:, None])
        blocks.add(bones, self.at_bone + self.bone, -(scale * length)[:, None])
        return start + len(between)


class _Blocks:
    """Collects small blocks of a sparse matrix."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.intp]] = []
        self._columns: list[NDArray[np.intp]] = []
        self._values: list[Floats] = []

    def add(self, rows: NDArray[np.intp], columns: NDArray[np.intp], values: Floats) -> None:
        """Put blocks (S, h, w) with their upper left corners at rows (S,) and columns (S,)."""
        height, width = values.shape[1:]
        self._rows.append(np.repeat(rows[:, None] + np.arange(height), width, axis=1).ravel())
        self._columns.append(np.tile(columns[:, None] + np.arange(width), (1, height)).ravel())
        self._values.append(values.ravel())

    def matrix(self, height: int, width: int) -> csr_matrix:
        """Return the matrix."""
        places = (np.concatenate(self._rows), np.concatenate(self._columns))
        return csr_matrix((np.concatenate(self._values), places), shape=(height, width))


def _cross(vectors: Floats) -> Floats:
    """Return the matrices (..., 3, 3) of the cross product with vectors (..., 3)."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)


def _left_jacobian(vectors: Floats) -> Floats:
    """Return what a change of rotation vectors (..., 3) turns by, (..., 3, 3): the left Jacobian of SO(3)."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    safe = np.where(angle > 1e-6, angle, 1.0)
    cross = _cross(vectors)
    first = np.where(angle > 1e-6, (1 - np.cos(safe)) / safe**2, 0.5)
    second = np.where(angle > 1e-6, (safe - np.sin(safe)) / safe**3, 1 / 6)
    return np.eye(3) + first * cross + second * cross @ cross
