"""Who is who across views: rays that meet, people who are already followed, and the places that one camera gave them.

Sides may be exchanged in a view, of arms and legs separately: every comparison takes the better of both readings.
Costs are means over the joints that both sides know of the squared distance in standard deviations per degree of
freedom, cut off where a joint is an outlier: near 1 for the same person, near the cut-off for another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pose3d_ros.fuse.observations import LEAST_JOINTS, Floats, Observations
from pose3d_ros.fuse.sides import LOWER, UPPER
from pose3d_ros.fuse.symmetric import inverse, packed, times
from pose3d_ros.skeleton import HUMAN17, LIMBS12

GATE = 4.0          # two of whom the cost is higher are not the same person
SAME_PLACE = 2.0    # squared distance per axis between trunks below which they are likely the same person's
_CUT = 9.0         # what an outlier costs
_LANDMARK = 0.03    # m, two views mean different points of the body by the same joint, by about this much
_SPEED = 1.2        # m/s, of people whose motion is not known yet
_MEMORY = 0.4       # costs are so much less where the camera's own tracker says that it is the same person
_NEARLY = 1.5       # and may be so much higher than the gate
_MONO_SHARE = 0.3   # what the places that single cameras gave weigh against the rays
_EXCHANGED = 1.0    # a side reads as exchanged only where that costs so much less
_IN_PART = np.stack([LIMBS12.lower == (part == LOWER) for part in (UPPER, LOWER)], axis=1).astype(np.float64)
_MIRROR = LIMBS12.mirror
_TRUNK = HUMAN17.indices(['left_hip', 'right_hip', 'left_shoulder', 'right_shoulder'])


def pair_costs(seen: Observations, first: NDArray[np.intp], second: NDArray[np.intp]) -> Floats:
    """Return the costs (K,) of first and second (K,) being the same person, inf where they share too little.

    From the distance at which their rays pass each other, and weakly from their mono 3D, which knows little along the
    ray but tells apart two people whose rays happen to meet.
    """
    world = np.concatenate([seen.rays, np.ones((*seen.rays.shape[:2], 1))], axis=-1) @ seen.rotation  # (N, 12, 3)
    apart = (seen.age[first] - seen.age[second]) * _SPEED
    base = seen.center[second] - seen.center[first]
    ours = world[first]
    both = np.stack([np.arange(12), _MIRROR])   # straight, mirrored
    distance = _ray_distance(base, ours, np.moveaxis(world[second][:, both], 1, 0), seen.sigma[first],
                             np.moveaxis(seen.sigma[second][:, both], 1, 0), apart)
    cost, _ = _body_cost(distance)
    gap = _mono_gap(seen, first, second, apart)
    return cost + np.where(np.isfinite(gap), _MONO_SHARE * np.minimum(gap, 2 * _CUT), 0.0)


def _ray_distance(base: Floats, a: Floats, b: Floats, sigma_a: Floats, sigma_b: Floats, apart: Floats) -> Floats:
    """Return squared distances (..., K, 12) in standard deviations of rays a (K, 12, 3) and b (..., K, 12, 3).

    From centres base (K, 3) apart. The rays have z = 1 in their cameras, so that the parameters along them are depths.
    """
    base = base[:, None]
    aa, bb, ab, da, db = (_dot(*pair) for pair in ((a, a), (b, b), (a, b), (base, a), (base, b)))
    sine = np.maximum(aa * bb - ab**2, 1e-4)  # rays that run along the line between the cameras say little
    near, far = (bb * da - ab * db) / sine, (ab * da - aa * db) / sine
    off = base + far[..., None] * b - near[..., None] * a
    variance = (near * sigma_a)**2 + (far * sigma_b)**2 + _LANDMARK**2 + apart[:, None]**2
    squared = _dot(off, off) / variance
    return np.asarray(np.where((near > 0.1) & (far > 0.1) | np.isnan(squared), squared, 2 * _CUT))


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum('...i,...i->...', a, b))


def _mono_gap(seen: Observations, first: NDArray[np.intp], second: NDArray[np.intp], apart: Floats) -> Floats:
    """Return squared distances (K,) per axis between the trunks that the two cameras found."""
    trunk, spread = trunk_of(seen.mono, seen.mono_covariance)
    total = spread[first] + spread[second] + (0.1**2 + apart**2)[:, None, None] * np.eye(3)
    return _mahalanobis(trunk[first] - trunk[second], total) / 3


def trunk_of(position: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Return the middle (N, 3) of hips and shoulders of (N, 17, 3) and its covariance; NaN where one is missing.

    The errors of the four joints are taken to be the same, as those in distance are.
    """
    return position[:, _TRUNK].mean(axis=1), covariance[:, _TRUNK].mean(axis=1)


