"""Variation of crops while the image network is trained (Wang et al. 2019, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.image_sets import moved


@dataclass(frozen=True)
class Augmentation:
    """scale, colour: factors between 1 - and 1 + this, colour for each of R, G, B; rotation: up to so many degrees to
    either side; flip: whether half of the images are mirrored.
    """

    scale: float = 0.2
    colour: float = 0.2
    rotation: float = 0.0
    flip: bool = False


WITH_3D = Augmentation()                            # rotating or mirroring would belie the joints in space
ONLY_2D = Augmentation(rotation=30.0, flip=True)


@dataclass(frozen=True)
class Varied:
    """images (N, S, S, 3) uint8; joints2d (N, 17, 2) px; new_T_old (N, 2, 3) maps px; flipped (N,) bool.

    Where flipped, left and right joints have changed places.
    """

    images: NDArray[np.uint8]
    joints2d: NDArray[np.float32]
    new_T_old: NDArray[np.float64]  # noqa: N815 (a_T_b: maps b to a)
    flipped: NDArray[np.bool_]


def vary(images: NDArray[np.uint8], joints2d: NDArray, how: Augmentation, rng: np.random.Generator) -> Varied:
    """Return images (N, S, S, 3) and joints2d (N, 17, 2) px, each image varied by chance; borders are continued."""
    count, size = images.shape[:2]
    scale = np.asarray(rng.uniform(1 - how.scale, 1 + how.scale, count))
    angle = np.radians(rng.uniform(-how.rotation, how.rotation, count))
    flipped = np.asarray(rng.random(count) < (0.5 if how.flip else 0.0))
    colour = rng.uniform(1 - how.colour, 1 + how.colour, (count, 1, 1, 3)).astype(np.float32)
    new_T_old = about_middle(scale, angle, flipped, size)
    warped = np.stack([cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR,
                                      borderMode=cv2.BORDER_REPLICATE) for image, matrix in zip(images, new_T_old)])
    coloured = np.clip(warped * colour, 0, 255).astype(np.uint8)
    joints = moved(joints2d, new_T_old)
    return Varied(coloured, np.where(flipped[:, None, None], joints[:, HUMAN17.mirror], joints), new_T_old, flipped)


def about_middle(scale: NDArray, angle: NDArray, flipped: NDArray, size: int) -> NDArray[np.float64]:
    """Return maps (N, 2, 3) of px that scale, turn [rad] and mirror (all (N,)) about the middle of a square image."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    side = np.where(flipped, -1.0, 1.0)
    linear = np.stack([side * c, -side * s, s, c], axis=-1).reshape(-1, 2, 2)
    middle = np.full(2, 0.5 * (size - 1))
    return np.concatenate([linear, (middle - linear @ middle)[..., None]], axis=2)
