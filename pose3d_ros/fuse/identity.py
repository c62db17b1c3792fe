"""Ids that stay: whom cameras' own trackers mean, people who come back, and people followed under two ids."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse import match
from pose3d_ros.fuse.observations import LEAST_JOINTS, Observations
from pose3d_ros.fuse.people import People

_MERGE_CALLS = 4      # two people who look the same for so many calls are one
_REVIVE = (0.4, 1.5)  # m and m/s: how far from where somebody was lost he may be found again
_MEMORY_S = 1.0       # what a camera's own id meant is forgotten so long after it last fitted: trackers start again


class Identity:
    """State: the person that each id of each camera meant, and how long pairs of people have looked the same.

    counters of the fuser: revived, merged.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._memory: dict[tuple[str, int], tuple[int, int]] = {}   # (camera, its id) -> (person, stamp_ns)
        self._alike: dict[tuple[int, int], int] = {}

    def meant(self, seen: Observations, people: People, stamp_ns: int) -> NDArray[np.intp]:
        """Return the row (N,) of whom the camera's own tracker means by each sighting, -1 where that is not known."""
        rows = {id_: row for row, id_ in enumerate(people.ids)}
        self._memory = {key: (id_, last) for key, (id_, last) in self._memory.items()
                        if id_ in rows and (stamp_ns - last) * 1e-9 <= _MEMORY_S}
        return np.array([rows[self._memory[key][0]] if key in self._memory else -1 for key in seen.key], dtype=np.intp)

    def note(self, seen: Observations, row: NDArray[np.intp], fits: NDArray[np.bool_], people: People,
             stamp_ns: int) -> None:
        """Write down whose (N,) each sighting was found to be, -1 for nobody's, and whether it fits (N,) for sure."""
        for n in np.flatnonzero((row >= 0) & fits):
            if seen.key[n][1]:
                self._memory[seen.key[n]] = people.known[row[n]].id, stamp_ns

    def known_before(self, people: People, old: int, stamp_ns: int, real: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Give real newcomers (rows from old on) the id of somebody lost near by; return which real rows (M,) stay."""
        stays, position = real.copy(), people.joints.position
        for new in np.flatnonzero(real[old:]) + old:
            best, nearest = -1, np.inf
            for row in range(old):
                away = (stamp_ns - people.known[row].stamp_ns) * 1e-9
                apart = position[new] - position[row]
                both = np.isfinite(apart).all(axis=1)
                if both.sum() < LEAST_JOINTS:
                    continue
                distance = float(np.linalg.norm(np.median(apart[both], axis=0)))
                if stays[row] and away > 0 and distance < min(_REVIVE[0] + _REVIVE[1] * away, nearest):
                    best, nearest = row, distance
            if best >= 0:
                self._counters['revived'] += 1
                stays[best] = False
                self._rename(people.known[new].id, people.known[best].id)
                people.known[new].id = people.known[best].id
                people.known[new].seen += people.known[best].seen
                people.bones.mean[new] = people.bones.mean[best]
                people.bones.count[new] = people.bones.count[best]
        return stays

    def not_twice(self, people: People, seen: Observations, row: NDArray[np.intp],
                  real: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find people followed under two ids, by different cameras each; return which real rows (M,) stay."""
        stays = real.copy()
        alike = {pair: calls - 1 for pair, calls in self._alike.items() if calls > 1}
        lonely = np.flatnonzero(np.bincount(row[row >= 0], minlength=len(people)) == 1)
        if not len(lonely):
            self._alike = alike
            return stays
        members = [np.flatnonzero(row == person) for person in range(len(people))]
        gaps = match.place_gaps(people.joints.position, people.joints.covariance, people.joints.position[lonely],
                                people.joints.covariance[lonely])
        for person, column in zip(lonely.tolist(), gaps.T, strict=True):
            for other in np.flatnonzero(column < match.SAME_PLACE):
                if other == person or not len(members[other]) or not (stays[person] and stays[other]) or (
                        seen.view[members[person][0]] in seen.view[members[other]]):
                    continue
                first = np.repeat(members[person], len(members[other]))
                if match.pair_costs(seen, first, members[other]).mean() >= match.GATE:
                    continue
                older, younger = sorted((people.known[person].id, people.known[other].id))
                alike[older, younger] = self._alike.get((older, younger), 0) + 1
                if alike[older, younger] >= _MERGE_CALLS:  # the better known joints go on under the older id
                    self._counters['merged'] += 1
                    people.known[other].id = older
                    stays[person] = False
                    self._rename(younger, older)
        self._alike = alike
        return stays

    def _rename(self, id_: int, other: int) -> None:
        self._memory = {key: (other if known == id_ else known, last) for key, (known, last) in self._memory.items()}
