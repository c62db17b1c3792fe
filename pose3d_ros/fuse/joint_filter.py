"""How joints move in the common frame: a Kalman filter per joint with full 3x3 covariances, of many people at once.

Constant velocity, white acceleration. refine's filter (motion.py) keeps the axes apart, which serves one camera whose
z is the uncertain axis; in a common frame what one camera does not know lies in any direction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.symmetric import Floats, inverted

_FIRST_SPEED = 1.2     # m/s: a joint seen for the first time may move at up to about this speed
_BODY, _LIMB = 5.0, 10.0   # m/s^2, one standard deviation of acceleration: of the trunk, of arms and legs
_FADE_S = 0.4          # the velocity of a joint that is not seen dies away in about this time
SUSPECT = 12.0         # squared Mahalanobis distance (3 axes) above which a measurement counts less, softly


class JointFilter:
    """The joints of M people over time, J each.

    State: position, velocity (M, J, 3), NaN and 0 for a joint not known; covariance (M, J, 3, 3) of position [m^2], of
    position with velocity and of velocity; unseen (M, J) s, how long a joint was not measured.
    """

    def __init__(self, limb: NDArray[np.bool_]) -> None:
        """limb (J,): which joints belong to arms and legs, and move more abruptly."""
        joints = len(limb)
        self.position: Floats = np.zeros((0, joints, 3))
        self.velocity: Floats = np.zeros((0, joints, 3))
        self.covariance: Floats = np.zeros((0, joints, 3, 3))
        self.unseen: Floats = np.zeros((0, joints))
        self.velocity_covariance: Floats = np.zeros((0, joints, 3, 3))
        self._cross: Floats = np.zeros((0, joints, 3, 3))
        self._power = np.where(limb, _LIMB, _BODY)[:, None, None] ** 2 * np.eye(3)

    def __len__(self) -> int:
        return len(self.position)

    def add(self, count: int) -> None:
        """Append people of whom nothing is known yet."""
        joints = self.position.shape[1]
        for name, shape, value in (('position', (3,), np.nan), ('velocity', (3,), 0.0), ('covariance', (3, 3), 0.0),
                                   ('unseen', (), 0.0), ('velocity_covariance', (3, 3), 0.0), ('_cross', (3, 3), 0.0)):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.full((count, joints, *shape), value)]))

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Keep only some of the people."""
        for name in ('position', 'velocity', 'covariance', 'unseen', 'velocity_covariance', '_cross'):
            setattr(self, name, getattr(self, name)[rows])

    def forget(self, joints: NDArray[np.bool_]) -> None:
        """Take the joints (M, J) to be unknown."""
        self.position[joints] = np.nan
        self.velocity[joints] = 0.0

    def exchange(self, row: int, order: NDArray[np.intp]) -> None:
        """Reorder the joints of one person: left and right had been taken for each other."""
        for name in ('position', 'velocity', 'covariance', 'unseen', 'velocity_covariance', '_cross'):
            getattr(self, name)[row] = getattr(self, name)[row][order]

    def predict(self, step: float) -> None:
        """Go on by step seconds."""
        fade = np.exp(-step / _FADE_S * (self.unseen > 0))[..., None]
        self.position = self.position + step * self.velocity
        self.velocity = self.velocity * fade
        turned = np.swapaxes(self._cross, -1, -2)
        self.covariance = (self.covariance + step * (self._cross + turned) + step**2 * self.velocity_covariance
                           + step**4 / 4 * self._power)
        self._cross = (self._cross + step * self.velocity_covariance) * fade[..., None] + step**3 / 2 * self._power
        self.velocity_covariance = self.velocity_covariance * fade[..., None]**2 + step**2 * self._power
        self.unseen = self.unseen + step

    def update(self, measured: Floats, noise: Floats) -> NDArray[np.bool_]:
        """Take in measured (M, J, 3) m with noise (M, J, 3, 3) m^2; NaN leaves a joint as predicted.

        Returns which (M, J) were far from what was expected. They count less, not nothing: what is far again and again
        is believed in the end.
        """
        given = np.isfinite(measured.sum(axis=-1) + noise[..., 0, 0])
        known = np.isfinite(self.position[..., 0])
        first, usual = given & ~known, given & known
        at = np.nonzero(usual)
        covariance, cross, spread = self.covariance[at], self._cross[at], noise[at]
        off = measured[at] - self.position[at]
        inverse = inverted(covariance + spread)
        distance = np.einsum('ni,nij,nj->n', off, inverse, off)
        # noise that brings the distance down to the threshold: (P + R) grows by distance / SUSPECT as a whole
        inverse /= np.maximum(distance / SUSPECT, 1.0)[:, None, None]
        gain, gain_velocity = covariance @ inverse, np.swapaxes(cross, -1, -2) @ inverse
        self.position[at] += np.einsum('nij,nj->ni', gain, off)
        self.velocity[at] += np.einsum('nij,nj->ni', gain_velocity, off)
        reduced = self.velocity_covariance[at] - gain_velocity @ cross
        self.velocity_covariance[at] = (reduced + np.swapaxes(reduced, -1, -2)) / 2
        self._cross[at] = cross - gain @ cross
        reduced = covariance - gain @ covariance
        self.covariance[at] = (reduced + np.swapaxes(reduced, -1, -2)) / 2

        self.position[first], self.velocity[first] = measured[first], 0.0
        self.covariance[first], self._cross[first] = noise[first], 0.0
        self.velocity_covariance[first] = _FIRST_SPEED**2 * np.eye(3)
        self.unseen[given] = 0.0
        suspect = np.zeros(given.shape, dtype=bool)
        suspect[at] = distance > SUSPECT
        return suspect

    def correct(self, position: Floats, covariance: Floats) -> None:
        """Have joints at position (M, J, 3) m with covariance (M, J, 3, 3) m^2, as something beside measurements says.

        What that means for velocity follows from its correlation with position. Were it left as it was, the covariance
        of both would be none any more, and the joints fly away.
        """
        at = np.nonzero(np.isfinite(self.position[..., 0]))
        before, cross, after = self.covariance[at], self._cross[at], covariance[at]
        slope = np.swapaxes(cross, -1, -2) @ inverted(before)  # of velocity over position
        self.velocity[at] += np.einsum('nij,nj->ni', slope, position[at] - self.position[at])
        moving = self.velocity_covariance[at] - slope @ (before - after) @ np.swapaxes(slope, -1, -2)
        self.velocity_covariance[at] = (moving + np.swapaxes(moving, -1, -2)) / 2
        self._cross[at] = after @ np.swapaxes(slope, -1, -2)
        self.position, self.covariance = position, covariance
