"""How tall each person is, learned while the person is followed: from feet on the floor, image after image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pose3d_ros import ground as floor
from pose3d_ros.records import GroundPlane, Person3D
from pose3d_ros.skeleton import HUMAN17

Array = NDArray[np.float64]

# How long each error of ground.py lasts [s]: the stature for ever; the lifter's own error in distance as long as a
# posture (correlated over 0.4 s in recorded motion before a still camera); that of the floor long on a robot that
# stands, so that it does not average out.
LASTS = np.array([np.inf, 0.5, 60.0, 60.0, 60.0])
STEP_S = 0.3          # images nearer to each other show the same step, and the same errors of the ankles
# A person may be taken for another: what is known of the stature is worth nothing after this time [s].
OLD_S = 300.0
# People are more different than a normal distribution says: what the floor shows may be this much farther from it.
TAILS = 1.5
PROPORTIONS = 0.015   # two people of one stature differ so much, for ever, in the distance found for it
FORGET_S = 60.0       # an id that was not seen for this time is forgotten
# Squared distance of what was learned from what was expected at which a floor given wrongly is as likely: about one
# installation in a hundred has a floor that is off by several times what it says.
DOUBTFUL = 11.3

_PELVIS = HUMAN17.index('pelvis')


@dataclass
class _Known:
    """What is known about one person: mean (5,) and spread (5, 5) of the errors of a person taken to be stature m tall.

    expected (5,): their standard deviations before anything was learned. looked_ns: when feet were last seen; applied:
    a and b as published last.
    """

    stature: float
    expected: Array
    mean: Array
    spread: Array
    stamp_ns: int
    looked_ns: int | None = None
    applied: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Sized:
    """A person in the size learned so far.

    Where this image changed what is thought of the person's size, a place p (3,) m that was published before is now
    grow * p + shift: nothing has moved.
    """

    person: Person3D
    grow: float
    shift: Array


class StatureFilter:
    """Learns the stature of each id and sizes people accordingly. State: what is known of each id.

    A Kalman filter over the errors of ground.py. Its gain stays honest under errors that repeat from image to image:
    they are either states of their own, or images that follow closely count as a fraction of one.
    """

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}

    def reset(self) -> None:
        """Forget everybody."""
        self._known = {}

    def __call__(self, people: list[Person3D], stamp_ns: int, ground: GroundPlane | None) -> list[Sized]:
        """Return the people, in the order given, in the size learned so far.

        ground: the floor in this image, None where it is not known: nothing new is learned then. People without an id,
        or of whom the lifter does not say how tall it took them to be, come back as they are.
        """
        self._known = {id_: known for id_, known in self._known.items()
                       if stamp_ns - known.stamp_ns < FORGET_S * 1e9}
        sized = {index: Sized(person, 1.0, np.zeros(3)) for index, person in enumerate(people)}
        chosen = [index for index, person in enumerate(people)
                  if _measured(person) and (ground is not None or person.id in self._known)]
        if chosen:
            sized |= zip(chosen, self._size([people[index] for index in chosen], stamp_ns, ground))
        return [sized[index] for index in range(len(people))]

    def _size(self, people: list[Person3D], stamp_ns: int, ground: GroundPlane | None) -> list[Sized]:
        position, covariance = (np.stack([getattr(person, name) for person in people])
                                for name in ('position', 'covariance'))
        stature, sigma = (np.array([getattr(person, name) for person in people]) for name in ('height', 'height_sigma'))
        shares = floor.split(position, covariance, sigma / stature)
        known = [self._recall(person, b, stamp_ns, ground) for person, b in zip(people, shares.b)]
        mean, spread = np.stack([k.mean for k in known]), np.stack([k.spread for k in known])
        fresh = np.zeros(len(people), dtype=np.bool_)
        if ground is not None:
            contact = floor.feet_on(position, shares.own, np.stack([person.joint_state for person in people]),
                                    np.stack([person.joint_confidence for person in people]), stature, ground)
            share = np.array([_share(k.looked_ns, stamp_ns) for k in known])
            fresh = (contact.ankles > 0) & (share == 1)
            mean, spread = floor.update(mean, spread, contact, share)
            for k, ankles in zip(known, contact.ankles):
                k.looked_ns = stamp_ns if ankles else k.looked_ns

        expected = np.stack([k.expected for k in known])
        believed = doubted(mean, spread, expected)
        placed = floor.corrected(position, shares.own, stature, *believed)
        result = []
        for i, (k, person) in enumerate(zip(known, people)):
            k.mean, k.spread = mean[i], spread[i]
            if k.looked_ns is None:
                result.append(Sized(person, 1.0, np.zeros(3)))
                continue
            a, b = believed[0][i, floor.A], believed[0][i, floor.B]
            body = None if person.body is None else person.body.resized(float(1 + a), b * position[i, _PELVIS])
            grow, shift = _carry(k.applied, believed[0][i], fresh[i])
            k.applied = (a, b)
            result.append(Sized(replace(person, position=placed.position[i], covariance=placed.covariance[i],
                                        height=float(placed.stature[i]), height_sigma=float(placed.stature_sigma[i]),
                                        body=body), grow, shift * position[i, _PELVIS]))
        return result

    def _recall(self, person: Person3D, b: float, stamp_ns: int, ground: GroundPlane | None) -> _Known:
        """Return what is known of a person at stamp_ns, from what was known before."""
        known = self._known.get(person.id)
        if known is None:
            assert ground is not None
            expected = np.array([person.height_sigma / person.height, b, ground.tilt_sigma, ground.tilt_sigma,
                                 ground.height_sigma])
            known = _Known(person.height, expected, np.zeros(floor.ERRORS), np.diag(expected ** 2), stamp_ns)
            known.spread[floor.A, floor.A] *= TAILS ** 2
            self._known[person.id] = known
            return known
        known.expected[floor.B] = b
        seconds = max(stamp_ns - known.stamp_ns, 0) * 1e-9
        keep = np.exp(-seconds / LASTS)
        known.mean = known.mean * keep
        known.spread = known.spread * np.outer(keep, keep) + np.diag(known.expected ** 2 * (1 - keep ** 2))
        a = known.expected[floor.A] ** 2
        known.spread[floor.A, floor.A] += max(min(a * seconds / OLD_S, a - known.spread[floor.A, floor.A]), 0.0)
        known.stamp_ns = stamp_ns
        self._rebase(known, person.height)
        return known

    @staticmethod
    def _rebase(known: _Known, stature: float) -> None:
        """Express the error of the stature against the one that the lifter uses now [m]."""
        ratio = known.stature / stature
        scale = np.where(np.arange(floor.ERRORS) == floor.A, ratio, 1.0)
        known.mean = known.mean * scale
        known.mean[floor.A] += ratio - 1
        known.spread = known.spread * np.outer(scale, scale)
        known.applied = ((1 + known.applied[0]) * ratio - 1, known.applied[1])
        known.stature = stature


def doubted(mean: Array, spread: Array, expected: Array) -> tuple[Array, Array]:
    """Return mean (N, 5) and covariance (N, 5, 5) of errors in which one may believe.

    Somebody may be very tall; but the farther what was learned lies from what was expected (N, 5) (one standard
    deviation each), the more likely it is that the floor was given wrongly, and then nothing was learned. The answer is
    the mixture of both.
    """
    wrong = expit((np.square(mean / expected).sum(axis=-1) - DOUBTFUL) / 2)
    between = (wrong * (1 - wrong))[:, None, None] * mean[:, :, None] * mean[:, None, :]
    nothing = np.square(expected)[:, None, :] * np.eye(floor.ERRORS)
    mixed = (1 - wrong)[:, None, None] * spread + wrong[:, None, None] * nothing + between
    # What never averages out stays between a and b: it is an error of the stature and none of the place.
    lack = np.maximum(np.minimum(expected[:, floor.A], PROPORTIONS) ** 2 - mixed[:, floor.A, floor.A], 0.0)
    mixed[:, :2, :2] += lack[:, None, None] * np.array([[1.0, -1.0], [-1.0, 1.0]])
    return (1 - wrong)[:, None] * mean, mixed


def _measured(person: Person3D) -> bool:
    """Tell whether a person has an id, the lifter says how tall it took it to be, and where the pelvis is."""
    numbers = (person.height, person.height_sigma, *person.position[_PELVIS])
    return bool(person.id and person.skeleton is HUMAN17 and np.isfinite(numbers).all())


def _share(looked_ns: int | None, stamp_ns: int) -> float:
    """Return how much of an independent measurement an image is after the last one that showed feet."""
    return 1.0 if looked_ns is None else min(max(stamp_ns - looked_ns, 0) * 1e-9 / STEP_S, 1.0)


def _carry(applied: tuple[float, float], mean: Array, fresh: bool) -> tuple[float, float]:
    """Return what makes places under the errors a, b applied before places under those of mean: grow, and the shift as
    a share of the pelvis' place.

    The lifter's error in distance changes all the time, and following it is no jump; finding it anew (fresh) is one.
    """
    grow = (1 + mean[floor.A]) / (1 + applied[0])
    return float(grow), float(mean[floor.B] - grow * applied[1]) if fresh else 0.0