def _mahalanobis(off: Floats, covariance: Floats) -> Floats:
    return np.asarray(np.einsum('ni,in->n', off, times(inverse(packed(covariance)), off.T)))


def place_gaps(position: Floats, covariance: Floats, mono: Floats, mono_covariance: Floats) -> Floats:
    """Return the squared distance (M, N) per axis between trunks of people (M, 17, 3) and mono 3D (N, 17, 3)."""
    ours, ours_spread = trunk_of(position, covariance)
    theirs, spread = trunk_of(mono, mono_covariance)
    off = ours[:, None] - theirs
    total = ours_spread[:, None] + spread + 0.1**2 * np.eye(3)
    return (_mahalanobis(off.reshape(-1, 3), total.reshape(-1, 3, 3)) / 3).reshape(off.shape[:2])


@dataclass(frozen=True)
class Compared:
    """N sightings against M people: cost (M, N) of being the same, exchanged (2, M, N) whether the sides look so.

    projected (M, N, 12, 2), spread (3, M, N, 12), own (M, N, 12): the rays that were expected (see looked_at).
    """

    cost: Floats
    exchanged: NDArray[np.bool_]
    projected: Floats
    spread: Floats
    own: Floats


def compare(seen: Observations, position: Floats, velocity: Floats, covariance: Floats,
            velocity_covariance: Floats) -> Compared:
    """Compare each sighting with each person.

    position, velocity (M, 12, 3), covariance, velocity_covariance (M, 12, 3, 3): LIMBS12 at the time of fusion; each is
    looked at where it was when the view was taken.
    """
    expected = tuple(values[:, None] for values in (position, velocity, covariance, velocity_covariance))
    _, first, of = np.unique(seen.view, return_index=True, return_inverse=True)   # all sightings of a view look alike
    looked = looked_at(seen.rotation[first], seen.shift[first], seen.age[first], *expected)
    projected, spread, own = looked[0][:, of], looked[1][:, :, of], looked[2][:, of]
    rays, sigma = (np.stack([values, values[:, _MIRROR]])[:, None] for values in (seen.rays, seen.sigma))
    both = planar_distance(rays - projected, spread[:, None], own + sigma**2)   # straight, mirrored
    # a joint behind the camera cannot have been seen by it
    behind = np.isnan(projected[..., 0]) & np.isfinite(position[:, None, :, 0])
    cost, exchanged = _body_cost(np.where(behind & np.isfinite(sigma), 2 * _CUT, both))
    return Compared(cost, exchanged, projected, spread, own)


def looked_at(rotation: Floats, shift: Floats, age: Floats, position: Floats, velocity: Floats, covariance: Floats,
              velocity_covariance: Floats) -> tuple[Floats, Floats, Floats]:
    """Return where N cameras should have seen joints: rays (..., N, 12, 2), their covariance (xx, xy, yy), a variance.

    rotation (N, 3, 3), shift (N, 3) of the cameras, age (N,) s of what they saw; position, velocity (..., N, 12, 3) at
    the time of fusion, covariance and that of velocity (..., N, 12, 3, 3). The variance (..., N, 12) comes on top of
    both axes: that of the motion since, and of what two cameras mean by a joint. NaN for a joint behind the camera.
    """
    local = (position - age[:, None, None] * velocity) @ np.swapaxes(rotation, -1, -2) + shift[:, None]
    depth = np.where(local[..., 2] > 0.1, local[..., 2], np.nan)
    projected = local[..., :2] / depth[..., None]
    along = [(rotation[:, None, axis] - projected[..., axis, None] * rotation[:, None, 2]) / depth[..., None]
             for axis in (0, 1)]
    spread = [(covariance @ way[..., None])[..., 0] for way in along]
    speed = np.einsum('...ii', velocity_covariance) / 3
    shape = np.stack([_dot(along[a], spread[b]) for a, b in ((0, 0), (0, 1), (1, 1))])
    return projected, shape, (speed * age[:, None]**2 + _LANDMARK**2) / depth**2


