"""The clutter of the street, drawn at random: behind people, in front of them, and what lenses and files do to it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.train.render.places import clouds, faded

_SHIFT = 4                 # bits of fraction that OpenCV takes in coordinates
OCCLUDER_SHARE = 0.2      # of the street: something stands before the person


def backdrops(count: int, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return what is behind people (count, size, size, 3) RGB: gradients, noise, boxes, discs, shapes like limbs."""
    pictures = _gradients(rng, count, size)
    rough = rng.random((count, 1, 1, 1)).astype(np.float32) ** 2
    cloudy = clouds(rng, count, size, 32)
    fade = rng.random((count, 1, 1, 1), dtype=np.float32)
    cloudy += fade * (cloudy.mean(axis=-1, keepdims=True) - cloudy)
    pictures = (1 - rough) * pictures + rough * cloudy
    grain = (0.25 * rng.random((count, 1, 1, 1)) ** 3).astype(np.float32)
    pictures += grain * (rng.random((count, size, size, 1), dtype=np.float32) - 0.5)
    for picture in pictures:
        for _ in range(rng.integers(0, 14)):
            _draw_shape(picture, rng)
        for _ in range(rng.integers(0, 5) if rng.random() < 0.5 else 0):
            _draw_limb(picture, rng)
    return pictures


def occluders(count: int, size: int, joints2d: NDArray, rng: np.random.Generator) -> tuple[
        NDArray[np.float32], NDArray[np.float32]]:
    """Return what stands before people: colours (count, size, size, 3) and how much of a pixel it covers (..., 1).

    A post, a table, a box or something thin, over one of the joints (count, 17, 2) px; mostly nothing.
    """
    covered = np.zeros((count, size, size, 1), dtype=np.float32)
    colours = _gradients(rng, count, size)
    for index in np.flatnonzero(rng.random(count) < OCCLUDER_SHARE):
        mask = np.zeros((size, size), dtype=np.float32)
        at = joints2d[index, rng.integers(joints2d.shape[1])] + rng.normal(0, 0.05 * size, 2)
        kind = rng.random()
        if kind < 0.3:                                   # a post
            way = _direction(rng.normal(0, 0.15) + np.pi / 2) * 2 * size
            _line(mask, at - way, at + way, (1.0,), rng.uniform(0.03, 0.09) * size)
        elif kind < 0.55:                                # a table or a wall, up to here
            low = max(at[1], 0.6 * size)
            corners = np.array([[-9, low], [size + 9, low + rng.normal(0, 4)], [size + 9, size + 9], [-9, size + 9]])
            cv2.fillConvexPoly(mask, _fixed(*corners), 1.0, cv2.LINE_AA, _SHIFT)
        elif kind < 0.8:                                 # a box
            half = rng.uniform(0.05, 0.15, 2) * size
            cv2.fillConvexPoly(mask, _box(at, half, rng.normal(0, 0.3)), 1.0, cv2.LINE_AA, _SHIFT)
        else:                                            # something long and thin
            way = _direction(rng.uniform(0, np.pi)) * rng.uniform(0.1, 0.3) * size
            _line(mask, at - way, at + way, (1.0,), rng.uniform(0.04, 0.1) * size)
        covered[index, ..., 0] = mask
        colours[index] *= 0.7 + 0.6 * clouds(rng, 1, size, 16)[0]
    return colours, covered


