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
    """

    sigma: float = 0.011
    doubt_sigma: float = 2.0
    outliers: float = 0.005
    doubt_outliers: float = 0.10
    outlier_range: float = 0.12
    unsure: float = 0.3
    joint_factor: tuple[tuple[str, float], ...] = (('left_hip', 1.5), ('right_hip', 1.5), ('ears', 1.5))

    def confidence(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return confidences as a detector might give them, float32 in 0.1..1."""
        sure = rng.uniform(0.9, 1.0, shape)
        return np.where(rng.random(shape) < self.unsure, rng.uniform(0.1, 1.0, shape), sure).astype(np.float32)

    def sample(self, confidence: NDArray, size: NDArray, joints: tuple[str, ...],
               rng: np.random.Generator) -> NDArray[np.float32]:
        """Return errors (B, J, 2) in the unit of size (B,): the person's height in the image (rays or pixels)."""
        doubt = 1 - confidence
        factors = dict(self.joint_factor)
        factor = np.array([factors.get(joint, 1.0) for joint in joints])
        sigma = self.sigma * factor * (1 + self.doubt_sigma * doubt)
        error = rng.standard_normal((*confidence.shape, 2)) * sigma[..., None]
        outlier = rng.random(confidence.shape) < self.outliers + self.doubt_outliers * doubt
        wild = rng.uniform(-self.outlier_range, self.outlier_range, error.shape)
        return (np.where(outlier[..., None], wild, error) * size[:, None, None]).astype(np.float32)


NO_ERRORS = ErrorModel(sigma=0.0, doubt_sigma=0.0, outliers=0.0, doubt_outliers=0.0, unsure=0.0, joint_factor=())
