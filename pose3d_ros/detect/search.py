"""The search for people: the BlazePose detector over tiles of the image, a few of them per frame."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect import anchors, tiles
from pose3d_ros.detect.anchors import INPUT_SIZE
from pose3d_ros.detect.crops import fill_rgb, warp
from pose3d_ros.detect.finds import Finds, merge_overlapping, without_repeats
from pose3d_ros.runtime.engine import Engine
from pose3d_ros.skeleton import BLAZEPOSE33

_TRUNK = np.concatenate([np.arange(11), BLAZEPOSE33.indices(
    [f'{side}_{joint}' for joint in ('shoulder', 'hip') for side in ('left', 'right')])])
_GREY = (128, 128, 128)  # next to nothing to the network; in black a body still shows as a silhouette
_LIMB_WIDTH = 0.2  # of the trunk's length with the head: width of the strokes that hide a known person's limbs
_BATCH = 8  # tiles per call of the engine: bounds the memory of a sweep over a large image


class TileSearch:
    """Looks for people in the tiles of images of one size.

    engine: input 'image' (N, 3, 224, 224) RGB in -1..1. period: frames over which one round through all tiles is spread
    in equal portions, so that every frame pays the same and each place is looked at once per period (twice for people
    near the camera).
    """

    def __init__(self, engine: Engine, min_person_height: float, period: int, threshold: float) -> None:
        self.engine = engine
        self.min_person_height = min_person_height
        self.period = period
        self.threshold = threshold
        self.tiles_searched = 0
        self._size = (0, 0)
        self._tiles = self._round = np.zeros((0, 3))
        self._turn = 0
        self._batch = np.zeros((_BATCH, 3, INPUT_SIZE, INPUT_SIZE), np.float32)

    def everywhere(self, image: NDArray[np.uint8], known: NDArray) -> Finds:
        """Search all tiles of an image (H, W, 3) BGR now; return the finds in px of the image. known: see within."""
        self._fit(image)
        self._turn = 0
        return self.within(image, self._tiles, known)

    def next_portion(self, image: NDArray[np.uint8], known: NDArray) -> Finds:
        """Search this frame's share of the tiles."""
        self._fit(image)
        first, last = (len(self._round) * turn // self.period for turn in (self._turn, self._turn + 1))
        self._turn = (self._turn + 1) % self.period
        return self.within(image, self._round[first:last], known)

    def within(self, image: NDArray[np.uint8], chosen: NDArray, known: NDArray) -> Finds:
        """Search the given tiles (T, 3) x0, y0, side; return one find per person, in px of the image.

        known (K, 33, 2) px: joints of people whom one has already. They are painted over, as the network answers for
        the most prominent person in a tile and misses others beside him.
        """
        found: list[Finds] = []
        for first in range(0, len(chosen), _BATCH):
            found += self._search_batch(image, chosen[first:first + _BATCH], known)
        self.tiles_searched += len(chosen)
        return without_repeats(Finds.join(found))

    def _search_batch(self, image: NDArray[np.uint8], chosen: NDArray, known: NDArray) -> list[Finds]:
        batch = self._batch[:len(chosen)]
        for planes, (x0, y0, side) in zip(batch, chosen, strict=True):
            scale = side / INPUT_SIZE
            crop = warp(image, np.array([[scale, 0.0, x0], [0.0, scale, y0]]), INPUT_SIZE)
            hide(crop, (known - [x0, y0]) / scale)
            fill_rgb(planes, crop, gain=2.0 / 255.0, offset=-1.0)
        outputs = self.engine.run({'image': batch})
        decoded = anchors.decode(outputs['boxes'], outputs['scores'], self.threshold)
        return [merge_overlapping(finds).scaled(side, (x0, y0))
                for finds, (x0, y0, side) in zip(decoded, chosen, strict=True)]

    def _fit(self, image: NDArray[np.uint8]) -> None:
        height, width = image.shape[:2]
        if self._size != (width, height):
            self._size = (width, height)
            self._tiles = tiles.plan(width, height, self.min_person_height)
            self._round = near_twice(self._tiles)
            self._turn = 0


def near_twice(planned: NDArray) -> NDArray[np.float64]:
    """Return one round through the tiles (T, 3): those for people near the camera twice, half a round apart.

    Near are those of more than half the largest side: they are few, and who is near matters most.
    """
    near = planned[:, 2] > planned[:, 2].max(initial=0.0) / 2.0
    far = planned[~near]
    half = (len(far) + 1) // 2
    return np.concatenate([planned[near], far[:half], planned[near], far[half:]])


def hide(crop: NDArray[np.uint8], bodies: NDArray) -> None:
    """Paint over people in a crop, in place. bodies (K, 33, 2): their joints, in px of the crop."""
    size = len(crop)
    for body in np.clip(bodies, -2 * size, 3 * size).round().astype(np.int32):
        trunk = cv2.convexHull(body[_TRUNK])
        width = max(1, round(_LIMB_WIDTH * math.hypot(*np.ptp(trunk[:, 0], axis=0))))
        cv2.fillConvexPoly(crop, trunk, _GREY)
        cv2.polylines(crop, [trunk, *body[BLAZEPOSE33.bone_indices]], True, _GREY, width)
