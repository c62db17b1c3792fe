"""Joint sets by name: order, parents, bones to draw, left/right mirror, and selection between sets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_LOWER_BODY = {'hip', 'knee', 'ankle', 'heel', 'foot', 'foot_index', 'toe', 'big_toe', 'small_toe'}  # of one side


@dataclass(frozen=True)
class Skeleton:
    """An ordered, named set of joints.

    name: published in messages and model metadata. joints: unique names; a left/right pair is named left_X, right_X.
    bones: pairs of joint names (drawn as segments). parents: kinematic parent of each joint by name, '' for the root;
    empty for a set that is a point cloud rather than a tree.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[str, str], ...]
    parents: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f'skeleton {self.name}: joint names repeat')
        if self.parents and len(self.parents) != len(self.joints):
            raise ValueError(f'skeleton {self.name}: {len(self.parents)} parents for {len(self.joints)} joints')
        for joint in [*(name for bone in self.bones for name in bone), *filter(None, self.parents)]:
            self.index(joint)

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Return the position of a joint. Raises KeyError naming the skeleton."""
        try:
            return self._positions[joint]
        except KeyError:
            raise KeyError(f'skeleton {self.name} has no joint {joint!r}') from None

    def indices(self, joints: tuple[str, ...] | list[str]) -> NDArray[np.intp]:
        """Return the positions of several joints, as an index array."""
        return np.array([self.index(joint) for joint in joints], dtype=np.intp)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {joint: position for position, joint in enumerate(self.joints)}

    @cached_property
    def mirror(self) -> NDArray[np.intp]:
        """Permutation (J,) that exchanges left and right: values[..., mirror, :] is the relabelled body.

        A joint of one side that the other side lacks stays.
        """
        return self.indices([mirrored(joint) if mirrored(joint) in self._positions else joint for joint in self.joints])

    @cached_property
    def lower(self) -> NDArray[np.bool_]:
        """Which joints (J,) belong to hips, legs and feet."""
        return np.array([joint.removeprefix('left_').removeprefix('right_') in _LOWER_BODY for joint in self.joints])

    @cached_property
    def bone_indices(self) -> NDArray[np.intp]:
        """Return the bones as index pairs (B, 2)."""
        return np.array([(self.index(a), self.index(b)) for a, b in self.bones], dtype=np.intp).reshape(-1, 2)

    def side(self, joint: str) -> str:
        """Return 'left', 'right' or 'middle'."""
        head = joint.split('_', 1)[0]
        return head if head in ('left', 'right') else 'middle'


def mirrored(joint: str) -> str:
    """Return the name of the joint on the other side of the body; a middle joint is its own mirror image."""
    if joint.startswith('left_'):
        return 'right_' + joint[len('left_'):]
    if joint.startswith('right_'):
        return 'left_' + joint[len('right_'):]
    return joint


def select(values: NDArray, source: Skeleton, target: Skeleton, axis: int = -2) -> NDArray:
    """Return values (float array, J_source along axis) in the target's joint order; joints the source lacks are NaN.

    By name, but for the few joints that two sets call by one name and mean otherwise (SMPL24_TO_HUMAN17).
    """
    names = _OTHER_NAMES.get((source.name, target.name), {})
    values = np.moveaxis(np.asarray(values), axis, 0)
    if len(values) != len(source):
        raise ValueError(f'{len(values)} joints along axis {axis}, but skeleton {source.name} has {len(source)}')
    chosen = np.full((len(target), *values.shape[1:]), np.nan, dtype=np.result_type(values, np.float32))
    for position, joint in enumerate(target.joints):
        name = names.get(joint, joint)
        if name in source._positions:
            chosen[position] = values[source.index(name)]
    return np.moveaxis(chosen, 0, axis)


def _both(*bones: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the bones of the left side together with their mirror images."""
    return tuple(bone for a, b in bones for bone in ((a, b), (mirrored(a), mirrored(b))))


_LIMB_BONES = (
    ('left_shoulder', 'left_elbow'), ('left_elbow', 'left_wrist'),
    ('left_hip', 'left_knee'), ('left_knee', 'left_ankle'),
)

# The twelve joints that every detector and every motion-capture set agrees on; accuracy figures are given on these.
LIMBS12 = Skeleton(
    'limbs12',
    tuple(f'{side}_{joint}' for joint in ('shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle')
          for side in ('left', 'right')),
    (*_both(*_LIMB_BONES, ('left_shoulder', 'left_hip')),
     ('left_shoulder', 'right_shoulder'), ('left_hip', 'right_hip')),
)

