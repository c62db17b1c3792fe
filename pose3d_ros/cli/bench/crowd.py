"""Frames with a known number of people, all about as large: the sample footage side by side, or drawn figures."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.records import Frame
from pose3d_ros.runtime.store import ModelMissing, ModelStore

CAMERA = Camera(1280, 720, 900.0, 900.0, 640.0, 360.0)
MOST = 8  # people in a frame
FRAMES = 12
_STEP_NS = 33_333_333
_CELL = (320, 360)  # px: width and height of the part of the frame that shows one of them
# The man of the sample, in all four cameras, at these times: the same part of each image, three times as large.
_PART = (slice(400, 1480), slice(60, 1020))
_CAMERAS, _FIRST_FRAMES = ('cam01', 'cam02', 'cam03', 'cam04'), (24, 60)
# A standing body in units of its height, from the middle of the hips: x to the image's right, y down.
_LIMBS = {
    'shirt': (((-0.11, -0.30), (0.11, -0.30), (0.08, 0.02), (-0.08, 0.02)),
              ((0.11, -0.29), (0.17, -0.14), (0.18, -0.02)), ((-0.11, -0.29), (-0.17, -0.14), (-0.18, -0.02))),
    'trousers': (((0.05, 0.0), (0.07, 0.24), (0.07, 0.47)), ((-0.05, 0.0), (-0.07, 0.24), (-0.07, 0.47))),
}
_COLOURS = {'shirt': (140, 80, 40), 'trousers': (70, 60, 50), 'skin': (130, 160, 210), 'shoes': (30, 30, 30)}
_SHIFT = 4  # bits of a pixel's fraction in OpenCV's drawing


def frames(people: int, store: ModelStore | None = None) -> list[Frame]:
    """Return FRAMES frames of 1280 x 720 px with 0..8 people, forth and back a scene that can be repeated.

    The footage is used where it has been fetched. Raises ValueError for more people.
    """
    if not 0 <= people <= MOST:
        raise ValueError(f'{people} people: expected 0 to {MOST}')
    cells = _footage(store or ModelStore()) or _drawn()
    images = []
    for number in range(FRAMES):
        image = _background().copy()
        for place in range(people):
            x, y = place % 4 * _CELL[0], place // 4 * _CELL[1]
            image[y:y + _CELL[1], x:x + _CELL[0]] = cells[place][number]
        images.append(image)
    images += images[-2:0:-1]
    return [Frame(image, number * _STEP_NS, CAMERA) for number, image in enumerate(images)]


def source(store: ModelStore | None = None) -> str:
    """Return what the people are: 'footage' or 'drawn'."""
    return 'footage' if (store or ModelStore()).ready('sample') else 'drawn'


def _footage(store: ModelStore) -> list[list[NDArray[np.uint8]]]:
    """Return for each person its part of each frame; nothing where the footage has not been fetched."""
    try:
        return _read(Path(store.path('sample')))
    except ModelMissing:
        return []


@lru_cache(maxsize=1)
def _read(folder: Path) -> list[list[NDArray[np.uint8]]]:
    people: list[list[NDArray[np.uint8]]] = [[] for _ in range(MOST)]
    for camera, name in enumerate(_CAMERAS):
        capture = cv2.VideoCapture(str(folder / f'{name}.mp4'))
        for number in range(max(_FIRST_FRAMES) + 2 * FRAMES):
            ok, image = capture.read()
            for half, first in enumerate(_FIRST_FRAMES):
                if ok and first <= number < first + 2 * FRAMES and (number - first) % 2 == 0:  # 60 frames/s
                    small = np.asarray(cv2.resize(image[_PART], _CELL, interpolation=cv2.INTER_AREA), dtype=np.uint8)
                    people[4 * half + camera].append(small[:, ::-1] if half else small)
        capture.release()
    return people if all(len(cell) == FRAMES for cell in people) else []


def _drawn() -> list[list[NDArray[np.uint8]]]:
    """Return figures that sway a little."""
    ground = _background()[:_CELL[1], :_CELL[0]]
    return [[figure(ground, 10.0 * np.sin(0.3 * number + place)) for number in range(FRAMES)] for place in range(MOST)]


def figure(ground: NDArray[np.uint8], sway: float, height: float = 250.0) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) with a clothed figure in its middle. height, sway: px."""
    image = ground.copy()
    middle = np.array([image.shape[1] / 2 + sway, image.shape[0] / 2 + 10])

    def pixels(points: tuple[tuple[float, float], ...]) -> NDArray[np.int32]:
        return np.round((middle + height * np.array(points)) * 2 ** _SHIFT).astype(np.int32)

    def disc(point: tuple[float, float], radius: float, colour: str, wide: float = 1.0) -> None:
        centre, axes = pixels((point,))[0], (round(height * radius * wide * 2 ** _SHIFT),
                                             round(height * radius * 2 ** _SHIFT))
        cv2.ellipse(image, centre.tolist(), axes, 0, 0, 360, _COLOURS[colour], -1, cv2.LINE_AA, _SHIFT)

    for kind in ('trousers', 'shirt'):
        for limb in _LIMBS[kind]:
            if len(limb) == 4:
                cv2.fillPoly(image, [pixels(limb)], _COLOURS[kind], cv2.LINE_AA, _SHIFT)
            cv2.polylines(image, [pixels(limb)], len(limb) == 4, _COLOURS[kind], round(0.07 * height), cv2.LINE_AA,
                          _SHIFT)
    for side in (-1, 1):
        disc((side * 0.18, 0.0), 0.03, 'skin')
        disc((side * 0.08, 0.48), 0.025, 'shoes', wide=1.6)
        disc((side * 0.02, -0.44), 0.008, 'shoes')
    disc((0, -0.36), 0.03, 'skin')
    disc((0, -0.46), 0.065, 'shoes', wide=0.8)
    disc((0, -0.43), 0.06, 'skin', wide=0.8)
    for side in (-1, 1):
        disc((side * 0.02, -0.44), 0.007, 'shoes', wide=1.4)
    disc((0, -0.395), 0.006, 'shoes', wide=3.0)
    return np.asarray(image, dtype=np.uint8)


@lru_cache(maxsize=1)
def _background() -> NDArray[np.uint8]:
    """Return an empty scene: a wall that grows darker downwards, with the noise of a camera."""
    height, width = CAMERA.height, CAMERA.width
    wall = np.linspace(190, 150, height)[:, None, None] + np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return np.clip(wall, 0, 255).astype(np.uint8)
