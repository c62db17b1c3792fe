"""How far the lifter is off, measured on samples it was not trained on, as constants for the robot's covariances."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.lift import Uncertainty, joint_covariance, joint_states, root_position
from pose3d_ros.records import JointState
from pose3d_ros.train.metrics import CHI2_3, squared_mahalanobis
from pose3d_ros.train.samples import INPUTS, Samples

SHARE = 0.9
NORMAL_90 = 1.6449  # 90 % of a normal distribution lies within this many standard deviations
FEWEST = 30         # errors needed for a constant of its own


@dataclass(frozen=True)
class Lifted:
    """What the lifter made of N samples, as in Person3D: position, covariance (NaN where MISSING), state."""

    position: NDArray[np.float64]
    covariance: NDArray[np.float64]
    state: NDArray[np.uint8]


def lifted(samples: Samples, relative: NDArray, depth: NDArray, uncertainty: Uncertainty) -> Lifted:
    """Return what a robot would publish for samples, from the network's outputs relative (N, 17, 3), depth (N, 1)."""
    root = root_position(samples.rays, samples.confidence, relative, depth[:, 0], INPUTS)
    position = root[:, None] + relative
    state, _ = joint_states(samples.confidence, INPUTS)
    seen = (samples.confidence > 0).sum(axis=1)
    covariance = joint_covariance(position, state, seen, np.full(state.shape, np.nan), uncertainty)
    missing = state == JointState.MISSING
    covariance[missing] = np.nan
    return Lifted(position, covariance, state)


def calibrate(samples: Samples, relative: NDArray, depth: NDArray) -> Uncertainty:
    """Return constants with which the 90 % ellipsoids hold 90 % of these samples' joints.

    Standard deviations come from the 90 % quantile of the absolute errors, so that rare large errors do not blow up
    what holds for most; a last factor for each number of joints seen makes the share exact.
    """
    seen = (samples.confidence > 0).sum(axis=1)
    root = root_position(samples.rays, samples.confidence, relative, depth[:, 0], INPUTS)
    error = samples.points.astype(np.float64) - (root[:, None] + relative)
    relative_depth = error[:, 0, 2] / root[:, 2]
    overall = _deviation(relative_depth)
    root_depth = np.array([_deviation(relative_depth[seen == count], overall) for count in range(len(INPUTS) + 1)])

    own = error - relative_depth[:, None, None] * root[:, None]
    ray = root[:, None] + relative
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    along = (own * ray).sum(axis=-1)
    # Two components across the ray: their squared sum divided by two is the mean square of one of them.
    across = np.sqrt(((own * own).sum(axis=-1) - along ** 2).clip(min=0) / 2)
    state, _ = joint_states(samples.confidence, INPUTS)
    constants = Uncertainty(root_depth, np.ones(len(INPUTS) + 1), *(
        np.stack([_per_joint(values, state == JointState.OBSERVED), _per_joint(values, state == JointState.INFERRED)])
        for values in (across, along)))
    result = lifted(samples, relative, depth, constants)
    distance = squared_mahalanobis(samples.points - result.position, result.covariance)
    common = _growth(distance, 1.0)
    factor = np.array([_growth(distance[seen == count], common) for count in range(len(INPUTS) + 1)])
    return replace(constants, root_depth=constants.root_depth * factor, spread=factor)


def _growth(distance: NDArray, otherwise: float) -> float:
    """Return the factor on standard deviations that brings SHARE of squared Mahalanobis distances inside."""
    known = distance[np.isfinite(distance)]
    return float(np.sqrt(np.quantile(known, SHARE) / CHI2_3[SHARE])) if len(known) >= FEWEST else otherwise


def _deviation(errors: NDArray, otherwise: float = float('nan')) -> float:
    return float(np.quantile(np.abs(errors), SHARE) / NORMAL_90) if len(errors) >= FEWEST else otherwise


def _per_joint(errors: NDArray, chosen: NDArray) -> NDArray[np.float64]:
    """Return one deviation (17,) per joint from errors (N, 17) where chosen; a joint never chosen gets that of all."""
    overall = _deviation(errors.ravel())
    return np.array([_deviation(errors[chosen[:, joint], joint], overall) for joint in range(errors.shape[1])])
