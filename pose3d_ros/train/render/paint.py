"""The colours of bodies: skin, hair and cloth by where on the body a point is, then light and shadow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.train.render import looks as look
from pose3d_ros.train.render.cast import NOTHING, Hits
from pose3d_ros.train.render.figures import KIND, KINDS, Figures
from pose3d_ros.train.render.looks import Looks
from pose3d_ros.train.render.shots import Shots

_TRUNK = ('flank', 'chest', 'shoulder', 'bust', 'core', 'pelvis', 'belly', 'buttock')
_START = {'foot': look.SHOE, 'hair': look.HAIR, 'tail': look.HAIR, 'hat': look.HAT, 'brim': look.HAT, 'bag': look.BAG,
          **dict.fromkeys(_TRUNK, look.TOP)}
_MATERIAL = np.array([_START.get(kind, look.SKIN) for kind in KINDS])[KIND]
_WAIST = 0.05        # m above the pelvis: where the trousers end

# A point hides another from the light if it lies on its way there: looked for in the depth image, in steps.
_STEPS = (0.05, 0.09, 0.14, 0.20, 0.28)     # m
_BIAS, _THICKNESS = 0.03, 0.35              # m: nearer to the camera than the way to the light, by this much


@dataclass(frozen=True)
class Light:
    """One lamp per image: towards (B, 3) unit vectors in the optical frame, its strength (B, 3) RGB, the same from all
    around (B, 3) RGB, of which half comes from above, up (B, 3); shade (B,): how dark its shadows are, 0..1."""

    towards: NDArray[np.float32]
    strength: NDArray[np.float32]
    around: NDArray[np.float32]
    up: NDArray[np.float32]
    shade: NDArray[np.float32]


@dataclass(frozen=True)
class _Surface:
    """N points on bodies: image, part, along as in Hits; points and unit normals (N, 3) in the optical frame."""

    image: NDArray[np.intp]
    part: NDArray[np.uint8]
    along: NDArray[np.float32]
    points: NDArray[np.float32]
    normals: NDArray[np.float32]


def paint(hits: Hits, figures: Figures, looks: Looks, light: Light,
          shots: Shots) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which pixels of hits (flat) show a body, and their colours (N, 3) RGB, 0..1 (or more, where glaring)."""
    pixels = np.flatnonzero(hits.part != NOTHING)
    surface = _surface(pixels, hits, figures, shots)
    colours = _colours(surface, figures, looks)
    lit = np.einsum('ni,ni->n', surface.normals, light.towards[surface.image])
    lit = np.maximum(lit, 0) * (1 - light.shade[surface.image] * _shadowed(surface, hits, light, shots))
    above = 0.5 + 0.5 * np.einsum('ni,ni->n', surface.normals, light.up[surface.image])
    around = light.around[surface.image] * (0.5 + 0.5 * above)[:, None]
    return pixels, colours * (around + light.strength[surface.image] * lit[:, None])


def _surface(pixels: NDArray, hits: Hits, figures: Figures, shots: Shots) -> _Surface:
    size = hits.part.shape[1]
    image, within = np.divmod(pixels, size * size)
    row, column = np.divmod(within, size)
    x, y = shots.rays(size)
    part, along, depth = (array.ravel()[pixels] for array in (hits.part, hits.along, hits.depth))
    points = np.stack([x[image, column], y[image, row], np.ones_like(depth)], axis=-1) * depth[:, None]
    start = figures.solids.start[image, part]
    middle = start + along[:, None] * (figures.solids.end[image, part] - start)
    normals = points - middle
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    return _Surface(image, part, along, points, normals)


def _colours(surface: _Surface, figures: Figures, looks: Looks) -> NDArray[np.float32]:
    """Return the colours (N, 3) of points in white light."""
    image, scale = surface.image, figures.scale[surface.image]
    kind = KIND[surface.part]
    material = _MATERIAL[surface.part]
    down = {'upper_arm': 0, 'forearm': 1, 'thigh': 0, 'shank': 1, 'calf': 1}
    for name, offset in down.items():
        covered = looks.sleeve if 'arm' in name else looks.leg
        # Of the calf, `along` runs over a part of the shank.
        reach = 0.1 + 0.35 * surface.along if name == 'calf' else surface.along
        cloth = look.TOP if 'arm' in name else look.BOTTOM
        material = np.where((kind == KINDS.index(name)) & (offset + reach < covered[image]), cloth, material)
    limb = np.isin(kind, [KINDS.index(name) for name in down])
    chest = figures.chest.local(surface.points, image) / scale[:, None]
    face = figures.head.local(surface.points, image) / scale[:, None]
    hips_up = figures.hips.local(surface.points, image)[:, 2] / scale
    facing = np.einsum('ni,ni->n', surface.normals, figures.chest.axes[image, :, 0])
    trunk = np.isin(kind, [KINDS.index(name) for name in _TRUNK])
    material[trunk & (hips_up < _WAIST)] = look.BOTTOM
    _dress_chest(material, trunk & (material == look.TOP), chest, facing, looks, image)
    _draw_face(material, np.isin(kind, [KINDS.index(name) for name in ('skull', 'jaw')]), face, looks.hair[image] > 0)
    # Where on the cloth: along a limb and around it, up and across on the trunk.
    length = np.linalg.norm(figures.solids.end - figures.solids.start, axis=-1)[image, surface.part]
    upward = np.where(limb, surface.along * length, chest[:, 2])
    sideways = np.where(limb, 0.15 * facing, chest[:, 1])
    share = _pattern(upward, sideways, image, material, looks)[:, None]
    return (1 - share) * looks.colour[image, material] + share * looks.second[image, material]


