"""From sightings that belong together to measured joints: triangulated, or on one ray at the depth of mono 3D."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.depth import mono_prior
from pose3d_ros.fuse.match import Compared, planar_distance
from pose3d_ros.fuse.observations import LIMB, Floats, Observations
from pose3d_ros.fuse.sides import LOWER, UPPER, exchanged_views
from pose3d_ros.fuse.triangulate import triangulate
from pose3d_ros.skeleton import LIMBS12

_FIRST_SPEED = 1.2    # m/s, one standard deviation: of a joint whose motion is not known yet
# Mono 3D is wrong in depth by nearly the same for about a second: as many frames as lie in this time [s] say no more
# than one. Were it the whole second, the filter would be lost in depth while one camera sees somebody.
_LASTS_S = 0.1
_GUESSED_DEPTH = 4.0  # m, only to turn a speed into that of a ray
_MOST_VIEWS = 8       # of exchanged_views
_FAR = 8.0            # squared distance per axis from where a joint was expected at which a ray is doubted


@dataclass(frozen=True)
class Measured:
    """LIMBS12 of M people, measured now: position (M, 12, 3) m and covariance (M, 12, 3, 3), NaN where not seen.

    views (M, 12): how many views each rests on; doubted (M, 12): a ray was left out for being far from where the joint
    was expected; outliers: how many joints of views were left out.
    """

    position: Floats
    covariance: Floats
    views: NDArray[np.intp]
    doubted: NDArray[np.bool_]
    outliers: int


def straightened(rays: Floats, sigma: Floats, exchanged: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return rays (N, 12, 2) and sigma (N, 12) with left and right exchanged where exchanged (2, N) says so."""
    flip = np.where(LIMBS12.lower, exchanged[LOWER][:, None], exchanged[UPPER][:, None])
    mirror = LIMBS12.mirror
    return np.where(flip[..., None], rays[:, mirror], rays), np.where(flip, sigma[:, mirror], sigma)


def exchanged_within(seen: Observations, group: list[int], poses: Floats) -> NDArray[np.bool_]:
    """Return which members of a group (2, len(group)) have their sides exchanged, without a past to go by."""
    if not 2 <= len(group) <= _MOST_VIEWS:
        return np.zeros((2, len(group)), dtype=bool)
    sigma = np.nan_to_num(seen.sigma[group], nan=1.0)[:, None]
    return exchanged_views(seen.rays[group][:, None], poses[seen.view[group]], sigma, LIMBS12)[:, :, 0]


def measured(seen: Observations, rays: Floats, sigma: Floats, row: NDArray[np.intp], people: int, poses: Floats,
             expected: tuple[Floats, Floats, Floats, Floats], compared: Compared, step: float) -> Measured:
    """Measure the joints of so many people.

    rays (N, 12, 2), sigma (N, 12): of seen, sides in order; row (N,): whose each sighting is, -1 for nobody's; poses
    (V, 4, 4); expected: position, velocity (M, 12, 3), covariance and that of velocity (M, 12, 3, 3) at the time of
    fusion, position NaN for who is new; compared: the sightings with those of the people who are not; step: s since the
    last time.
    """
    mine = np.flatnonzero(row >= 0)
    view, owner = seen.view[mine], row[mine]
    doubted = _doubted(seen, mine, rays, sigma, owner, compared, people)
    rays, sigma = _at_one_time(seen, mine, rays, sigma, owner, expected)
    sigma = np.where(doubted, np.nan, sigma)
    rays = np.where(doubted[..., None], np.nan, rays)
    views = len(poses)
    packed, spread = np.full((views, people, 12, 2), np.nan), np.full((views, people, 12), np.nan)
    packed[view, owner], spread[view, owner] = rays, sigma
    position, covariance = np.full((people, 12, 3), np.nan), np.full((people, 12, 3, 3), np.nan)
    given = np.isfinite(spread)
    count = given.sum(axis=0)
    outliers = int(doubted.sum())
    if views >= 2 and (count >= 2).any():
        prior, doubt = _prior(seen, mine, owner, given, np.isfinite(expected[0][..., 0]), step)
        result = triangulate(packed, poses, np.where(given, spread, 1.0), prior=prior, prior_covariance=doubt,
                             start=expected[0])
        found = result.used.sum(axis=0) >= 2
        position = np.where(found[..., None], result.points, np.nan)
        covariance = np.where(found[..., None, None], result.covariance, np.nan)
        outliers += int((given & found & ~result.used).sum())
        count = np.where(found, result.used.sum(axis=0), np.minimum(count, 1))
    _from_one_ray(seen, mine, owner, rays, sigma, expected, step, position, covariance)
    count = np.where(np.isfinite(position[..., 0]), np.maximum(count, 1), 0)
    contested = np.zeros(count.shape, dtype=bool)
    np.logical_or.at(contested, owner, doubted)
    return Measured(position, covariance, count, contested, outliers)


def _doubted(seen: Observations, mine: NDArray[np.intp], rays: Floats, sigma: Floats, owner: NDArray[np.intp],
             compared: Compared, people: int) -> NDArray[np.bool_]:
    """Return which rays (K, 12) are far from where their joint was expected while as many others are not.

    Two views with one wrong have no majority; the past decides. Where most are far, the joint has moved.
    """
    doubted = np.zeros((len(mine), 12), dtype=bool)
    old = np.flatnonzero(owner < len(compared.cost))  # of newcomers nothing was expected
    at, who = mine[old], owner[old]
    squared = planar_distance(rays[at] - compared.projected[who, at], compared.spread[:, who, at],
                              compared.own[who, at] + sigma[at]**2)
    far = squared >= _FAR
    votes = np.zeros((people, 12), dtype=np.intp)
    np.add.at(votes, who, (squared < _FAR).astype(np.intp) - far)
    doubted[old] = far & (votes[who] >= 0)
    return doubted