def photograph(pictures: NDArray, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return pictures (B, S, S, 3) of 0..1 as bad cameras store them: cast, contrast, blur, noise, JPEG."""
    count, size = pictures.shape[:2]
    tint = np.exp(rng.normal(0, 0.10, (count, 1, 1, 3))) * np.exp(rng.normal(0, 0.12, (count, 1, 1, 1)))
    gamma = np.exp(rng.normal(0, 0.15, (count, 1, 1, 1)))
    contrast, haze = rng.uniform(0.75, 1.15, (count, 1, 1, 1)), rng.uniform(-0.05, 0.12, (count, 1, 1, 1))
    pictures = np.clip(pictures * tint, 0, 1).astype(np.float32) ** gamma.astype(np.float32)
    pictures = (pictures * contrast + haze).astype(np.float32)
    grey = rng.random(count) < 0.04
    pictures[grey] = pictures[grey].mean(axis=-1, keepdims=True)
    noise = (0.04 * rng.random((count, 1, 1, 1)) ** 2).astype(np.float32)
    result = np.empty((count, size, size, 3), dtype=np.uint8)
    for index, picture in enumerate(pictures):
        picture = _blurred(picture, rng)
        picture = picture + noise[index] * rng.standard_normal(picture.shape, dtype=np.float32)
        stored = np.clip(255 * picture + 0.5, 0, 255).astype(np.uint8)
        if rng.random() < 0.7:
            options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))]
            code = cv2.imencode('.jpg', stored[..., ::-1], options)[1]
            stored = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1]
        result[index] = stored
    return result


def _blurred(picture: NDArray, rng: np.random.Generator) -> NDArray:
    kind, size = rng.random(), picture.shape[0]
    if kind < 0.3:
        return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 0.9) * size / 64))
    if kind < 0.4:      # moved while it was taken
        kernel = np.zeros((7, 7), dtype=np.float32)
        way = 1.5 * _direction(rng.uniform(0, np.pi)) * size / 64
        _line(kernel, 3 - way, 3 + way, (1.0,), 1)
        return cv2.filter2D(picture, -1, kernel / kernel.sum())
    if kind < 0.55:     # few pixels, blown up
        small = int(size * rng.uniform(0.5, 0.85))
        return cv2.resize(cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA), (size, size),
                          interpolation=cv2.INTER_LINEAR)
    return picture


def _gradients(rng: np.random.Generator, count: int, size: int) -> NDArray[np.float32]:
    """Return pictures (count, size, size, 3) that go evenly from one colour to another."""
    first, second = faded(rng.random((2, count, 1, 1, 3), dtype=np.float32), rng)
    second = first + rng.random((count, 1, 1, 1)).astype(np.float32) * (second - first)
    angle = rng.uniform(0, 2 * np.pi, count)
    at = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    share = 0.5 + 0.7 * (np.cos(angle)[:, None, None] * at + np.sin(angle)[:, None, None] * at[:, None])
    return first + np.clip(share, 0, 1).astype(np.float32)[..., None] * (second - first)


def _draw_shape(picture: NDArray, rng: np.random.Generator) -> None:
    """Draw a box, a disc or a line of one colour somewhere."""
    size = picture.shape[0]
    at, half = rng.uniform(-0.1, 1.1, 2) * size, rng.uniform(0.03, 0.3, 2) * size
    colour = faded(rng.random(3), rng).tolist()
    kind = rng.random()
    if kind < 0.5:
        angle = 0.0 if rng.random() < 0.6 else rng.uniform(0, np.pi)
        cv2.fillConvexPoly(picture, _box(at, half, angle), colour, cv2.LINE_AA, _SHIFT)
    elif kind < 0.75:
        middle, axes = _fixed(at, half).tolist()
        cv2.ellipse(picture, middle, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA, _SHIFT)
    else:
        way = _direction(rng.uniform(0, np.pi)) * rng.uniform(0.1, 1.0) * size
        _line(picture, at - way, at + way, colour, rng.uniform(0.01, 0.06) * size)


def _draw_limb(picture: NDArray, rng: np.random.Generator) -> None:
    """Draw something like an arm or a leg that is nobody's: two thick strokes of cloth or skin, and a round end."""
    size = picture.shape[0]
    at, angle = rng.uniform(0, 1, 2) * size, rng.uniform(0, 2 * np.pi)
    length, width = rng.uniform(0.08, 0.25) * size, rng.uniform(0.03, 0.09) * size
    skin = np.array([0.9, 0.7, 0.55]) * rng.uniform(0.3, 1)
    cloth = rng.random(3)
    middle = at + length * _direction(angle)
    end = middle + length * _direction(angle + rng.uniform(-2.2, 2.2))
    for a, b, colour in ((at, middle, cloth), (middle, end, skin if rng.random() < 0.6 else cloth)):
        _line(picture, a, b, colour.tolist(), width)
    if rng.random() < 0.5:
        cv2.circle(picture, _fixed(end)[0].tolist(), int(0.6 * width * 2**_SHIFT), skin.tolist(), -1, cv2.LINE_AA,
                   _SHIFT)


def _line(picture: NDArray, start: NDArray, end: NDArray, colour: Sequence[float], width: float) -> None:
    a, b = _fixed(start, end).tolist()
    cv2.line(picture, a, b, colour, max(round(width), 1), cv2.LINE_AA, _SHIFT)


def _direction(angle: float) -> NDArray[np.float64]:
    return np.array([np.cos(angle), np.sin(angle)])


def _box(at: NDArray, half: NDArray, angle: float) -> NDArray[np.int32]:
    """Return the corners (4, 2) of a box, turned, as _fixed gives them."""
    across, up = _direction(angle), _direction(angle + np.pi / 2)
    return _fixed(*(at + a * half[0] * across + b * half[1] * up for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))))


def _fixed(*points: NDArray) -> NDArray[np.int32]:
    """Return points (2,) px as one array (N, 2) of the fixed-point numbers that OpenCV draws by."""
    return np.round(np.array(points) * 2**_SHIFT).astype(np.int32)
