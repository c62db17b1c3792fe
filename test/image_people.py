"""Small sets of images for tests: a coloured dot for every joint of people in all poses, before a coloured wall."""

from __future__ import annotations

import cv2
import numpy as np

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.image_sets import ImageSet
from pose3d_ros.train.procedural import procedural_mocap

FOCAL = 1.4   # of the crop's side, for a person at 4 m
DEPTH = 4.0


def people(count: int, seed: int = 0, domain: str = 'studio', size: int = 32) -> ImageSet:
    """Return images of people of motion capture, upright before the camera at 4 m, with 3D joints."""
    rng = np.random.default_rng(seed)
    poses = procedural_mocap(seed, clips=6, seconds=2.0).positions
    poses = poses[rng.integers(len(poses), size=count)]
    poses = poses - 0.5 * (poses.min(axis=1, keepdims=True) + poses.max(axis=1, keepdims=True))
    turn = rng.uniform(0, 2 * np.pi, count)
    x = poses[..., 0] * np.cos(turn)[:, None] - poses[..., 1] * np.sin(turn)[:, None]
    y = poses[..., 0] * np.sin(turn)[:, None] + poses[..., 1] * np.cos(turn)[:, None]
    points = np.stack([x, -poses[..., 2], y + DEPTH], axis=-1)                # the optical frame
    joints2d = points[..., :2] / points[..., 2:] * (FOCAL * size) + 0.5 * (size - 1)
    images = np.empty((count, size, size, 3), np.uint8)
    wall = (200, 60) if domain == 'studio' else (60, 200)
    for image, joints in zip(images, joints2d):
        image[:] = (wall[0], 80, wall[1])
        for number, place in enumerate(joints):
            colour = (255 * (number % 2), 15 * number, 255 - 15 * number)
            cv2.circle(image, (round(place[0]), round(place[1])), 1, colour, -1)
    return ImageSet(images, joints2d.astype(np.float32), np.ones((count, len(HUMAN17)), bool),
                    np.array([f'S{number % 3}' for number in range(count)]), points.astype(np.float32), domain)
