"""Motion of each person over time: smoothed joints and their velocity, by a Kalman filter per joint."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.records import Person3D


@dataclass(frozen=True)
class RefineSettings:
    """Noise assumed by the motion filter (constant velocity, white acceleration).

    acceleration: one standard deviation of a joint's acceleration [m/s^2]. jitter: frame-to-frame noise of a joint
    across the line of sight, per metre of distance [m/m]; depth_jitter: along it. forget_s: an unseen person or joint
    is forgotten after this time [s]. smoothing: False publishes the measured joints, with the filter's velocity.
    """

    acceleration: float = 12.0
    jitter: float = 0.004
    depth_jitter: float = 0.012
    forget_s: float = 0.5
    smoothing: bool = True


@dataclass
class _Motion:
    """Filter state of one person. position, velocity (J, 3); variance (J, 3, 2, 2) of (position, velocity) per axis."""

    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    variance: NDArray[np.float64]
    seen_ns: NDArray[np.int64]  # (J, 1)
    stamp_ns: int


# A joint seen for the first time may move at up to about this speed [m/s].
_FIRST_SPEED = 2.0


class Refiner:
    """Filters people over time by id. State: the motion of each id; `reset()` forgets it.

    The published covariance stays that of the lifter: its error (stature, depth) hardly changes from frame to frame,
    so that averaging frames does not make it smaller.
    """

    def __init__(self, settings: RefineSettings | None = None) -> None:
        self.settings = settings or RefineSettings()
        self._motions: dict[int, _Motion] = {}

    def reset(self) -> None:
        """Forget all motion, as after a jump in time."""
        self._motions = {}

    def __call__(self, people: list[Person3D], stamp_ns: int) -> list[Person3D]:
        """Return the people with filtered position (J, 3) m and velocity (J, 3) m/s; stamp_ns: exposure time."""
        forget_ns = self.settings.forget_s * 1e9
        self._motions = {id_: motion for id_, motion in self._motions.items() if stamp_ns - motion.stamp_ns < forget_ns}
        return [self._filter(person, stamp_ns) for person in people]

    def _filter(self, person: Person3D, stamp_ns: int) -> Person3D:
        motion = self._motions.get(person.id)
        if motion is None:
            joints = len(person.skeleton)
            motion = _Motion(np.full((joints, 3), np.nan), np.zeros((joints, 3)), np.zeros((joints, 3, 2, 2)),
                             np.zeros((joints, 1), dtype=np.int64), stamp_ns)
            self._motions[person.id] = motion
        self._update(motion, person.position, stamp_ns)
        missing = np.isnan(person.position)
        smoothed = motion.position if self.settings.smoothing else person.position
        return replace(person, position=np.where(missing, np.nan, smoothed),
                       velocity=np.where(missing, np.nan, motion.velocity))

    def _update(self, motion: _Motion, measured: NDArray[np.float64], stamp_ns: int) -> None:
        """Predict to stamp_ns, then take in the measured joints (J, 3); NaN leaves a joint as predicted."""
        settings = self.settings
        step = max(stamp_ns - motion.stamp_ns, 0) * 1e-9
        seen = np.isfinite(measured).all(axis=-1, keepdims=True)
        known = np.isfinite(motion.position[:, :1]) & (stamp_ns - motion.seen_ns < settings.forget_s * 1e9)

        noise = self._noise(measured)
        position = motion.position + motion.velocity * step
        a, b, c = motion.variance[..., 0, 0], motion.variance[..., 0, 1], motion.variance[..., 1, 1]
        q = settings.acceleration ** 2
        a, b, c = (a + 2 * step * b + step ** 2 * c + q * step ** 4 / 4, b + step * c + q * step ** 3 / 2,
                   c + q * step ** 2)

        innovation = np.where(seen, measured - position, 0.0)
        gain_p, gain_v = (np.where(seen, gain / (a + noise), 0.0) for gain in (a, b))
        first = seen & ~known
        motion.position = np.where(first, measured, np.where(known, position + gain_p * innovation, np.nan))
        motion.velocity = np.where(known, motion.velocity + gain_v * innovation, 0.0)
        a, b, c = (np.where(first, noise, (1 - gain_p) * a), np.where(first, 0.0, (1 - gain_p) * b),
                   np.where(first, _FIRST_SPEED ** 2, c - gain_v * b))
        motion.variance = np.stack([np.stack([a, b], -1), np.stack([b, c], -1)], -2)
        motion.seen_ns = np.where(seen, stamp_ns, motion.seen_ns)
        motion.stamp_ns = stamp_ns

    def _noise(self, measured: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the variance (J, 3) m^2 of frame-to-frame noise in x, y and z; 1 where a joint is missing."""
        distance = np.linalg.norm(measured, axis=-1, keepdims=True)
        scale = np.array([self.settings.jitter, self.settings.jitter, self.settings.depth_jitter])
        return np.where(np.isfinite(distance), (scale * distance) ** 2, 1.0)
