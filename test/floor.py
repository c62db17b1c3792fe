"""People on a floor for the tests: walkers of any stature before a tilted camera, as a lifter gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import fakes
import numpy as np
from synthetic import body

from pose3d_ros.ground import ANKLE_SHARE
from pose3d_ros.records import GroundPlane, JointState, Person3D, PersonState
from pose3d_ros.skeleton import HUMAN17

STATURE, SIGMA = 1.70, 0.10   # m: what the lifter takes everybody to be
B_SIGMA = 0.04                # its relative error in distance
FRAME_NS = 33_333_333
ANKLES = HUMAN17.indices(['left_ankle', 'right_ankle'])


@dataclass(frozen=True)
class Floor:
    """A camera above a floor. rotation (3, 3): level optical axes -> optical axes of the camera; plane: the truth."""

    rotation: np.ndarray
    plane: GroundPlane

    @classmethod
    def under(cls, height: float = 1.2, pitch_deg: float = -15.0, roll_deg: float = 0.0) -> Floor:
        """Return the floor under a camera that looks up by pitch and is turned clockwise by roll."""
        pitch, roll = np.radians([pitch_deg, roll_deg])
        about_x = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
        about_z = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        rotation = about_z @ about_x
        return cls(rotation, GroundPlane(rotation @ [0.0, -1.0, 0.0], height))

    def standing(self, stature: float, x: float, z: float, heading: float = 0.0, phase: float = 0.0,
                 lift: float = 0.0) -> np.ndarray:
        """Return the joints (17, 3) m of somebody x right and z ahead [m] on the floor; lift [m]: feet above it."""
        joints = fakes.human17(body(phase)) * stature / STATURE
        joints[:, 1] += ANKLE_SHARE * stature + lift - joints[ANKLES, 1].min()
        cosine, sine = np.cos(heading), np.sin(heading)
        left, up, ahead = joints.T
        level = np.stack([x + cosine * left + sine * ahead, self.plane.camera_height - up,
                          z + sine * left - cosine * ahead], axis=-1)
        return level @ self.rotation.T


def lifted(points: np.ndarray, stature: float, b: float = 0.0, rng: np.random.Generator | None = None,
           id: int = 1, hidden: tuple[str, ...] = (), taken_for: float = STATURE, sigma: float = SIGMA) -> Person3D:
    """Return what a lifter makes of joints (17, 3) m of somebody, whom it takes to be taken_for [m] tall.

    b: its relative error in distance. With rng come errors of the single joints, 1 cm across and 3 cm along the ray.
    """
    position = points * taken_for / stature * (1 + b)
    ray = position / np.linalg.norm(position, axis=-1, keepdims=True)
    outer = ray[:, :, None] * ray[:, None, :]
    own = 1e-4 * np.eye(3) + (9e-4 - 1e-4) * outer
    if rng is not None:
        noise = rng.normal(0, 0.01, position.shape)
        position = position + noise + ray * ((rng.normal(0, 0.03, len(ray)) - (noise * ray).sum(-1))[:, None])
    root = position[HUMAN17.index('pelvis')]
    covariance = (own + (sigma / taken_for) ** 2 * position[:, :, None] * position[:, None, :]
                  + B_SIGMA ** 2 * np.outer(root, root))
    state = np.full(17, JointState.OBSERVED, dtype=np.uint8)
    confidence = np.full(17, 0.9)
    gone = HUMAN17.indices(list(hidden)) if hidden else np.zeros(0, dtype=int)
    state[gone], confidence[gone] = JointState.INFERRED, 0.0
    return Person3D(HUMAN17, position, np.zeros((17, 3)), covariance, confidence, state, 0.9, id, PersonState.TRACKED,
                    taken_for, sigma)


def walk(floor: Floor, stature: float, seconds: float, rng: np.random.Generator, start: float = 3.0, speed: float = 0.6,
         rate: float = 30.0, **lifting) -> Iterator[tuple[np.ndarray, Person3D, int]]:
    """Yield truth (17, 3) m, the lifted person and the stamp [ns] of somebody who walks to and fro before the camera.

    The lifter's error in distance wanders: correlated over half a second.
    """
    b = rng.normal(0, B_SIGMA)
    keep = np.exp(-2 / rate)
    for frame in range(int(seconds * rate)):
        time = frame / rate
        z = start + 1.5 * np.sin(speed * time / 1.5)
        points = floor.standing(stature, 0.5 * np.sin(time), z, heading=0.4, phase=6.0 * time)
        points = points + rng.normal(0, 0.01) * floor.plane.up   # no floor is flat, no step is like the other
        yield points, lifted(points, stature, b, rng, **lifting), int(time * 1e9)
        b = keep * b + rng.normal(0, B_SIGMA * np.sqrt(1 - keep ** 2))
