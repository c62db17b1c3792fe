"""Samples whose past is at even steps, as lifters like PoseNet3D's want it: before robots, and in a laboratory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.lift import input_points
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import stature
from pose3d_ros.train.body import PELVIS, vary
from pose3d_ros.train.error_fit import FittedErrors
from pose3d_ros.train.filming import Film, make_film
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.samples import NECK, Samples, SampleSettings, Scenes, detect
from pose3d_ros.train.virtual_camera import LIMBS, look

HEAD = HUMAN17.index('head')


def even_samples(mocap: Mocap, count: int, rng: np.random.Generator, settings: SampleSettings, step_s: float,
                 frames: int) -> Samples:
    """Draw people before robots' cameras at rest, with T frames step_s [s] apart, the newest first.

    Before a recording begins, its first frame is repeated. Of settings, what mixes bodies (limbs of others, landmarks
    for joint centres) and the window are left alone.
    """
    newest = rng.choice(len(mocap), size=count)
    back = np.round(np.arange(frames) * step_s * mocap.fps).astype(np.intp)
    chosen = np.maximum(newest[:, None] - back, _first(mocap.clip)[newest, None])
    poses = mocap.positions[chosen].reshape(-1, 17, 3)
    poses = vary(poses, poses, rng, settings.body, frames=frames)
    height = stature(poses[::frames])
    poses = poses.reshape(count, frames, 17, 3)
    views = look(poses[:, 0], rng, settings.cameras)
    points, rays, visible = views.see(poses)
    upward = rng.uniform(0.0, 0.5, (count, 1, 1)).astype(np.float32)   # ears: as train/samples.py has them
    ears = points[:, :, NECK] + upward * (points[:, :, HEAD] - points[:, :, NECK])
    rays = np.concatenate([rays[..., LIMBS, :], (ears[..., :2] / np.maximum(ears[..., 2:], 0.1))[..., None, :]], axis=2)
    seen = np.concatenate([visible[..., LIMBS], visible[..., [NECK, HEAD]].all(axis=-1, keepdims=True)], axis=2)
    age = np.tile((step_s * np.arange(frames)).astype(np.float32), (count, 1))
    scenes = Scenes(rays.astype(np.float32), seen, age,
                    height[:, None] / np.maximum(points[..., PELVIS, 2], np.float32(0.3)), views.points, views.up,
                    views.camera_height, height, np.zeros(count, np.float32))
    return detect(scenes, rng, settings)


def laboratory_samples(mocap: Mocap, count: int, rng: np.random.Generator, film: Film, errors: FittedErrors | None,
                       frames: int) -> Samples:
    """Draw moments of people filmed in a laboratory, as `pose3d record` does, with the T - 1 moments before."""
    recording, truth = make_film(mocap, film, errors, rng)
    moment, view = rng.integers(len(recording), size=count), rng.integers(recording.rays.shape[1], size=count)
    first, _ = recording.ends
    around = np.maximum(moment[:, None] - np.arange(frames), first[moment, None])
    given = input_points()
    confidence = recording.confidence[around, view[:, None]] @ given.T
    known = (recording.confidence[around, view[:, None]] <= 0) @ (given > 0).T == 0
    rays = np.einsum('kj,btjc->btkc', given, recording.rays[around, view[:, None]])
    poses = recording.camera_T_world[view]
    points = truth[moment] @ np.swapaxes(poses[:, :3, :3], 1, 2) + poses[:, None, :3, 3]
    age = np.tile(np.arange(frames) / recording.rate, (count, 1))
    return Samples(np.where(known[..., None], rays, 0).astype(np.float32),
                   np.where(known, confidence, 0).astype(np.float32), age.astype(np.float32),
                   points.astype(np.float32), poses[:, :3, 2].astype(np.float32),
                   np.linalg.inv(poses)[:, 2, 3].astype(np.float32), stature(truth[moment]).astype(np.float32),
                   np.zeros(count, np.float32))


def _first(clip: NDArray) -> NDArray[np.intp]:
    """Return the first frame (N,) of the clip of each frame."""
    starts = np.flatnonzero(np.diff(clip, prepend=clip[0] - 1))
    return np.repeat(starts, np.diff(np.append(starts, len(clip))))
