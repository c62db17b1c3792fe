"""From the axes of a file to the world of the training: z up, floor at 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17

# A person who faces the +z of a file with y up has the left hand on its +x side; here the same person faces +y and has
# the right hand on the +x side, as in the arrays we train on.
FROM_Y_UP = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])

ANKLE_HEIGHT = 0.08              # m, of a standing adult
ANKLES_PLAUSIBLE = (-0.06, 0.30)  # m: where a file's own floor is believed

_ANKLES = HUMAN17.indices(['left_ankle', 'right_ankle'])
_TRUNK = HUMAN17.indices(['pelvis', 'thorax'])


def y_up_to_world(positions: NDArray) -> NDArray:
    """Return points (..., 3) of axes with y up in axes with z up (a rotation)."""
    return positions @ FROM_Y_UP.T


def rotation_to_z(up: NDArray) -> NDArray:
    """Return the smallest rotation (3, 3) that turns the direction up (3,) to +z."""
    x, y, z = up / np.linalg.norm(up)
    if z < -0.999999:
        return np.diag([1.0, -1.0, -1.0])
    # Rodrigues' formula about up x e_z, written out.
    return np.array([[1 - x * x / (1 + z), -x * y / (1 + z), -x],
                     [-x * y / (1 + z), 1 - y * y / (1 + z), -y], [x, y, z]])


def on_floor(positions: NDArray) -> NDArray:
    """Return the clip (T, 17, 3) m on the floor z = 0: moved only where its ankles are nowhere near its own floor."""
    lowest = float(np.percentile(positions[:, _ANKLES, 2].min(axis=1), 5))
    if ANKLES_PLAUSIBLE[0] <= lowest <= ANKLES_PLAUSIBLE[1]:
        return positions
    return positions - [0.0, 0.0, lowest - ANKLE_HEIGHT]


def level(positions: NDArray, rounds: int = 12) -> NDArray:
    """Return a clip (T, 17, 3) m in axes whose vertical is unknown (those of a camera) in world axes with z up.

    The floor is the plane through the lower ankles: they are fitted again and again without those that are lifted.
    Good to about a degree for people who walk about; where they walk on one line only, and where they stay on one spot,
    the trunk decides the rest.
    """
    trunk = up = _mean_trunk(positions)
    lower = _lower_ankles(positions, up)
    for _ in range(rounds):
        offset = lower @ up
        near = lower[offset <= np.percentile(offset, 10) + 0.06]
        centred = near - near.mean(axis=0)
        spread, axes = np.linalg.eigh(centred.T @ centred / len(centred))
        if spread[1] > 0.25**2:
            up = axes[:, 0] * np.sign(axes[:, 0] @ up)
        elif spread[2] > 0.25**2:
            up = trunk - (trunk @ axes[:, 2]) * axes[:, 2]
            up /= np.linalg.norm(up)
        else:
            break
        lower = _lower_ankles(positions, up)
    turned = positions @ rotation_to_z(up).T
    return turned - [0.0, 0.0, float(np.percentile(turned[:, _ANKLES, 2].min(axis=1), 25)) - ANKLE_HEIGHT]


def _mean_trunk(positions: NDArray) -> NDArray:
    trunk = (positions[:, _TRUNK[1]] - positions[:, _TRUNK[0]]).mean(axis=0)
    return trunk / np.linalg.norm(trunk)


def _lower_ankles(positions: NDArray, up: NDArray) -> NDArray:
    ankles = positions[:, _ANKLES]
    return np.take_along_axis(ankles, (ankles @ up).argmin(axis=1)[:, None, None], axis=1)[:, 0]
