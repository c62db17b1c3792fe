"""Which side of a body is its left? Guards a track against detections that exchange left and right.

Detectors label a body seen from behind, with a hidden face, as one seen from the front for whole stretches of frames,
and say so with high confidence. Two things tell: joints do not jump across the body between two frames, and the
detector is right more often than wrong, the more so the better the face is seen. Both are weighed in a hidden Markov
model with two states (the detector's labels are right, or exchanged), filtered forward in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.records import Person2D


@dataclass(frozen=True)
class HandednessSettings:
    """Weights of the two kinds of evidence, as log-odds.

    tolerance: how far joints stray from a constant-velocity guess, as a share of the person's size. limit: most that
    one pair of joints can say. trust, face_trust: log-odds per second that the detector's labels are right, with the
    face hidden and with the face seen. certainty: most that is ever believed of the labels so far.
    """

    tolerance: float = 0.04
    limit: float = 3.0
    trust: float = 2.0
    face_trust: float = 12.0
    certainty: float = 6.0


@dataclass(frozen=True)
class Decision:
    """swapped: exchange left and right in the detection. relabel_track: the track so far had them exchanged."""

    swapped: bool
    relabel_track: bool


_FACE = ('nose', 'left_eye', 'right_eye')


class Handedness:
    """Belief about the labels of one track. State: log-odds that the labels given so far are right."""

    def __init__(self, settings: HandednessSettings) -> None:
        self.settings = settings
        self.belief = 0.5

    def starts_swapped(self, person: Person2D) -> bool:
        """Return whether a first sighting should be exchanged: nothing speaks against the detector yet."""
        return False

    def judge(self, person: Person2D, expected: NDArray[np.float64], gap: float) -> Decision:
        """Weigh one sighting; expected (J, 2) px: where the track's joints should be; gap [s] since the last one."""
        same = self._motion_evidence(person, expected, gap)
        right = self._detector_trust(person) * min(gap, 0.1)
        # The four cases: labels so far right or not, this detection labelled the same way or not.
        log_right = np.logaddexp(_log_sigmoid(self.belief) + _log_sigmoid(same),
                                 _log_sigmoid(-self.belief) + _log_sigmoid(-same)) + _log_sigmoid(right)
        log_wrong = np.logaddexp(_log_sigmoid(self.belief) + _log_sigmoid(-same),
                                 _log_sigmoid(-self.belief) + _log_sigmoid(same)) + _log_sigmoid(-right)
        odds = float(log_right - log_wrong)
        swapped = odds < 0
        self.belief = min(abs(odds), self.settings.certainty)
        return Decision(swapped, relabel_track=swapped == (same > 0))

    def _motion_evidence(self, person: Person2D, expected: NDArray[np.float64], gap: float) -> float:
        """Return the log-odds that this detection is labelled as the track is, from where its joints lie."""
        settings = self.settings
        mirror = person.skeleton.mirror
        paired = mirror != np.arange(len(mirror))
        size = float(np.linalg.norm(np.subtract(person.box[2:], person.box[:2])))
        variance = np.square(settings.tolerance * (1 + 10 * gap) * size) + np.square(person.sigma)
        as_labelled = np.square(person.pixels - expected).sum(axis=-1)
        exchanged = np.square(person.pixels[mirror] - expected).sum(axis=-1)
        evidence = ((exchanged - as_labelled) / (2 * variance))[paired]
        evidence = evidence[np.isfinite(evidence)]
        return float(np.clip(evidence, -settings.limit, settings.limit).sum())

    def _detector_trust(self, person: Person2D) -> float:
        """Return the log-odds per second that the detector's labels are right."""
        joints = [person.skeleton.index(name) for name in _FACE if name in person.skeleton.joints]
        seen = np.nan_to_num(person.joint_confidence[joints]).mean() if joints else 0.0
        settings = self.settings
        return float(settings.trust + (settings.face_trust - settings.trust) * seen)


def _log_sigmoid(x: float) -> float:
    return float(-np.logaddexp(0.0, -x))
