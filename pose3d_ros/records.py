"""The frozen records that travel between stages: camera -> detect -> track -> lift -> refine -> fuse -> publish.

Lengths in metres, image positions in pixels, time in integer nanoseconds; axes of the camera's optical frame
(x right, y down, z forward). A joint that is not known is NaN, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.skeleton import Skeleton


class JointState(IntEnum):
    """How a 3D joint came about (the values of Joint3D.msg)."""

    MISSING = 0   # nothing known: position is NaN
    INFERRED = 1  # not seen itself: follows from the joints that were
    OBSERVED = 2  # rests on its own measurement in the image


class PersonState(IntEnum):
    """How sure the tracker is of a person (the values of Person3D.msg)."""

    TENTATIVE = 0  # seen, but for too short a time to be trusted
    TRACKED = 1
    PREDICTED = 2  # not seen in this frame; carried on by motion


@dataclass(frozen=True)
class GroundPlane:
    """The floor as a camera has it: a point p (3,) m of the optical frame lies `up @ p + camera_height` m above it.

    up (3,): unit vector away from the floor; camera_height: m. One standard deviation each: tilt_sigma [rad] of up,
    about any axis in the floor; height_sigma [m] of camera_height. Raises ValueError for what is no plane.
    """

    up: NDArray[np.float64]
    camera_height: float
    tilt_sigma: float = 0.01
    height_sigma: float = 0.02

    def __post_init__(self) -> None:
        if np.shape(self.up) != (3,) or not abs(np.linalg.norm(self.up) - 1) < 1e-3:
            raise ValueError(f'up is {self.up}, expected a unit vector (3,) in the optical frame')
        if not np.isfinite(self.camera_height):
            raise ValueError(f'camera_height is {self.camera_height}, expected metres')
        if not (0 < self.tilt_sigma < np.inf and 0 < self.height_sigma < np.inf):
            raise ValueError(f'tilt_sigma {self.tilt_sigma} and height_sigma {self.height_sigma} must be positive')

    @classmethod
    def under_camera(cls, height: float, pitch: float = 0.0, roll: float = 0.0, tilt_sigma: float = 0.01,
                     height_sigma: float = 0.02) -> GroundPlane:
        """Return the level floor under a camera at a height [m].

        pitch, roll [rad]: of the camera's body axes (x ahead, y left, z up) against the floor, as in a URDF (REP-103):
        pitch is positive for a camera that looks down, roll for one that leans to its right.
        """
        up = -np.array([np.sin(roll) * np.cos(pitch), np.cos(roll) * np.cos(pitch), np.sin(pitch)])
        return cls(up, height, tilt_sigma, height_sigma)

    def height_of(self, points: NDArray) -> NDArray[np.float64]:
        """Return the heights (...,) m above the floor of points (..., 3) m."""
        return np.asarray(points @ self.up + self.camera_height)


@dataclass(frozen=True)
class Frame:
    """One camera image.

    image (H, W, 3) uint8 BGR; stamp_ns of the exposure; frame_id the camera's optical frame; ground: the floor at that
    moment, None where nobody knows.
    """

    image: NDArray[np.uint8]
    stamp_ns: int
    camera: Camera
    frame_id: str = ''
    ground: GroundPlane | None = None

    def __post_init__(self) -> None:
        expected = (self.camera.height, self.camera.width, 3)
        if self.image.shape != expected or self.image.dtype != np.uint8:
            raise ValueError(f'image {self.image.shape} {self.image.dtype}, but the camera gives {expected} uint8 BGR')


@dataclass(frozen=True)
class Person2D:
    """A person in one image.

    pixels (J, 2) px of the source image, (0, 0) the centre of the first pixel; rays (J, 2) the same joints undistorted
    and normalised (x/z, y/z); sigma (J,) px, one standard deviation of each coordinate; joint_confidence (J,) in 0..1;
    depth (J,) relative depth towards (-) or away from (+) the camera against the mid-hip, in px of the source image, as
    far as the detector gives it; all NaN for a joint that is out of view. box (4,) px: x0, y0, x1, y1.
    id: 0 until the tracker has given one. swapped: left and right were exchanged here, of some joints at least.
    attributes (9, 3): probabilities of front, back and on-plane as in attributes.py, where the detector gives them
    itself (zeros: unknown); None for all others.
    """

    skeleton: Skeleton
    pixels: NDArray[np.float64]
    rays: NDArray[np.float64]
    sigma: NDArray[np.float64]
    joint_confidence: NDArray[np.float64]
    depth: NDArray[np.float64]
    box: NDArray[np.float64]
    confidence: float
    id: int = 0
    state: PersonState = PersonState.TENTATIVE
    swapped: bool = False
    attributes: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        joints = len(self.skeleton)
        if self.attributes is not None and self.attributes.shape != (9, 3):
            raise ValueError(f'attributes is {self.attributes.shape}, expected (9, 3)')
        for name, shape in (('pixels', (joints, 2)), ('rays', (joints, 2)), ('sigma', (joints,)),
                            ('joint_confidence', (joints,)), ('depth', (joints,)), ('box', (4,))):
            if getattr(self, name).shape != shape:
                raise ValueError(f'{name} is {getattr(self, name).shape}, expected {shape} for {self.skeleton.name}')

    def mirrored(self, joints: NDArray[np.bool_] | None = None) -> Person2D:
        """Return the same measurements with left and right names exchanged, of all joints or of those (J,) given.

        What the detector said of front and back, it said of a body that faces the other way: nothing is known of that.
        """
        order = self.skeleton.mirror
        if joints is not None:
            order = np.where(joints, order, np.arange(len(order)))
        return replace(self, pixels=self.pixels[order], rays=self.rays[order], sigma=self.sigma[order],
                       joint_confidence=self.joint_confidence[order], depth=self.depth[order], swapped=True,
                       attributes=None if self.attributes is None else np.zeros_like(self.attributes))


@dataclass(frozen=True)
class BodyPose:
    """A person's body as a body model has it (pose3d_ros/body_model.py), in the frame of the person's joints.

    rotations (24, 3, 3): of each joint of SMPL24 against its parent, the root's against the frame; shape (b,):
    coefficients; scale: a metre of the model is so many metres of the person; root (3,) m: where the model's root joint
    is. Vertices are root + scale * (vertices of the posed model - its root joint). All are finite.
    """

    rotations: NDArray[np.float64]
    shape: NDArray[np.float64]
    scale: float
    root: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.rotations.shape != (24, 3, 3) or self.root.shape != (3,) or self.shape.ndim != 1:
            raise ValueError(f'rotations {self.rotations.shape}, root {self.root.shape}, shape {self.shape.shape}: '
                             'expected (24, 3, 3), (3,) and (b,)')

    def resized(self, grow: float, shift: NDArray) -> BodyPose:
        """Return the body with every point p at grow * p + shift; shift (3,) m."""
        return replace(self, scale=self.scale * grow, root=grow * self.root + shift)


@dataclass(frozen=True)
class Person3D:
    """A person in space, in the camera's optical frame (or, after fusion, in the common frame).

    position (J, 3) m; velocity (J, 3) m/s; covariance (J, 3, 3) m^2 of the absolute positions; joint_confidence (J,) in
    0..1; joint_state (J,) uint8 of JointState; position, velocity and covariance are NaN for a MISSING joint.
    height: stature in m, assumed or known, in which the whole person is measured; height_sigma: its standard deviation
    in m. Its share in the covariance of a joint at P is (height_sigma / height)^2 P P^T: what one camera sees of a
    person fits any size. NaN where nobody says. body: the surface around these joints, from a lifter that gives one.
    """

    skeleton: Skeleton
    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    covariance: NDArray[np.float64]
    joint_confidence: NDArray[np.float64]
    joint_state: NDArray[np.uint8]
    confidence: float
    id: int
    state: PersonState
    height: float = float('nan')
    height_sigma: float = float('nan')
    body: BodyPose | None = None

    def __post_init__(self) -> None:
        joints = len(self.skeleton)
        for name, shape in (('position', (joints, 3)), ('velocity', (joints, 3)), ('covariance', (joints, 3, 3)),
                            ('joint_confidence', (joints,)), ('joint_state', (joints,))):
            if getattr(self, name).shape != shape:
                raise ValueError(f'{name} is {getattr(self, name).shape}, expected {shape} for {self.skeleton.name}')

    def joint(self, name: str) -> NDArray[np.float64]:
        """Return the position (3,) m of a joint by name, NaN where it is missing."""
        return self.position[self.skeleton.index(name)]
