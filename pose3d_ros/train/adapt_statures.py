"""How tall the people of a site are: the one size for which one camera's people lie where the others saw them.

What one camera sees of a person fits any size; that the same person is seen by another, whose distance is known in
metres, decides it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pose3d_ros.lift import input_points
from pose3d_ros.train.adapt_geometry import Unlifted, between, in_views, robust
from pose3d_ros.train.site import SiteRecording

RANGE_M = (0.7, 2.3)        # of people
PEOPLE_SD = 0.10            # m, of the people of one place, before anybody was seen there
PEOPLE_WORTH = 4.0          # what that counts, in people
SITES_SD = 0.30             # m, of the mean stature of places: schools, workshops, homes
LEAST_SIGMA = 0.02          # m: proportions differ, and so does what a detector marks
_GRID = np.exp(np.linspace(np.log(RANGE_M[0]), np.log(RANGE_M[1]), 49))
_MOST, _PARTS = 600, 6      # samples of a person that are looked at, and parts of them that are compared


@dataclass(frozen=True)
class Statures:
    """P people of a site: stature (P,) m, sigma (P,) m, samples (P,) each rests on; person (N,): whose a sample is.

    A person may have been seen at several times, under a name each (`names`, what SiteRecording.person says).
    """

    stature: NDArray[np.float64]
    sigma: NDArray[np.float64]
    samples: NDArray[np.int64]
    person: NDArray[np.intp]
    names: tuple[tuple[int, ...], ...]

    def of_samples(self) -> NDArray[np.float64]:
        """Return the stature (N,) m of the person of each sample."""
        return self.stature[self.person]

    def sigma_of_samples(self) -> NDArray[np.float64]:
        """Return how sure that is (N,) m."""
        return self.sigma[self.person]


def estimate(said: Unlifted, site: SiteRecording) -> Statures:
    """Return the statures of all people of a site, for what a network says of them."""
    points = (input_points() @ said.points).astype(np.float32)
    names = np.unique(site.person)
    found = []
    for name in names:
        rows = np.flatnonzero(site.person == name)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).round().astype(np.intp)]
        found.append(_best_size(points[rows], site.where(rows)))
    return _same_people(site, names, np.array(found))


def reestimate(said: Unlifted, site: SiteRecording, people: Statures) -> Statures:
    """Return the statures anew, for the same people as before."""
    points = (input_points() @ said.points).astype(np.float32)
    found = []
    for number in range(len(people.stature)):
        rows = np.flatnonzero(people.person == number)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 2 * _MOST)).round().astype(np.intp)]
        found.append(_best_size(points[rows], site.where(rows)))
    stature, sigma = np.array(found).T
    return Statures(stature, sigma, people.samples, people.person, people.names)


def _best_size(points: NDArray, site: SiteRecording) -> tuple[float, float]:
    """Return the size and its standard deviation [m] with which points (N, 13, 3), in statures, fit best.

    The deviation is that of the sizes that parts of the time ask for.
    """
    move = between(site)
    weight = np.where(site.across(), site.seen_confidence, 0)
    rays, sigma = torch.from_numpy(site.seen_rays), torch.from_numpy(site.seen_sigma)
    cost = np.stack([(weight * robust(torch.from_numpy(in_views((size * points).astype(np.float32), move)), rays,
                                      sigma).numpy()).sum(axis=(1, 2)) for size in _GRID], axis=1)  # (N, grid)
    parts = [part.sum(axis=0) for part in np.array_split(cost, min(_PARTS, len(cost)))]
    sizes = np.array([_lowest(part) for part in parts])
    return _lowest(cost.sum(axis=0)), max(float(sizes.std(ddof=1) / np.sqrt(len(sizes))), LEAST_SIGMA) if len(
        sizes) > 2 else PEOPLE_SD


def _lowest(cost: NDArray) -> float:
    """Return the size of least cost (grid,), between the points of the grid by a parabola."""
    at = int(np.clip(cost.argmin(), 1, len(cost) - 2))
    left, middle, right = cost[at - 1:at + 2]
    bend = left - 2 * middle + right
    step = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(np.exp(np.log(_GRID[at]) + np.clip(step, -1, 1) * np.log(_GRID[1] / _GRID[0])))


def _same_people(site: SiteRecording, names: NDArray, found: NDArray) -> Statures:
    """Take those to be one person who are as tall and were never there at the same time.

    That may take two people for one, but not one who comes and goes for a crowd, of whom more would seem to be known.
    """
    groups: list[list[int]] = []
    times = [(site.stamp_ns[site.person == name].min(), site.stamp_ns[site.person == name].max()) for name in names]
    counts = np.array([np.count_nonzero(site.person == name) for name in names])
    for one in np.argsort(-counts, kind='stable'):
        for group in groups:
            mean, sigma = _mean(found[group])
            together = any(times[one][0] <= times[other][1] and times[other][0] <= times[one][1] for other in group)
            if not together and abs(found[one, 0] - mean) < 2 * np.hypot(np.hypot(found[one, 1], sigma), LEAST_SIGMA):
                group.append(int(one))
                break
        else:
            groups.append([int(one)])
    stature, sigma = np.array([_mean(found[group]) for group in groups]).T
    group_of = {int(names[one]): number for number, group in enumerate(groups) for one in group}
    return Statures(stature, sigma, np.array([counts[group].sum() for group in groups]),
                    np.array([group_of[int(name)] for name in site.person], dtype=np.intp),
                    tuple(tuple(int(names[one]) for one in group) for group in groups))


def _mean(found: NDArray) -> tuple[float, float]:
    weight = 1 / found[:, 1]**2
    return float((weight * found[:, 0]).sum() / weight.sum()), max(float(weight.sum()**-0.5), LEAST_SIGMA)


def stature_prior(people: Statures, before: tuple[float, float]) -> tuple[float, float]:
    """Return mean and standard deviation [m] of the stature of whoever will be seen next at the site.

    before: what was assumed, mean and standard deviation. People of one place vary by PEOPLE_SD about the mean of the
    place, and these means by SITES_SD about what was assumed (a normal model with both levels; Gelman et al., Bayesian
    Data Analysis, section 5.4). Where few were seen, the deviation says so.
    """
    within = 1 / (PEOPLE_SD**2 + people.sigma**2)
    precision = within.sum() + 1 / SITES_SD**2
    mean = (float((within * people.stature).sum()) + before[0] / SITES_SD**2) / precision
    count = len(people.stature)
    middle = float(np.average(people.stature, weights=within))
    scatter = float(np.square(people.stature - middle).sum())
    variance = (PEOPLE_WORTH * PEOPLE_SD**2 + scatter) / (PEOPLE_WORTH + count - 1)
    return mean, float(np.sqrt(variance + 1 / precision))
