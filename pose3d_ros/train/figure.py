"""A jointed figure: bone lengths, a posture by where the limbs' ends are led, and the 17 joints that follow."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import CHAIN_ENDS, CHAIN_UPRIGHT


@dataclass(frozen=True)
class Body:
    """Bone lengths in m; by default as shares of leg + trunk + head, medians of recorded people."""

    thigh: float = 0.243
    shank: float = 0.256
    lower_back: float = 0.132    # pelvis to spine
    upper_back: float = 0.170    # spine to thorax
    neck: float = 0.087          # thorax to neck
    head: float = 0.060
    hips: float = 0.055          # half of their distance
    shoulders: float = 0.111      # half of their distance
    shoulder_drop: float = 0.02  # below the thorax
    upper_arm: float = 0.177
    forearm: float = 0.175

    @property
    def leg(self) -> float:
        """Hip to ankle, of a straight leg."""
        return self.thigh + self.shank

    @staticmethod
    def of(stature: float, rng: np.random.Generator | None = None, variation: float = 0.04) -> Body:
        """Return the body of a person of this stature m, as `stature.stature` measures it; rng: proportions differ."""
        lengths = {part.name: float(part.default) for part in fields(Body)}  # type: ignore[arg-type]
        if rng is not None:
            lengths = {name: length * rng.uniform(1 - variation, 1 + variation) for name, length in lengths.items()}
        chain = sum(lengths[name] for name in ('thigh', 'shank', 'lower_back', 'upper_back', 'neck', 'head'))
        scale = (stature - CHAIN_ENDS) / CHAIN_UPRIGHT / chain
        return Body(**{name: scale * length for name, length in lengths.items()})


@dataclass
class Posture:
    """Where a body is led, for T moments; metres and radians, x to the right of a person of heading 0, y ahead, z up.

    place (T, 2), heading (T,), height (T,) of the pelvis; lean forwards, side to the right, twist to the left (T,) of
    the trunk; nod, look (T,) of the head; ankles (T, 2, 3) in the world, hands (T, 2, 3) from the shoulders in the
    frame of the trunk: left, right.
    """

    place: NDArray
    heading: NDArray
    height: NDArray
    lean: NDArray
    side: NDArray
    twist: NDArray
    nod: NDArray
    look: NDArray
    ankles: NDArray
    hands: NDArray


def joints_of(body: Body, posture: Posture) -> NDArray[np.float64]:
    """Return the joints (T, 17, 3) m of HUMAN17; feet and hands that are led too far stay on the line to there."""
    def frame(share: float) -> Rotation:
        angles = [posture.heading + share * posture.twist, -share * posture.lean, share * posture.side]
        return Rotation.from_euler('ZXY', np.stack(angles, axis=-1))

    hips, trunk = frame(0.3), frame(1.0)
    skull = trunk * Rotation.from_euler('ZX', np.stack([posture.look, -posture.nod], axis=-1))
    joints = {'pelvis': np.concatenate([posture.place, posture.height[:, None]], axis=-1)}
    for name, below, turn, length in (
            ('spine', 'pelvis', hips, body.lower_back), ('thorax', 'spine', trunk, body.upper_back),
            ('neck', 'thorax', trunk, body.neck), ('head', 'neck', skull, body.head)):
        joints[name] = joints[below] + turn.apply([0.0, 0.0, length])
    for index, (side, sign) in enumerate((('left', -1.0), ('right', 1.0))):
        hip = joints['pelvis'] + hips.apply([sign * body.hips, 0.0, 0.0])
        shoulder = joints['thorax'] + trunk.apply([sign * body.shoulders, 0.0, -body.shoulder_drop])
        hand = shoulder + trunk.apply(posture.hands[:, index])
        knee, ankle = two_bones(hip, posture.ankles[:, index], body.thigh, body.shank,
                                hips.apply([0.15 * sign, 1.0, 0.1]))
        elbow, wrist = two_bones(shoulder, hand, body.upper_arm, body.forearm,
                                 trunk.apply([0.45 * sign, -0.55, -0.35]))
        joints |= {f'{side}_hip': hip, f'{side}_knee': knee, f'{side}_ankle': ankle, f'{side}_shoulder': shoulder,
                   f'{side}_elbow': elbow, f'{side}_wrist': wrist}
    return np.stack([joints[name] for name in HUMAN17.joints], axis=1)


def two_bones(start: NDArray, target: NDArray, first: float, second: float, pole: NDArray) -> tuple[NDArray, NDArray]:
    """Return middle and end (T, 3) of two bones from start towards target (T, 3), bent towards pole (T, 3).

    They never stretch quite straight, and come near it smoothly: a middle joint would jump there.
    """
    way = target - start
    distance = np.linalg.norm(way, axis=-1, keepdims=True)
    ahead = way / np.maximum(distance, 1e-9)
    distance = np.maximum(distance, 1.05 * abs(first - second) + 0.02) / (first + second)
    straight = 0.94 + 0.05 * np.tanh((distance - 0.94) / 0.05)
    distance = (first + second) * np.where(distance < 0.94, distance, straight)
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    aside = pole - np.sum(pole * ahead, axis=-1, keepdims=True) * ahead
    aside /= np.maximum(np.linalg.norm(aside, axis=-1, keepdims=True), 1e-9)
    return start + along * ahead + np.sqrt(np.maximum(first**2 - along**2, 0.0)) * aside, start + distance * ahead
