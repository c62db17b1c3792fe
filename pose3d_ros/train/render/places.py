"""Where people are: the light, the floor with their shadows on it, and the room of the studio."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.render.paint import Light
from pose3d_ros.train.render.shots import Shots

# The room of the studio, m: half its sides, and its height. The same colours in every picture.
_ROOM, _CEILING = 6.0, 3.2
_WALLS = np.array([[0.62, 0.62, 0.60], [0.56, 0.58, 0.60], [0.60, 0.58, 0.54], [0.53, 0.54, 0.56]], np.float32)
_FLOOR, _CARPET, _SKIRTING = ((0.42, 0.34, 0.27), (0.52, 0.47, 0.40), (0.30, 0.30, 0.31))
_STUDIO_LAMP = np.array([0.35, 0.25, 0.90])        # direction towards the light, in the room

_LIMBS = tuple((HUMAN17.index(a), HUMAN17.index(b), radius) for a, b, radius in (
    ('pelvis', 'thorax', 0.16), ('neck', 'head', 0.10), *((f'{side}_{a}', f'{side}_{b}', radius)
                                                       for side in ('left', 'right') for a, b, radius in (
        ('hip', 'knee', 0.08), ('knee', 'ankle', 0.06), ('shoulder', 'elbow', 0.05), ('elbow', 'wrist', 0.05)))))


def studio_light(shots: Shots, rng: np.random.Generator) -> Light:
    """Return the one light of the studio."""
    count = len(shots)
    lamp = _unit(np.tile(_STUDIO_LAMP, (count, 1)))
    level = rng.uniform(0.97, 1.03, (count, 1))
    return _light(shots, lamp, 0.55 * level * np.ones(3), 0.62 * level * np.ones(3), np.full(count, 0.55))


def street_light(shots: Shots, rng: np.random.Generator) -> Light:
    """Return light as it is outdoors and indoors: from anywhere above, hard or from all sides, of many colours."""
    count = len(shots)
    bearing, height = rng.uniform(0, 2 * np.pi, count), np.radians(rng.uniform(10, 85, count))
    lamp = np.stack([np.cos(height) * np.cos(bearing), np.cos(height) * np.sin(bearing), np.sin(height)], axis=-1)
    level = np.exp(rng.uniform(np.log(0.7), np.log(1.35), (count, 1)))
    hard = rng.random((count, 1))                     # the lamp's share
    tint, other = (1 + rng.normal(0, 0.08, (2, count, 3)))
    return _light(shots, lamp, level * (0.2 + 0.8 * hard) * tint, level * (0.95 - 0.5 * hard) * other,
                  rng.uniform(0.3, 0.95, count))


def _light(shots: Shots, lamp: NDArray, strength: NDArray, around: NDArray, shade: NDArray) -> Light:
    towards = np.einsum('bij,bj->bi', shots.rotation, lamp)
    return Light(*(np.asarray(array, dtype=np.float32) for array in (
        towards, strength, around, shots.rotation[..., 2], shade)))


def studio_room(shots: Shots, light: Light) -> NDArray[np.float32]:
    """Return what is behind the people: pictures (B, size, size, 3) RGB of the empty room, with their shadows."""
    eye, ray = _world_rays(shots)
    reach = np.where(np.abs(ray) > 1e-6, (np.sign(ray) * np.array([_ROOM, _ROOM, np.inf], np.float32)
                                         - eye[:, None, None]) / np.where(np.abs(ray) > 1e-6, ray, 1), np.inf)
    down = np.where(ray[..., 2] < -1e-6, -eye[:, None, None, 2] / np.minimum(ray[..., 2], -1e-6), np.inf)
    wall = reach[..., :2].min(axis=-1)
    floor = down < wall
    point = eye[:, None, None] + ray * np.minimum(down, wall)[..., None]
    which = np.where(reach[..., 0] < reach[..., 1], np.where(ray[..., 0] > 0, 0, 1), np.where(ray[..., 1] > 0, 2, 3))
    colour = _WALLS[which] * (0.85 + 0.1 * np.minimum(point[..., 2:] / _CEILING, 1))
    colour[~floor & (point[..., 2] < 0.15)] = _SKIRTING
    # Curtains: folds, so that walls are not quite flat.
    colour *= 1 + 0.03 * np.sin(9 * (point[..., :1] + point[..., 1:2]))
    carpet = (np.abs(point[..., :2]) < 2.2).all(axis=-1)
    colour[floor] = _FLOOR
    colour[floor & carpet] = _CARPET
    return colour * (1 - 0.5 * _shadow(point, floor, shots, light)[..., None])


def street_ground(shots: Shots, light: Light, backdrop: NDArray, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return backdrops (B, size, size, 3) RGB with the ground in front of some of them, and people's shadows on it."""
    count, size = len(shots), shots.size
    eye, ray = _world_rays(shots)
    down = np.where(ray[..., 2] < -1e-3, -eye[:, None, None, 2] / np.minimum(ray[..., 2], -1e-3), np.inf)
    reach = rng.uniform(2, 12, count).astype(np.float32)          # m behind the person: where the ground ends
    end = shots.points[..., 2].mean(axis=1) + reach
    floor = (down < end[:, None, None]) & (rng.random(count) < 0.65)[:, None, None]
    point = eye[:, None, None] + ray * np.where(floor, down, 0)[..., None]
    first, second = faded(rng.random((2, count, 1, 1, 3), dtype=np.float32), rng)
    period = rng.uniform(0.3, 2.0, (count, 1, 1)).astype(np.float32)
    tiles = np.sin(2 * np.pi * point[..., 0] / period) * np.sin(2 * np.pi * point[..., 1] / period)
    kind = rng.random((count, 1, 1))
    share = np.where(kind < 0.4, 0, np.where(kind < 0.7, tiles > 0, 0.5 + 0.5 * tiles))[..., None]
    ground = first + (0.6 * share * (second - first)).astype(np.float32)
    ground *= 0.6 + 0.8 * clouds(rng, count, size, 16)[..., :1]
    ground *= 0.5 * (light.strength * np.maximum((light.towards * light.up).sum(-1), 0)[:, None]
                     + light.around)[:, None, None] + 0.35
    dark = light.shade * np.minimum(light.strength.mean(axis=-1), 1)
    ground *= 1 - (0.8 * dark[:, None, None] * _shadow(point, floor, shots, light))[..., None]
    return np.where(floor[..., None], ground, backdrop)


