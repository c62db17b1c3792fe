"""Variation of recorded bodies, so that a few minutes of motion stand for many people in many poses.

All poses are (B, 17, 3) m in the order of HUMAN17, world axes with z up. A pose is taken apart into bones (B, 17, 3):
the vector from a joint's parent to the joint; the pelvis' own entry is its position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import CHAIN_ENDS, stature
from pose3d_ros.train.window_random import WindowRandom

PARENTS = np.array([HUMAN17.index(parent) if parent else 0 for parent in HUMAN17.parents])
PELVIS = HUMAN17.index('pelvis')
LEFT_LEG = HUMAN17.indices(['left_hip', 'left_knee', 'left_ankle'])
RIGHT_LEG = HUMAN17.indices(['right_hip', 'right_knee', 'right_ankle'])
LEFT_ARM = HUMAN17.indices(['left_shoulder', 'left_elbow', 'left_wrist'])
RIGHT_ARM = HUMAN17.indices(['right_shoulder', 'right_elbow', 'right_wrist'])
TRUNK = HUMAN17.indices(['spine', 'thorax', 'neck', 'head'])
UPPER = np.concatenate([TRUNK, LEFT_ARM, RIGHT_ARM])
LEGS = np.concatenate([LEFT_LEG, RIGHT_LEG])
KNEES_AND_ANKLES = HUMAN17.indices(['left_knee', 'right_knee', 'left_ankle', 'right_ankle'])

ANKLE_ABOVE_FLOOR = 0.08   # m, of a standing adult, as in the recordings
KNEE_ABOVE_FLOOR = 0.06    # m, of somebody kneeling


@dataclass(frozen=True)
class BodyVariation:
    """How much a recorded body is changed: chances in 0..1, standard deviations, ranges."""

    mirror: float = 0.5
    stature_mean: float = 1.70                          # m
    stature_sd: float = 0.10                            # m
    stature_range: tuple[float, float] = (1.40, 2.05)   # m
    bone_sd: float = 0.04              # of a bone's length, left and right alike
    side_sd: float = 0.01              # of a bone's length, left against right
    hip_width: tuple[float, float] = (0.9, 1.3)         # factor; detectors mark hips wider than motion capture does
    # Detectors of landmarks do not mark the centres of joints as motion capture does. Ranges in m, of somebody of
    # 1.70 m, about what BlazePose marks on the sample footage:
    marks: float = 0.65                                 # chance of landmarks instead of joint centres
    hip_mark: tuple[float, float] = (0.01, 0.06)        # down the thigh; the pelvis goes with them
    knee_mark: tuple[float, float] = (0.0, 0.05)        # down the shank
    ankle_mark: tuple[float, float] = (0.01, 0.055)     # up the shank
    shoulder_mark: tuple[float, float] = (-0.01, 0.03)  # down the trunk
    swap_arms: float = 0.35            # arms taken from another frame
    swap_legs: float = 0.25            # legs taken from another frame
    crouch: float = 0.15               # of the standing frames: hips and knees bent, seated, squatting or kneeling
    bend_sd: float = 0.08              # rad, random change of each bone's direction
    bend: float = 0.5                  # chance of that change
    lie: float = 0.03                  # tilted to the floor, as somebody who has fallen


NO_VARIATION = BodyVariation(mirror=0.0, stature_sd=0.0, stature_mean=float('nan'), bone_sd=0.0, side_sd=0.0,
                             hip_width=(1.0, 1.0), marks=0.0, swap_arms=0.0, swap_legs=0.0, crouch=0.0, bend=0.0,
                             lie=0.0)


def to_bones(positions: NDArray) -> NDArray:
    """Return the bones (B, 17, 3) of poses (B, 17, 3)."""
    bones = positions - positions[:, PARENTS]
    bones[:, PELVIS] = positions[:, PELVIS]
    return bones


def to_positions(bones: NDArray) -> NDArray:
    """Return the poses (B, 17, 3) of bones (B, 17, 3); the inverse of to_bones."""
    positions = bones.copy()
    for joint in range(1, bones.shape[1]):
        positions[:, joint] += positions[:, PARENTS[joint]]
    return positions


def mirror(positions: NDArray) -> NDArray:
    """Return the mirror images of poses (B, 17, 3): left and right exchanged, x negated."""
    return positions[:, HUMAN17.mirror] * np.array([-1, 1, 1], dtype=positions.dtype)


def rotation_about(axis: NDArray, angle: NDArray) -> NDArray:
    """Return rotation matrices (B, 3, 3) by angle (B,) rad about unit axes (B, 3) (Rodrigues' formula)."""
    x, y, z = axis.T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    return (np.eye(3, dtype=axis.dtype) + np.sin(angle)[:, None, None] * cross
            + (1 - np.cos(angle))[:, None, None] * (cross @ cross))


def vary(positions: NDArray, others: NDArray, rng: np.random.Generator, settings: BodyVariation,
         frames: int = 1) -> NDArray:
    """Return changed poses (B, 17, 3) of poses (B, 17, 3); others (B, 17, 3) lend arms and legs.

    frames: every so many rows are one window of one body's motion, newest first, and are changed alike. The newest
    pelvis of the result is at x = y = 0, with its height above the floor kept meaningful (feet stay on it).
    """
    draw = WindowRandom(rng, frames)
    positions = np.where(_chance(draw, settings.mirror, positions), mirror(positions), positions)
    others = np.where(_chance(draw, settings.mirror, others), mirror(others), others)
    bones, lent = to_bones(positions), to_bones(others)
    bones = _lend_arms(bones, lent, draw, settings.swap_arms)
    bones = _lend_legs(bones, lent, draw, settings.swap_legs)
    bones = _crouch(bones, draw, settings.crouch)
    bones = _bend(bones, draw, settings)
    bones = _resize(bones, draw, settings)
    positions = _lie(to_positions(bones), draw, settings.lie)
    positions[..., :2] -= draw.newest(positions[:, PELVIS, None, :2])
    return positions.astype(np.float32, copy=False)


def _chance(rng: WindowRandom, share: float, values: NDArray) -> NDArray:
    """Return a random choice (B, 1, 1), true for about `share` of the batch."""
    return rng.random(len(values))[:, None, None] < share


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _rotate(rotation: NDArray, vectors: NDArray) -> NDArray:
    """Return vectors (B, J, 3) turned by rotations (B, 3, 3)."""
    return vectors @ np.swapaxes(rotation, -1, -2)


def _leftward(bones: NDArray) -> NDArray:
    """Return the horizontal unit vector (B, 3) from the right hip to the left."""
    across = bones[:, LEFT_LEG[0]] - bones[:, RIGHT_LEG[0]]
    across[:, 2] = 0
    return _unit(across)


def _trunk_frame(bones: NDArray) -> NDArray:
    """Return rotations (B, 3, 3) whose columns are the trunk's forward, left and up axes."""
    up = _unit(bones[:, TRUNK[0]] + bones[:, TRUNK[1]])
    across = bones[:, LEFT_ARM[0]] - bones[:, RIGHT_ARM[0]]
    left = _unit(across - (across * up).sum(axis=-1, keepdims=True) * up)
    return np.stack([np.cross(left, up), left, up], axis=-1)


def _heading_frame(bones: NDArray) -> NDArray:
    """Return rotations (B, 3, 3) whose columns are the hips' forward and left axes in the horizontal plane, and up."""
    left = _leftward(bones)
    up = np.broadcast_to(np.array([0, 0, 1], dtype=bones.dtype), left.shape)
    return np.stack([np.cross(left, up), left, up], axis=-1)


def _with_length_of(directions: NDArray, bones: NDArray) -> NDArray:
    return _unit(directions) * np.linalg.norm(bones, axis=-1, keepdims=True)


def _lend_arms(bones: NDArray, lent: NDArray, rng: WindowRandom, share: float) -> NDArray:
    """Take left, right or both arms of the other body, as they were held against the trunk."""
    if share <= 0:
        return bones
    turn = _trunk_frame(bones) @ np.swapaxes(_trunk_frame(lent), -1, -2)
    result = bones.copy()
    chosen = rng.random(len(bones))[:, None, None] < share
    for arm in (LEFT_ARM, RIGHT_ARM):
        this = chosen & _chance(rng, 0.75, bones)
        moved = _with_length_of(_rotate(turn, lent[:, arm]), bones[:, arm])
        result[:, arm] = np.where(this, moved, bones[:, arm])
    return result


def _lend_legs(bones: NDArray, lent: NDArray, rng: WindowRandom, share: float) -> NDArray:
    """Take both legs of the other body, turned to this one's heading and standing as they stood."""
    if share <= 0:
        return bones
    turn = _heading_frame(bones) @ np.swapaxes(_heading_frame(lent), -1, -2)
    moved = bones.copy()
    moved[:, LEGS] = _with_length_of(_rotate(turn, lent[:, LEGS]), bones[:, LEGS])
    floor = to_positions(lent)[:, LEGS, 2].min(axis=1)
    moved[:, PELVIS, 2] += floor - to_positions(moved)[:, LEGS, 2].min(axis=1)
    return np.where(_chance(rng, share, bones), moved, bones)


def _crouch(bones: NDArray, rng: WindowRandom, share: float) -> NDArray:
    """Bend hips and knees of standing bodies and lean the trunk: sitting, squatting, kneeling; feet on the floor."""
    if share <= 0:
        return bones
    size = len(bones)
    left = _leftward(bones)
    kind = rng.random(size)
    hip = np.where(kind < 0.4, rng.uniform(60, 115, size),        # seated
                   np.where(kind < 0.8, rng.uniform(10, 130, size),   # half or full squat
                            rng.uniform(-10, 40, size)))              # kneeling
    knee = np.where(kind < 0.4, hip + rng.uniform(-30, 30, size),
                    np.where(kind < 0.8, hip + rng.uniform(0, 45, size), rng.uniform(80, 140, size)))
    lean = np.where(kind < 0.4, rng.uniform(-20, 30, size), rng.uniform(0, 45, size))
    moved = bones.copy()
    for leg in (LEFT_LEG, RIGHT_LEG):
        own_hip = np.radians(hip + rng.normal(0, 8, size))
        own_knee = np.radians(np.clip(knee + rng.normal(0, 8, size), 0, 150))
        moved[:, leg[1:2]] = _rotate(rotation_about(left, -own_hip), bones[:, leg[1:2]])
        moved[:, leg[2:3]] = _rotate(rotation_about(left, own_knee - own_hip), bones[:, leg[2:3]])
    moved[:, UPPER] = _rotate(rotation_about(left, np.radians(lean)), bones[:, UPPER])
    above = np.array([KNEE_ABOVE_FLOOR, KNEE_ABOVE_FLOOR, ANKLE_ABOVE_FLOOR, ANKLE_ABOVE_FLOOR], dtype=bones.dtype)
    moved[:, PELVIS, 2] -= (to_positions(moved)[:, KNEES_AND_ANKLES, 2] - above).min(axis=1)
    upright = rng.newest(_unit(bones[:, KNEES_AND_ANKLES])[..., 2].max(axis=1) < -0.9)
    return np.where(_chance(rng, share, bones) & upright[:, None, None], moved, bones)


def _bend(bones: NDArray, rng: WindowRandom, settings: BodyVariation) -> NDArray:
    if settings.bend <= 0:
        return bones
    noise = rng.normal(0, settings.bend_sd, bones.shape)
    length = np.linalg.norm(bones, axis=-1, keepdims=True)
    bent = _with_length_of(bones + noise * length, bones)
    bent[:, PELVIS] = bones[:, PELVIS]
    return np.where(_chance(rng, settings.bend, bones), bent, bones)


def _resize(bones: NDArray, rng: WindowRandom, settings: BodyVariation) -> NDArray:
    """Change proportions and stature. The lowest joint keeps its height, scaled with the body."""
    size, joints = bones.shape[:2]
    if settings.bone_sd <= 0 and not np.isfinite(settings.stature_mean):
        return bones
    own = np.exp(rng.normal(0, settings.bone_sd, (size, joints)))
    factor = np.where(np.arange(joints) < HUMAN17.mirror, own, own[:, HUMAN17.mirror])
    factor *= np.exp(rng.normal(0, settings.side_sd, (size, joints)))
    factor[:, [LEFT_LEG[0], RIGHT_LEG[0]]] *= rng.uniform(*settings.hip_width, (size, 1))
    lowest = to_positions(bones)[..., 2].min(axis=1)
    bones = bones * factor[..., None]
    if np.isfinite(settings.stature_mean):
        target = np.clip(rng.normal(settings.stature_mean, settings.stature_sd, size), *settings.stature_range)
        # Ends below the ankle and above the head are part of the stature but not of the bones: solve for the factor.
        grow = (target - CHAIN_ENDS) / (stature(to_positions(bones)) - CHAIN_ENDS)
        bones = bones * grow[:, None, None]
        lowest = lowest * grow
    bones[:, PELVIS, 2] += lowest - to_positions(bones)[..., 2].min(axis=1)
    return bones


def shift_marks(positions: NDArray, rng: WindowRandom, settings: BodyVariation,
                height: NDArray) -> tuple[NDArray, NDArray[np.bool_]]:
    """Move hips, knees, ankles and shoulders of some of the poses (B, 17, 3) to where a detector marks them.

    height (B,) m: the stature, which is that of the bones before. Returns the poses and whose marks they have (B,).
    """
    if settings.marks <= 0:
        return positions, np.zeros(len(positions), dtype=np.bool_)
    result = positions.copy()
    for leg in (LEFT_LEG, RIGHT_LEG):
        for joint, towards, by in ((leg[0], leg[1], settings.hip_mark), (leg[1], leg[2], settings.knee_mark),
                                   (leg[2], leg[1], settings.ankle_mark)):
            result[:, joint] += _step(positions, joint, towards, height * rng.uniform(*by, len(height)))
    for arm, leg in ((LEFT_ARM, LEFT_LEG), (RIGHT_ARM, RIGHT_LEG)):
        by = height * rng.uniform(*settings.shoulder_mark, len(height))
        result[:, arm[0]] += _step(positions, arm[0], leg[0], by)
    result[:, PELVIS] = result[:, [LEFT_LEG[0], RIGHT_LEG[0]]].mean(axis=1)
    marked = _chance(rng, settings.marks, positions)
    return np.where(marked, result, positions), marked[:, 0, 0]


def _step(positions: NDArray, start: int, towards: int, length: NDArray) -> NDArray:
    """Return the way (B, 3) from one joint towards another, length (B,) m times the stature over 1.70 m."""
    return _unit(positions[:, towards] - positions[:, start]) * (length / 1.70)[:, None]


def _lie(positions: NDArray, rng: WindowRandom, share: float) -> NDArray:
    """Tip some bodies over to the floor, about any horizontal axis through the pelvis."""
    if share <= 0:
        return positions
    size = len(positions)
    heading = rng.uniform(0, 2 * np.pi, size)
    axis = np.stack([np.cos(heading), np.sin(heading), np.zeros(size)], axis=-1)
    turn = rotation_about(axis, np.radians(rng.normal(90, 10, size)))
    pelvis = positions[:, PELVIS, None]
    lying = _rotate(turn, positions - pelvis) + pelvis
    lying[..., 2] += (ANKLE_ABOVE_FLOOR - lying[..., 2].min(axis=1))[:, None]
    return np.where(_chance(rng, share, positions), lying, positions)
