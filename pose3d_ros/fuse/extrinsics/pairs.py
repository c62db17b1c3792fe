"""Two cameras: where one stands as the other sees it, from the people in both; who is who, and how late one is.

The essential matrix is found with RANSAC for every pair of people that might be one (and every lag that the clocks may
have); the one on which most joints of most people agree is taken. Distances to it are Sampson's, in standard
deviations; each joint counts 1 - (distance / gate)^2, at least 0, so that what does not fit cannot outvote what does.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from pose3d_ros.fuse.extrinsics.tracks import Floats, Track, Watched

GATE = 3.0  # standard deviations
LEAST_SHARE = 0.35  # of a full score, for two tracks to be one person; people who are not one come to 0.2 at most
LEAST_FRAMES, LEAST_JOINTS = 10, 80
_MOST_POINTS = 400  # per essential matrix
_MOST_FRAMES = 400  # per pair of tracks
_MOST_TRIES = 12  # pairs of tracks that start a search
_COARSE = 3  # frames between the lags that are tried first
_SURE = 0.02  # of a full score: what a lag must gain over none


@dataclass(frozen=True)
class Pair:
    """Camera b as camera a sees it: b_T_a (4, 4) with a translation of length 1, and what speaks for it.

    lag: s, what b's clock shows more than a's at the same moment. matches: (track of a, track of b). score: the sum
    over joints, share: the score over the number of joints.
    """

    b_T_a: Floats  # noqa: N815 (a_T_b: maps b to a)
    lag: float
    matches: list[tuple[int, int]]
    score: float
    share: float


def common(a: Track, b: Track, lag: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Return what both tracks see at stamps of a: rays (N, J, 2) of a and b, sigma (N, J) of a and b."""
    stamps = a.stamps[(a.stamps + lag >= b.stamps[0] - b.period) & (a.stamps + lag <= b.stamps[-1] + b.period)]
    stamps = stamps[np.linspace(0, len(stamps) - 1, min(len(stamps), _MOST_FRAMES)).astype(int)]
    rays_a, _, sigma_a = a.at(stamps)
    rays_b, _, sigma_b = b.at(stamps + lag)
    return rays_a, rays_b, sigma_a, sigma_b


def shares(essential: Floats, rays_a: Floats, rays_b: Floats, sigma_a: Floats, sigma_b: Floats,
           slack: float = 0.0) -> Floats:
    """Return how well each joint (...) agrees with an essential matrix (3, 3), 0..1; NaN where it is not seen."""
    first, second = (np.concatenate([rays, np.ones_like(rays[..., :1])], axis=-1) for rays in (rays_a, rays_b))
    line_b, line_a = first @ essential.T, second @ essential
    variance = (np.sum(line_b[..., :2] ** 2, axis=-1) * (sigma_b**2 + slack**2)
                + np.sum(line_a[..., :2] ** 2, axis=-1) * (sigma_a**2 + slack**2))
    off = np.sum(second * line_b, axis=-1) ** 2 / np.maximum(variance, 1e-300)
    return np.asarray(1.0 - np.minimum(off / GATE**2, 1.0))


def match(a: Watched, b: Watched, essential: Floats, lag: float,
          slack: float = 0.0) -> tuple[list[tuple[int, int]], float, float]:
    """Return which tracks are one person (track of a, track of b), the sum of their scores, and its share.

    slack [rad]: one standard deviation of the angles at which the cameras stand.
    """
    score, count = np.zeros((2, len(a.tracks), len(b.tracks)))
    for i, one in enumerate(a.tracks):
        for j, other in enumerate(b.tracks):
            share = shares(essential, *common(one, other, lag), slack)
            score[i, j], count[i, j] = np.nansum(share), np.isfinite(share).sum()
    good = (score >= LEAST_SHARE * np.maximum(count, 1)) & (count >= 12)
    rows, columns = linear_sum_assignment(-np.where(good, score, 0.0))
    matches = [(int(i), int(j)) for i, j in zip(rows, columns) if good[i, j]]
    total = float(sum(score[pair] for pair in matches))
    joints = float(sum(count[pair] for pair in matches))
    return matches, total, total / joints if joints else 0.0


def essential_of(b_T_a: Floats) -> Floats:
    """Return the essential matrix (3, 3) of a relative pose (4, 4): ray_b^T E ray_a = 0."""
    x, y, z = b_T_a[:3, 3] / max(float(np.linalg.norm(b_T_a[:3, 3])), 1e-12)
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ b_T_a[:3, :3]


def best_lag(a: Watched, b: Watched, b_T_a: Floats, most_lag: float, slack: float) -> float:
    """Return by how much [s] b's clock shows more than a's, in whole frames, of two cameras that stand as known."""
    essential = essential_of(b_T_a)
    lags = _lags(a, b, most_lag)
    share = np.array([match(a, b, essential, lag, slack)[2] for lag in lags])
    return float(lags[share.argmax()]) if share.max() > share[0] + _SURE else 0.0