def _world_rays(shots: Shots) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the cameras' places (B, 3) m and rays (B, size, size, 3), of depth 1, in the world."""
    x, y = shots.rays(shots.size)
    shape = (len(shots), shots.size, shots.size)
    ray = np.stack([np.broadcast_to(x[:, None], shape), np.broadcast_to(y[..., None], shape),
                    np.ones(shape, np.float32)], axis=-1)
    eye = -np.einsum('bji,bj->bi', shots.rotation, shots.translation)
    return eye, (ray.reshape(len(shots), -1, 3) @ shots.rotation).reshape(*shape, 3)


def _shadow(point: NDArray, floor: NDArray, shots: Shots, light: Light) -> NDArray[np.float32]:
    """Return how much of the lamp's light people keep from points (B, H, W, 3) m of the floor: 0..1."""
    lamp = np.einsum('bji,bj->bi', shots.rotation, light.towards)
    joints = (shots.points - shots.translation[:, None]) @ shots.rotation
    slant = lamp[:, :2] / np.maximum(lamp[:, 2:], 0.15)
    flat = joints[..., :2] - joints[..., 2:] * slant[:, None]
    image, row, column = np.nonzero(floor)
    x, y = point[image, row, column, 0], point[image, row, column, 1]
    nearest = np.full(len(image), np.inf, dtype=np.float32)
    for a, b, radius in _LIMBS:
        start, way = flat[:, a], flat[:, b] - flat[:, a]
        dx, dy = x - start[image, 0], y - start[image, 1]
        inverse = 1 / np.maximum((way * way).sum(axis=-1), 1e-6)
        t = np.clip((dx * way[image, 0] + dy * way[image, 1]) * inverse[image], 0, 1)
        nearest = np.minimum(nearest, np.hypot(dx - t * way[image, 0], dy - t * way[image, 1]) - radius)
    shadow = np.zeros(floor.shape, dtype=np.float32)
    shadow[image, row, column] = np.clip(0.5 - nearest / 0.06, 0, 1)
    return shadow


def clouds(rng: np.random.Generator, count: int, size: int, finest: int) -> NDArray[np.float32]:
    """Return clouds (count, size, size, 3) of 0..1: random grids of 2, 4 ... finest cells a side, smooth, added."""
    pictures = np.zeros((count, size, size, 3), dtype=np.float32)
    cells, weight, total = 2, 1.0, 0.0
    while cells <= finest:
        grid = rng.random((count, cells, cells, 3), dtype=np.float32)
        for picture, small in zip(pictures, grid):
            picture += weight * cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
        total += weight
        cells, weight = 2 * cells, 0.7 * weight
    return pictures / np.float32(total)


def faded(colours: NDArray, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return colours (..., 3) with less colour in them, mostly much less: what is around people is rarely garish."""
    grey = colours.mean(axis=-1, keepdims=True)
    return grey + np.square(rng.random(grey.shape, dtype=np.float32)) * (colours - grey)


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
