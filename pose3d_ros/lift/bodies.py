"""What lifters that give bodies say of them, as records: finite, and with rotations that are rotations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.lift.files import BODY_OUTPUTS
from pose3d_ros.records import BodyPose


def bodies_of(output: Mapping[str, NDArray]) -> list[BodyPose | None]:
    """Return the bodies of N people from a lifter's BODY_OUTPUTS; None for one that is not finite, or has no size."""
    turns, shape, scale, root = (np.asarray(output[name], dtype=np.float64) for name in BODY_OUTPUTS)
    turns = orthonormal(turns)
    scale = scale.reshape(-1)
    with np.errstate(invalid='ignore'):
        sound = np.isfinite(turns.sum(axis=(1, 2, 3)) + shape.sum(axis=1) + root.sum(axis=1) + scale) & (scale > 0)
    return [BodyPose(turns[i], shape[i], float(scale[i]), root[i]) if sound[i] else None for i in range(len(scale))]


def orthonormal(matrices: NDArray) -> NDArray[np.float64]:
    """Return rotations (..., 3, 3) near matrices that are rotations up to rounding (of half precision, say).

    Gram and Schmidt's way: the first column keeps its direction, the second its plane. NaN where columns are parallel.
    """
    first, second = matrices[..., 0].astype(np.float64), matrices[..., 1].astype(np.float64)
    with np.errstate(invalid='ignore', divide='ignore'):
        first = first / np.sqrt(np.square(first).sum(axis=-1, keepdims=True))
        second = second - (first * second).sum(axis=-1, keepdims=True) * first
        second = second / np.sqrt(np.square(second).sum(axis=-1, keepdims=True))
    return np.stack([first, second, np.cross(first, second)], axis=-1)
