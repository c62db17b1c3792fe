"""Where people are photographed from, and the square that is cut out around each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.train.body import BodyVariation, vary
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.views import looking_at
from pose3d_ros.train.virtual_camera import CameraDistribution, look

STUDIO, STREET = 'studio', 'street'
DOMAINS = (STUDIO, STREET)

# The studio, as that of Human3.6M: four cameras of one height around the place, people up to AREA from its middle.
STUDIO_CAMERAS, STUDIO_DISTANCE, STUDIO_HEIGHT, STUDIO_LOOK_AT, STUDIO_AREA = 4, 4.5, 1.5, 0.9, 1.2   # m
# In the street: anybody's hand, shoulder, shelf or mast. Borders of the whole image do not cut the crop.
STREET_CAMERAS = CameraDistribution('street', height_m=(0.3, 3.0), pitch_deg=(-30.0, 15.0), roll_sd_deg=5.0,
                                    roll_max_deg=15.0, distance_m=(2.2, 8.0), horizontal_view_deg=(40.0, 75.0),
                                    min_limbs=10, min_torso=4)
# Bodies and postures are varied alike in both, so that only what the pictures look like tells one from the other.
BODIES = BodyVariation(marks=0.0, lie=0.01)

MARGIN = (1.10, 1.32)      # side of the crop over the larger side of the box around the joints
SHIFT = 0.05               # of the crop's middle from that of the box, at most, of the side
CUT_SHARE = 0.10           # of the street: crops that cut a part of the person off,
CUT_MARGIN = (0.65, 1.0)   # so large
LEAST_SIDE = 0.9           # m at the person's distance: of the box around somebody who is curled up


@dataclass(frozen=True)
class Shots:
    """B people as cameras see them, and the crops.

    points (B, 17, 3) m of HUMAN17 in the optical frame (x right, y down, z forward); rotation (B, 3, 3) and translation
    (B, 3) m take the world (z up, floor at 0) there; focal (B,) px and principal (B, 2) px are those of the crop, size
    px square. Pixels as OpenCV counts them: (0, 0) is the middle of the first.
    """

    points: NDArray[np.float32]
    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    focal: NDArray[np.float32]
    principal: NDArray[np.float32]
    size: int

    def __len__(self) -> int:
        return len(self.points)

    def project(self, points: NDArray) -> NDArray[np.float32]:
        """Return the pixels (B, J, 2) of points (B, J, 3) m in the optical frame."""
        pixels = points[..., :2] / points[..., 2:] * self.focal[:, None, None] + self.principal[:, None]
        return np.asarray(pixels, dtype=np.float32)

    @property
    def joints2d(self) -> NDArray[np.float32]:
        """The joints (B, 17, 2) px of the crop."""
        return self.project(self.points)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which joints (B, 17) lie in the crop."""
        within = (self.joints2d > -0.5) & (self.joints2d < self.size - 0.5)
        return np.asarray(within.all(axis=-1))

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The camera matrices K (B, 3, 3) of the crops."""
        matrix = np.zeros((len(self), 3, 3), dtype=np.float32)
        matrix[:, 0, 0] = matrix[:, 1, 1] = self.focal
        matrix[:, :2, 2] = self.principal
        matrix[:, 2, 2] = 1
        return matrix

    def rays(self, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return x/z (B, size) of the columns and y/z (B, size) of the rows of the crop sampled size times a side."""
        at = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(self.size / size) - np.float32(0.5)
        x, y = ((at - self.principal[:, axis, None]) / self.focal[:, None] for axis in (0, 1))
        return x, y


def shoot(mocap: Mocap, frames: NDArray, others: NDArray, domain: str, size: int, rng: np.random.Generator) -> Shots:
    """Photograph the people of some frames (B,) of motion capture, with limbs lent from others (B,), from anywhere."""
    poses = vary(mocap.positions[frames], mocap.positions[others], rng, BODIES)
    if domain == STUDIO:
        poses, rotation, translation = _in_studio(poses, rng)
    else:
        views = look(poses, rng, STREET_CAMERAS)
        rotation, translation = views.rotation, views.translation
    points = poses @ np.swapaxes(rotation, -1, -2) + translation[:, None]
    return crop(points, rotation, translation, size, rng, CUT_SHARE if domain == STREET else 0.0)


def crop(points: NDArray, rotation: NDArray, translation: NDArray, size: int, rng: np.random.Generator,
         cut: float = 0.0) -> Shots:
    """Return the crops around people points (B, 17, 3) m in the optical frame; a share `cut` of them cuts people."""
    count = len(points)
    rays = points[..., :2] / points[..., 2:]
    low, high = rays.min(axis=1), rays.max(axis=1)
    margin = np.where(rng.random(count) < cut, rng.uniform(*CUT_MARGIN, count), rng.uniform(*MARGIN, count))
    side = margin * np.maximum((high - low).max(axis=1), LEAST_SIDE / points[..., 2].mean(axis=1))
    middle = (low + high) / 2 + rng.uniform(-SHIFT, SHIFT, (count, 2)) * side[:, None]
    focal = size / side
    principal = (size - 1) / 2 - middle * focal[:, None]
    points, rotation, translation, focal, principal = (
        array.astype(np.float32) for array in (points, rotation, translation, focal, principal))
    return Shots(points, rotation, translation, focal, principal, size)


def _in_studio(poses: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
    """Return the poses somewhere in the studio, turned anywhere, and rotation and translation of one of its cameras."""
    count = len(poses)
    bearing = 2 * np.pi * (np.arange(STUDIO_CAMERAS) + 0.5) / STUDIO_CAMERAS
    centres = np.stack([STUDIO_DISTANCE * np.cos(bearing), STUDIO_DISTANCE * np.sin(bearing),
                        np.full(STUDIO_CAMERAS, STUDIO_HEIGHT)], axis=-1)
    cameras = looking_at(centres, np.array([0.0, 0.0, STUDIO_LOOK_AT]))[rng.integers(STUDIO_CAMERAS, size=count)]
    heading, spot = rng.uniform(0, 2 * np.pi, (2, count))
    c, s, zero = np.cos(heading), np.sin(heading), np.zeros(count)
    turn = np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], axis=-1).reshape(-1, 3, 3)
    radius = STUDIO_AREA * np.sqrt(rng.random(count))
    place = np.stack([radius * np.cos(spot), radius * np.sin(spot), zero], axis=-1)
    return poses @ np.swapaxes(turn, -1, -2) + place[:, None], cameras[:, :3, :3], cameras[:, :3, 3]
