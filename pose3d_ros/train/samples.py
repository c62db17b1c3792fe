"""Training and test samples of the lifter: recorded motion, varied, seen by virtual cameras, detected with errors."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.lift import INPUTS, MIN_INPUTS, MIN_TORSO, TORSO, WINDOW
from pose3d_ros.past import AGES
from pose3d_ros.skeleton import HUMAN17, LIMBS12
from pose3d_ros.stature import stature
from pose3d_ros.train.body import (
    NO_VARIATION,
    PELVIS,
    BodyVariation,
    rotation_about,
    shift_marks,
    vary,
)
from pose3d_ros.train.errors import ErrorModel
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.virtual_camera import LIMBS, ROBOT, CameraDistribution, look
from pose3d_ros.train.window_random import WindowRandom

EARS = len(LIMBS12)
NECK, HEAD = HUMAN17.index('neck'), HUMAN17.index('head')
TORSO_INPUTS = [INPUTS.index(joint) for joint in TORSO]


@dataclass(frozen=True)
class MaskModel:
    """Which joints are hidden beyond those outside the image: chances per person."""

    lower_body: float = 0.16      # knees and ankles; in half of these cases the hips too
    below_chest: float = 0.04     # all but head, shoulders and elbows
    upper_body: float = 0.02      # elbows, wrists, ears
    one_side: float = 0.05        # all limb joints of one side
    ears: float = 0.08
    single: float = 0.03          # each joint of each frame by itself
    min_inputs: int = MIN_INPUTS  # whoever is left with less keeps all
    min_torso: int = MIN_TORSO


NO_MASKS = MaskModel(lower_body=0, below_chest=0, upper_body=0, one_side=0, ears=0, single=0)


@dataclass(frozen=True)
class WindowModel:
    """The past that the lifter is shown: chances per window, ranges of what is drawn.

    The camera itself moves in some windows, for robots turn; nothing tells the network so.
    """

    alone: float = 0.15      # no past at all
    shortened: float = 0.25  # the older part of it is missing
    gap: float = 0.05        # of each frame of the past to be missing
    jitter: float = 0.35     # of the age that a frame should have
    moving: float = 0.4      # camera in motion
    turn_rate: float = 0.4   # rad/s, one standard deviation per axis
    speed: float = 0.5       # m/s, one standard deviation per axis


STEADY = WindowModel(alone=0.0, shortened=0.0, gap=0.0, jitter=0.0, moving=0.0)


@dataclass(frozen=True)
class SampleSettings:
    """All that decides what samples look like."""

    body: BodyVariation = field(default_factory=BodyVariation)
    cameras: CameraDistribution = ROBOT
    errors: ErrorModel = field(default_factory=ErrorModel)
    masks: MaskModel = field(default_factory=MaskModel)
    window: WindowModel = field(default_factory=WindowModel)


# Held-out people as they were recorded, seen as a robot would see them, with the past that a video gives.
EVALUATION = SampleSettings(body=NO_VARIATION, window=STEADY)
# The same people as a detector of landmarks marks them.
MARKED = replace(EVALUATION, body=replace(NO_VARIATION, marks=1.0))
# The same people in the sizes of a population: a handful of recorded subjects says little about how tall people are.
POPULATION = replace(EVALUATION, body=replace(
    NO_VARIATION, stature_mean=BodyVariation.stature_mean, stature_sd=BodyVariation.stature_sd))


@dataclass(frozen=True)
class _Arrays:
    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def where(self, chosen: NDArray | slice):  # type: ignore[no-untyped-def]  # typing.Self needs Python 3.11
        """Return some of the samples."""
        return type(self)(*(getattr(self, part.name)[chosen] for part in fields(self)))


@dataclass(frozen=True)
class Scenes(_Arrays):
    """What cameras would see without any error, T frames each, newest first.

    rays (B, T, 13, 2), seen (B, T, 13); age (B, T) s; image_size (B, T): a person's stature over its depth; points
    (B, 17, 3) m of the newest frame in the optical frame, up (B, 3) there, camera_height (B,) m; stature (B,) m;
    landmarks (B,): 1 where hips, ankles and shoulders are a detector's landmarks, 0 where they are joint centres.
    """

    rays: NDArray[np.float32]
    seen: NDArray[np.bool_]
    age: NDArray[np.float32]
    image_size: NDArray[np.float32]
    points: NDArray[np.float32]
    up: NDArray[np.float32]
    camera_height: NDArray[np.float32]
    stature: NDArray[np.float32]
    landmarks: NDArray[np.float32]


@dataclass(frozen=True)
class Samples(_Arrays):
    """rays (B, T, 13, 2) and confidence (B, T, 13), both 0 where hidden; the rest as in Scenes."""

    rays: NDArray[np.float32]
    confidence: NDArray[np.float32]
    age: NDArray[np.float32]
    points: NDArray[np.float32]
    up: NDArray[np.float32]
    camera_height: NDArray[np.float32]
    stature: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    @property
    def relative(self) -> NDArray[np.float32]:
        """The joints against the pelvis (B, 17, 3) m."""
        return self.points - self.points[:, PELVIS, None]

    @property
    def root(self) -> NDArray[np.float32]:
        """The pelvis (B, 3) m."""
        return self.points[:, PELVIS]


def make_samples(mocap: Mocap, count: int, rng: np.random.Generator, settings: SampleSettings,
                 weights: NDArray | None = None) -> Samples:
    """Draw samples. weights (N,): the chance of each frame, all alike when None."""
    return detect(make_scenes(mocap, count, rng, settings, weights), rng, settings)


def make_scenes(mocap: Mocap, count: int, rng: np.random.Generator, settings: SampleSettings,
                weights: NDArray | None = None) -> Scenes:
    """Draw people and cameras; the dear half of make_samples."""
    chosen, others = rng.choice(len(mocap), size=(2, count), p=weights)
    age, present = _ages(count, rng, settings.window)
    position, in_clip = _motion(mocap, chosen, age)
    present &= in_clip
    lent, _ = _motion(mocap, others, age)
    poses = vary(position.reshape(-1, 17, 3), lent.reshape(-1, 17, 3), rng, settings.body, frames=WINDOW)
    height = stature(poses[::WINDOW])
    poses, marked = shift_marks(poses, WindowRandom(rng, WINDOW), settings.body, np.repeat(height, WINDOW))
    poses = poses.reshape(count, WINDOW, 17, 3)
    views = look(poses[:, 0], rng, settings.cameras)

    points, rays, visible = views.see(seen_from_moving(poses, age, views.position, rng, settings.window))
    upward = rng.uniform(0.0, 0.5, (count, 1, 1)).astype(np.float32)
    ears = points[:, :, NECK] + upward * (points[:, :, HEAD] - points[:, :, NECK])
    ears_ray = ears[..., :2] / np.maximum(ears[..., 2:], np.float32(0.1))
    ears_seen = visible[..., [NECK, HEAD]].all(axis=-1, keepdims=True)
    return Scenes(np.concatenate([rays[..., LIMBS, :], ears_ray[..., None, :]], axis=-2),
                  np.concatenate([visible[..., LIMBS], ears_seen], axis=-1) & present[..., None],
                  age, height[:, None] / np.maximum(points[..., PELVIS, 2], np.float32(0.3)),
                  views.points, views.up, views.camera_height, height, marked[::WINDOW].astype(np.float32))


def detect(scenes: Scenes, rng: np.random.Generator, settings: SampleSettings) -> Samples:
    """Return what a detector makes of scenes: errors, confidences, hidden joints."""
    seen = scenes.seen & ~hidden_joints(scenes.seen, rng, settings.masks)
    error, confidence = settings.errors.sample(scenes.age, INPUTS, rng)
    rays = scenes.rays + error * scenes.image_size[..., None, None]
    return Samples(np.where(seen[..., None], rays, np.float32(0)), np.where(seen, confidence, np.float32(0)),
                   scenes.age, scenes.points, scenes.up, scenes.camera_height, scenes.stature, scenes.landmarks)


def _ages(count: int, rng: np.random.Generator, window: WindowModel) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the age (B, T) s of the frames of each window and which of them there are; the newest always is."""
    age = np.array((0.0, *AGES)) * (1 + window.jitter * rng.uniform(-1, 1, (count, WINDOW)))
    kind = rng.random((count, 1))
    length = np.where(kind < window.alone, 1, np.where(kind < window.alone + window.shortened,
                                                       rng.integers(2, WINDOW + 1, (count, 1)), WINDOW))
    present = (np.arange(WINDOW) < length) & (rng.random(age.shape) >= window.gap)
    present[:, 0] = True
    return age.astype(np.float32), present


