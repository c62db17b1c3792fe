"""What the mannequin's skin follows: weights, the regressor of joints, and corrections of shape for bent joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.mannequin import proportions as figure
from pose3d_ros.mannequin.surface import averaging
from pose3d_ros.skeleton import SMPL24, mirrored

JOINTS = len(SMPL24)
MOST_JOINTS = 4        # that a vertex follows: what file formats of meshes, and graphics cards, take
_LEAST_WEIGHT = 0.004
_SMOOTHING = 3         # rounds over the mesh
_SAMPLES = 64         # poses per joint to which corrections are fitted
_RIDGE = 0.02
_SMALLEST = 6e-4       # m: corrections below are left out
_FRACTION = 2.0 ** -14  # m: corrections are whole multiples, which pack well


@dataclass(frozen=True)
class Gate:
    """Where a joint's part begins: a plane, and how far to both sides of it (m) skin follows both parts.

    Mirrored for the right side. box: beyond the plane, only what also lies in these limits: (axis, lowest, highest, m).
    """

    point: tuple[float, float, float]
    normal: tuple[float, float, float]
    width: float
    box: tuple[tuple[int, float, float], ...] = ()

    def share(self, points: NDArray) -> NDArray[np.float64]:
        """Return how much of points (V, 3) lies beyond, 0..1."""
        normal = np.array(self.normal) / np.linalg.norm(self.normal)
        beyond = _step((points - self.point) @ normal / self.width)
        for axis, lowest, highest in self.box:
            beyond = beyond * _step((points[:, axis] - lowest) / 0.02) * _step((highest - points[:, axis]) / 0.02)
        return beyond


# In the coordinates of `proportions`.
GATES = {
    'spine1': Gate((0, 0.985, 0), (0, 1, 0), 0.055),
    'spine2': Gate((0, 1.100, 0), (0, 1, 0), 0.055),
    'spine3': Gate((0, 1.215, 0), (0, 1, 0), 0.050),
    'neck': Gate((0, 1.435, -0.030), (0, 1, 0.2), 0.035, ((0, -0.085, 0.085),)),
    'head': Gate((0, 1.505, 0.000), (0, 0.9, 0.35), 0.032),
    'left_collar': Gate((0.085, 1.360, -0.025), (1, 0.3, 0), 0.055, ((1, 1.275, 1.480),)),
    'left_shoulder': Gate((0.160, 1.375, -0.030), (1, 0.50, 0), 0.050),
    'left_elbow': Gate((0.442, 1.380, -0.040), (1, 0, 0), 0.045),
    'left_wrist': Gate((0.690, 1.385, -0.035), (1, 0, 0), 0.030),
    'left_hand': Gate((0.775, 1.380, -0.035), (1, 0, 0), 0.025),
    'left_hip': Gate((0.085, 0.872, 0.000), (0.42, -0.87, 0.1), 0.058, ((0, -0.008, 0.3), (1, -0.1, 1.0))),
    'left_knee': Gate((0.113, 0.475, 0.000), (0, -1, 0), 0.055),
    'left_ankle': Gate((0.128, 0.085, -0.035), (0, -1, 0.3), 0.035),
    'left_foot': Gate((0.137, 0.022, 0.085), (0, -0.2, 1), 0.028),
}

# How far joints are turned when corrections are fitted: axis-angle in radians, lowest and highest about x, y, z.
BENDS = {
    'left_hip': ((-2.0, 0.5), (-0.5, 0.5), (-0.4, 0.6)), 'left_knee': ((0.0, 2.3), (-0.2, 0.2), (-0.1, 0.1)),
    'left_ankle': ((-0.6, 0.8), (-0.3, 0.3), (-0.3, 0.3)), 'left_shoulder': ((-0.9, 0.9), (-1.7, 0.5), (-1.5, 1.0)),
    'left_elbow': ((-1.2, 1.2), (-2.4, 0.0), (-0.2, 0.2)), 'left_wrist': ((-0.8, 0.8), (-0.5, 0.5), (-1.1, 1.1)),
    'neck': ((-0.6, 0.6), (-0.8, 0.8), (-0.5, 0.5)), 'head': ((-0.6, 0.6), (-0.8, 0.8), (-0.5, 0.5)),
}


def _step(value: NDArray) -> NDArray:
    """Return 0 below -1, 1 above +1, and a smooth way between."""
    share = np.clip(0.5 + 0.5 * value, 0, 1)
    return share * share * (3 - 2 * share)


def skin_weights(points: NDArray, faces: NDArray, other: NDArray) -> NDArray[np.float64]:
    """Return how much each vertex (V, 3) follows each joint, (V, 24): rows sum to 1, at most four are not zero.

    other (V,): the mirror image of each vertex, whose weights are the same with sides exchanged.
    """
    beyond = np.ones((len(points), JOINTS))
    for index, joint in enumerate(SMPL24.joints[1:], 1):
        right = SMPL24.side(joint) == 'right'
        gate = GATES[mirrored(joint) if right else joint]
        own = points * np.array([-1, 1, 1]) if right else points
        beyond[:, index] = beyond[:, SMPL24.index(SMPL24.parents[index])] * gate.share(own)
    weights = beyond.copy()
    for index, parent in enumerate(SMPL24.parents[1:], 1):
        weights[:, SMPL24.index(parent)] -= beyond[:, index]
    weights = np.clip(weights, 0, None)  # where the parts of two children overlap
    mean = averaging(faces, len(points))
    for _ in range(_SMOOTHING):
        weights = 0.5 * weights + 0.5 * (mean @ weights)
    weights = 0.5 * (weights + weights[other][:, SMPL24.mirror])
    weights = np.round(weights, 12)  # so that equal ones are equal
    fifth = np.sort(weights, axis=1)[:, -MOST_JOINTS - 1, None]  # and what equals it, on both sides of the middle
    weights[(weights <= fifth) | (weights < _LEAST_WEIGHT)] = 0
    return weights / weights.sum(axis=1, keepdims=True)


def joint_regressor(points: NDArray, weights: NDArray, joints: NDArray) -> NDArray[np.float64]:
    """Return the matrix (24, V) with joints = matrix @ points, without negative numbers and with rows that sum to 1.

    Among all such it is the one nearest (in relative entropy) to a bell around each joint, over the skin of the joint
    and of its parent.
    """
    regressor = np.zeros((JOINTS, len(points)))
    for index, joint in enumerate(joints):
        parent = SMPL24.parents[index]
        near = weights[:, index] + (weights[:, SMPL24.index(parent)] if parent else 0)
        offset = points - joint
        distance = np.linalg.norm(offset, axis=1)
        reach = 1.3 * np.sort(distance[near > 0.3])[12]
        bell = near * np.exp(-0.5 * (distance / reach) ** 2)
        chosen = np.flatnonzero(bell > 0.02 * bell.max())
        regressor[index, chosen] = _nearest_mixture(bell[chosen], offset[chosen])
    return regressor


def _nearest_mixture(prior: NDArray, offset: NDArray) -> NDArray:
    """Return weights (M,), sum 1, with weights @ offset (M, 3) = 0: prior * exp(offset @ a), by Newton's method."""
    scale = abs(offset).max()
    offset = offset / scale
    multiplier = np.zeros(3)
    for _ in range(200):
        weights = prior * np.exp(np.clip(offset @ multiplier, -30, 30))
        weights /= weights.sum()
        mean = weights @ offset
        if np.linalg.norm(mean) < 1e-13:
            return weights
        spread = (weights[:, None] * offset).T @ offset - np.outer(mean, mean)
        step = np.linalg.solve(spread + 1e-9 * np.eye(3), mean)
        multiplier -= step * min(1.0, 2.0 / np.linalg.norm(step))
    raise ValueError('a joint lies outside the skin that is to give it')