def relative_pose(a: Watched, b: Watched, most_lag: float) -> Pair | None:
    """Return how two cameras stand to each other, None where they see too little together. most_lag: s, 0 for none."""
    tries = []
    for i, one in enumerate(a.tracks):
        for j, other in enumerate(b.tracks):
            rays_a, rays_b, _, _ = common(one, other, 0.0)
            seen = np.asarray(np.isfinite(rays_a + rays_b).all(axis=-1))
            if seen.any(axis=1).sum() >= LEAST_FRAMES and seen.sum() >= LEAST_JOINTS:
                tries.append((int(seen.sum()), i, j))
    best: Pair | None = None
    ranked = []
    for _, i, j in sorted(tries, reverse=True)[:_MOST_TRIES]:
        found = _from_tracks(a, b, [(i, j)], 0.0)
        if found is not None:
            ranked.append((found.score, i, j))
            best = found if best is None or found.score > best.score else best
    if best is None:
        return None
    lags, step = _lags(a, b, most_lag)[1:], max(a.period, b.period)
    coarse = [lag for lag in lags if round(lag / step) % _COARSE == 0]
    for chosen in (coarse, lags):  # every so many frames first, then those around the best
        around = best.lag
        for lag in chosen if chosen is coarse else [lag for lag in lags if abs(lag - around) < _COARSE * step]:
            for _, i, j in sorted(ranked, reverse=True)[:2]:
                found = _from_tracks(a, b, [(i, j)], float(lag))
                if found is not None and found.score > best.score * (1 + (_SURE if best.lag == 0 else 0)):
                    best = found
    refined = _from_tracks(a, b, best.matches, best.lag, 1000)
    return refined if refined is not None and refined.score > best.score else best


def _lags(a: Watched, b: Watched, most_lag: float) -> Floats:
    """Return the lags to try [s], none first, then the smaller ones first."""
    step = max(a.period, b.period)
    count = int(most_lag / step)
    return step * np.array(sorted(range(-count, count + 1), key=abs), dtype=np.float64)


def _from_tracks(a: Watched, b: Watched, matches: list[tuple[int, int]], lag: float,
                 most_tries: int = 150) -> Pair | None:
    """Return the relative pose from these people, judged by all people."""
    parts = [common(a.tracks[i], b.tracks[j], lag) for i, j in matches]
    if not parts:
        return None
    rays_a, rays_b, sigma_a, sigma_b = (np.concatenate([part[k] for part in parts]) for k in range(4))
    seen = np.isfinite(rays_a + rays_b).all(axis=-1)
    if seen.any(axis=1).sum() < LEAST_FRAMES or seen.sum() < LEAST_JOINTS:
        return None
    chosen = np.flatnonzero(seen.ravel())
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), _MOST_POINTS)).astype(int)]
    points_a, points_b = rays_a.reshape(-1, 2)[chosen], rays_b.reshape(-1, 2)[chosen]
    threshold = 2.0 * float(np.median(np.concatenate([sigma_a[seen], sigma_b[seen]])))
    essentials, _ = cv2.findEssentialMat(points_a, points_b, np.eye(3), cv2.RANSAC, 0.999, threshold,
                                          maxIters=most_tries)
    best: Pair | None = None
    for essential in [] if essentials is None else essentials.reshape(-1, 3, 3):
        _, rotation, shift, _, _ = cv2.recoverPose(essential, points_a, points_b, np.eye(3), distanceThresh=1e3)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = Rotation.from_matrix(rotation).as_matrix(), shift[:, 0] / np.linalg.norm(shift)
        people, score, share = match(a, b, essential_of(pose), lag)
        if people and (best is None or score > best.score):
            best = Pair(pose, lag, people, score, share)
    return best


def parallax(rays_a: Floats, rays_b: Floats) -> float:
    """Return the median angle [rad] that is left between rays (N, 2) of two cameras after the best rotation.

    None is left where the cameras stand in the same place, whatever they look at.
    """
    first, second = (np.concatenate([rays, np.ones_like(rays[:, :1])], axis=1) for rays in (rays_a, rays_b))
    first, second = (rays / np.linalg.norm(rays, axis=1, keepdims=True) for rays in (first, second))
    keep: NDArray[np.bool_] = np.ones(len(first), dtype=bool)
    angle = np.zeros(len(first))
    for _ in range(5):  # the farthest half may be wrong: it has no say in the rotation
        turn, _ = Rotation.align_vectors(second[keep], first[keep])
        angle = np.arccos(np.clip(np.sum(turn.apply(first) * second, axis=1), -1, 1))
        keep = angle <= np.median(angle)
    return float(np.median(angle))
