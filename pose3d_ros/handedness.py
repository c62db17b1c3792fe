"""Which side of a body is its left? Guards a track against detections that exchange left and right.

Detectors exchange the sides of a person for single frames and for whole stretches, of the whole body or of the arms or
legs alone, and say so with high confidence. Two things tell: joints do not jump across the body between two frames, and
over time the detector is right more often than wrong. The first decides for each part of the body whether a detection
is labelled as the track is; the second, slowly, whether the track itself is labelled right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import Skeleton


@dataclass(frozen=True)
class HandednessSettings:
    """Weights of the evidence, as log-odds.

    tolerance: how far joints stray from where they are expected, as a share of the person's size, from one frame to the
    next; it grows by drift per second. limit: most that one pair of joints can say. persistence: that a part goes on
    being labelled as in the frame before. trust: per second, that the detector's labels are right; its errors come in
    runs, so that many frames say little more than one. first: that the first sighting is labelled right. certainty:
    most that is ever believed of the labels so far.
    """

    tolerance: float = 0.04
    drift: float = 0.4
    limit: float = 4.0
    persistence: float = 1.0
    trust: float = 1.0
    first: float = 1.0
    certainty: float = 4.0


@dataclass(frozen=True)
class Decision:
    """exchange (J,) bool: joints of the detection to relabel. relabel_track: the track so far had its sides wrong."""

    exchange: NDArray[np.bool_]
    relabel_track: bool


# Two sightings farther apart than this say no more about the labels than this [s].
_LONGEST_STEP = 0.1


class Handedness:
    """Belief about the labels of one track.

    State: belief, the log-odds that the labels given so far are right, and which parts (upper, lower body) the detector
    last gave the wrong way round.
    """

    def __init__(self, settings: HandednessSettings) -> None:
        self.settings = settings
        self.belief = settings.first
        self._exchanged = np.zeros(2, dtype=bool)

    def judge(self, person: Person2D, expected: NDArray[np.float64], gap: float) -> Decision:
        """Weigh one sighting. expected (J, 2) px: where the track's joints should be; gap [s] since the last one."""
        settings = self.settings
        parts = _parts(person.skeleton)
        # Log-odds for each part that the detection is labelled as the track is, and the most that could be said: with
        # the limbs of both sides one behind the other, whoever takes them apart again may mistake them.
        same, most = self._motion_evidence(person, expected, gap, parts)
        same += settings.persistence * np.where(self._exchanged, -1, 1)
        belief = _both_or_neither(self.belief, float(most.max()) + settings.persistence)

        trust = settings.trust * min(gap, _LONGEST_STEP)
        belief += sum(_both_or_neither(float(odds), trust) for odds in same)
        relabel = belief < 0
        self.belief = min(abs(belief), settings.certainty)
        self._exchanged = (same < 0) != relabel
        upper, lower = (part & exchanged for part, exchanged in zip(parts, self._exchanged, strict=True))
        return Decision(upper | lower, relabel)

    def _motion_evidence(self, person: Person2D, expected: NDArray[np.float64], gap: float, parts: NDArray[np.bool_],
                         ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the log-odds (2,) from where the joints of each part lie, and what joints as expected would give."""
        settings = self.settings
        mirror = person.skeleton.mirror
        size = float(np.linalg.norm(person.box[2:] - person.box[:2]))
        # A joint of which the detector is not sure may lie anywhere between its true place and the other side's.
        doubt = 1 / np.maximum(person.joint_confidence, 0.1)
        variance = np.square((settings.tolerance + settings.drift * gap) * size * doubt) + np.square(person.sigma)
        # Far from both places says nothing: costs are cut off before they are compared.
        labelled, exchanged, apart = (
            np.minimum(np.square(pixels - expected).sum(axis=-1) / (2 * variance), settings.limit)
            for pixels in (person.pixels, person.pixels[mirror], expected[mirror]))
        return (np.where(parts, np.nan_to_num(exchanged - labelled), 0.0).sum(axis=-1),
                np.where(parts, np.nan_to_num(apart), 0.0).sum(axis=-1))


def _both_or_neither(a: float, b: float) -> float:
    """Return the log-odds that two independent statements, of log-odds a and b, are both true or both false."""
    return float(np.logaddexp(0, a + b) - np.logaddexp(a, b))


@lru_cache(maxsize=8)
def _parts(skeleton: Skeleton) -> NDArray[np.bool_]:
    """Return the paired joints of the upper and of the lower body, (2, J)."""
    paired = skeleton.mirror != np.arange(len(skeleton))
    return np.array([paired & ~skeleton.lower, paired & skeleton.lower])
