"""Square tiles over an image, at several scales, so that a person of any size in view fills enough of one of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# The detector needs a person to be at least this share of the tile's side (measured; benchmarks/detect_recall.py).
LEAST_SHARE = 0.4
# Neighbouring scales differ by at most this factor: a tile is asked for people from LEAST_SHARE of its side up to this
# many times that; from there the next larger tile takes over.
SCALE_STEP = 1.65
# The part of a person that a tile is sure to hold: from the top of the head down this share of the height, and this
# wide over the height. The detector goes by the head and the trunk: legs may be cut off, and arms that reach out.
LEAST_PART = 0.7
PERSON_ASPECT = 0.5
# In a tile much larger than the image is high, even a person of the image's full height would be too small.
_LARGEST = 1.0 / LEAST_SHARE
_SMALLEST_IMAGE = 24  # px: below, nothing in the image can be told to be a person


def plan(width: int, height: int, min_person_height: float) -> NDArray[np.float64]:
    """Return the tiles (T, 3) x0, y0, side in px for an image of this size, largest first.

    min_person_height: of the smallest person to find, as a fraction of the image's height. For every person
    between that height and the image's, upright and wholly in the image, there is a tile of whose side the height is at
    least LEAST_SHARE and that holds the upper LEAST_PART, PERSON_ASPECT of the height wide (as far as the image is wide
    enough). A tile may reach over the image's edge, as a letter box. No tiles for an image too small to show anybody.
    """
    if min(width, height) < _SMALLEST_IMAGE:
        return np.zeros((0, 3))
    largest = min(float(max(width, height)), _LARGEST * height)
    smallest = min(largest, max(min_person_height * height / LEAST_SHARE, _SMALLEST_IMAGE))
    steps = math.ceil(math.log(largest / smallest) / math.log(SCALE_STEP) - 1e-9)
    tiles = []
    for side in np.geomspace(largest, smallest, steps + 1):
        tallest = min(height, side, LEAST_SHARE * SCALE_STEP * side)
        across = _starts(width, side, min(PERSON_ASPECT * tallest, width))
        down = _starts(height, side, LEAST_PART * tallest)
        tiles += [(x0, y0, side) for y0 in down for x0 in across]
    return np.array(tiles)


def _starts(length: float, side: float, overlap: float) -> NDArray[np.float64]:
    """Return where intervals of a side start, so that any stretch of `overlap` in 0 .. length lies in one of them."""
    if side >= length:
        return np.array([(length - side) / 2.0])
    count = math.ceil((length - side) / (side - overlap) - 1e-9) + 1 if side > overlap else math.ceil(length - side) + 1
    return np.linspace(0.0, length - side, max(count, 2))