def planar_distance(off: Floats, spread: Floats, own: Floats) -> Floats:
    """Return the squared distance per axis of off (..., 2) under covariance spread (3, ...: xx, xy, yy) + own."""
    xx, xy, yy = spread[0] + own, spread[1], spread[2] + own
    x, y = off[..., 0], off[..., 1]
    return np.asarray((yy * x**2 - 2 * xy * x * y + xx * y**2) / (xx * yy - xy**2) / 2)


def _body_cost(both: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the cost (...) of squared distances (2, ..., 12), straight and mirrored, and what reads better mirrored.

    Arms and legs are read apart: (2, ...).
    """
    known = np.isfinite(both)
    sums = np.where(known, np.minimum(both, _CUT), 0.0) @ _IN_PART   # (2, ..., parts)
    counts = known.astype(np.float64) @ _IN_PART
    means = sums / np.maximum(counts, 1)
    exchanged = (counts[0] > 0) & (counts[1] > 0) & (means[1] + _EXCHANGED < means[0])
    total = np.where(exchanged, sums[1], sums[0]).sum(axis=-1)
    count = np.where(exchanged, counts[1], counts[0]).sum(axis=-1)
    return np.where(count >= LEAST_JOINTS, total / np.maximum(count, 1), np.inf), np.moveaxis(exchanged, -1, 0)


def assign(seen: Observations, cost: Floats, meant: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the person (N,) of each sighting, -1 for none: per view the best assignment of costs (M, N).

    meant (N,): whom the camera's own tracker means, -1 for nobody; he is preferred, where he fits nearly.
    """
    found = np.full(len(seen), -1, dtype=np.intp)
    if not cost.size:
        return found
    told = meant == np.arange(len(cost))[:, None]
    price = np.where(told, _MEMORY, 1.0) * cost
    price = np.where(cost < np.where(told, _NEARLY, 1.0) * GATE, price, GATE)  # who does not fit costs as much as none
    for view in np.unique(seen.view):
        columns = np.flatnonzero(seen.view == view)
        allowed = price[:, columns]
        rows, chosen = linear_sum_assignment(allowed)
        fits = allowed[rows, chosen] < GATE
        found[columns[chosen[fits]]] = rows[fits]
    return found


def evict(seen: Observations, label: NDArray[np.intp], cost: Floats) -> list[int]:
    """Take sightings whose rays do not meet those of the others out of their person, in place; return which.

    label (N,): the person of each, -1 for none; cost (M, N) of compare. The one that disagrees most goes first.
    """
    removed: list[int] = []
    first, second = np.nonzero(np.triu((label[:, None] == label) & (label >= 0)[:, None], 1))
    if not len(first):
        return removed
    pairs = pair_costs(seen, first, second)
    bad = pairs > 1.5 * GATE
    price = np.where(label >= 0, cost[label, np.arange(len(seen))], 0.0)
    while bad.any():
        votes = np.bincount(np.concatenate([first[bad], second[bad]]), minlength=len(seen))
        worst = int(np.lexsort((price, votes))[-1])  # the price decides between equal votes
        label[worst] = -1
        removed.append(worst)
        bad &= (first != worst) & (second != worst)
    return removed


def grouped(seen: Observations, chosen: NDArray[np.intp]) -> list[list[int]]:
    """Return the chosen sightings in groups of one person each, at most one of a view: all members fit each other.

    Cycle-consistent by construction: who joins must meet the rays of everybody who is there.
    """
    first, second = np.nonzero(np.triu(seen.view[chosen][:, None] != seen.view[chosen], 1))
    costs = np.full((len(chosen), len(chosen)), np.inf)
    if len(first):
        costs[first, second] = costs[second, first] = pair_costs(seen, chosen[first], chosen[second])
    groups = [[n] for n in range(len(chosen))]
    of = list(range(len(chosen)))
    order = np.argsort(costs[first, second], kind='stable')
    for a, b in zip(first[order], second[order], strict=True):
        if not costs[a, b] < GATE:
            break
        one, other = of[a], of[b]
        between = costs[np.ix_(groups[one], groups[other])]
        if one != other and between.mean() < GATE and between.max() < 1.5 * GATE:
            groups[one] += groups[other]
            for member in groups[other]:
                of[member] = one
            groups[other] = []
    return [[int(chosen[n]) for n in group] for group in groups if group]
