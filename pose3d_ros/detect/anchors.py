"""Decoding of the BlazePose person detector: anchors, boxes and key points.

The network looks at a square tile of 224x224 px and answers for 2254 fixed places ("anchors", as in the single-shot
detector, Liu et al. 2016; BlazePose: Bazarevsky et al. 2020). All positions here are fractions of the tile's side, 0 at
the first pixel's centre.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect.finds import Finds

INPUT_SIZE = 224
STRIDES = (8, 16, 32, 32, 32)
ANCHORS_PER_CELL = 2
ANCHOR_COUNT = 2254


def anchor_centres() -> NDArray[np.float64]:
    """Return the centres (2254, 2) of the anchors, x and y in 0..1, in the order of the network's output.

    Layers of equal stride share one grid: 28x28 cells with 2 anchors each, 14x14 with 2, 7x7 with 6; rows first. All
    anchors have unit size, so that boxes come out relative to the tile.
    """
    layers = []
    for stride in sorted(set(STRIDES)):
        cells = INPUT_SIZE // stride
        across = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2)
        layers.append(np.repeat(grid, ANCHORS_PER_CELL * STRIDES.count(stride), axis=0))
    return np.concatenate(layers)


_CENTRES = anchor_centres()


def decode(boxes: NDArray, scores: NDArray, threshold: float) -> list[Finds]:
    """Return the finds of each tile whose score reaches the threshold, in fractions of the tile's side.

    boxes (N, 2254, 12) raw: box centre and size, then four key points, in px of the 224 px tile relative to the anchor;
    scores (N, 2254, 1) logits; threshold in 0..1, exclusive of 0 and 1. What is not finite is no find.
    """
    least = np.log(threshold / (1.0 - threshold))
    found = []
    for tile_boxes, tile_scores in zip(boxes, scores[..., 0], strict=True):
        chosen = np.flatnonzero(tile_scores >= least)
        chosen = chosen[np.isfinite(tile_boxes[chosen]).all(axis=1)]
        values = tile_boxes[chosen].astype(np.float64).reshape(-1, 6, 2) / INPUT_SIZE
        anchors = _CENTRES[chosen]
        centre, half = values[:, 0] + anchors, values[:, 1] / 2.0
        found.append(Finds(np.concatenate([centre - half, centre + half], axis=1), values[:, 2:] + anchors[:, None],
                           1.0 / (1.0 + np.exp(-tile_scores[chosen].astype(np.float64)))))
    return found


def encode(finds: Finds, anchors: NDArray[np.intp]) -> tuple[NDArray, NDArray]:
    """Return the network output (2254, 12), (2254, 1) that decodes to these finds at the given anchors."""
    boxes = np.zeros((ANCHOR_COUNT, 12), np.float32)
    scores = np.full((ANCHOR_COUNT, 1), -100.0, np.float32)
    low, high = finds.boxes[:, :2], finds.boxes[:, 2:]
    centres = _CENTRES[anchors]
    values = np.concatenate([((low + high) / 2.0 - centres)[:, None], (high - low)[:, None],
                             finds.points - centres[:, None]], axis=1)
    boxes[anchors] = (values * INPUT_SIZE).reshape(-1, 12)
    scores[anchors, 0] = np.log(finds.scores / (1.0 - finds.scores))
    return boxes, scores
