"""Clips that the 3D Human Pose Machine learns from: recorded motion before robot cameras, frame after frame.

Like train/samples.py, whose bodies, cameras, errors and hidden joints these are, but with every frame of a clip of N
frames (section 3.4), oldest first, at frame rates that differ from clip to clip and are never quite even. Detectors err
alike from frame to frame: an error lives on with a chance that falls with the time since the last frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from pose3d_ros.lift import INPUTS, enough_seen, input_points
from pose3d_ros.nets.window import NEAREST, TOLD, WindowLifter
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import stature
from pose3d_ros.train.body import PELVIS, shift_marks, vary
from pose3d_ros.train.errors import ErrorModel
from pose3d_ros.train.lifter import LifterSettings, known_up
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.parts_data import viewer
from pose3d_ros.train.samples import HEAD, NECK, SampleSettings, hidden_joints, seen_from_moving
from pose3d_ros.train.virtual_camera import LIMBS, look
from pose3d_ros.train.window_random import WindowRandom

FEATURES = 3 * len(INPUTS) + TOLD
NEAREST_TRUTH = 0.25  # m: joints nearer to the camera plane have no true place in the image


@dataclass(frozen=True)
class ClipModel:
    """Frames of a clip and the time between them. rate_hz: range of even chances per octave; jitter: of the time
    between two frames; gap: chance of a frame to be skipped (again and again)."""

    frames: int = 16
    rate_hz: tuple[float, float] = (5.0, 30.0)
    jitter: float = 0.2
    gap: float = 0.05


@dataclass(frozen=True)
class ClipSettings:
    """All that decides what clips look like; know_up: share of them whose upward direction is told."""

    samples: SampleSettings = field(default_factory=SampleSettings)
    clip: ClipModel = field(default_factory=ClipModel)
    know_up: float = 0.5


@dataclass(frozen=True)
class Clips:
    """N clips of T frames, oldest first, everything as by a camera turned to the person in that frame.

    features (N, T, 46): nets/window.py, Look.now; since (N, T) s, 0 for the first; rays (N, T, 13, 2) and confidence
    (N, T, 13) as detected; pose (N, T, 17, 3): the truth in statures against the pelvis; truth (N, T, 13, 2): the rays
    that a detector without errors would see, known (N, T, 13): 1 where there is such a ray; seen (N, T): 1 where enough
    of the person was detected to say anything; stature (N,) m.
    """

    features: NDArray[np.float32]
    since: NDArray[np.float32]
    rays: NDArray[np.float32]
    confidence: NDArray[np.float32]
    pose: NDArray[np.float32]
    truth: NDArray[np.float32]
    known: NDArray[np.float32]
    seen: NDArray[np.float32]
    stature: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.features)

    def where(self, chosen: NDArray | slice) -> Clips:
        """Return some of the clips."""
        return Clips(*(getattr(self, part.name)[chosen] for part in fields(self)))

    def frame_by_frame(self) -> Clips:
        """Return the same frames as clips of one frame each (section 4.4.2, single frame)."""
        one = {part.name: getattr(self, part.name) for part in fields(self)}
        frames = self.since.shape[1]
        split = {name: array.reshape(-1, 1, *array.shape[2:]) for name, array in one.items() if name != 'stature'}
        return Clips(**{**split, 'since': 0 * split['since'], 'stature': np.repeat(self.stature, frames)})


@dataclass(frozen=True)
class Stills:
    """M people of a 2D data set, one frame each: features (M, 46), rays (M, 13, 2), confidence (M, 13). No 3D."""

    features: NDArray[np.float32]
    rays: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.features)


def draw_clips(mocap: Mocap, count: int, rng: np.random.Generator, settings: ClipSettings,
               weights: NDArray | None = None, uses: int = 1) -> list[Clips]:
    """Draw clips, each seen `uses` times with other errors and hidden joints. weights (N,): chance of each frame."""
    scenes = _scenes(mocap, count, rng, settings, weights)
    return [_detected(scenes, rng, settings) for _ in range(uses)]


@dataclass(frozen=True)
class _Scenes:
    """Without errors, newest frame first: points (B, T, 17, 3) m, rays (B, T, 13, 2), visible (B, T, 13)."""

    points: NDArray[np.float32]
    rays: NDArray[np.float32]
    visible: NDArray[np.bool_]
    since: NDArray[np.float32]
    image_size: NDArray[np.float32]
    up: NDArray[np.float32]
    stature: NDArray[np.float32]
    landmarks: NDArray[np.bool_]


def _scenes(mocap: Mocap, count: int, rng: np.random.Generator, settings: ClipSettings,
            weights: NDArray | None) -> _Scenes:
    frames, samples = settings.clip.frames, settings.samples
    since = times(count, rng, settings.clip)[:, ::-1]
    age = (np.cumsum(since, axis=1) - since).astype(np.float32)
    chosen, others = rng.choice(len(mocap), size=(2, count), p=weights)
    own, lent = (_motion(mocap, newest, age).reshape(-1, 17, 3) for newest in (chosen, others))
    poses = vary(own, lent, rng, samples.body, frames=frames)
    height = stature(poses[::frames])
    poses, marked = shift_marks(poses, WindowRandom(rng, frames), samples.body, np.repeat(height, frames))
    poses = poses.reshape(count, frames, 17, 3)
    views = look(poses[:, 0], rng, samples.cameras)
    points, rays, visible = views.see(seen_from_moving(poses, age, views.position, rng, samples.window))
    upward = rng.uniform(0.0, 0.5, (count, 1, 1)).astype(np.float32)
    ears = points[:, :, NECK] + upward * (points[:, :, HEAD] - points[:, :, NECK])
    ears_ray = ears[..., :2] / np.maximum(ears[..., 2:], np.float32(0.1))
    ears_seen = visible[..., [NECK, HEAD]].all(axis=-1, keepdims=True)
    return _Scenes(points, np.concatenate([rays[..., LIMBS, :], ears_ray[..., None, :]], axis=-2),
                   np.concatenate([visible[..., LIMBS], ears_seen], axis=-1), since.astype(np.float32),
                   height[:, None] / np.maximum(points[..., PELVIS, 2], np.float32(0.3)), views.up, height,
                   marked[::frames])


def times(count: int, rng: np.random.Generator, model: ClipModel) -> NDArray[np.float32]:
    """Return the time (B, T) s since the frame before, oldest frame first, which has 0."""
    low, high = np.log(model.rate_hz)
    step = np.exp(-rng.uniform(low, high, (count, 1)))
    since = step * (1 + model.jitter * rng.uniform(-1, 1, (count, model.frames)))
    since = since + step * (rng.geometric(1 - model.gap, since.shape) - 1)
    since[:, 0] = 0
    return since.astype(np.float32)


def _motion(mocap: Mocap, newest: NDArray, age: NDArray) -> NDArray[np.float32]:
    """Return the poses (B, T, 17, 3) m `age` s before frames (B,), interpolated; before its clip, nobody moved."""
    first = np.searchsorted(mocap.clip, mocap.clip[newest])[:, None]
    moment = np.maximum(newest[:, None] - age.astype(np.float64) * mocap.fps, first)
    before = np.floor(moment).astype(np.intp)
    after = np.minimum(before + 1, newest[:, None])
    share = (moment - before)[..., None, None].astype(np.float32)
    return (1 - share) * mocap.positions[before] + share * mocap.positions[after]


def lasting_errors(model: ErrorModel, since: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Return errors (B, T, 13, 2) in units of the person's height in the image, and confidences (B, T, 13).

    since (B, T) s, frames in order of time. Of each joint the error of the frame before is kept with chance
    exp(-since / memory_s), or another one drawn.
    """
    count, frames = since.shape
    fresh, confidence = replace(model, tremble=0.0).sample(np.zeros((count * frames, 1)), INPUTS, rng)
    error, confidence = fresh.reshape(count, frames, -1, 2), confidence.reshape(count, frames, -1)
    same = rng.random(confidence.shape, dtype=np.float32) < np.exp(-since / model.memory_s)[..., None]
    for frame in range(1, frames):
        keep = same[:, frame]
        error[:, frame] = np.where(keep[..., None], error[:, frame - 1], error[:, frame])
        confidence[:, frame] = np.where(keep, confidence[:, frame - 1], confidence[:, frame])
    return error + model.tremble * rng.standard_normal(error.shape, dtype=np.float32), confidence


