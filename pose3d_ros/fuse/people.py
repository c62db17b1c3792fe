"""The people that fusion follows: their joints over time, what is known of each, and how they are published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.body import MIDDLE, BoneLengths, middle_joints
from pose3d_ros.fuse.joint_filter import JointFilter
from pose3d_ros.fuse.measure import Measured
from pose3d_ros.fuse.observations import LIMB, Floats, Observations
from pose3d_ros.records import JointState, Person3D, PersonState
from pose3d_ros.skeleton import HUMAN17

_DOUBT = 1.6   # by so much the variance of a joint grows when a ray is left out for being far from it: it may be wrong
_ENDS = np.array([joint.endswith(('elbow', 'wrist', 'knee', 'ankle')) for joint in HUMAN17.joints])


@dataclass
class Known:
    """What is known of a person besides the joints.

    id; stamp_ns of the last call in which anybody saw him, seen: how many there were; the cameras that saw him then,
    how sure they were of him (score) and of the joints (17,), and which joints (17,) they saw; implausible: calls in a
    row in which the joints made no body; turned: calls in a row in which most views saw the sides exchanged, of arms
    and of legs.
    """

    id: int
    stamp_ns: int
    seen: int = 0
    cameras: frozenset[str] = frozenset()
    score: float = 0.0
    confidence: Floats = field(default_factory=lambda: np.zeros(17))
    observed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(17, dtype=bool))
    implausible: int = 0
    turned: list[int] = field(default_factory=lambda: [0, 0])


class People:
    """Rows of people: known, the filter of their joints, and the lengths of their bones, in the same order."""

    def __init__(self) -> None:
        self.joints = JointFilter(_ENDS)
        self.bones = BoneLengths()
        self.known: list[Known] = []

    def __len__(self) -> int:
        return len(self.known)

    @property
    def ids(self) -> list[int]:
        """The ids, row by row."""
        return [known.id for known in self.known]

    def add(self, id_: int, stamp_ns: int) -> int:
        """Append somebody of whom nothing is known yet; return the row."""
        self.known.append(Known(id_, stamp_ns))
        self.joints.add(1)
        self.bones.add(1)
        return len(self.known) - 1

    def keep(self, rows: Sequence[bool] | NDArray[np.bool_]) -> None:
        """Keep only some of the people."""
        keep = np.array(rows, dtype=bool)
        if not keep.all():
            self.joints.keep(keep)
            self.bones.keep(keep)
            self.known = [known for known, wanted in zip(self.known, keep, strict=True) if wanted]

    def forget_joints(self, stamp_ns: int, limit_s: float) -> None:
        """Take joints to be unknown that were not seen for so long although the person was."""
        away = np.array([(stamp_ns - known.stamp_ns) * 1e-9 for known in self.known])
        self.joints.forget(self.joints.unseen > limit_s + away[:, None])

    def turn(self, row: int, lower: bool) -> None:
        """Exchange left and right of the lower or the upper body of one person."""
        self.joints.exchange(row, np.where(HUMAN17.lower == lower, HUMAN17.mirror, np.arange(len(HUMAN17))))

    def expected(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Return LIMBS12 as predicted: position, velocity (M, 12, 3), covariance and that of velocity (M, 12, 3, 3)."""
        joints = self.joints
        return (joints.position[:, LIMB], joints.velocity[:, LIMB], joints.covariance[:, LIMB],
                joints.velocity_covariance[:, LIMB])

    def update(self, seen: Observations, row: NDArray[np.intp], now: Measured) -> int:
        """Take in the measured limbs, then the middle of the body from where they are; return joints that jumped."""
        people, joints = len(self.known), self.joints
        position, noise = np.full((people, 17, 3), np.nan), np.full((people, 17, 3, 3), np.nan)
        position[:, LIMB], noise[:, LIMB] = now.position, now.covariance
        jumps = int(joints.update(position, noise).sum())
        doubted = np.zeros((people, 17), dtype=bool)
        doubted[:, LIMB] = now.doubted & (now.views < 2)
        joints.covariance = np.where(doubted[..., None, None], _DOUBT * joints.covariance, joints.covariance)
        position[:, LIMB] = np.where(now.views[..., None] >= 2, now.position, np.nan)
        self.bones.learn(position, noise)
        joints.correct(*self.bones.pulled(joints.position, joints.covariance))

        mine = np.flatnonzero(row >= 0)
        position, noise = np.full((people, 17, 3), np.nan), np.full((people, 17, 3, 3), np.nan)
        position[:, MIDDLE], noise[:, MIDDLE] = middle_joints(joints.position, joints.covariance, seen.mono[mine],
                                                              row[mine])
        position[~np.isin(np.arange(people), row)] = np.nan
        joints.update(position, noise)
        return jumps

    def published(self, stamp_ns: int, confirm: int, most_predicted_s: float) -> list[Person3D]:
        """Return the people in the order of their ids, without those nobody has seen for too long.

        Somebody who was never confirmed is not predicted.
        """
        joints, result = self.joints, []
        there = np.isfinite(joints.position[:, :, 0])
        velocity = np.where(there[..., None], joints.velocity, np.nan)
        covariance = np.where(there[..., None, None], joints.covariance, np.nan)
        state = np.where(there, JointState.INFERRED, JointState.MISSING).astype(np.uint8)
        for row in np.argsort(self.ids, kind='stable'):
            known = self.known[row]
            away = (stamp_ns - known.stamp_ns) * 1e-9
            confirmed = known.seen >= confirm
            if away > (most_predicted_s if confirmed else 0.0) or not there[row].any():
                continue
            tracked = PersonState.TRACKED if confirmed else PersonState.TENTATIVE
            if away == 0:
                state[row, known.observed] = JointState.OBSERVED
            fade = float(np.exp(-away / 0.3))
            result.append(Person3D(
                HUMAN17, joints.position[row].copy(), velocity[row], covariance[row],
                np.where(there[row], fade * known.confidence, 0.0), state[row], fade * known.score, known.id,
                tracked if away == 0 else PersonState.PREDICTED))
        return result