def _dress_chest(material: NDArray, top: NDArray, chest: NDArray, facing: NDArray, looks: Looks,
                 image: NDArray) -> None:
    """Put neckline and what is on the chest or the back into material (N,); chest (N, 3) m forward, left, up."""
    left, up = np.abs(chest[:, 1]), chest[:, 2]
    front = top & (facing > 0.15)
    kind = looks.chest[image]
    for which, where in (
            (look.BUTTONS, left < 0.013),
            (look.PRINT, (left < 0.085) & (up < -0.12) & (up > -0.28)),
            (look.TIE, left < 0.018 - 0.05 * up),
            (look.OPEN, left < 0.05 - 0.1 * up)):
        material[front & (kind == which) & where] = look.TRIM
    back = top & (facing < -0.15) & looks.number[image]
    material[back & (left < 0.085) & (up < -0.10) & (up > -0.30)] = look.TRIM
    material[front & (up > 1.3 * left - looks.neckline[image])] = look.SKIN
    material[top & (up > 0.035) & (left < 0.07)] = look.SKIN


def _draw_face(material: NDArray, head: NDArray, face: NDArray, hairy: NDArray) -> None:
    """Put eyes, brows, mouth and the hair's edge into material (N,); face (N, 3) m forward, left, up of the head."""
    ahead, left, up = face[:, 0], np.abs(face[:, 1]), face[:, 2]
    front = head & (ahead > 0.04)
    material[head & hairy & ((up > 0.07) | (ahead < 0.01) & (up > -0.03))] = look.HAIR
    material[front & (left > 0.018) & (left < 0.048) & (up > 0.0) & (up < 0.030)] = look.DARK
    material[front & (left < 0.03) & (up < -0.045) & (up > -0.065)] = look.LIP


def _pattern(upward: NDArray, sideways: NDArray, image: NDArray, material: NDArray,
             looks: Looks) -> NDArray[np.float32]:
    """Return how much (N,) of the second colour a point has; upward, sideways (N,) m on the cloth."""
    kind = looks.pattern[image, material]
    share = np.zeros(len(kind), dtype=np.float32)
    some = np.flatnonzero(kind != look.PLAIN)
    image, material, kind = image[some], material[some], kind[some]
    turns = 2 * np.pi / looks.period[image, material]
    phase = looks.phase[image, material]
    a, b = np.sin(turns * upward[some] + phase[:, 0]), np.sin(turns * sideways[some] + phase[:, 1])
    mixed = np.sin(0.7 * turns * (upward[some] + sideways[some]) + phase[:, 1] + 2 * a)
    chosen = np.select([kind == look.ACROSS, kind == look.ALONG, kind == look.CHECKS, kind == look.SPOTS],
                       [a > 0, b > 0, 0.5 * (a > 0) + 0.5 * (b > 0), a * b > 0.45], mixed + 0.5 * b > 0.2)
    share[some] = chosen
    return share


def _shadowed(surface: _Surface, hits: Hits, light: Light, shots: Shots) -> NDArray[np.float32]:
    """Return which points (N,) lie in the shadow of something that the camera sees, 0 or 1, softly at its edge."""
    size = hits.part.shape[1]
    scale = size / shots.size
    image, towards = surface.image, light.towards[surface.image]
    focal, principal = shots.focal[image] * scale, (shots.principal[image] + 0.5) * scale
    depth = hits.depth.ravel()
    hidden = np.zeros(len(image), dtype=np.float32)
    for step in _STEPS:
        way = surface.points + np.float32(step) * towards
        column, row = ((way[:, axis] / way[:, 2] * focal + principal[:, axis]).astype(np.int32) for axis in (0, 1))
        inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        seen = depth[(image * size + np.where(inside, row, 0)) * size + np.where(inside, column, 0)]
        gap = way[:, 2] - seen
        hidden = np.maximum(hidden, inside & (gap > _BIAS) & (gap < _THICKNESS))
    return hidden
