"""What fusion knows of bodies: how long bones are, and where the joints lie that no view measures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.observations import LIMB, Floats
from pose3d_ros.skeleton import HUMAN17, LIMBS12

# Bones of which the length is learned: rigid ones between measured joints, as joints of HUMAN17, and the lengths [m]
# that people have, from a child of one metre to the tallest, with some room for what detectors take for the joint.
_LENGTHS = {
    ('left_shoulder', 'right_shoulder'): (0.10, 0.60), ('left_hip', 'right_hip'): (0.03, 0.50),
    ('left_shoulder', 'left_elbow'): (0.10, 0.48), ('right_shoulder', 'right_elbow'): (0.10, 0.48),
    ('left_hip', 'left_knee'): (0.17, 0.65), ('right_hip', 'right_knee'): (0.17, 0.65),
    ('left_elbow', 'left_wrist'): (0.08, 0.45), ('right_elbow', 'right_wrist'): (0.08, 0.45),
    ('left_knee', 'left_ankle'): (0.15, 0.65), ('right_knee', 'right_ankle'): (0.15, 0.65),
}
BONES = np.array([[HUMAN17.index(a), HUMAN17.index(b)] for a, b in _LENGTHS], dtype=np.intp)
_TOWARDS = np.array([1.0, -1.0])[:, None, None]  # the ends of a bone that is too long move so along it
_LEVELS = (slice(0, 2), slice(2, 6), slice(6, 10))  # bones of one level share no joint
_RANGE = np.array(list(_LENGTHS.values()))
_TRUNK_LENGTH = (0.22, 0.85)  # m, between hips and shoulders of one side; bends, so that it is only checked
_TRUNK = np.array([[HUMAN17.index(f'{side}_hip'), HUMAN17.index(f'{side}_shoulder')] for side in ('left', 'right')])

_RELIABLE = 10       # measurements after which a learned length is used
_WINDOW = 60         # and how many it is averaged over
_LARGEST_STEP = 0.05   # m, a single measurement counts as no farther off than this
_BONE_SIGMA = 0.02   # m, detectors' joints slide along the bone by about this much
_SHARP = 0.05        # m, joints known worse than this do not tell a length

MIDDLE = HUMAN17.indices(['pelvis', 'spine', 'thorax', 'neck', 'head'])
_FIT_TRUNK = np.array([joint.endswith(('hip', 'shoulder')) for joint in LIMBS12.joints])
_LEAST_MIDDLE = 0.03  # m, standard deviation of a joint that follows from others, however well they are known


def plausible(position: Floats) -> NDArray[np.bool_]:
    """Return which of the people (M, 17, 3) m have bones of lengths that people have, at most one in four not.

    Nothing is held against somebody of whom fewer than three bones are known.
    """
    pairs, allowed = np.concatenate([BONES, _TRUNK]), np.concatenate([_RANGE, [_TRUNK_LENGTH] * 2])
    length = np.linalg.norm(position[:, pairs[:, 0]] - position[:, pairs[:, 1]], axis=-1)
    known = np.isfinite(length)
    wrong = known & ((length < allowed[:, 0]) | (length > allowed[:, 1]))
    return np.asarray((known.sum(axis=1) < 3) | (wrong.sum(axis=1) <= 0.25 * known.sum(axis=1)))


class BoneLengths:
    """The bone lengths of M people, learned from well triangulated joints. State: mean and count (M, bones)."""

    def __init__(self) -> None:
        self.mean: Floats = np.zeros((0, len(BONES)))
        self.count: NDArray[np.int64] = np.zeros((0, len(BONES)), dtype=np.int64)

    def add(self, count: int) -> None:
        """Append people of whom nothing is known yet."""
        self.mean = np.concatenate([self.mean, np.zeros((count, len(BONES)))])
        self.count = np.concatenate([self.count, np.zeros((count, len(BONES)), dtype=np.int64)])

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Keep only some of the people."""
        self.mean, self.count = self.mean[rows], self.count[rows]

    def learn(self, position: Floats, covariance: Floats) -> None:
        """Take in joints (M, 17, 3) m, NaN where not triangulated now, with covariance (M, 17, 3, 3)."""
        a, b = BONES.T
        with np.errstate(invalid='ignore'):
            sharp = np.einsum('...ii', covariance) < _SHARP**2
        length = np.linalg.norm(position[:, a] - position[:, b], axis=-1)
        use = sharp[:, a] & sharp[:, b] & np.isfinite(length)
        use &= (length > _RANGE[:, 0]) & (length < _RANGE[:, 1])
        self.count = self.count + use
        step = np.where(self.count > 1, np.clip(length - self.mean, -_LARGEST_STEP, _LARGEST_STEP), length - self.mean)
        self.mean = np.where(use, self.mean + step / np.clip(self.count, 1, _WINDOW), self.mean)

    def pulled(self, position: Floats, covariance: Floats) -> tuple[Floats, Floats]:
        """Return joints (M, 17, 3) m and covariances (M, 17, 3, 3) with bones drawn mildly to their learned lengths.

        Each end moves by its own uncertainty along the bone: a joint that one camera sees moves in depth, one that is
        triangulated well hardly at all. What is known of the length makes both surer.
        """
        position, covariance = position.copy(), covariance.copy()
        for bones in _LEVELS:
            ends = BONES[bones].T  # (2, bones)
            off = position[:, ends[1]] - position[:, ends[0]]
            length = np.linalg.norm(off, axis=-1)
            use = np.isfinite(length) & (length > 1e-3) & (self.count[:, bones] >= _RELIABLE)
            if not use.any():
                continue
            along = np.where(use[..., None], off / np.where(use, length, 1.0)[..., None], 0.0)
            spread = covariance[:, ends]
            pull = (spread @ along[:, None, ..., None])[..., 0]  # (M, 2, bones, 3)
            share = (pull.sum(axis=1) * along).sum(axis=-1) + _BONE_SIGMA**2
            scale = np.where(use, (length - self.mean[:, bones]) / share, 0.0)[:, None, :, None]
            position[:, ends] += pull * scale * _TOWARDS
            covariance[:, ends] = spread - pull[..., None] * (pull / share[:, None, :, None])[..., None, :]
        return position, covariance


