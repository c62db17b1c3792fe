"""Training and test samples of AbsPoseLifter as published: recorded people in front of the cameras of a laboratory.

As in Human3.6M, a few cameras stand still around the place where people move, and see them whole. A network trained
here learns these places with the rest (it reads the depth from where in the image the feet are), so the figures hold
for this laboratory; robots need train/virtual_camera.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import stature
from pose3d_ros.train.body import NO_VARIATION, PELVIS, BodyVariation, vary
from pose3d_ros.train.error_fit import FittedErrors
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.virtual_camera import optical_axes

# What is done to the recorded bodies, beside the paper's flips. Scaling the whole and its parts is what generalises to
# other people; limbs from other frames, of either side, make unusual poses.
_SCALED = replace(NO_VARIATION, mirror=0.5, stature_mean=1.66, stature_sd=0.08, bone_sd=0.04, side_sd=0.01)
BODIES = {
    'recorded': NO_VARIATION,
    'scaled': _SCALED,
    'recombined': replace(_SCALED, swap_arms=0.35, swap_legs=0.25, bend=0.3, bend_sd=0.05),
}


@dataclass(frozen=True)
class Laboratory:
    """A room with cameras that do not move. World: z up, floor at z = 0, the origin in the middle of the place.

    cameras look at a point look_at_m above the middle from all sides alike, distance_m away (along the floor) and
    height_m (range) above it. People stand anywhere up to area_m from the middle, turned anywhere, so that they are 3
    to 7 m away from a camera. focal_px (log-uniform range, of the image as it is): with more than one value, every
    person is seen with another focal length, as if by sensors of other resolution (Figure 2 (c)), the view angle
    staying the same. width_px of the (square) image at 1145 px; principal_sd_px: of the principal point, about its
    middle.
    """

    cameras: int = 4
    distance_m: float = 5.0
    height_m: tuple[float, float] = (1.5, 1.5)
    look_at_m: float = 0.9
    area_m: float = 2.0
    focal_px: tuple[float, float] = (1145.0, 1145.0)
    width_px: float = 1000.0
    principal_sd_px: float = 10.0
    body: BodyVariation = field(default_factory=lambda: BODIES['recombined'])


LABORATORY = Laboratory()
# Other focal lengths come with other cameras: from one height, where the floor is would give them away.
MIXED_FOCAL = Laboratory(focal_px=(700.0, 2000.0), height_m=(0.5, 2.5))


@dataclass(frozen=True)
class Shots:
    """People as cameras see them, without error.

    pixels (B, 17, 2) px; principal (B, 2) px; focal (B, 1) px; points (B, 17, 3) m in the optical frame; size (B,) px:
    the person's stature in the image (stature times focal length over root depth).
    """

    pixels: NDArray[np.float32]
    principal: NDArray[np.float32]
    focal: NDArray[np.float32]
    points: NDArray[np.float32]
    size: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pixels)

    def where(self, chosen: NDArray | slice) -> Shots:
        """Return some of the shots."""
        return Shots(*(getattr(self, part.name)[chosen] for part in fields(self)))

    def with_errors(self, errors: FittedErrors, rng: np.random.Generator) -> Shots:
        """Return the shots with the pixels as a detector with these errors would give them."""
        return replace(self, pixels=self.pixels + errors.sample(self.size, rng))

    def flipped(self, chosen: NDArray[np.bool_]) -> Shots:
        """Return the shots with some of the people (B,) flipped (section 5.1): their mirror images as cameras see them.

        x is turned about the principal point in the image and about the camera's axis in space; the sides exchanged.
        """
        chosen, principal = chosen[:, None, None], self.principal[:, None]
        pixels = (principal + (self.pixels - principal) * np.array([-1, 1], np.float32))[:, HUMAN17.mirror]
        points = (self.points * np.array([-1, 1, 1], np.float32))[:, HUMAN17.mirror]
        return replace(self, pixels=np.where(chosen, pixels, self.pixels), points=np.where(chosen, points, self.points))


def shoot(mocap: Mocap, count: int, rng: np.random.Generator, laboratory: Laboratory = LABORATORY,
          weights: NDArray | None = None) -> Shots:
    """Draw people, their places and cameras. weights (N,): the chance of each frame, all alike when None."""
    frames = rng.choice(len(mocap), size=(2, count), p=weights)
    poses = vary(mocap.positions[frames[0]], mocap.positions[frames[1]], rng, laboratory.body)
    size = stature(poses)

    spot = rng.uniform(0, 2 * np.pi, count)
    radius = laboratory.area_m * np.sqrt(rng.random(count))
    # Seen from a camera, the world is turned: first every person about itself, then the place about its middle.
    turned = poses @ np.swapaxes(_about_up(rng.uniform(0, 2 * np.pi, count)), -1, -2)
    turned += np.stack([radius * np.cos(spot), radius * np.sin(spot), np.zeros(count)], axis=-1)[:, None]
    bearing = 2 * np.pi * (rng.integers(laboratory.cameras, size=count) + 0.5) / laboratory.cameras
    turned = turned @ np.swapaxes(_about_up(bearing), -1, -2)
    height = rng.uniform(*laboratory.height_m, count)
    turned += np.stack([np.full(count, laboratory.distance_m), np.zeros(count), -height], axis=-1)[:, None]
    pitch = np.arctan2(laboratory.look_at_m - height, laboratory.distance_m)
    points = turned @ np.swapaxes(optical_axes(pitch, np.zeros(count)), -1, -2)

    low, high = laboratory.focal_px
    focal = np.exp(rng.uniform(np.log(low), np.log(high), count))
    resolution = focal / 1145.0
    principal = resolution[:, None] * (laboratory.width_px / 2 + laboratory.principal_sd_px
                                       * rng.standard_normal((count, 2)))
    pixels = points[..., :2] / points[..., 2:] * focal[:, None, None] + principal[:, None]
    return Shots(*(array.astype(np.float32) for array in (
        pixels, principal, focal[:, None], points, size * focal / points[:, PELVIS, 2])))


def _about_up(angle: NDArray) -> NDArray:
    """Return rotations (B, 3, 3) by angle (B,) rad about the world's z axis."""
    c, s, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], axis=-1).reshape(-1, 3, 3)