def _motion(mocap: Mocap, newest: NDArray, age: NDArray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the poses (B, T, 17, 3) m `age` (B, T) s before frames (B,), interpolated, and which lie in the clip."""
    moment = np.maximum(newest[:, None] - age * mocap.fps, 0)
    before = np.floor(moment).astype(np.intp)
    after = np.minimum(before + 1, newest[:, None])
    share = (moment - before)[..., None, None].astype(np.float32)
    position = (1 - share) * mocap.positions[before] + share * mocap.positions[after]
    inside = mocap.clip[before] == mocap.clip[newest][:, None]
    return np.where(inside[..., None, None], position, mocap.positions[newest][:, None]), inside


def seen_from_moving(poses: NDArray, age: NDArray, camera: NDArray, rng: np.random.Generator,
                     window: WindowModel) -> NDArray[np.float32]:
    """Return poses (B, T, 17, 3), those of the past moved as if the camera at (B, 3) had turned and moved since."""
    if window.moving <= 0:
        return poses
    size = len(poses)
    moving = (rng.random((size, 1)) < window.moving) * age                          # s; 0: at rest
    rate = rng.normal(0, window.turn_rate, (size, 3)) * [0.3, 0.3, 1.0]             # robots turn about the vertical
    speed = np.linalg.norm(rate, axis=-1)
    axis = (rate / np.maximum(speed, 1e-6)[:, None]).astype(np.float32)
    turn = rotation_about(np.repeat(axis, poses.shape[1], axis=0),
                          (speed[:, None] * moving).ravel().astype(np.float32)).reshape(*age.shape, 3, 3)
    shift = (rng.normal(0, window.speed, (size, 1, 3)) * [1, 1, 0.1] * moving[..., None]).astype(np.float32)
    centre = camera[:, None, None]
    return (poses - centre) @ np.swapaxes(turn, -1, -2) + centre + shift[:, :, None]


def hidden_joints(seen: NDArray, rng: np.random.Generator, masks: MaskModel) -> NDArray[np.bool_]:
    """Return which joints (B, T, 13) a random occluder hides; nobody loses so much that nothing can be said."""
    size = len(seen)
    covered = rng.random((size, seen.shape[2])) < masks.single / 2
    covered[:, EARS] |= rng.random(size) < masks.ears
    kind = rng.random(size)
    part = rng.random(size)
    groups = (
        (masks.lower_body / 2, _inputs('knee', 'ankle')),
        (masks.lower_body / 2, _inputs('hip', 'knee', 'ankle')),
        (masks.below_chest, ~_inputs('shoulder', 'elbow', 'ears')),
        (masks.upper_body, _inputs('elbow', 'wrist', 'ears')),
        (masks.one_side / 2, _inputs('left_')),
        (masks.one_side / 2, _inputs('right_')),
    )
    start = 0.0
    for share, joints in groups:
        covered |= ((kind >= start) & (kind < start + share))[:, None] & joints
        start += share
    # Half of the time an occluder leaves something of what it covers.
    covered &= ~((part < 0.25)[:, None] & (rng.random(covered.shape) < 0.3))
    hidden = covered[:, None] | (rng.random(seen.shape, dtype=np.float32) < masks.single / 2)
    left = seen[:, 0] & ~hidden[:, 0]
    too_little = (left.sum(axis=1) < masks.min_inputs) | (left[:, TORSO_INPUTS].sum(axis=1) < masks.min_torso)
    hidden[too_little] = False
    return hidden


def _inputs(*parts: str) -> NDArray[np.bool_]:
    return np.array([any(part in joint for part in parts) for joint in INPUTS])