def pose_corrections(points: NDArray, weights: NDArray, joints: NDArray) -> NDArray[np.float64]:
    """Return blend shapes (V, 3, 207) that keep bent and twisted joints from losing volume.

    Linear blending of a turn by s about a joint draws skin towards the joint; a turn by q^s would not (L. Kavan, S.
    Collins, J. Zara, C. O'Sullivan, "Geometric skinning with approximate dual quaternion blending", 2008). The
    difference, in the rest pose, is fitted by the elements of the joint's rotation.
    """
    corrections = np.zeros((len(points), 3, JOINTS - 1, 9))
    for joint in SMPL24.joints[1:]:
        right = SMPL24.side(joint) == 'right'
        if (left := mirrored(joint) if right else joint) not in BENDS:
            continue
        index = SMPL24.index(joint)
        share = _descendants(weights, index)
        chosen = np.flatnonzero((share > 0.01) & (share < 0.99))
        lowest, highest = np.array(BENDS[left]).T
        vectors = np.random.default_rng(7).uniform(lowest, highest, (_SAMPLES, 3))
        turns = Rotation.from_rotvec(vectors * ((1, -1, -1) if right else (1, 1, 1)))
        wanted = _lost(points[chosen] - joints[index], share[chosen], turns)
        if SMPL24.side(joint) != 'middle':
            # What follows both legs alike loses nothing when both move together, as in sitting.
            wanted *= 1 - 2 * np.minimum(_descendants(weights, SMPL24.mirror[index])[chosen, None], 0.5)
        features = (turns.as_matrix() - np.eye(3)).reshape(_SAMPLES, 9)
        solved = np.linalg.solve(features.T @ features + _RIDGE * _SAMPLES * np.eye(9),
                                 features.T @ wanted.reshape(_SAMPLES, -1))
        corrections[chosen, :, index - 1] = solved.reshape(9, len(chosen), 3).transpose(1, 2, 0)
    corrections[abs(corrections) < _SMALLEST] = 0
    return (np.round(corrections / _FRACTION) * _FRACTION).reshape(len(points), 3, -1)


def _descendants(weights: NDArray, joint: int) -> NDArray:
    """Return how much of each vertex (V,) moves when a joint turns: its weights of the joint and all beyond."""
    moved = {joint}
    for index, parent in enumerate(SMPL24.parents[1:], 1):
        if SMPL24.index(parent) in moved:
            moved.add(index)
    return weights[:, sorted(moved)].sum(axis=1)


def _lost(offset: NDArray, share: NDArray, turns: Rotation) -> NDArray:
    """Return what linear blending loses (S, M, 3), at rest, of points at offset (M, 3) m from a turned joint."""
    quaternions = turns.as_quat()
    quaternions *= np.where(quaternions[:, 3:] < 0, -1, 1)
    mixed = share[:, None] * quaternions[:, None]
    mixed[..., 3] += 1 - share
    whole = Rotation.from_quat(mixed.reshape(-1, 4)).as_matrix().reshape(*mixed.shape[:2], 3, 3)
    linear = np.eye(3) + share[:, None, None] * (turns.as_matrix()[:, None] - np.eye(3))
    return (np.linalg.solve(linear, whole) @ offset[..., None])[..., 0] - offset


def bone_places(points: NDArray) -> NDArray[np.float64]:
    """Return how far along each bone (V, 24) points (V, 3) lie: 0 at its joint, 1 at its end, no more beyond."""
    starts = figure.rest_joints()
    along = figure.bone_ends() - starts
    length = (along ** 2).sum(axis=1)
    places = ((points[:, None] - starts) * along).sum(axis=-1) / np.where(length > 0, length, 1)
    return np.clip(places, 0, 1)
