"""Colours of the body in pictures and markers: told apart by people with any colour vision, on any background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.records import JointState, Person3D
from pose3d_ros.skeleton import Skeleton

Color = tuple[int, int, int]

# Opacity of joints that were not seen themselves: between others that were, and out of view altogether.
FAINT, GUESSED = 0.35, 0.12

# Red, green, blue in 0..255.
LEFT: Color = (0, 158, 255)
RIGHT: Color = (255, 132, 0)
MIDDLE: Color = (240, 240, 240)


def joint_color(skeleton: Skeleton, joint: int) -> Color:
    """Return the colour (red, green, blue) of a joint by the side of the body it is on."""
    return {'left': LEFT, 'right': RIGHT}.get(skeleton.side(skeleton.joints[joint]), MIDDLE)


def bone_color(skeleton: Skeleton, a: int, b: int) -> Color:
    """Return the colour of the bone between two joints: that of its side, or MIDDLE where it joins the sides."""
    sides = {skeleton.side(skeleton.joints[a]), skeleton.side(skeleton.joints[b])} - {'middle'}
    if len(sides) != 1:
        return MIDDLE
    return LEFT if sides == {'left'} else RIGHT


def joint_opacity(person: Person3D) -> NDArray[np.float64]:
    """Return the opacity (J,) of a person's joints: what was seen stands out from what was only inferred."""
    inferred = np.where(person.joint_confidence > 0, FAINT, GUESSED)
    return np.where(person.joint_state == JointState.OBSERVED, 1.0, inferred)
