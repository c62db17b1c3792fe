"""The figure that the mannequin is made of: joints, thicknesses and how finely they are meshed.

An adult of 1.70 m. Lengths follow the body segments of Drillis and Contini as Winter gives them ("Biomechanics and
Motor Control of Human Movement", 2009, figure 4.1: knee 0.285, shoulder 0.818, chin 0.870 statures above the floor),
rounded; thicknesses are our own.

Metres from the point on the floor between the feet: x to the body's left, y up, z ahead. Only the left side is given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import SMPL24

STATURE = 1.70

# The hips are on purpose where body models have them, near the middle of the pelvis, and not where detectors mark hips.
_LEFT_AND_MIDDLE: dict[str, tuple[float, float, float]] = {
    'pelvis': (0, 0.935, -0.005), 'spine1': (0, 1.035, -0.02), 'spine2': (0, 1.165, -0.025), 'spine3': (0, 1.22, -0.02),
    'neck': (0, 1.425, -0.035), 'head': (0, 1.515, -0.005),
    'left_hip': (0.065, 0.855, 0), 'left_knee': (0.113, 0.475, 0.005), 'left_ankle': (0.128, 0.075, -0.035),
    'left_foot': (0.137, 0.022, 0.09),
    'left_collar': (0.07, 1.345, -0.025), 'left_shoulder': (0.172, 1.385, -0.03), 'left_elbow': (0.442, 1.38, -0.04),
    'left_wrist': (0.687, 1.385, -0.035), 'left_hand': (0.77, 1.38, -0.035),
}

# Where the bones of joints without children end.
TIPS = {'head': (0, 1.70, 0), 'left_foot': (0.141, 0.022, 0.16), 'left_hand': (0.865, 1.38, -0.035)}


def rest_joints() -> NDArray[np.float64]:
    """Return the joints (24, 3) m of SMPL24 in the rest pose."""
    return np.array([_of_side(joint, _LEFT_AND_MIDDLE) for joint in SMPL24.joints], dtype=np.float64)


def bone_ends() -> NDArray[np.float64]:
    """Return where the bone (24, 3) m that starts at each joint ends: at the child that goes on, or at a tip."""
    joints = rest_joints()
    ends = joints.copy()
    for joint, parent in zip(SMPL24.joints[1:], SMPL24.parents[1:]):
        if parent != 'spine3' or joint == 'neck':  # the chest goes on to the neck, not to the arms
            ends[SMPL24.index(parent)] = joints[SMPL24.index(joint)]
    ends[SMPL24.index('pelvis')] = joints[SMPL24.index('spine1')]
    for joint in SMPL24.joints:
        if joint.replace('right_', 'left_') in TIPS:
            ends[SMPL24.index(joint)] = _of_side(joint, TIPS)
    return ends


def _of_side(joint: str, table: dict[str, tuple[float, float, float]]) -> tuple[float, float, float]:
    x, y, z = table[joint.replace('right_', 'left_')]
    return (-x if SMPL24.side(joint) == 'right' else x, y, z)


# Tubes: places along an axis (x, y, z), and half the thickness there along two directions across it.
# The trunk and the neck go up: half the breadth (x) and half the depth (z).
TRUNK = np.array([
    # x, y, z, breadth, depth
    (0, 0.812, -0.008, 0.060, 0.060),
    (0, 0.838, -0.010, 0.110, 0.082),
    (0, 0.885, -0.010, 0.158, 0.102),
    (0, 0.940, -0.008, 0.158, 0.104),
    (0, 1.010, -0.004, 0.144, 0.098),
    (0, 1.080, 0.000, 0.134, 0.094),
    (0, 1.160, 0.000, 0.142, 0.102),
    (0, 1.250, -0.005, 0.157, 0.112),
    (0, 1.320, -0.012, 0.160, 0.108),
    (0, 1.370, -0.022, 0.135, 0.092),
    (0, 1.410, -0.032, 0.080, 0.068),
])
NECK = np.array([
    (0, 1.390, -0.040, 0.062, 0.060),
    (0, 1.450, -0.028, 0.055, 0.057),
    (0, 1.540, -0.010, 0.052, 0.056),
])
# Legs go down: half the breadth (x), half the depth (z).
LEG = np.array([
    (0.084, 0.935, -0.006, 0.068, 0.080),
    (0.093, 0.870, -0.005, 0.081, 0.088),
    (0.098, 0.800, 0.000, 0.083, 0.090),
    (0.101, 0.730, 0.004, 0.078, 0.086),
    (0.106, 0.620, 0.006, 0.067, 0.075),
    (0.111, 0.530, 0.008, 0.056, 0.063),
    (0.113, 0.475, 0.008, 0.052, 0.059),
    (0.115, 0.420, -0.002, 0.049, 0.055),
    (0.117, 0.345, -0.018, 0.052, 0.057),
    (0.121, 0.230, -0.024, 0.041, 0.045),
    (0.127, 0.120, -0.030, 0.032, 0.037),
    (0.128, 0.060, -0.035, 0.035, 0.041),
])
# Feet go ahead: half the breadth (x), half the height (y). What is below the floor is cut off.
FOOT = np.array([
    (0.127, 0.036, -0.052, 0.031, 0.036),
    (0.129, 0.048, -0.020, 0.034, 0.050),
    (0.132, 0.042, 0.030, 0.037, 0.046),
    (0.137, 0.026, 0.090, 0.046, 0.033),
    (0.139, 0.020, 0.135, 0.041, 0.024),
])
# Arms go to the side: half the depth (z), half the height (y).
ARM = np.array([
    (0.150, 1.378, -0.030, 0.058, 0.060),
    (0.195, 1.383, -0.031, 0.055, 0.057),
    (0.250, 1.382, -0.034, 0.049, 0.050),
    (0.320, 1.380, -0.036, 0.045, 0.046),
    (0.400, 1.379, -0.039, 0.039, 0.040),
    (0.442, 1.380, -0.040, 0.038, 0.038),
    (0.500, 1.382, -0.039, 0.041, 0.040),
    (0.570, 1.384, -0.037, 0.036, 0.034),
    (0.650, 1.385, -0.035, 0.029, 0.024),
    (0.687, 1.385, -0.035, 0.029, 0.021),
])
HAND = np.array([
    (0.680, 1.385, -0.035, 0.028, 0.022),
    (0.715, 1.384, -0.034, 0.036, 0.021),
    (0.755, 1.382, -0.034, 0.042, 0.020),
    (0.800, 1.380, -0.036, 0.040, 0.018),
    (0.835, 1.379, -0.037, 0.035, 0.017),
    (0.847, 1.378, -0.037, 0.031, 0.017),
])
THUMB = np.array([
    (0.710, 1.381, -0.015, 0.017, 0.017),
    (0.745, 1.378, 0.006, 0.016, 0.016),
    (0.775, 1.376, 0.014, 0.014, 0.014),
])
TRAPEZIUS = np.array([
    (0.015, 1.450, -0.045, 0.040, 0.036),
    (0.080, 1.412, -0.040, 0.046, 0.036),
    (0.150, 1.392, -0.034, 0.050, 0.044),
])

# Ellipsoids: centre, half axes; how softly they melt into the rest (m).
SKULL = ((0, 1.607, -0.010), (0.076, 0.093, 0.096))
JAW = ((0, 1.540, 0.030), (0.053, 0.062, 0.058))
NOSE = ((0, 1.580, 0.094), (0.016, 0.027, 0.023))
EAR = ((0.070, 1.588, -0.012), (0.015, 0.034, 0.024))
CHEST = ((0.075, 1.290, 0.052), (0.080, 0.070, 0.048))
BUTTOCK = ((0.078, 0.880, -0.060), (0.078, 0.090, 0.060))
HEEL = ((0.128, 0.032, -0.055), (0.031, 0.034, 0.034))

# Edge lengths of the mesh: (up to, length) in m. Fine across limbs, at joints and in the face, coarse elsewhere.
GRID_X = ((0.020, 0.014), (0.17, 0.023), (0.40, 0.038), (0.49, 0.026), (0.64, 0.036), (0.95, 0.022))
GRID_Y = ((0.10, 0.020), (0.40, 0.040), (0.55, 0.026), (0.74, 0.040), (0.86, 0.027), (1.30, 0.036), (1.36, 0.0175),
          (1.42, 0.0175), (1.50, 0.020), (1.74, 0.021))
GRID_Z = ((-0.10, 0.027), (0.10, 0.0225), (0.22, 0.022))
GRID_FROM = (0.007, -0.04, -0.20)  # x: half a cell, so that one lies across the middle
