"""Which joints the lifter is shown, made from those of any detector, and what they say of the joints it gives."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.records import JointState
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, LIMBS12, Skeleton

# What the lifter is shown. `ears` is the point midway between the ears: detectors find it from every side, and it lies
# between the neck and head joints of motion capture.
INPUTS = (*LIMBS12.joints, 'ears')
# An input joint that detectors do not give directly is the mean of those they do.
MIDPOINTS = {'ears': ('left_ear', 'right_ear')}
# Where an input joint without a namesake lies on the output skeleton: joint and share.
MADE_OF = {'ears': (('neck', 0.75), ('head', 0.25))}
TORSO = ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip')
# Output joints without a measurement of their own: they are as sure as these input joints together.
INFERRED_FROM = {
    'pelvis': TORSO,
    'spine': TORSO,
    'thorax': ('left_shoulder', 'right_shoulder'),
    'neck': ('left_shoulder', 'right_shoulder', 'ears'),
    'head': ('left_shoulder', 'right_shoulder', 'ears'),
}
# Skeletons whose hips, ankles and shoulders are landmarks on the body, beside the centres of the joints.
OF_LANDMARKS = (BLAZEPOSE33,)
# A person with less in view is left out: nothing could be said about the distance.
MIN_INPUTS, MIN_TORSO = 4, 2

LEAST_CONFIDENCE = 0.05    # of a joint that has a position at all: 0 would mean missing


@lru_cache(maxsize=8)
def _sources(skeleton: Skeleton) -> NDArray[np.float32]:
    """Return a matrix (13, S), 1 where a joint of the skeleton serves an input joint."""
    matrix = np.zeros((len(INPUTS), len(skeleton)), dtype=np.float32)
    for position, joint in enumerate(INPUTS):
        for name in MIDPOINTS.get(joint, (joint,)):
            if name in skeleton.joints:
                matrix[position, skeleton.index(name)] = 1
    return matrix


def input_rays(skeleton: Skeleton, rays: NDArray, confidence: NDArray) -> tuple[NDArray[np.float32],
                                                                                NDArray[np.float32]]:
    """Return the network's input joints, rays (N, 13, 2) and confidence (N, 13), of people in any skeleton.

    rays (N, S, 2), NaN where missing; confidence (N, S). A joint that the skeleton lacks, or that is NaN, comes back
    with ray and confidence 0.
    """
    seen = np.isfinite(rays[..., 0] + rays[..., 1])
    values = np.empty((*seen.shape, 4), dtype=np.float32)
    values[..., :2] = rays
    values[..., 2] = np.minimum(np.fmax(confidence, LEAST_CONFIDENCE), 1)
    values[..., 3] = 1
    values[~seen] = 0
    total = _sources(skeleton) @ values                                            # (N, 13, 4)
    total[..., :3] /= np.maximum(total[..., 3:], 1)
    return total[..., :2], total[..., 2]


# (13, 2): which input joints count as such, and which as part of the trunk.
_COUNTED = np.array([[1, joint in TORSO] for joint in INPUTS], dtype=np.float32)


def enough_seen(confidence: NDArray) -> NDArray[np.bool_]:
    """Return which people (N,) show enough to be lifted: 4 input joints (N, 13), 2 of them shoulders or hips."""
    return np.asarray(((confidence > 0) @ _COUNTED >= (MIN_INPUTS, MIN_TORSO)).all(axis=1))


@lru_cache(maxsize=1)
def input_points() -> NDArray[np.float64]:
    """Return the matrix (13, 17) that makes the input joints from HUMAN17 joints."""
    matrix = np.zeros((len(INPUTS), len(HUMAN17)))
    for position, joint in enumerate(INPUTS):
        for name, share in MADE_OF.get(joint, ((joint, 1.0),)):
            matrix[position, HUMAN17.index(name)] = share
    return matrix


@lru_cache(maxsize=1)
def _rests_on() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the shares (17, 13) of input joints in each output joint's confidence, and its state (17,) if seen."""
    matrix = np.zeros((len(HUMAN17), len(INPUTS)), dtype=np.float32)
    for position, joint in enumerate(HUMAN17.joints):
        for name in INFERRED_FROM.get(joint, (joint,)):
            matrix[position, INPUTS.index(name)] = 1
    state = [JointState.INFERRED if joint in INFERRED_FROM else JointState.OBSERVED for joint in HUMAN17.joints]
    return matrix / matrix.sum(axis=1, keepdims=True), np.array(state, dtype=np.uint8)


def joint_states(confidence: NDArray) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return state and confidence (N, 17) of the output joints, from the confidences (N, 13) of the input joints.

    OBSERVED: seen itself. INFERRED: the joints that no detector gives, and those out of view; their confidence is the
    mean of what they are inferred from, 0 for a joint out of view.
    """
    shares, state = _rests_on()
    sure = confidence @ shares.T
    return np.where(sure > 0, state, np.uint8(JointState.INFERRED)), sure.astype(np.float64)
