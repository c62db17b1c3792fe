"""How tall a person stands: from bone lengths in any posture, and what another stature makes of a person's place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17

# The height of somebody who stands, from the bones between ankle and crown: shoulder-ankle chains of recorded people
# against body-segment tables (Winter 2009, de Leva 1996), which agree within 1 %. From person to person it varies by
# 1.5 %.
CHAIN_UPRIGHT = 1.024
CHAIN_ENDS = 0.105  # m, below the ankle and above the head bone

# m: what is left of a joint's own standard deviation along its ray, at least, when the stature's share is taken out.
_LEAST_OWN = 0.005

_CHAIN = ('spine', 'thorax', 'neck', 'head')
_LEGS = ('left_knee', 'left_ankle', 'right_knee', 'right_ankle')
_PARENT = {joint: HUMAN17.index(parent) for joint, parent in zip(HUMAN17.joints, HUMAN17.parents) if parent}


def stature(positions: NDArray) -> NDArray:
    """Return the standing height (...,) m of bodies (..., 17, 3) m in the order of HUMAN17.

    NaN if a joint of the legs, trunk or head is NaN.
    """
    def lengths(joints: tuple[str, ...]) -> NDArray:
        ends = positions[..., HUMAN17.indices(joints), :]
        starts = positions[..., [_PARENT[joint] for joint in joints], :]
        return np.linalg.norm(ends - starts, axis=-1).sum(axis=-1)

    return CHAIN_UPRIGHT * (0.5 * lengths(_LEGS) + lengths(_CHAIN)) + CHAIN_ENDS


def rescale(position: NDArray, covariance: NDArray, stature: NDArray | float, sigma: NDArray | float,
            new_stature: NDArray | float, new_sigma: NDArray | float) -> tuple[NDArray, NDArray]:
    """Return position (..., J, 3) m and covariance (..., J, 3, 3) m^2 of people taken to have another stature.

    One camera sees everything only up to scale: making a person larger by f = new_stature / stature about the camera
    leaves every ray as it is. An error e of the stature (relative, e = sigma / stature) moves each joint P along its
    ray, which is e^2 P P^T of its covariance: that share is exchanged for the new one, and the rest grows with f^2.
    stature, sigma, new_stature, new_sigma (...,) m. Of a covariance that holds less than the share to be taken out,
    only so much is taken that it stays positive definite. NaN joints stay NaN.
    """
    position, covariance = np.asarray(position), np.asarray(covariance)
    factor = (np.asarray(new_stature) / np.asarray(stature))[..., None, None]
    old, new = (np.square(np.asarray(s) / np.asarray(h))[..., None]
                for s, h in ((sigma, stature), (new_sigma, new_stature)))
    return position * factor, exchange(covariance, position, old, new) * np.square(factor)[..., None]


def exchange(covariance: NDArray, vectors: NDArray, old: NDArray, new: NDArray | float) -> NDArray:
    """Return covariances (..., 3, 3) with the share old v v^T of vectors v (..., 3) taken out and new v v^T put in.

    old, new (...,). Where that much is not in them, less is taken out: along v some of their own is always left. NaN
    stays NaN.
    """
    known = np.isfinite(covariance).all(axis=(-2, -1)) & np.isfinite(vectors).all(axis=-1)
    safe = np.where(known[..., None, None], covariance, np.eye(3))
    ray = np.where(known[..., None], vectors, 1.0)
    # Along v, C - k v v^T keeps the variance |v|^2 (1 / q - k) with q = v^T C^-1 v (Sherman-Morrison).
    spare = 1 / (ray * np.linalg.solve(safe, ray[..., None])[..., 0]).sum(axis=-1)
    most = np.maximum(spare - np.square(_LEAST_OWN) / np.square(ray).sum(axis=-1), 0)
    change = new - np.minimum(old, most)
    return covariance + change[..., None, None] * (vectors[..., :, None] * vectors[..., None, :])
