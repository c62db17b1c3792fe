"""Training and test samples of the lifter: recorded poses, varied, seen by virtual cameras, detected with errors."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.lift import MIN_INPUTS, MIN_TORSO, TORSO
from pose3d_ros.skeleton import HUMAN17, LIMBS12
from pose3d_ros.stature import stature
from pose3d_ros.train.body import NO_VARIATION, PELVIS, BodyVariation, vary
from pose3d_ros.train.errors import ErrorModel
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.virtual_camera import LIMBS, ROBOT, CameraDistribution, look

# What the lifter is shown. `ears` is the point midway between the ears: detectors find it from every side, and it lies
# between the neck and head joints of motion capture.
INPUTS = (*LIMBS12.joints, 'ears')
EARS = len(LIMBS12)
NECK, HEAD = HUMAN17.index('neck'), HUMAN17.index('head')
TORSO_INPUTS = [INPUTS.index(joint) for joint in TORSO]


@dataclass(frozen=True)
class MaskModel:
    """Which joints are hidden beyond those outside the image: chances per person."""

    lower_body: float = 0.10      # knees and ankles; in half of these cases the hips too
    upper_body: float = 0.02      # elbows, wrists, ears
    one_side: float = 0.05        # all limb joints of one side
    ears: float = 0.08
    single: float = 0.03          # each joint by itself
    min_inputs: int = MIN_INPUTS  # whoever is left with less keeps all
    min_torso: int = MIN_TORSO


NO_MASKS = MaskModel(lower_body=0, upper_body=0, one_side=0, ears=0, single=0)


@dataclass(frozen=True)
class SampleSettings:
    """All that decides what samples look like."""

    body: BodyVariation = field(default_factory=BodyVariation)
    cameras: CameraDistribution = ROBOT
    errors: ErrorModel = field(default_factory=ErrorModel)
    masks: MaskModel = field(default_factory=MaskModel)


# Held-out people as they were recorded, seen as a robot would see them.
EVALUATION = SampleSettings(body=NO_VARIATION)
# The same people in the sizes of a population: a handful of recorded subjects says little about how tall people are.
POPULATION = SampleSettings(body=replace(
    NO_VARIATION, stature_mean=BodyVariation.stature_mean, stature_sd=BodyVariation.stature_sd))


@dataclass(frozen=True)
class Samples:
    """rays (B, 13, 2), 0 where hidden; confidence (B, 13), 0 where hidden; points (B, 17, 3) m in the optical frame."""

    rays: NDArray[np.float32]
    confidence: NDArray[np.float32]
    points: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rays)

    def where(self, chosen: NDArray | slice) -> Samples:
        """Return some of the samples."""
        return Samples(*(getattr(self, part.name)[chosen] for part in fields(self)))

    @property
    def relative(self) -> NDArray[np.float32]:
        """The joints against the pelvis (B, 17, 3) m."""
        return self.points - self.points[:, PELVIS, None]

    @property
    def depth(self) -> NDArray[np.float32]:
        """The depth of the pelvis (B, 1) m."""
        return self.points[:, PELVIS, 2:]


def make_samples(mocap: Mocap, count: int, rng: np.random.Generator, settings: SampleSettings,
                 weights: NDArray | None = None) -> Samples:
    """Draw samples. weights (N,): the chance of each frame, all alike when None."""
    frames = rng.choice(len(mocap), size=(2, count), p=weights)
    poses = vary(mocap.positions[frames[0]], mocap.positions[frames[1]], rng, settings.body)
    views = look(poses, rng, settings.cameras)
    upward = rng.uniform(0.0, 0.5, (count, 1)).astype(np.float32)
    ears = views.points[:, NECK] + upward * (views.points[:, HEAD] - views.points[:, NECK])
    ears_ray = ears[:, :2] / np.maximum(ears[:, 2:], 0.1)
    rays = np.concatenate([views.rays[:, LIMBS], ears_ray[:, None]], axis=1)
    ears_seen = views.visible[:, [NECK, HEAD]].all(axis=1, keepdims=True)
    seen = np.concatenate([views.visible[:, LIMBS], ears_seen], axis=1)
    seen &= ~_hidden(seen, rng, settings.masks)

    confidence = settings.errors.confidence(seen.shape, rng) * seen
    size = stature(poses) / np.maximum(views.points[:, PELVIS, 2], 0.3)
    rays = rays + settings.errors.sample(confidence, size, INPUTS, rng)
    rays[~seen] = 0
    return Samples(rays.astype(np.float32), confidence.astype(np.float32), views.points)


def _hidden(seen: NDArray, rng: np.random.Generator, masks: MaskModel) -> NDArray[np.bool_]:
    """Return which joints (B, 13) a random occluder hides; nobody loses so much that nothing can be said."""
    size = len(seen)
    hidden = rng.random(seen.shape) < masks.single
    hidden[:, EARS] |= rng.random(size) < masks.ears
    kind = rng.random(size)
    part = rng.random(size)
    groups = (
        (masks.lower_body / 2, _inputs('knee', 'ankle')),
        (masks.lower_body / 2, _inputs('hip', 'knee', 'ankle')),
        (masks.upper_body, _inputs('elbow', 'wrist', 'ears')),
        (masks.one_side / 2, _inputs('left_')),
        (masks.one_side / 2, _inputs('right_')),
    )
    start = 0.0
    for share, joints in groups:
        hidden |= ((kind >= start) & (kind < start + share))[:, None] & joints
        start += share
    # Half of the time an occluder leaves something of what it covers.
    hidden &= ~((part < 0.25)[:, None] & (rng.random(seen.shape) < 0.3))
    left = seen & ~hidden
    too_little = (left.sum(axis=1) < masks.min_inputs) | (left[:, TORSO_INPUTS].sum(axis=1) < masks.min_torso)
    hidden[too_little] = False
    return hidden


def _inputs(*parts: str) -> NDArray[np.bool_]:
    return np.array([any(part in joint for part in parts) for joint in INPUTS])
