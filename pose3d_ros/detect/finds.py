"""What a search for people finds, and which finds are the same person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Key points of a find: the middle of the hips, a point on the circle about them that encloses the whole body (it also
# tells which way is up), the middle of the shoulders, and a point on the circle that encloses the upper body.
MID_HIP, BODY_CIRCLE, MID_SHOULDER, UPPER_CIRCLE = range(4)

# Circles about people whose centres are nearer than this share of the larger radius (about 0.25 m), and whose radii
# differ by no more than this factor, are one person's.
_SAME_PLACE, _SAME_SIZE = 0.3, 0.6


@dataclass(frozen=True)
class Finds:
    """Candidates for people. boxes (N, 4) x0, y0, x1, y1, used to tell overlapping finds; points (N, 4, 2), see above,
    of which the first two count; scores (N,) in 0..1.
    """

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


def without_repeats(finds: Finds) -> Finds:
    """Return the best of the finds that show the same person in different tiles, best first."""
    order = np.argsort(-finds.scores, kind='stable')
    same = close(finds.circles(), finds.circles())
    kept: list[int] = []
    for candidate in order:
        if not same[candidate, kept].any():
            kept.append(int(candidate))
    return finds[np.array(kept, dtype=np.intp)]


def close(a: NDArray, b: NDArray) -> NDArray[np.bool_]:
    """Return which circles (N, 3) x, y, radius enclose the same person as which of (M, 3): same place, same size."""
    distance = np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1])
    small, large = (pick(a[:, None, 2], b[None, :, 2]) for pick in (np.minimum, np.maximum))
    return (distance <= _SAME_PLACE * large) & (small >= _SAME_SIZE * large)
