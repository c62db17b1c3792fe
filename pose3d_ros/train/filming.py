"""Motion capture filmed by the cameras of a laboratory, with the errors of a detector: a recording, and its truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import stature
from pose3d_ros.train.body import PELVIS, BodyVariation, rotation_about, vary
from pose3d_ros.train.error_fit import FittedErrors
from pose3d_ros.train.laboratory import BODIES
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.recording import Recording
from pose3d_ros.train.views import looking_at

# Parts of the body that hide joints behind them: ends (means of joints) and radius in m of somebody of 1.70 m.
_CAPSULES = (
    (('pelvis',), ('thorax',), 0.13), (('neck',), ('head',), 0.10),
    *(((f'{side}_{a}',), (f'{side}_{b}',), radius) for side in ('left', 'right') for a, b, radius in (
        ('hip', 'knee', 0.075), ('knee', 'ankle', 0.05), ('shoulder', 'elbow', 0.045), ('elbow', 'wrist', 0.035))))
_BEHIND = 0.12   # m: what hides a joint is so much nearer to the camera


@dataclass(frozen=True)
class Film:
    """Where cameras stand and what they get wrong. World: z up, floor at 0, the middle of the place at the origin.

    cameras stand evenly around, distance_m from the middle and height_m high (both from one value to another, spread
    over them alike), looking at look_at_m above it. Every clip is filmed `takes` times, each time somewhere up to
    area_m from the middle, turned anywhere, by a body varied as `body` says. focal_px; occlusion: how many times larger
    the errors of joints are that the body itself hides; their confidence lies in hidden_confidence, that of others in
    seen_confidence. memory_s: a detector errs alike from frame to frame; the chance that an error is still the same one
    falls to 1/e in this time (0: drawn anew in every frame).
    """

    cameras: int = 4
    distance_m: tuple[float, float] = (5.0, 5.0)
    height_m: tuple[float, float] = (1.5, 1.5)
    look_at_m: float = 0.9
    area_m: float = 1.5
    focal_px: float = 1145.0
    takes: int = 3
    occlusion: float = 2.0
    memory_s: float = 0.0
    hidden_confidence: tuple[float, float] = (0.1, 0.5)
    seen_confidence: tuple[float, float] = (0.7, 1.0)
    body: BodyVariation = field(default_factory=lambda: BODIES['scaled'])


def cameras_around(film: Film) -> NDArray[np.float64]:
    """Return camera_T_world (V, 4, 4)."""
    number = np.arange(film.cameras)
    bearing = 2 * np.pi * (number + 0.5) / film.cameras
    # Multiples of irrational numbers put cameras in an order that has nothing to do with their bearing.
    distance, height = (low + (high - low) * (np.argsort(np.argsort(number * step % 1)) + 0.5) / film.cameras
                        for (low, high), step in ((film.distance_m, 5**0.5), (film.height_m, 2**0.5)))
    centers = np.stack([distance * np.cos(bearing), distance * np.sin(bearing), height], axis=-1)
    return looking_at(centers, np.array([0.0, 0.0, film.look_at_m]))


def make_film(mocap: Mocap, film: Film, errors: FittedErrors | None,
              rng: np.random.Generator) -> tuple[Recording, NDArray[np.float32]]:
    """Return what the cameras detected, and the true joints (F, 17, 3) m in the world.

    errors: of the detector, None for none.
    """
    truth, clip = _acted(mocap, film, rng)
    poses = cameras_around(film)
    local = np.einsum('vij,fkj->fvki', poses[:, :3, :3], truth) + poses[:, None, :3, 3]
    depth = np.maximum(local[..., 2:], 0.1)
    rays = local[..., :2] / depth
    size = stature(truth)[:, None] / depth[:, :, PELVIS, 0]                      # (F, V): the stature, in rays
    hidden = _hidden(truth, poses)
    low, high = (np.where(hidden, a, b) for a, b in zip(film.hidden_confidence, film.seen_confidence))
    confidence = rng.uniform(low, high)
    if errors is not None:
        drawn = errors.sample(np.ones(size.size), rng).reshape(rays.shape)
        if film.memory_s:
            drawn = _lasting(drawn, clip, np.exp(-1 / (mocap.fps * film.memory_s)), rng)
        rays = rays + drawn * np.where(hidden, film.occlusion, 1.0)[..., None] * size[..., None, None]
    seen = local[..., 2] > 0.1
    return Recording(np.where(seen[..., None], rays, 0).astype(np.float32),
                     np.where(seen, confidence, 0).astype(np.float32),
                     np.full(film.cameras, film.focal_px, dtype=np.float32), poses, clip,
                     np.float32(mocap.fps)), truth


def _lasting(errors: NDArray, clip: NDArray, stay: float, rng: np.random.Generator) -> NDArray:
    """Return errors (F, V, 17, 2), each with the chance `stay` still that of the frame before in its clip."""
    anew = rng.random(errors.shape[:3]) >= stay
    anew[np.flatnonzero(np.diff(clip, prepend=clip[0] - 1))] = True
    since = np.maximum.accumulate(np.where(anew, np.arange(len(clip))[:, None, None], 0), axis=0)
    return np.take_along_axis(errors, since[..., None], axis=0)


def _acted(mocap: Mocap, film: Film, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the joints (F, 17, 3) m of all takes of all clips, and the clip of each moment."""
    takes, clips = [], []
    for take in range(film.takes):
        for number in range(len(mocap.clip_name)):
            poses = mocap.positions[mocap.clip == number]
            poses = vary(poses, poses, rng, film.body, frames=len(poses))  # one body for a take
            turn = about_up(rng.uniform(0, 2 * np.pi, 1))[0]
            radius, spot = film.area_m * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
            poses = (poses - [*poses[:, PELVIS, :2].mean(axis=0), 0]) @ turn.T
            takes.append(poses + [radius * np.cos(spot), radius * np.sin(spot), 0])
            clips.append(np.full(len(poses), take * len(mocap.clip_name) + number))
    return np.concatenate(takes).astype(np.float32), np.concatenate(clips)


