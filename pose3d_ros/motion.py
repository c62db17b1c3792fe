"""How joints move: a Kalman filter per joint and axis (constant velocity, white acceleration)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FIRST_SPEED = 2.0  # m/s: a joint seen for the first time may move at up to about this speed


@dataclass(frozen=True)
class MotionNoise:
    """What the filter assumes: acceleration, jitter, depth_jitter and forget_s as in RefineSettings."""

    acceleration: float
    jitter: float
    depth_jitter: float
    forget_s: float

    def of(self, measured: Array) -> Array:
        """Return the variance (J, 3) m^2 of frame-to-frame noise in x, y and z; 1 where a joint is missing."""
        distance = np.linalg.norm(measured, axis=-1, keepdims=True)
        scale = np.array([self.jitter, self.jitter, self.depth_jitter])
        return np.where(np.isfinite(distance), (scale * distance) ** 2, 1.0)


class Motion:
    """The joints of one person over time.

    State: position, velocity (J, 3), NaN and 0 for a joint not known; variance (J, 3, 2, 2) of (position, velocity) per
    axis; when each joint was seen.
    """

    def __init__(self, joints: int, noise: MotionNoise, stamp_ns: int) -> None:
        self.position: Array = np.full((joints, 3), np.nan)
        self.velocity: Array = np.zeros((joints, 3))
        self.stamp_ns = stamp_ns
        self._noise = noise
        self._variance: Array = np.zeros((joints, 3, 2, 2))
        self._seen_ns: NDArray[np.int64] = np.zeros((joints, 1), dtype=np.int64)

    def resize(self, grow: float, shift: Array) -> None:
        """Take the person to have been grow times as large all the time, and shift (3,) m away from there.

        Nothing has moved: the velocity grows with the person, and no speed comes of it.
        """
        self.position = grow * self.position + shift
        self.velocity = grow * self.velocity
        self._variance = grow ** 2 * self._variance

    def update(self, measured: Array, stamp_ns: int) -> None:
        """Predict to stamp_ns, then take in the measured joints (J, 3); NaN leaves a joint as predicted."""
        step = max(stamp_ns - self.stamp_ns, 0) * 1e-9
        seen = np.isfinite(measured).all(axis=-1, keepdims=True)
        known = np.isfinite(self.position[:, :1]) & (stamp_ns - self._seen_ns < self._noise.forget_s * 1e9)

        noise = self._noise.of(measured)
        position = self.position + self.velocity * step
        a, b, c = self._variance[..., 0, 0], self._variance[..., 0, 1], self._variance[..., 1, 1]
        q = self._noise.acceleration ** 2
        a, b, c = (a + 2 * step * b + step ** 2 * c + q * step ** 4 / 4, b + step * c + q * step ** 3 / 2,
                   c + q * step ** 2)

        innovation = np.where(seen, measured - position, 0.0)
        gain_p, gain_v = (np.where(seen, gain / (a + noise), 0.0) for gain in (a, b))
        first = seen & ~known
        self.position = np.where(first, measured, np.where(known, position + gain_p * innovation, np.nan))
        self.velocity = np.where(known, self.velocity + gain_v * innovation, 0.0)
        a, b, c = (np.where(first, noise, (1 - gain_p) * a), np.where(first, 0.0, (1 - gain_p) * b),
                   np.where(first, FIRST_SPEED ** 2, c - gain_v * b))
        self._variance = np.stack([np.stack([a, b], -1), np.stack([b, c], -1)], -2)
        self._seen_ns = np.where(seen, stamp_ns, self._seen_ns)
        self.stamp_ns = stamp_ns
