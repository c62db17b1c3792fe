"""The search for people by a network that gives boxes: YOLO, RTMDet, SSD, DETR and their like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect.box_outputs import BoxOutputs
from pose3d_ros.detect.description import BoxesDescription
from pose3d_ros.detect.finder import View
from pose3d_ros.detect.finds import Finds, box_overlap
from pose3d_ros.detect.network_input import NetworkInput
from pose3d_ros.runtime.engine import Engine

_SMALLEST_IMAGE = 24  # px: below, nothing in the image can be told to be a person
_SCALE_STEP = 4.0     # neighbouring sizes of tiles differ by at most this factor
_PERSON_ASPECT = 0.5  # width over height of the largest person that a small tile has to hold whole
_MOST = 300           # best boxes of a tile that are looked at
_LEAST_SIDE = 8.0     # px of the image
_CUT, _INSIDE = 2.0, 0.7  # px of the input to a tile's edge; share of a cut box in another one that holds it whole
# Over the height of a box: that of the shoulders below its top, the reach of the circle about them for the upper body.
_SHOULDERS, _UPPER = 0.2, 0.35


@dataclass(frozen=True)
class _Boxes:
    """boxes (K, 4) x0, y0, x1, y1 px of the image; scores (K,); cut (K,): a tile ends there, but the image goes on."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    cut: NDArray[np.bool_]