def _hidden(truth: NDArray, poses: NDArray) -> NDArray[np.bool_]:
    """Return which joints (F, V, 17) of bodies (F, 17, 3) m the body itself hides from cameras (V, 4, 4)."""
    center = -np.einsum('vji,vj->vi', poses[:, :3, :3], poses[:, :3, 3])
    scale = (stature(truth) / 1.70)[:, None, None]
    hidden = np.zeros((len(truth), len(poses), 17), dtype=bool)
    for starts, ends, radius in _CAPSULES:
        a, b = (truth[:, HUMAN17.indices(joints)].mean(axis=1)[:, None, None] for joints in (starts, ends))
        ray = truth[:, None] - center[:, None]                                   # (F, V, 17, 3)
        length = np.linalg.norm(ray, axis=-1)
        along, apart = _closest(center[:, None], ray / length[..., None], a, b - a)
        own = HUMAN17.indices([*starts, *ends])
        covered = (apart < radius * scale) & (along < length - np.maximum(_BEHIND, radius) * scale)
        covered[..., own] = False
        hidden |= covered
    return hidden


def _closest(start: NDArray, way: NDArray, end: NDArray, limb: NDArray) -> tuple[NDArray, NDArray]:
    """Return how far along rays from start with unit way (..., 3) they come nearest to limbs, and how near.

    A limb goes from end to end + limb (..., 3).
    """
    between = end - start
    ll, wl = (limb * limb).sum(axis=-1), (way * limb).sum(axis=-1)
    bw, bl = (between * way).sum(axis=-1), (between * limb).sum(axis=-1)
    share = np.clip((wl * bw - bl) / np.maximum(ll - wl**2, 1e-9), 0, 1)         # of the limb
    along = bw + share * wl
    return along, np.linalg.norm(between + share[..., None] * limb - along[..., None] * way, axis=-1)


def about_up(angle: NDArray) -> NDArray[np.float64]:
    """Return rotations (B, 3, 3) by angle (B,) rad about the world's z axis."""
    axis = np.tile((0.0, 0.0, 1.0), (len(angle), 1))
    return rotation_about(axis, np.asarray(angle, dtype=np.float64))
