"""From the views of several calibrated cameras to one set of people in the common frame.

Cameras need not be genlocked and may move: every view comes with its own stamp and place. Each call takes whatever
views there are; a camera that is missing makes people less certain, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse import match
from pose3d_ros.fuse.body import plausible
from pose3d_ros.fuse.drift import Drift, DriftWatch
from pose3d_ros.fuse.identity import Identity
from pose3d_ros.fuse.measure import Measured, exchanged_within, measured, straightened
from pose3d_ros.fuse.observations import LIMB, Floats, Observations, observe, usable
from pose3d_ros.fuse.people import People
from pose3d_ros.fuse.sides import LOWER, UPPER
from pose3d_ros.fuse.views import View
from pose3d_ros.records import Person3D

_TURN_CALLS = 4    # most views see a person's sides exchanged for so many calls: he is, and they are not
_GHOST_CALLS = 5   # joints that make no body for so many calls are nobody


@dataclass(frozen=True)
class FuseSettings:
    """How people are fused.

    max_age_s: a view farther from the time of fusion is left out [s]. confirm: calls in which a person was seen before
    he counts as TRACKED. max_predicted_s: a person nobody sees is published (PREDICTED) so long; max_lost_s: and is
    known again within this time [s]. forget_joint_s: a joint nobody sees is published so long [s].
    """

    max_age_s: float = 0.25
    confirm: int = 3
    max_predicted_s: float = 0.5
    max_lost_s: float = 2.0
    forget_joint_s: float = 0.5


class Fuser:
    """Fuses views over time. State: the people; `reset()` forgets them, ids go on counting and are never given twice.

    People are HUMAN17 in the common frame. Joints that 2D skeletons name are triangulated, or where one camera sees
    them, on its ray at the depth of its mono 3D; the others (pelvis, spine, thorax, neck, head) are those of the mono
    3D, fitted to the measured ones (see middle_joints). Height is NaN: rays do not need it.

    counters: matched, unmatched (sightings; unmatched_NAME: of one camera), evicted
    (sightings taken from a person whose other views disagree),
    duplicates (second sightings of somebody in one view), born, revived, merged (two ids that were one person), ghosts
    (groups that made no body), handovers (a person seen by none of the cameras of before), sides_exchanged (sightings),
    outliers (joints of views), jumps (joints far from where they were expected), views_late, duplicate_ids,
    too_little_seen.
    """

    def __init__(self, settings: FuseSettings | None = None) -> None:
        self.settings = settings or FuseSettings()
        self.counters: Counter[str] = Counter()
        self._last_id = 0
        self.reset()

    def reset(self) -> None:
        """Forget everybody, as after a jump in time."""
        self._people, self._identity, self._watch = People(), Identity(self.counters), DriftWatch()
        self._stamp_ns: int | None = None

    @property
    def drift(self) -> dict[str, Drift]:
        """How each camera agrees with the others, by name."""
        return self._watch.drift

    def __call__(self, views: Sequence[View], stamp_ns: int) -> list[Person3D]:
        """Return the people at stamp_ns in the common frame, in the order of their ids.

        The order of views does not matter. Raises ValueError where time goes back: reset first.
        """
        step = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        if step < 0:
            raise ValueError(f'time went back by {-step:.3f} s: call reset() first')
        self._stamp_ns, settings = stamp_ns, self.settings
        views = usable(views, stamp_ns, settings.max_age_s, self.counters)
        self._people.joints.predict(step)
        self._people.forget_joints(stamp_ns, settings.forget_joint_s)
        self._keep([(stamp_ns - known.stamp_ns) * 1e-9 <= (settings.max_lost_s if known.seen >= settings.confirm
                                                           else settings.max_predicted_s)
                    for known in self._people.known])
        seen = observe(views, stamp_ns, self.counters)
        if len(seen):
            self._take(seen, views, stamp_ns, step)
        return self._people.published(stamp_ns, settings.confirm, settings.max_predicted_s)

    def _keep(self, rows: Sequence[bool] | NDArray[np.bool_]) -> None:
        if not all(rows):
            self._people.keep(rows)

    def _take(self, seen: Observations, views: list[View], stamp_ns: int, step: float) -> None:
        """Find out who is who, measure the joints and take them in."""
        people, poses = self._people, np.stack([view.camera_T_world for view in views])
        meant, as_told = self._identity.meant(seen, people, stamp_ns), seen
        compared = strict = match.compare(seen, *people.expected())
        seen = self._watch.weighed(as_told)
        if seen is not as_told:
            compared = match.compare(seen, *people.expected())
        row = match.assign(seen, compared.cost, meant)
        evicted = match.evict(seen, row, compared.cost)
        if len(people):
            self._watch.update(as_told, strict, row, meant, views, step)
        self.counters['evicted'] += len(evicted)
        self.counters['matched'] += int((row >= 0).sum())
        self.counters['unmatched'] += int((row < 0).sum())
        self.counters.update(f'unmatched_{seen.key[n][0]}' for n in np.flatnonzero(row < 0))
        sides = self._sides(compared.exchanged, row)
        old = len(people)
        for group in self._newcomers(seen, row, compared.cost, meant, evicted):
            self._last_id += 1
            self.counters['born'] += 1
            row[group] = people.add(self._last_id, stamp_ns)
            sides[:, group] = exchanged_within(seen, group, poses)
        self.counters['sides_exchanged'] += int((sides.any(axis=0) & (row >= 0)).sum())
        rays, sigma = straightened(seen.rays, seen.sigma, sides)
        now = measured(seen, rays, sigma, row, len(people), poses, people.expected(), compared, step)
        self.counters['outliers'] += now.outliers
        self.counters['jumps'] += people.update(seen, row, now)
        fits = np.ones(len(seen), dtype=bool)
        followed = np.flatnonzero((row >= 0) & (row < old))
        fits[followed] = strict.cost[row[followed], followed] < match.GATE
        self._identity.note(seen, row, fits, people, stamp_ns)
        self._note(seen, row, now, stamp_ns)
        real = self._identity.known_before(people, old, stamp_ns, self._real(seen, row, now, old))
        self._keep(self._identity.not_twice(people, seen, row, real))

    def _sides(self, exchanged: NDArray[np.bool_], row: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which sightings (2, N) have sides exchanged; where most views keep saying so, the person is."""
        sides = np.zeros((2, len(row)), dtype=bool)
        mine = np.flatnonzero(row >= 0)
        sides[:, mine] = exchanged[:, row[mine], mine]
        views = np.bincount(row[mine], minlength=len(self._people))
        for part in (UPPER, LOWER):
            most = 2 * np.bincount(row[mine], sides[part, mine], minlength=len(views)) > views
            for person in np.flatnonzero(views >= 2).tolist():  # one view may be wrong for long
                turned = self._people.known[person].turned
                turned[part] = turned[part] + 1 if most[person] else 0
                if turned[part] >= _TURN_CALLS:
                    self._people.turn(person, part == LOWER)
                    sides[part, row == person] ^= True
                    turned[part] = 0
        return sides

    def _newcomers(self, seen: Observations, row: NDArray[np.intp], costs: Floats,
                   meant: NDArray[np.intp], evicted: list[int]) -> list[list[int]]:
        """Return groups of sightings that belong to nobody yet, each of one person.

        Several views make somebody new. One view does with its mono 3D, but not where others see somebody, where it was
        evicted, or where its camera's own tracker means somebody whom others see: most likely it is him, and this
        camera sees him badly or is not where it says.
        """
        by_view = np.zeros((len(costs), int(seen.view.max()) + 1), dtype=bool)
        by_view[row[row >= 0], seen.view[row >= 0]] = True
        taken = by_view[:, seen.view]   # whom the view of a sighting has found already
        again = (row < 0) & (np.where(taken, costs, np.inf) < match.GATE).any(axis=0)
        self.counters['duplicates'] += int(again.sum())
        groups = match.grouped(seen, np.flatnonzero((row < 0) & ~again))
        alone = np.array([group[0] for group in groups if len(group) == 1 and group[0] not in evicted], dtype=np.intp)
        if not len(alone):
            return [group for group in groups if len(group) > 1]
        joints, found = self._people.joints, np.isin(np.arange(len(costs)), row)[:, None]
        mono, spread = seen.mono[alone], seen.mono_covariance[alone]
        gaps = match.place_gaps(joints.position, joints.covariance, mono, spread)
        likely = (gaps < match.SAME_PLACE) | (np.arange(len(costs))[:, None] == meant[alone])
        doubtful = (found & ~taken[:, alone] & likely).any(axis=0)
        new = np.array([n for group in groups for n in group if len(group) > 1], dtype=np.intp)
        gaps = match.place_gaps(seen.mono[new], seen.mono_covariance[new], mono, spread)
        doubtful |= (np.where(seen.view[new][:, None] != seen.view[alone], gaps, np.inf) < match.SAME_PLACE).any(axis=0)
        doubtful |= np.isnan(match.trunk_of(mono, spread)[0]).any(axis=-1)  # one ray alone has no place
        doubtful |= self._watch.off(seen)[alone]  # nor has one of a camera that is not where it says
        return [group for group in groups if len(group) > 1] + [[int(n)] for n in alone[~doubtful]]

    def _note(self, seen: Observations, row: NDArray[np.intp], now: Measured, stamp_ns: int) -> None:
        """Write down who saw whom."""
        best, score = np.zeros((len(self._people), 12)), np.zeros(len(self._people))
        mine = np.flatnonzero(row >= 0)
        np.maximum.at(best, row[mine], seen.confidence[mine])
        np.maximum.at(score, row[mine], seen.score[mine])
        usual = best.sum(axis=1) / np.maximum((best > 0).sum(axis=1), 1)
        measured = now.views > 0
        confidence = np.repeat(usual[:, None], 17, axis=1)
        confidence[:, LIMB] = np.where(measured, best, 0.5 * usual[:, None])
        for person in set(row[mine].tolist()):
            known = self._people.known[person]
            cameras = frozenset(seen.key[n][0] for n in mine[row[mine] == person])
            self.counters['handovers'] += bool(known.cameras) and not cameras & known.cameras
            known.cameras, known.stamp_ns, known.seen = cameras, stamp_ns, known.seen + 1
            known.score, known.confidence = float(score[person]), confidence[person]
            known.observed[LIMB] = measured[person]

    def _real(self, seen: Observations, row: NDArray[np.intp], now: Measured, old: int) -> NDArray[np.bool_]:
        """Return which people (M,) are no ghosts: newcomers whose views meet in a body, others not wrong for long."""
        bodies = plausible(self._people.joints.position)
        real = np.ones(len(bodies), dtype=bool)
        for person, known in enumerate(self._people.known):
            known.implausible = 0 if bodies[person] else known.implausible + 1
            real[person] = known.implausible < _GHOST_CALLS
            members = row == person
            if person >= old and members.sum() > 1:
                wanted = (seen.seen[members].sum(axis=0) >= 2).sum()
                real[person] = bodies[person] and (now.views[person] >= 2).sum() >= 0.5 * wanted
        self.counters['ghosts'] += int((~real).sum())
        return real
