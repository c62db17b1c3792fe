"""Bodies around joints: what is between and beside them, of tapered capsules, and the axes that clothes hang on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import stature
from pose3d_ros.train.render.cast import Solids
from pose3d_ros.train.render.looks import Looks

_SIDES = ('left', 'right')
_PAIRED = ('thigh', 'shank', 'calf', 'foot', 'upper_arm', 'forearm', 'hand', 'buttock', 'flank', 'chest', 'shoulder',
           'bust', 'ear')
_SINGLE = ('core', 'pelvis', 'belly', 'neck', 'skull', 'jaw', 'nose', 'hair', 'tail', 'hat', 'brim', 'bag')
PARTS = (*(f'{side}_{part}' for part in _PAIRED for side in _SIDES), *_SINGLE)
KINDS = (*_PAIRED, *_SINGLE)
KIND = np.array([KINDS.index(part.split('_', 1)[1] if part.split('_', 1)[0] in _SIDES else part) for part in PARTS])

REFERENCE = 1.70     # m: stature of the body that all sizes here are of


@dataclass(frozen=True)
class Axes:
    """Origin (B, 3) m and axes (B, 3, 3) of a part of the body: columns forward, left, up, in the optical frame."""

    origin: NDArray[np.float32]
    axes: NDArray[np.float32]

    def local(self, points: NDArray, image: NDArray) -> NDArray[np.float32]:
        """Return points (N, 3) m of people image (N,) along forward, left and up (N, 3) m from the origin."""
        return np.einsum('ni,nij->nj', points - self.origin[image], self.axes[image])


@dataclass(frozen=True)
class Figures:
    """B bodies: solids of PARTS, the axes of chest, hips and head, and scale (B,), their stature over REFERENCE."""

    solids: Solids
    chest: Axes
    hips: Axes
    head: Axes
    scale: NDArray[np.float32]


def figures_of(points: NDArray, looks: Looks) -> Figures:
    """Return bodies around joints (B, 17, 3) m of HUMAN17 in any right-handed frame."""
    joint = {name: points[:, index] for index, name in enumerate(HUMAN17.joints)}
    across_hips = joint['left_hip'] - joint['right_hip']
    across_shoulders = joint['left_shoulder'] - joint['right_shoulder']
    chest = Axes(joint['thorax'], _axes(joint['thorax'] - joint['spine'], across_shoulders))
    hips = Axes(joint['pelvis'], _axes(joint['spine'] - joint['pelvis'], across_hips))
    scale = (stature(points) / REFERENCE).astype(np.float32)
    face = _turned(_axes(joint['head'] - joint['neck'], chest.axes[..., 1]), looks.gaze)
    head = Axes(joint['neck'] + 0.55 * (joint['head'] - joint['neck'])
                + _along(face, (0.01, 0, 0), scale), face)
    parts = {**_limbs(joint, hips, scale), **_trunk(joint, chest, hips, looks, scale),
             **_head(joint, chest, head, looks, scale)}
    ordered = [parts[name] for name in PARTS]
    start = np.stack([part[0] for part in ordered], axis=1)
    end = np.stack([part[1] for part in ordered], axis=1)
    radius = np.stack([np.stack([value * scale for value in part[2:]], axis=-1) for part in ordered], axis=1)
    radius[:, [not name.endswith(('skull', 'jaw', 'nose', 'ear')) for name in PARTS]] *= looks.girth[:, None, None]
    solids = Solids(*(array.astype(np.float32) for array in (start, end, radius)))
    return Figures(solids, chest, hips, head, scale)


# Start, end (B, 3) m; their radii (B,) m of somebody of REFERENCE.
_Part = tuple[NDArray, NDArray, 'NDArray | float', 'NDArray | float']


def _limbs(joint: dict[str, NDArray], hips: Axes, scale: NDArray) -> dict[str, _Part]:
    parts: dict[str, _Part] = {}
    for side in _SIDES:
        hip, knee, ankle, shoulder, elbow, wrist = (
            joint[f'{side}_{name}'] for name in ('hip', 'knee', 'ankle', 'shoulder', 'elbow', 'wrist'))
        thigh, shank = _unit(knee - hip), _unit(ankle - knee)
        # Knees bend backwards: where the thigh points other than the shank, feet point where the knee does.
        ahead = _unit(thigh - shank + 0.5 * hips.axes[..., 0])
        ahead = _unit(ahead - (ahead * shank).sum(axis=-1, keepdims=True) * shank)
        toe = _unit(ahead + 0.25 * shank) * scale[:, None]
        sole = ankle + 0.045 * shank * scale[:, None]
        behind = -ahead * scale[:, None]
        hand = _unit(wrist - elbow) * scale[:, None]
        parts |= {
            f'{side}_thigh': (hip, knee, 0.088, 0.058),
            f'{side}_shank': (knee, ankle, 0.054, 0.040),
            f'{side}_calf': (knee + 0.10 * (ankle - knee) + 0.012 * behind,
                             knee + 0.45 * (ankle - knee) + 0.02 * behind, 0.048, 0.050),
            f'{side}_foot': (sole + 0.03 * behind, sole + 0.15 * toe, 0.042, 0.034),
            f'{side}_upper_arm': (shoulder, elbow, 0.052, 0.042),
            f'{side}_forearm': (elbow, wrist, 0.042, 0.031),
            f'{side}_hand': (wrist + 0.02 * hand, wrist + 0.10 * hand, 0.036, 0.028),
            f'{side}_buttock': (hip + _along(hips.axes, (-0.045, 0, 0.02), scale),
                                hip + _along(hips.axes, (-0.03, 0, -0.05), scale), 0.085, 0.075),
        }
    return parts


def _trunk(joint: dict[str, NDArray], chest: Axes, hips: Axes, looks: Looks, scale: NDArray) -> dict[str, _Part]:
    spine, thorax, pelvis = joint['spine'], joint['thorax'], joint['pelvis']
    parts: dict[str, _Part] = {}
    for side, sign in zip(_SIDES, (1, -1)):
        shoulder = joint[f'{side}_shoulder']
        waist = spine + _along(chest.axes, (0, 0.06 * sign, 0), scale)
        parts |= {
            f'{side}_flank': (pelvis + _along(hips.axes, (0, 0.07 * sign, 0.03), scale), waist, 0.105, 0.095),
            f'{side}_chest': (waist, thorax + _along(chest.axes, (0.01, 0.085 * sign, -0.12), scale), 0.095, 0.105),
            f'{side}_shoulder': (thorax + _along(chest.axes, (-0.01, 0, -0.025), scale), shoulder, 0.06, 0.054),
            f'{side}_bust': _ball(thorax + _along(chest.axes, (0.085, 0.075 * sign, -0.17), scale), looks.bust),
        }
    parts['core'] = (spine, thorax + _along(chest.axes, (0, 0, -0.08), scale), 0.105, 0.095)
    parts['pelvis'] = (joint['left_hip'], joint['right_hip'], 0.098, 0.098)
    parts['belly'] = (pelvis + _along(hips.axes, (0.07, 0, 0.12), scale),
                      spine + _along(chest.axes, (0.06, 0, 0.02), scale), looks.belly, looks.belly)
    bag = np.where(looks.bag, 0.10, 0)
    parts['bag'] = (thorax + _along(chest.axes, (-0.17, 0, -0.10), scale),
                    spine + _along(chest.axes, (-0.17, 0, 0.03), scale), bag, 1.2 * bag)
    return parts


def _head(joint: dict[str, NDArray], chest: Axes, head: Axes, looks: Looks, scale: NDArray) -> dict[str, _Part]:
    def at(ahead: float, left: float, up: float) -> NDArray:
        return head.origin + _along(head.axes, (ahead, left, up), scale)

    hair, tail, hat = looks.hair, np.where(looks.tail > 0, 0.055, 0), np.where(looks.hat, 0.094, 0)
    nape = joint['thorax'] + _along(chest.axes, (-0.09, 0, 0.02), scale)
    parts: dict[str, _Part] = {
        'neck': (joint['thorax'], joint['neck'] + 0.3 * (joint['head'] - joint['neck']), 0.056, 0.052),
        'skull': (at(-0.02, 0, 0.02), at(0.02, 0, 0.02), 0.082, 0.082),
        'jaw': (at(0.03, 0, -0.03), at(0.045, 0, -0.065), 0.058, 0.042),
        'nose': (at(0.095, 0, 0.005), at(0.105, 0, -0.015), 0.012, 0.017),
        'left_ear': _ball(at(0.0, 0.076, -0.015), 0.019),
        'right_ear': _ball(at(0.0, -0.076, -0.015), 0.019),
        'hair': (at(-0.035, 0, -0.012), at(0.008, 0, 0.042), 0.082 * hair, 0.082 * hair),
        'tail': (at(-0.06, 0, -0.04), nape - looks.tail[:, None] * chest.axes[..., 2], tail, 0.8 * tail),
        'hat': (at(-0.015, 0, 0.05), at(0.015, 0, 0.052), hat, hat),
        'brim': (at(0.07, 0, 0.055), at(0.15, 0, 0.045), 0.5 * hat, 0.3 * hat),
    }
    return parts


def _ball(middle: NDArray, radius: NDArray | float) -> _Part:
    return middle, middle, radius, radius


def _axes(up: NDArray, across: NDArray) -> NDArray:
    """Return axes (B, 3, 3), columns forward, left, up, from directions up and (roughly) left (B, 3)."""
    up = _unit(up)
    left = _unit(across - (across * up).sum(axis=-1, keepdims=True) * up)
    return np.stack([np.cross(left, up), left, up], axis=-1)


def _turned(axes: NDArray, angle: NDArray) -> NDArray:
    """Return axes (B, 3, 3) turned to the left by angle (B,) rad about their own up."""
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    ahead, left = axes[..., 0], axes[..., 1]
    return np.stack([c * ahead + s * left, c * left - s * ahead, axes[..., 2]], axis=-1)


def _along(axes: NDArray, by: tuple[float, float, float], scale: NDArray) -> NDArray:
    """Return the way (B, 3) m forward, left and up by so much of somebody of REFERENCE."""
    return (axes @ np.array(by, dtype=axes.dtype)) * scale[:, None]


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