def _prior(seen: Observations, mine: NDArray[np.intp], owner: NDArray[np.intp], given: NDArray[np.bool_],
           known: NDArray[np.bool_], step: float) -> tuple[Floats, Floats]:
    """Return what mono 3D says of joints: (M, 12, 3), covariance (M, 12, 3, 3). It helps where rays hardly cross.

    given (V, M, 12): which rays there are; known (M, 12): whether a joint was followed already.
    """
    place, doubt = np.full((*given.shape, 3), np.nan), np.full((*given.shape, 3, 3), np.nan)
    centers = np.zeros((len(given), 3))
    view = seen.view[mine]
    place[view, owner], centers[view] = seen.mono[mine][:, LIMB], seen.center[mine]
    doubt[view, owner] = seen.mono_covariance[mine][:, LIMB] * _repeated(known[owner], step)[..., None, None]
    return mono_prior(place, doubt, given, centers)


def _repeated(known: NDArray[np.bool_], step: float) -> Floats:
    """Return how many times the variance of mono 3D counts: its error repeats, frames of it are not independent."""
    return np.where(known, 1 + _LASTS_S / max(step, 1e-3), 1.0)


def _at_one_time(seen: Observations, mine: NDArray[np.intp], rays: Floats, sigma: Floats, owner: NDArray[np.intp],
                 expected: tuple[Floats, Floats, Floats, Floats]) -> tuple[Floats, Floats]:
    """Return the rays (K, 12, 2) as they would have been at the time of fusion, and sigmas that include the doubt."""
    position, velocity, _, spread = (values[owner] for values in expected)
    age = seen.age[mine]
    now = _local(seen, mine, position)
    then = _local(seen, mine, position - age[:, None, None] * velocity)
    moved = now[..., :2] / now[..., 2:] - then[..., :2] / then[..., 2:]
    ahead = (now[..., 2] > 0.1) & (then[..., 2] > 0.1)
    depth = np.where(ahead, now[..., 2], _GUESSED_DEPTH)
    known = np.isfinite(position[..., 0])
    speed = np.where(known, np.einsum('...ii', spread) / 3, _FIRST_SPEED**2)
    return (rays[mine] + np.where(ahead[..., None], moved, 0.0),
            np.sqrt(sigma[mine]**2 + (age[:, None] / depth)**2 * speed))


def _local(seen: Observations, mine: NDArray[np.intp], points: Floats) -> Floats:
    """Return points (K, J, 3) of the common frame in the camera of each sighting; NaN stays, a depth is never 0."""
    local = points @ np.swapaxes(seen.rotation[mine], 1, 2) + seen.shift[mine][:, None]
    local[..., 2] = np.where(np.abs(local[..., 2]) <= 1e-6, 1e-6, local[..., 2])
    return local


def _from_one_ray(seen: Observations, mine: NDArray[np.intp], owner: NDArray[np.intp], rays: Floats, sigma: Floats,
                  expected: tuple[Floats, Floats, Floats, Floats], step: float, position: Floats,
                  covariance: Floats) -> None:
    """Fill in, in place, joints that no two views agree on: on their sharpest ray, at the depth that mono 3D gives.

    Where there is no mono 3D, the depth is the expected one, with so much doubt that it adds nothing.
    """
    which, joint = np.nonzero(np.isnan(position[owner][..., 0]) & np.isfinite(sigma))
    if not len(which):
        return
    sight, person, ray, blur = mine[which], owner[which], rays[which, joint], sigma[which, joint]
    rotation, shift, axis = seen.rotation[sight], seen.shift[sight], seen.rotation[sight][:, 2]
    believed, mono = expected[0][person, joint], seen.mono[sight, LIMB[joint]]
    known = np.isfinite(believed[:, 0])
    mono_depth = np.einsum('ki,ki->k', axis, mono) + shift[:, 2]
    mono_variance, blind = ((axis[:, None] @ spread @ axis[..., None])[:, 0, 0] for spread in (
        seen.mono_covariance[sight, LIMB[joint]], expected[2][person, joint]))
    mono_variance, blind = mono_variance * _repeated(known, step), blind * 100 + 4.0
    given = np.isfinite(mono_depth) & (mono_depth > 0.1)
    depth = np.where(given, mono_depth, np.einsum('ki,ki->k', axis, believed) + shift[:, 2])
    variance = np.where(given, mono_variance, blind)
    at = np.stack([ray[:, 0] * depth, ray[:, 1] * depth, depth], axis=-1)
    points = np.einsum('kji,kj->ki', rotation, at - shift)
    slope = np.zeros((len(which), 3, 3))
    slope[:, 0, 0] = slope[:, 1, 1] = depth
    slope[:, :2, 2], slope[:, 2, 2] = ray, 1.0
    slope = np.swapaxes(rotation, -1, -2) @ slope
    spread = (slope * np.stack([blur**2, blur**2, variance], axis=-1)[:, None]) @ np.swapaxes(slope, -1, -2)
    # where two views disagree, the one nearer to what is expected; somebody new has no such measure
    off = np.linalg.norm(points - believed, axis=-1) / np.sqrt(np.einsum('...ii', spread))
    price = np.where(depth > 0.1, np.where(known, off, blur), np.nan)
    order = np.argsort(-price)  # the best is written last, those behind their camera (NaN) are not
    order = order[np.isfinite(price[order])]
    position[person[order], joint[order]] = points[order]
    covariance[person[order], joint[order]] = spread[order]
