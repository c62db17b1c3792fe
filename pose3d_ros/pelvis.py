"""The body as a coordinate frame (REP-155): origin in the middle of the hips, x out of the chest, z up the spine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.records import Person3D

Array = NDArray[np.float64]

# What each point of the body is taken from, best first: the mean of joints that must all be known.
_ORIGIN = (('pelvis',), ('left_hip', 'right_hip'))
_ABOVE = (('spine',), ('thorax',), ('left_shoulder', 'right_shoulder'))

_SHORTEST = 0.02  # m: joints nearer to each other than this give no direction
_OWN_NOISE = 0.02  # m: least standard deviation of a joint against its neighbours


@dataclass(frozen=True)
class PelvisFrame:
    """Pose of a person's pelvis in the frame of the person's joints.

    position (3,) m; rotation (3, 3), its columns are the body's x (out of the chest), y (to its left) and z (up the
    spine); covariance (6, 6) of position [m^2] and of rotation about the x, y, z of the outer frame [rad^2]. NaN where
    not known: a pelvis has a position without a rotation when a hip or the trunk is missing.
    """

    position: Array
    rotation: Array
    covariance: Array

    @property
    def quaternion(self) -> Array:
        """Return the rotation as x, y, z, w (4,), NaN where not known."""
        if np.isnan(self.rotation).any():
            return np.full(4, np.nan)
        return np.asarray(Rotation.from_matrix(self.rotation).as_quat())


def pelvis_frame(person: Person3D) -> PelvisFrame:
    """Return the pelvis frame of a person in the frame of its joints."""
    position, spread = _point(person, _ORIGIN)
    above, above_spread = _point(person, _ABOVE)
    left, left_spread = _point(person, (('left_hip',),))
    right, right_spread = _point(person, (('right_hip',),))
    covariance = np.full((6, 6), np.nan)
    covariance[:3, :3] = spread
    rotation = body_axes(above - position, left - right)
    if not np.isnan(rotation).any():
        covariance[:3, 3:] = covariance[3:, :3] = 0.0  # they are correlated little, and nobody gives how much
        covariance[3:, 3:] = _rotation_covariance(rotation, above - position, left - right,
                                                  _relative(above_spread, spread),
                                                  _relative(left_spread, spread) + _relative(right_spread, spread))
    return PelvisFrame(position, rotation, covariance)


def body_axes(spine: Array, hips: Array) -> Array:
    """Return the rotation (3, 3) of a body from its spine (3,) (upwards) and its hip line (3,) (right to left).

    The spine is followed exactly, the hip line as far as it is square to it. All NaN where either is NaN, too short,
    or both point the same way.
    """
    unknown = np.full((3, 3), np.nan)
    if not (np.linalg.norm(spine) > _SHORTEST and np.linalg.norm(hips) > _SHORTEST):  # also when NaN
        return unknown
    up = spine / np.linalg.norm(spine)
    leftward = hips - (hips @ up) * up
    if np.linalg.norm(leftward) < 0.2 * np.linalg.norm(hips):  # within 12 degrees of the spine: not a body
        return unknown
    left = leftward / np.linalg.norm(leftward)
    return np.stack([np.cross(left, up), left, up], axis=-1)


def _point(person: Person3D, choices: tuple[tuple[str, ...], ...]) -> tuple[Array, Array]:
    """Return position (3,) and covariance (3, 3) of the first choice whose joints are all known, else NaN."""
    for names in choices:
        if all(name in person.skeleton.joints for name in names):
            chosen = person.skeleton.indices(names)
            position, covariance = person.position[chosen].mean(axis=0), person.covariance[chosen].mean(axis=0)
            if not np.isnan(position).any():
                return position, covariance
    return np.full(3, np.nan), np.full((3, 3), np.nan)


def _relative(joint: Array, pelvis: Array) -> Array:
    """Return the covariance (3, 3) of a joint against the pelvis.

    Both are absolute, and most of that error (the distance of the whole person) they have in common: it is what the
    pelvis has. A little of a joint's own is always left.
    """
    own = joint - pelvis
    if not np.isfinite(own).all():
        return np.full((3, 3), np.nan)
    values, vectors = np.linalg.eigh(own)
    return (vectors * np.maximum(values, _OWN_NOISE ** 2)) @ vectors.T


def _rotation_covariance(rotation: Array, spine: Array, hips: Array, spine_cov: Array, hips_cov: Array) -> Array:
    """Return the covariance (3, 3) [rad^2] about the outer axes, to first order.

    The spine moves the body about its x and y axes, the hip line about its z axis: an arm of length l that is off by d
    at its end turns by d / l.
    """
    x, y, z = rotation.T
    arm, width = np.linalg.norm(spine), hips @ y
    # Rows: turn about body x, y, z per metre of error of the arm's end.
    by_spine = np.stack([-y / arm, x / arm, np.zeros(3)])
    by_hips = np.stack([np.zeros(3), np.zeros(3), -x / width])
    in_body = by_spine @ spine_cov @ by_spine.T + by_hips @ hips_cov @ by_hips.T
    return rotation @ in_body @ rotation.T
