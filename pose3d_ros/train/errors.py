"""What a 2D detector gets wrong, drawn at random for training (AbsPoseLifter, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ErrorModel:
    """A mixture of a Gaussian and a uniform distribution (equation 8), in units of the person's height in the image.

    sigma: standard deviation per axis of a joint found with confidence 1; it grows to (1 + doubt_sigma) times that at
    confidence 0. outliers: share of joints, at confidence 1, whose error is drawn uniformly from +-outlier_range; it
    grows by doubt_outliers at confidence 0. joint_factor: name and factor of joints that are found less exactly.
    unsure: share of joints whose confidence is spread over 0.1..1; the others lie in 0.9..1.
    memory_s: a detector errs alike from frame to frame; the chance that an error is still the same one falls to 1/e in
    this time. tremble: standard deviation of what changes in every frame nevertheless.
    """

    sigma: float = 0.0105
    doubt_sigma: float = 2.0
    outliers: float = 0.005
    doubt_outliers: float = 0.10
    outlier_range: float = 0.12
    joint_factor: tuple[tuple[str, float], ...] = (('left_hip', 1.5), ('right_hip', 1.5), ('ears', 1.5))
    unsure: float = 0.3
    memory_s: float = 0.25
    tremble: float = 0.004

    def sample(self, age: NDArray, joints: tuple[str, ...],
               rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return errors (B, T, J, 2) in units of the person's height in the image, and confidences (B, T, J) in 0.1..1.

        age (B, T) s: how much older than the newest frame, which comes first, each frame of a window is.
        """
        shape = (*age.shape, len(joints))
        confidence = self._confidence(shape, rng)
        doubt = 1 - confidence
        factors = dict(self.joint_factor)
        factor = np.array([factors.get(joint, 1.0) for joint in joints], dtype=np.float32)
        error = rng.standard_normal((*shape, 2), dtype=np.float32)
        error *= (self.sigma * factor * (1 + self.doubt_sigma * doubt))[..., None]
        outlier = rng.random(shape, dtype=np.float32) < self.outliers + self.doubt_outliers * doubt
        # Only the few outliers are drawn: this runs for every sample of the training.
        error[outlier] = rng.uniform(-self.outlier_range, self.outlier_range, (np.count_nonzero(outlier), 2))
        if age.shape[1] > 1:
            # An error is either still that of the newest frame, or another one.
            same = rng.random(shape, dtype=np.float32) < np.exp(-age / self.memory_s)[..., None]
            error = np.where(same[..., None], error[:, :1], error)
            confidence = np.where(same, confidence[:, :1], confidence)
        error += self.tremble * rng.standard_normal(error.shape, dtype=np.float32)
        return error, confidence

    def _confidence(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return confidences as a detector might give them."""
        spread = np.where(rng.random(shape, dtype=np.float32) < self.unsure, np.float32(0.9), np.float32(0.1))
        return 1 - spread * rng.random(shape, dtype=np.float32)


NO_ERRORS = ErrorModel(sigma=0.0, doubt_sigma=0.0, outliers=0.0, doubt_outliers=0.0, unsure=0.0, joint_factor=(),
                       tremble=0.0)