def middle_joints(position: Floats, covariance: Floats, mono: Floats, row: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return the MIDDLE joints (M, 5, 3) m and covariances (M, 5, 3, 3) of people (M, 17, 3) with measured limbs.

    mono (K, 17, 3) m: bodies as single cameras found them, row (K,) whose each is. Each is moved and turned, not scaled
    or mirrored, to fit the limbs, the trunk above all, and takes its middle joints along; several are averaged by how
    well they fit. With none, pelvis and thorax are the midpoints of hips and shoulders, the spine is midway between
    them, and neck and head are NaN.
    """
    people = len(position)
    limbs = position[:, LIMB]
    hips, shoulders = (limbs[:, [LIMBS12.index(f'left_{name}'), LIMBS12.index(f'right_{name}')]].mean(axis=1)
                       for name in ('hip', 'shoulder'))
    nothing = np.full_like(hips, np.nan)
    middle = np.stack([hips, (hips + shoulders) / 2, shoulders, nothing, nothing], axis=1)
    variance = np.full(people, 2 * _LEAST_MIDDLE**2)
    carried, misfit = _carried(limbs[row], mono)
    good = np.isfinite(misfit)
    carried, misfit = np.where(good[:, None, None], carried, 0.0), np.where(good, misfit, 0.0)
    weight = np.where(good, 1 / (misfit + _LEAST_MIDDLE**2), 0.0)
    total, summed, badness = np.zeros(people), np.zeros((people, len(MIDDLE), 3)), np.zeros(people)
    np.add.at(total, row, weight)
    np.add.at(summed, row, weight[:, None, None] * carried)
    np.add.at(badness, row, weight * misfit)
    some = total > 0
    mean = summed / np.where(some, total, 1.0)[:, None, None]
    middle = np.where(some[:, None, None], mean, middle)
    variance = np.where(some, badness / np.where(some, total, 1.0) + _LEAST_MIDDLE**2, variance)
    trunk = covariance[:, LIMB[_FIT_TRUNK]]
    own: NDArray[np.bool_] = np.asarray(np.isfinite(position[:, LIMB[_FIT_TRUNK]]).all(axis=-1))
    spread = np.where(own[..., None, None], trunk, 0.0).sum(axis=1)
    spread = spread / np.maximum(own.sum(axis=1), 1)[:, None, None]
    spread = spread + variance[:, None, None] * np.eye(3)
    return middle, np.repeat(spread[:, None], len(MIDDLE), axis=1)


def _carried(limbs: Floats, mono: Floats) -> tuple[Floats, Floats]:
    """Fit mono (K, 17, 3) to limbs (K, 12, 3): its middle joints there (K, 5, 3), mean squared misfit (K,) m^2."""
    source = mono[:, LIMB]
    known: NDArray[np.bool_] = np.isfinite((source + limbs).sum(axis=-1))
    enough = (known & _FIT_TRUNK).sum(axis=1) >= 3
    weight = np.where(known, np.where(_FIT_TRUNK, 1.0, 0.1), 0.0)
    weight = weight / np.maximum(weight.sum(axis=1), 1e-9)[:, None]
    a, b = np.where(known[..., None], source, 0.0), np.where(known[..., None], limbs, 0.0)
    middle_a, middle_b = weight[:, None] @ a, weight[:, None] @ b  # (K, 1, 3)
    a, b = a - middle_a, b - middle_b
    u, _, vt = np.linalg.svd(np.swapaxes(b * weight[..., None], 1, 2) @ a)
    u[..., 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    turn = u @ vt  # limbs = turn @ source
    misfit = (weight[:, None] @ (b - a @ np.swapaxes(turn, -1, -2))**2).sum(axis=(1, 2))
    carried = (mono[:, MIDDLE] - middle_a) @ np.swapaxes(turn, -1, -2) + middle_b
    enough &= np.isfinite(carried).all(axis=(-1, -2))
    return np.where(enough[:, None, None], carried, np.nan), np.where(enough, misfit, np.nan)