class BoxFinder:
    """Finds people as its description says (a PersonFinder, finder.py). Raises DescriptionError where that cannot be.

    A tile is a square of the image; the network sees it whole, and beside it what its input's shape has room for. The
    image goes through in one tile, in several sizes of tiles only where people are to be found that would be smaller in
    it than the network can tell. Scores are such that 0.5 is the description's threshold.
    """

    AT_ONCE = 8  # tiles per call of the engine: bounds the memory

    def __init__(self, description: BoxesDescription, engine: Engine) -> None:
        self.description = description
        self.engine = engine
        self._input = NetworkInput(description.input, engine, description.source)
        self._outputs = BoxOutputs(description, engine)
        self._outputs.check(self._input.try_out(self._outputs.names))

    def plan(self, width: int, height: int, min_person_height: float) -> NDArray[np.float64]:
        """Return the tiles (T, 3) for an image of this size; see PersonFinder."""
        if min(width, height) < _SMALLEST_IMAGE:
            return np.zeros((0, 3))
        wide, high = self._view(1.0)
        whole = float(max(width, height)) if self.description.fit == 'stretch' else max(width / wide, height / high)
        smallest = max(min_person_height * height / (self.description.smallest * high), _SMALLEST_IMAGE)
        tiles = [((width - whole) / 2.0, (height - whole) / 2.0, whole)]
        steps = math.ceil(math.log(whole / smallest) / math.log(_SCALE_STEP) - 1e-9) if smallest < whole else 0
        sides = whole * (smallest / whole) ** (np.arange(steps + 1) / max(steps, 1))
        for larger, side in zip(sides, sides[1:]):
            tallest = self.description.smallest * high * larger  # taller people are the larger tiles' matter
            across = _starts(width, side * wide, _PERSON_ASPECT * tallest)
            down = _starts(height, side * high, tallest)
            beside, above = side * (wide - 1.0) / 2.0, side * (high - 1.0) / 2.0
            tiles += [(x + beside, y + above, side) for y in down for x in across]
        return np.array(tiles)

    def __call__(self, views: Sequence[View], threshold: float) -> list[Finds]:
        """Return the people found in each view; see PersonFinder."""
        jobs = [(number, view.image, self._map(tile, view.image)) for number, view in enumerate(views)
                for tile in view.tiles]
        found: list[list[_Boxes]] = [[] for _ in views]
        for first in range(0, len(jobs), self.AT_ONCE):
            part = jobs[first:first + self.AT_ONCE]
            batch = self._input.room(len(part))
            for place, (_, image, crop_map) in zip(batch, part):
                self._input.fill(place, image, crop_map)
            done = 0
            for count, outputs in self._input.run(batch):
                for item in range(count):
                    number, image, crop_map = part[done + item]
                    boxes, scores = self._outputs.decode(outputs, item)
                    found[number].append(self._in_image(boxes, scores, crop_map, image, threshold))
                done += count
        return [_to_finds(self._once(boxes)) for boxes in found]

    def _view(self, side: float) -> tuple[float, float]:
        """Return the width and height of what the network sees with a tile."""
        width, height = self.description.input.size
        if self.description.fit == 'stretch':
            return side, side
        return side * width / min(width, height), side * height / min(width, height)

    def _map(self, tile: NDArray, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the map (2, 3) from px of the input to px of the image."""
        x0, y0, side = tile
        size = np.array(self.description.input.size)
        seen = np.array(self._view(side))
        corner = np.array([x0, y0]) + (side - seen) / 2.0
        if self.description.fit == 'stretch':  # what there is of the image in the tile fills the input
            low = np.maximum(corner, 0.0)
            high = np.minimum(corner + seen, np.array(image.shape[1::-1], float))
            if (high - low).min() >= _LEAST_SIDE:
                corner, seen = low, high - low
        scale = seen / size
        # The edges of the input are the edges of the tile; pixels are numbered by their centres.
        return np.column_stack([np.diag(scale), corner + (scale - 1.0) / 2.0])

    def _in_image(self, boxes: NDArray, scores: NDArray, crop_map: NDArray, image: NDArray[np.uint8],
                  threshold: float) -> _Boxes:
        """Return the boxes (K, 4) px of the input as boxes of the image, the certain ones, each person once."""
        limit = self.description.threshold
        scores = np.where(scores < limit, 0.5 * scores / limit, 0.5 + 0.5 * (scores - limit) / (1.0 - limit))
        with np.errstate(invalid='ignore'):
            good = (scores >= threshold) & (scores <= 1.0) & np.isfinite(boxes).all(axis=1)
        chosen = np.flatnonzero(good)
        chosen = chosen[np.argsort(-scores[chosen], kind='stable')][:_MOST]
        boxes, scores = boxes[chosen], scores[chosen]
        scale, shift = np.diag(crop_map[:, :2]), crop_map[:, 2]
        size = np.array(image.shape[1::-1])
        low, high = (np.clip((corner - 0.5) * scale + shift, -0.5, size - 0.5)  # boxes count from the input's edge
                     for corner in (boxes[:, :2], boxes[:, 2:]))
        edges = np.array(self.description.input.size) - _CUT
        cut = ((boxes[:, :2] < _CUT) & (low > 0.0)) | ((boxes[:, 2:] > edges) & (high < size - 1.0))
        large = (high - low).min(axis=1, initial=np.inf) >= _LEAST_SIDE
        kept = np.flatnonzero(large)
        kept = kept[suppress(np.concatenate([low, high], axis=1)[kept], scores[kept], self.description.nms)]
        return _Boxes(np.concatenate([low, high], axis=1)[kept], scores[kept], cut.any(axis=1)[kept])

    def _once(self, tiles: list[_Boxes]) -> _Boxes:
        """Return the boxes of all tiles; of one person in several the best, and none cut off where one is whole."""
        boxes, scores, cut = (np.concatenate([getattr(tile, name) for tile in tiles])
                              for name in ('boxes', 'scores', 'cut'))
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        within = np.prod(np.maximum(high - low, 0.0), axis=-1) / area[:, None] >= _INSIDE
        larger = area[None, :] > area[:, None]
        whole = ~(cut & (within & larger).any(axis=1))
        kept = np.flatnonzero(whole)
        kept = kept[suppress(boxes[kept], scores[kept], self.description.nms)]
        return _Boxes(boxes[kept], scores[kept], cut[kept])


def suppress(boxes: NDArray, scores: NDArray, most_overlap: float) -> NDArray[np.intp]:
    """Return which boxes (K, 4) stay when none may overlap a better one by most_overlap or more; best first."""
    overlap = box_overlap(boxes, boxes)
    kept: list[int] = []
    for candidate in np.argsort(-scores, kind='stable'):
        if not (overlap[candidate, kept] >= most_overlap).any():
            kept.append(int(candidate))
    return np.array(kept, dtype=np.intp)


def _to_finds(found: _Boxes) -> Finds:
    """Return the finds: the middle of a box as that of the hips, which in a standing body it nearly is.

    The circle about it is the one whose region, with the usual margin, is the crop that networks of joints are trained
    on: that of the box, also where the image shows half a body.
    """
    low, high = found.boxes[:, :2], found.boxes[:, 2:]
    size = high - low
    middle = (low + high) / 2.0
    shoulders = np.column_stack([middle[:, 0], low[:, 1] + _SHOULDERS * size[:, 1]])

    def above(points: NDArray, reach: NDArray) -> NDArray[np.float64]:
        return points - np.column_stack([np.zeros(len(points)), reach])

    points = [middle, above(middle, size.max(axis=1, initial=0.0) / 2.0), shoulders,
              above(shoulders, _UPPER * size[:, 1])]
    return Finds(found.boxes, np.stack(points, axis=1), found.scores)


def _starts(length: float, window: float, overlap: float) -> NDArray[np.float64]:
    """Return where windows start, so that any stretch of `overlap` in 0 .. length lies in one of them."""
    if window >= length:
        return np.array([(length - window) / 2.0])
    stride = max(window - min(overlap, length), 0.1 * window)
    return np.linspace(0.0, length - window, math.ceil((length - window) / stride - 1e-9) + 1)