def _detected(scenes: _Scenes, rng: np.random.Generator, settings: ClipSettings) -> Clips:
    """Return what a detector makes of scenes, in order of time, and what the network is shown of that."""
    found = scenes.visible & ~hidden_joints(scenes.visible, rng, settings.samples.masks)
    count, frames = scenes.since.shape
    since, points, sharp, size = (part[:, ::-1] for part in (
        scenes.since, scenes.points, scenes.rays, scenes.image_size))
    visible = found[:, ::-1]
    error, confidence = lasting_errors(settings.samples.errors, since, rng)
    rays = np.where(visible[..., None], sharp + error * size[..., None, None], 0).astype(np.float32)
    confidence = np.where(visible, confidence, 0).astype(np.float32)
    up = np.repeat(known_up(scenes.up, replace(LifterSettings(), know_up=settings.know_up), rng), frames, axis=0)
    features, turned, turn = shown(rays.reshape(-1, len(INPUTS), 2), confidence.reshape(-1, len(INPUTS)), up,
                                   np.repeat(scenes.landmarks, frames))
    there = points.reshape(-1, len(HUMAN17), 3) @ turn.transpose(0, 2, 1)
    pose = (there - there[:, PELVIS, None]) / np.repeat(scenes.stature, frames)[:, None, None]
    joints = input_points().astype(np.float32) @ there
    truth = joints[..., :2] / np.maximum(joints[..., 2:], NEAREST)
    arrays = (features, since.reshape(-1), turned, confidence.reshape(-1, len(INPUTS)), pose, truth,
              joints[..., 2] > NEAREST_TRUTH, enough_seen(confidence.reshape(-1, len(INPUTS))))
    clips = [np.asarray(array, np.float32).reshape(count, frames, *array.shape[1:]) for array in arrays]
    return Clips(*clips, *[scenes.stature])