# The 17 joints of Human3.6M in its usual order. `thorax` is the base of the neck, `neck` the top of the neck (the start
# of the head bone; "Neck/Nose" there), `head` the top of the head.
HUMAN17 = Skeleton(
    'human17',
    ('pelvis', 'right_hip', 'right_knee', 'right_ankle', 'left_hip', 'left_knee', 'left_ankle', 'spine', 'thorax',
     'neck', 'head', 'left_shoulder', 'left_elbow', 'left_wrist', 'right_shoulder', 'right_elbow', 'right_wrist'),
    (*_both(('pelvis', 'left_hip'), ('thorax', 'left_shoulder'), *_LIMB_BONES),
     ('pelvis', 'spine'), ('spine', 'thorax'), ('thorax', 'neck'), ('neck', 'head')),
    ('', 'pelvis', 'right_hip', 'right_knee', 'pelvis', 'left_hip', 'left_knee', 'pelvis', 'spine', 'thorax', 'neck',
     'thorax', 'left_shoulder', 'left_elbow', 'thorax', 'right_shoulder', 'right_elbow'),
)

# The joints of HUMAN17 by their degrees of freedom: torso; limb joints next to it, with the head; ends of the limbs
# (Wang et al., Not All Parts Are Created Equal, section 3.2). Estimates of one group lean on those of the others.
DOF_GROUPS = (
    ('pelvis', 'right_hip', 'left_hip', 'spine', 'thorax', 'neck', 'left_shoulder', 'right_shoulder'),
    ('right_knee', 'left_knee', 'head', 'left_elbow', 'right_elbow'),
    ('right_ankle', 'left_ankle', 'left_wrist', 'right_wrist'),
)

# The 33 landmarks of Google's BlazePose, in its order.
BLAZEPOSE33 = Skeleton(
    'blazepose33',
    ('nose', 'left_eye_inner', 'left_eye', 'left_eye_outer', 'right_eye_inner', 'right_eye', 'right_eye_outer',
     'left_ear', 'right_ear', 'left_mouth', 'right_mouth', 'left_shoulder', 'right_shoulder', 'left_elbow',
     'right_elbow', 'left_wrist', 'right_wrist', 'left_pinky', 'right_pinky', 'left_index', 'right_index',
     'left_thumb', 'right_thumb', 'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
     'left_heel', 'right_heel', 'left_foot_index', 'right_foot_index'),
    (*LIMBS12.bones, *_both(
        ('left_eye', 'left_ear'), ('nose', 'left_eye'), ('left_wrist', 'left_index'), ('left_wrist', 'left_thumb'),
        ('left_ankle', 'left_heel'), ('left_heel', 'left_foot_index'))),
)

# The 17 keypoints of COCO, in its order: what most detectors that people bring along give.
COCO17 = Skeleton(
    'coco17',
    ('nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder', 'left_elbow',
     'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle',
     'right_ankle'),
    (*LIMBS12.bones, *_both(('left_eye', 'left_ear'), ('nose', 'left_eye'))),
)

# The 24 joints of the SMPL body model, in its order and with the field's names for them. Its `neck` is the base of the
# neck and its `head` the base of the skull; its hips lie nearer to the middle of the pelvis than detectors mark them.
SMPL24 = Skeleton(
    'smpl24',
    ('pelvis', 'left_hip', 'right_hip', 'spine1', 'left_knee', 'right_knee', 'spine2', 'left_ankle', 'right_ankle',
     'spine3', 'left_foot', 'right_foot', 'neck', 'left_collar', 'right_collar', 'head', 'left_shoulder',
     'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hand', 'right_hand'),
    (*_both(('pelvis', 'left_hip'), *_LIMB_BONES, ('left_ankle', 'left_foot'), ('spine3', 'left_collar'),
            ('left_collar', 'left_shoulder'), ('left_wrist', 'left_hand')),
     ('pelvis', 'spine1'), ('spine1', 'spine2'), ('spine2', 'spine3'), ('spine3', 'neck'), ('neck', 'head')),
    ('', 'pelvis', 'pelvis', 'pelvis', 'left_hip', 'right_hip', 'spine1', 'left_knee', 'right_knee', 'spine2',
     'left_ankle', 'right_ankle', 'spine3', 'spine3', 'spine3', 'neck', 'left_collar', 'right_collar', 'left_shoulder',
     'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist'),
)

# Joints that are the same place in both sets: SMPL24 -> HUMAN17. HUMAN17's `head` is the top of the head, which is no
# joint of SMPL24.
SMPL24_TO_HUMAN17 = {
    'pelvis': 'pelvis', 'spine2': 'spine', 'neck': 'thorax', 'head': 'neck',
    **{joint: joint for joint in LIMBS12.joints},
}
_OTHER_NAMES = {  # (source, target): the source's name for a joint of the target, '' where it has none
    ('smpl24', 'human17'): {'head': '', **{theirs: ours for ours, theirs in SMPL24_TO_HUMAN17.items()}},
    ('human17', 'smpl24'): SMPL24_TO_HUMAN17,
}

# SMPL24 is not among those by which a detector or a message may name its joints: it is what a body model gives.
SKELETONS = {skeleton.name: skeleton for skeleton in (LIMBS12, HUMAN17, BLAZEPOSE33, COCO17)}
