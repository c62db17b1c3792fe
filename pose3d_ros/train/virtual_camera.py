"""Virtual cameras: recorded people placed in front of cameras drawn at random, and what these cameras see."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17, LIMBS12
from pose3d_ros.train.body import PELVIS

LIMBS = HUMAN17.indices(LIMBS12.joints)
TORSO = HUMAN17.indices(['left_shoulder', 'right_shoulder', 'left_hip', 'right_hip'])
NEAREST = 0.25  # m: nothing nearer to the camera counts as seen


@dataclass(frozen=True)
class CameraDistribution:
    """Where cameras are and which way they look. Every pair is a uniform range.

    A draw counts only if enough of the person is in view (min_limbs of the 12 limb joints, min_torso of shoulders and
    hips), so the people nearest to the camera are seen by cameras that happen to look at them.
    """

    name: str = 'robot'
    height_m: tuple[float, float] = (0.2, 2.5)              # above the floor
    pitch_deg: tuple[float, float] = (-40.0, 30.0)          # negative: looking down
    roll_sd_deg: float = 8.0                                # normal, cut at roll_max_deg
    roll_max_deg: float = 25.0
    distance_m: tuple[float, float] = (0.8, 10.0)           # along the floor, camera to pelvis
    horizontal_view_deg: tuple[float, float] = (50.0, 120.0)
    aspects: tuple[float, ...] = (3 / 4, 9 / 16, 9 / 16, 10 / 16, 4 / 3, 16 / 9)   # image height over width
    min_limbs: int = 4
    min_torso: int = 2


ROBOT = CameraDistribution()


@dataclass(frozen=True)
class Views:
    """People as cameras see them.

    points (B, 17, 3) m in the optical frame (x right, y down, z forward); rays (B, 17, 2) x/z, y/z (without meaning
    where the joint is not visible); visible (B, 17): inside the image and in front of the camera. A world point p is at
    rotation (B, 3, 3) p + translation (B, 3) m in the optical frame; edge (B, 2): the ray of the image's border.
    """

    points: NDArray[np.float32]
    rays: NDArray[np.float32]
    visible: NDArray[np.bool_]
    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    edge: NDArray[np.float32]

    @property
    def camera_height(self) -> NDArray[np.float32]:
        """Height (B,) m of the cameras above the floor."""
        return -(self.up * self.translation).sum(axis=-1)

    @property
    def up(self) -> NDArray[np.float32]:
        """The world's upward direction (B, 3) in the optical frame."""
        return self.rotation[..., 2]

    @property
    def position(self) -> NDArray[np.float32]:
        """Where the cameras are in the world (B, 3) m."""
        return -(np.swapaxes(self.rotation, -1, -2) @ self.translation[..., None])[..., 0]

    def see(self, positions: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Return points, rays and visible of other poses (B, T, 17, 3) m in the same world, by the same cameras."""
        points = positions @ np.swapaxes(self.rotation, -1, -2)[:, None] + self.translation[:, None, None]
        return _seen(points, self.edge[:, None, None])

    def where(self, chosen: NDArray) -> Views:
        """Return some of the views."""
        return Views(*(getattr(self, field.name)[chosen] for field in fields(self)))


def optical_axes(pitch: NDArray, roll: NDArray) -> NDArray:
    """Return rotations (B, 3, 3) world -> optical of cameras that look along world +x, tilted up by pitch, then rolled.

    World: z up, y left. Rows are the optical x (right), y (down) and z (forward) axes. Angles (B,) in rad.
    """
    zero = np.zeros_like(pitch)
    right = np.stack([zero, zero - 1, zero], axis=-1)
    forward = np.stack([np.cos(pitch), zero, np.sin(pitch)], axis=-1)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([c * right + s * down, c * down - s * right, forward], axis=1)


def look(positions: NDArray, rng: np.random.Generator, cameras: CameraDistribution = ROBOT) -> Views:
    """See each pose (B, 17, 3) m (world, z up, pelvis at x = y = 0) from one random side by one random camera.

    Cameras that see too little of the person are drawn again; after 30 rounds the camera is turned to the person.
    """
    size = len(positions)
    result = Views(np.zeros((size, 17, 3), np.float32), np.zeros((size, 17, 2), np.float32),
                   np.zeros((size, 17), np.bool_), np.zeros((size, 3, 3), np.float32),
                   np.zeros((size, 3), np.float32), np.zeros((size, 2), np.float32))
    pending = np.arange(size)
    for attempt in range(31):
        views = _draw(positions[pending], rng, cameras, aim=attempt == 30)
        enough = ((views.visible[:, LIMBS].sum(axis=1) >= cameras.min_limbs)
                  & (views.visible[:, TORSO].sum(axis=1) >= cameras.min_torso))
        if attempt == 30:
            enough[:] = True
        for field in fields(Views):
            getattr(result, field.name)[pending[enough]] = getattr(views, field.name)[enough]
        pending = pending[~enough]
        if not len(pending):
            break
    return result


def _draw(positions: NDArray, rng: np.random.Generator, cameras: CameraDistribution, aim: bool) -> Views:
    size = len(positions)
    half_width = np.tan(np.radians(rng.uniform(*cameras.horizontal_view_deg, size)) / 2)
    half_height = half_width * rng.choice(cameras.aspects, size)
    height = rng.uniform(*cameras.height_m, size)
    distance = rng.uniform(*cameras.distance_m, size)
    bearing = np.arctan(half_width) * rng.uniform(-1, 1, size)
    pitch = np.radians(rng.uniform(*cameras.pitch_deg, size))
    roll = np.radians(np.clip(rng.normal(0, cameras.roll_sd_deg, size), -cameras.roll_max_deg, cameras.roll_max_deg))
    if aim:
        bearing = np.zeros(size)
        pitch = np.arctan2(positions[:, PELVIS, 2] - height, distance)
        distance = np.maximum(distance, 2.0)

    offset = np.stack([distance * np.cos(bearing), distance * np.sin(bearing), -height], axis=-1)
    axes = optical_axes(pitch, roll)
    rotation = (axes @ _about_up(rng.uniform(0, 2 * np.pi, size))).astype(np.float32)
    translation = (axes @ offset[..., None])[..., 0].astype(np.float32)
    edge = np.stack([half_width, half_height], axis=-1).astype(np.float32)
    points = positions @ np.swapaxes(rotation, -1, -2) + translation[:, None]
    return Views(*_seen(points, edge[:, None]), rotation, translation, edge)


def _seen(points: NDArray, edge: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return points, rays and visible of points (..., 3) m in the optical frame; edge (..., 2) as in Views."""
    points = points.astype(np.float32, copy=False)
    depth = points[..., 2]
    rays = points[..., :2] / np.maximum(depth, np.float32(NEAREST))[..., None]
    return points, rays, (depth > NEAREST) & (np.abs(rays) < edge).all(axis=-1)


def _about_up(angle: NDArray) -> NDArray:
    """Return rotations (B, 3, 3) by angle (B,) rad about the world's z axis."""
    c, s, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], axis=-1).reshape(-1, 3, 3)
