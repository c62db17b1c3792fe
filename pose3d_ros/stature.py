"""How tall a person stands, from bone lengths in any posture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17

# Nobody stands quite straight (the factor, from the tallest frames of recorded people), and below the ankle and above
# the end of the head bone there is a little more of a person.
CHAIN_UPRIGHT = 0.975
CHAIN_ENDS = 0.10  # m

_CHAIN = ('spine', 'thorax', 'neck', 'head')
_LEGS = ('left_knee', 'left_ankle', 'right_knee', 'right_ankle')
_PARENT = {joint: HUMAN17.index(parent) for joint, parent in zip(HUMAN17.joints, HUMAN17.parents) if parent}


def stature(positions: NDArray) -> NDArray:
    """Return the rough standing height (...,) m of bodies (..., 17, 3) m in the order of HUMAN17.

    NaN if a joint of the legs, trunk or head is NaN.
    """
    def lengths(joints: tuple[str, ...]) -> NDArray:
        ends = positions[..., HUMAN17.indices(joints), :]
        starts = positions[..., [_PARENT[joint] for joint in joints], :]
        return np.linalg.norm(ends - starts, axis=-1).sum(axis=-1)

    return CHAIN_UPRIGHT * (0.5 * lengths(_LEGS) + lengths(_CHAIN)) + CHAIN_ENDS
