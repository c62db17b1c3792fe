"""Decoding of the BlazePose person detector: anchors, boxes and key points, and the merging of overlapping finds.

The network looks at a square tile of 224x224 px and answers for 2254 fixed places ("anchors", as in the single-shot
detector, Liu et al. 2016; BlazePose: Bazarevsky et al. 2020). All positions here are fractions of the tile's side, 0 at
the first pixel's centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INPUT_SIZE = 224
STRIDES = (8, 16, 32, 32, 32)
ANCHORS_PER_CELL = 2
ANCHOR_COUNT = 2254

# Key points of a find: the middle of the hips, a point on the circle about them that encloses the whole body (it also
# tells which way is up), the middle of the shoulders, and a point on the circle that encloses the upper body.
MID_HIP, BODY_CIRCLE, MID_SHOULDER, UPPER_CIRCLE = range(4)


@dataclass(frozen=True)
class Finds:
    """Candidates for people. boxes (N, 4) x0, y0, x1, y1 about the head; points (N, 4, 2); scores (N,)."""

    boxes: NDArray[np.float64]
    points: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: NDArray) -> Finds:
        return Finds(self.boxes[chosen], self.points[chosen], self.scores[chosen])

    def scaled(self, side: float, corner: tuple[float, float]) -> Finds:
        """Return the finds of a tile (fractions of its side) in px of the image it was cut from."""
        return Finds(self.boxes * side + [*corner, *corner], self.points * side + corner, self.scores)

    def circles(self) -> NDArray[np.float64]:
        """Return the circles (N, 3) x, y, radius about the middle of the hips that enclose the bodies."""
        middle, rim = self.points[:, MID_HIP], self.points[:, BODY_CIRCLE]
        return np.column_stack([middle, np.linalg.norm(rim - middle, axis=1)])

    @classmethod
    def none(cls) -> Finds:
        """Return no candidates."""
        return cls(np.zeros((0, 4)), np.zeros((0, 4, 2)), np.zeros(0))

    @classmethod
    def join(cls, parts: list[Finds]) -> Finds:
        """Return the candidates of all parts, in their order."""
        if not parts:
            return cls.none()
        return cls(np.concatenate([part.boxes for part in parts]), np.concatenate([part.points for part in parts]),
                   np.concatenate([part.scores for part in parts]))


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


def box_overlap(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """Return intersection over union (N, M) of boxes a (N, 4) and b (M, 4); 0 where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=-1)
    area_a = np.prod(np.maximum(a[:, 2:] - a[:, :2], 0.0), axis=-1)
    area_b = np.prod(np.maximum(b[:, 2:] - b[:, :2], 0.0), axis=-1)
    union = area_a[:, None] + area_b[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def merge_overlapping(finds: Finds, least_overlap: float = 0.3) -> Finds:
    """Return one find per group of overlapping boxes, best first: the mean of the group, weighted by score."""
    remaining = finds[np.argsort(-finds.scores, kind='stable')]
    merged = []
    while len(remaining):
        together = box_overlap(remaining.boxes[:1], remaining.boxes)[0] >= least_overlap
        together[0] = True
        group = remaining[together]
        weights = group.scores / group.scores.sum()
        merged.append(Finds(np.einsum('n,nc->c', weights, group.boxes)[None],
                            np.einsum('n,npc->pc', weights, group.points)[None], group.scores[:1]))
        remaining = remaining[~together]
    return Finds.join(merged)