@lru_cache(maxsize=1)
def seeing() -> WindowLifter:
    """Return what shows people, made once: its layers, which nobody asks, must not use up the chance of a training."""
    with torch.random.fork_rng():
        return viewer()


@torch.no_grad()
def shown(rays: NDArray, confidence: NDArray, up: NDArray,
          landmarks: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return what the network is shown of people (M, 46), their rays as by the turned camera, and turn (M, 3, 3).

    rays (M, 13, 2), confidence (M, 13), up (M, 3) or zeros, landmarks (M,): see nets/window.py.
    """
    seen = (np.asarray(array, np.float32) for array in (
        rays[:, None], confidence[:, None], np.zeros((len(rays), 1)), up, landmarks[:, None]))
    found, turned, turn = seeing().look(*map(torch.from_numpy, seen))
    return found.now().numpy(), turned.numpy(), turn.numpy()


def stills_of(clips: Clips) -> Stills:
    """Return the newest frames of clips as a 2D data set has them: nothing in 3D goes along."""
    last = clips.where(clips.seen[:, -1] > 0)
    return Stills(last.features[:, -1], last.rays[:, -1], last.confidence[:, -1])


def stills(rays: NDArray, confidence: NDArray, landmarks: bool = False) -> Stills:
    """Return people of a 2D data set: rays (M, 13, 2), 0 where missing, confidence (M, 13); of annotations it is 1."""
    features, turned, _ = shown(rays, confidence, np.zeros((len(rays), 3)), np.full(len(rays), float(landmarks)))
    return Stills(features, turned, np.asarray(confidence, np.float32))
