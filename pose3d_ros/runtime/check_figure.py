"""A drawn person, shaded and in a room: what networks are shown when an engine is compared with its reference.

Drawn well enough that networks trained on photographs find it, so that what they say of a person is compared, and not
only what they say of noise. Measures are shares of the image's height; x to the right and y down from the hips.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SKIN, _HAIR, _SHIRT, _TROUSERS, _SHOE = (
    (222, 170, 140), (62, 44, 34), (168, 52, 48), (52, 66, 104), (48, 44, 42))      # RGB
_SHADES = 8           # strokes across a limb, from its dark rim to its bright middle
_FINE, _LARGEST = 3, 768    # the drawing is made this much larger and reduced, unless it gets larger than this, px

# Middle of the limbs' ends; the person's left is to the right in the image.
_JOINTS = {
    'neck': (0.0, -0.285), 'head': (0.0, -0.37), 'left_shoulder': (0.085, -0.255), 'left_elbow': (0.135, -0.12),
    'left_wrist': (0.15, 0.01), 'left_hand': (0.152, 0.05), 'left_hip': (0.045, 0.0), 'left_knee': (0.055, 0.20),
    'left_ankle': (0.055, 0.40), 'left_toe': (0.085, 0.43)}
_JOINTS.update({name.replace('left', 'right'): (-x, y) for name, (x, y) in list(_JOINTS.items()) if x})
# Limbs that the trunk is drawn over, and those over the trunk: from, to, width there, colour.
_BEHIND = (
    ('left_hip', 'left_knee', 0.076, 0.058, _TROUSERS), ('left_knee', 'left_ankle', 0.056, 0.036, _TROUSERS),
    ('left_ankle', 'left_toe', 0.036, 0.034, _SHOE), ('neck', 'head', 0.05, 0.05, _SKIN))
_BEFORE = (
    ('left_shoulder', 'left_elbow', 0.054, 0.044, _SHIRT), ('left_elbow', 'left_wrist', 0.040, 0.028, _SKIN),
    ('left_wrist', 'left_hand', 0.030, 0.026, _SKIN))


def drawn_person(height: int, width: int, seed: int, empty: bool = False) -> NDArray[np.uint8]:
    """Return an image (height, width, 3) RGB of a standing person that fills most of it, different for each seed.

    empty: the room without the person.
    """
    rng = np.random.default_rng(seed)
    fine = int(np.clip(_LARGEST // max(height, width), 1, _FINE))
    tall, wide = fine * height, fine * width
    image = _room(tall, wide, rng)
    if not empty:
        size = min(tall, 1.35 * wide) * rng.uniform(0.88, 1.0)
        middle = np.array([wide * rng.uniform(0.47, 0.53), 0.5 * tall])
        places = {name: middle + size * place for name, place in _posture(rng).items()}
        _draw_body(image, places, size, rng.uniform(-0.25, 0.25, 3))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    noisy = small + rng.normal(0, 3, small.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _posture(rng: np.random.Generator) -> dict[str, NDArray]:
    """Return the joints of a person who moves arms and legs a little."""
    joints = {name: np.array(place) for name, place in _JOINTS.items()}
    for side in ('left', 'right'):
        for first, others, most in (('shoulder', ('elbow', 'wrist', 'hand'), 0.5), ('elbow', ('wrist', 'hand'), 0.8),
                                    ('hip', ('knee', 'ankle', 'toe'), 0.12)):
            angle = rng.uniform(-0.1, most) * (-1 if side == 'left' else 1)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            pivot = joints[f'{side}_{first}']
            for name in others:
                joints[f'{side}_{name}'] = pivot + turn @ (joints[f'{side}_{name}'] - pivot)
    return joints


def _room(tall: int, wide: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a wall with a gradient and a picture on it, and a floor."""
    wall, floor = rng.uniform(150, 210, 3), rng.uniform(80, 130, 3)
    light = np.linspace(1.1, 0.85, wide)[None, :, None] * np.linspace(0.95, 1.05, tall)[:, None, None]
    tones = np.clip(light * wall, 0, 255)
    bottom = int(0.78 * tall)
    tones[bottom:] = floor * np.linspace(0.8, 1.15, tall - bottom)[:, None, None]
    image = np.ascontiguousarray(tones.astype(np.uint8))
    left, top = int(rng.uniform(0.03, 0.1) * wide), int(0.12 * tall)
    cv2.rectangle(image, (left, top), (left + wide // 6, top + tall // 5), rng.uniform(60, 200, 3).tolist(), -1)
    return image


def _draw_body(image: NDArray[np.uint8], places: dict[str, NDArray], size: float, tint: NDArray) -> None:
    feet = 0.5 * (places['left_ankle'] + places['right_ankle']) + [0, 0.03 * size]
    shadow = image.copy()
    cv2.ellipse(shadow, (_whole(feet), (0.36 * size, 0.06 * size), 0.0), (45, 45, 45), -1)
    cv2.addWeighted(shadow, 0.5, image, 0.5, 0, dst=image)
    for limbs in (_BEHIND, _BEFORE):
        for first, last, wide, narrow, colour in limbs:
            for side in ('right', 'left'):
                start, end = (places[name.replace('left', side)] for name in (first, last))
                _limb(image, start, end, size * np.array([wide, narrow]), _tinted(colour, tint))
        if limbs is _BEHIND:
            _trunk(image, places, size, _tinted(_SHIRT, tint))
    _head(image, places['head'], size)


def _tinted(colour: tuple[int, int, int], tint: NDArray) -> NDArray:
    return np.array(colour) * (1 if colour is _SKIN else 1 + tint)


def _limb(image: NDArray[np.uint8], start: NDArray, end: NDArray, widths: NDArray, colour: NDArray) -> None:
    """Draw a rounded cone, brighter towards its upper left."""
    steps = np.linspace(0, 1, 14)
    for shade in np.linspace(0, 1, _SHADES):
        tone = np.clip(colour * (0.55 + 0.6 * shade), 0, 255).tolist()
        for step in steps:
            radius = 0.5 * (widths[0] + step * (widths[1] - widths[0]))
            centre = start + step * (end - start) - 0.35 * radius * shade
            cv2.circle(image, _whole(centre), max(1, round(radius * (1 - 0.85 * shade))), tone, -1, cv2.LINE_AA)


def _trunk(image: NDArray[np.uint8], places: dict[str, NDArray], size: float, colour: NDArray) -> None:
    hips = 0.5 * (places['left_hip'] + places['right_hip'])
    shoulders = 0.5 * (places['left_shoulder'] + places['right_shoulder'])
    outline = np.array([(-0.055, 0), (-0.105, 0), (-0.10, 0.02), (-0.088, 0.14), (-0.082, 0.27), (0.082, 0.27),
                        (0.088, 0.14), (0.10, 0.02), (0.105, 0), (0.055, 0), (0.03, -0.025), (-0.03, -0.025)])
    for shade in np.linspace(0, 1, _SHADES):
        tone = np.clip(colour * (0.6 + 0.5 * shade), 0, 255).tolist()
        inner = outline * [1 - 0.8 * shade, 1] - [0.02 * shade, 0]
        points = shoulders + size * inner * [1, 1]
        cv2.fillPoly(image, [np.round(points).astype(np.int32)], tone, cv2.LINE_AA)
    cv2.line(image, _whole(hips + [-0.08 * size, 0.0]), _whole(hips + [0.08 * size, 0.0]), (30, 30, 30),
             max(1, round(0.012 * size)))


def _head(image: NDArray[np.uint8], place: NDArray, size: float) -> None:
    def spot(x: float, y: float, across: float, down: float, colour: NDArray | tuple[int, int, int]) -> None:
        centre = place + size * np.array([x, y])
        cv2.ellipse(image, (_whole(centre), (size * across, size * down), 0.0),
                    np.clip(colour, 0, 255).tolist(), -1, cv2.LINE_AA)

    spot(0, -0.018, 0.118, 0.15, _HAIR)
    for shade in np.linspace(0, 1, _SHADES):
        spot(-0.006 * shade, 0.004, 0.1 * (1 - 0.5 * shade), 0.132 * (1 - 0.5 * shade),
             np.array(_SKIN) * (0.72 + 0.36 * shade))
    for sign in (-1, 1):
        spot(0.052 * sign, 0.004, 0.016, 0.032, np.array(_SKIN) * 0.8)
        spot(0.021 * sign, -0.012, 0.02, 0.011, (245, 245, 245))
        spot(0.021 * sign, -0.012, 0.009, 0.010, (40, 30, 25))
        spot(0.021 * sign, -0.027, 0.026, 0.006, _HAIR)
    spot(0.0, 0.012, 0.014, 0.03, np.array(_SKIN) * 0.86)
    spot(0.0, 0.036, 0.036, 0.011, (165, 75, 75))
    spot(0.0, -0.06, 0.092, 0.042, _HAIR)


def _whole(point: NDArray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
