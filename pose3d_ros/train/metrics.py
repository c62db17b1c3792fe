"""Measures of 3D human pose, in the unit of their input. NumPy only.

Poses are (..., J, 3) arrays. A joint that is NaN in either pose is left out of that pose; means are taken over the
poses that have something to compare, and are NaN if there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import LIMBS12, Skeleton

# Thresholds of the AUC [m], those of the MPI-INF-3DHP evaluation script: 0 to 150 mm in steps of 5 mm.
AUC_THRESHOLDS = tuple(0.005 * step for step in range(31))
# The bones whose lengths MBLSTD watches: upper and lower arms and legs.
LIMB_BONES = tuple((f'{side}_{a}', f'{side}_{b}') for side in ('left', 'right') for a, b in (
    ('shoulder', 'elbow'), ('elbow', 'wrist'), ('hip', 'knee'), ('knee', 'ankle')))

# 90 % of a three-dimensional normal distribution lies where the squared Mahalanobis distance is below this (chi^2, 3
# dof).
CHI2_3 = {0.5: 2.3660, 0.9: 6.2514, 0.95: 7.8147}


def joint_errors(predicted: NDArray, truth: NDArray, root: int | Sequence[int] | None = 0) -> NDArray:
    """Return the distance per joint (..., J) after moving both poses' root to the origin.

    root: index of the root joint, several indices for their mean (a set without a pelvis: both hips), or None to
    compare absolute positions.
    """
    predicted, truth = _paired(predicted, truth)
    if root is not None:
        roots = np.atleast_1d(np.asarray(root, dtype=np.intp))
        predicted = predicted - predicted[..., roots, :].mean(axis=-2, keepdims=True)
        truth = truth - truth[..., roots, :].mean(axis=-2, keepdims=True)
    return np.linalg.norm(predicted - truth, axis=-1)


def mpjpe(predicted: NDArray, truth: NDArray, root: int | Sequence[int] | None = 0) -> float:
    """Return the mean per joint position error after root alignment (Ionescu et al., Human3.6M, protocol 1)."""
    return _mean(joint_errors(predicted, truth, root))


def n_mpjpe(predicted: NDArray, truth: NDArray, root: int | Sequence[int] = 0) -> float:
    """Return MPJPE after root alignment and the best single scale per pose (Rhodin et al., CVPR 2018)."""
    predicted, truth = _paired(predicted, truth)
    roots = np.atleast_1d(np.asarray(root, dtype=np.intp))
    a = predicted - predicted[..., roots, :].mean(axis=-2, keepdims=True)
    b = truth - truth[..., roots, :].mean(axis=-2, keepdims=True)
    valid = np.isfinite(a + b)
    size = np.where(valid, a * a, 0).sum(axis=(-2, -1), keepdims=True)
    scale = np.where(valid, a * b, 0).sum(axis=(-2, -1), keepdims=True) / np.where(size > 0, size, np.nan)
    return _mean(np.linalg.norm(scale * a - b, axis=-1))


def pa_mpjpe(predicted: NDArray, truth: NDArray) -> float:
    """Return MPJPE after the best similarity transform per pose (Procrustes; Gower 1975): "protocol 2".

    Poses with fewer than three joints in common are left out.
    """
    predicted, truth = _paired(predicted, truth)
    a, b = (pose.reshape(-1, *pose.shape[-2:]) for pose in (predicted, truth))
    return _mean(np.linalg.norm(procrustes(a, b) - b, axis=-1))


def procrustes(predicted: NDArray, truth: NDArray) -> NDArray:
    """Return predicted (N, J, 3) after the rotation, scale and translation that bring it nearest to truth (N, J, 3).

    Reflections are not allowed. Poses with fewer than three joints in common come back as NaN.
    """
    predicted, truth = _paired(predicted, truth)
    valid = np.isfinite(predicted + truth).all(axis=-1)[..., None]
    count = valid.sum(axis=-2, keepdims=True)
    count = np.where(count >= 3, count, np.nan)
    middle_a = np.where(valid, predicted, 0).sum(axis=-2, keepdims=True) / count
    middle_b = np.where(valid, truth, 0).sum(axis=-2, keepdims=True) / count
    a, b = (np.where(valid & np.isfinite(middle), pose - middle, 0)
            for pose, middle in ((predicted, middle_a), (truth, middle_b)))
    u, values, vt = np.linalg.svd(np.swapaxes(a, -1, -2) @ b)
    sign = np.ones_like(values)
    sign[..., -1] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[..., None, :]) @ vt
    size = (a * a).sum(axis=(-2, -1))
    scale = (values * sign).sum(axis=-1) / np.where(size > 0, size, np.nan)
    return scale[..., None, None] * (predicted - middle_a) @ rotation + middle_b


def mrpe(predicted: NDArray, truth: NDArray) -> float:
    """Return the mean root position error of roots (..., 3) (AbsPoseLifter, equation 10)."""
    predicted, truth = _paired(predicted, truth)
    return _mean(np.linalg.norm(predicted - truth, axis=-1))


def mrpe_axes(predicted: NDArray, truth: NDArray) -> NDArray[np.float64]:
    """Return the mean absolute error (3,) of roots (..., 3) along x, y and z of the camera (AbsPoseLifter, table 3)."""
    predicted, truth = _paired(predicted, truth)
    error = np.abs(predicted - truth).reshape(-1, 3)
    known = np.isfinite(error).all(axis=-1)
    return error[known].mean(axis=0) if known.any() else np.full(3, np.nan)


def pck(predicted: NDArray, truth: NDArray, threshold: float = 0.150, root: int | Sequence[int] | None = 0) -> float:
    """Return 3DPCK: the share 0..1 of joints nearer than threshold after root alignment (Mehta et al., 3DV 2017).

    threshold: in the unit of the poses; the usual 150 mm for poses in metres. A single root joint, which is at no
    distance by construction, does not count.
    """
    return _mean(_within(_graded(predicted, truth, root), threshold))


def auc(predicted: NDArray, truth: NDArray, thresholds: Sequence[float] = AUC_THRESHOLDS,
        root: int | Sequence[int] | None = 0) -> float:
    """Return the mean 3DPCK over thresholds (Mehta et al., 3DV 2017): the area under its curve, 0..1."""
    errors = _graded(predicted, truth, root)
    return float(np.mean([_mean(_within(errors, threshold)) for threshold in thresholds]))


def mpjve(predicted: NDArray, truth: NDArray, root: int | Sequence[int] | None = 0) -> float:
    """Return the mean per joint velocity error of sequences (..., T, J, 3), per frame (Pavllo et al., CVPR 2019).

    It is the MPJPE of the differences between successive frames, after root alignment. Times the frame rate it is an
    error in m/s. A step counts for the joints that both of its frames have.
    """
    predicted, truth = _paired(predicted, truth)
    if predicted.ndim < 3:
        raise ValueError(f'sequences {predicted.shape} must be (..., frames, joints, 3)')
    return mpjpe(np.diff(predicted, axis=-3), np.diff(truth, axis=-3), root)


def mblstd(poses: NDArray, skeleton: Skeleton = LIMBS12) -> float:
    """Return the mean bone length standard deviation of sequences (..., T, J, 3) (PoseNet3D, section 4.2).

    For each of the eight LIMB_BONES the standard deviation of its length over the T frames of a sequence, then the mean
    over bones and sequences. It needs no truth: bones do not grow. NaN where no bone is known in two frames.
    """
    if poses.ndim < 3 or poses.shape[-2:] != (len(skeleton), 3):
        raise ValueError(f'sequences {poses.shape} must be (..., frames, {len(skeleton)}, 3) for {skeleton.name}')
    starts, ends = (skeleton.indices(joints) for joints in zip(*LIMB_BONES))
    lengths = np.linalg.norm(poses[..., ends, :] - poses[..., starts, :], axis=-1)      # (..., T, 8)
    valid = np.isfinite(lengths)
    count = valid.sum(axis=-2)
    known = np.where(valid, lengths, 0)
    mean = known.sum(axis=-2) / np.maximum(count, 1)
    variance = np.where(valid, (known - mean[..., None, :]) ** 2, 0).sum(axis=-2) / np.maximum(count, 1)
    return _mean(np.where(count > 1, np.sqrt(variance), np.nan).ravel())


def squared_mahalanobis(error: NDArray, covariance: NDArray) -> NDArray:
    """Return error^T covariance^-1 error (...,) of errors (..., 3) and covariances (..., 3, 3); NaN stays NaN.

    """
    valid = np.isfinite(error).all(axis=-1) & np.isfinite(covariance).all(axis=(-2, -1))
    safe = np.where(valid[..., None, None], covariance, np.eye(3))
    solved = np.linalg.solve(safe, np.where(valid[..., None], error, 0)[..., None])[..., 0]
    return np.where(valid, (np.where(valid[..., None], error, 0) * solved).sum(axis=-1), np.nan)


def coverage(error: NDArray, covariance: NDArray, share: float = 0.9) -> float:
    """Return the share of errors (..., 3) inside the covariance ellipsoid meant to hold `share` (0.5, 0.9 or 0.95)."""
    distance = squared_mahalanobis(error, covariance)
    known = distance[np.isfinite(distance)]
    return float((known <= CHI2_3[share]).mean()) if known.size else float('nan')


def nees(error: NDArray, covariance: NDArray) -> float:
    """Return the normalised estimation error squared per dimension of errors (..., 3) (Bar-Shalom et al. 2001, 5.4.2).

    It is the mean squared Mahalanobis distance divided by 3: 1 when the covariances (..., 3, 3) tell the truth, above 1
    when they promise too much. A few wild errors weigh heavily here and hardly in the coverage.
    """
    distance = squared_mahalanobis(error, covariance)
    known = distance[np.isfinite(distance)]
    return float(known.mean() / 3) if known.size else float('nan')


def _graded(predicted: NDArray, truth: NDArray, root: int | Sequence[int] | None) -> NDArray:
    """Return joint_errors with the root, where it is one joint, as NaN."""
    errors = joint_errors(predicted, truth, root)
    if isinstance(root, int):
        errors[..., root] = np.nan
    return errors


def _within(errors: NDArray, threshold: float) -> NDArray:
    return np.where(np.isfinite(errors), errors < threshold, np.nan)


def _paired(predicted: NDArray, truth: NDArray) -> tuple[NDArray, NDArray]:
    predicted, truth = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.shape != truth.shape or predicted.shape[-1:] != (3,):
        raise ValueError(f'predicted {predicted.shape} and truth {truth.shape} must have one shape, ending in 3')
    return predicted, truth


def _mean(values: NDArray) -> float:
    """Return the mean over the finite values; over joints first, so that every pose counts alike."""
    valid = np.isfinite(values)
    if values.ndim < 2:
        return float(values[valid].mean()) if valid.any() else float('nan')
    count = valid.sum(axis=-1)
    per_pose = np.where(valid, values, 0).sum(axis=-1)[count > 0] / count[count > 0]
    return float(per_pose.mean()) if per_pose.size else float('nan')
