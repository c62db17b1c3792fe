"""One picture of a recording: three moments as the camera saw them, from the side and from above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.draw import Bounds, draw_view
from pose3d_ros.records import Person3D

Image = NDArray[np.uint8]

_COLUMN, _GAP = 600, 14    # px, width of a column and the space between parts
_TALLEST = 800             # px, of a camera image
_SIDE, _ABOVE = 400, 520   # px, heights of the plots
_PAPER = (255, 255, 255)


@dataclass(frozen=True)
class Moment:
    """A frame: its annotated image (H, W, 3) BGR and its people in the camera's optical frame."""

    stamp_ns: int
    image: Image
    people: list[Person3D]


def level(up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation (3, 3) from a camera's optical frame to that of a camera at the same place that looks level.

    up (3,): unit vector upwards in the optical frame. Raises ValueError for a camera that looks straight up or down.
    """
    down = -up
    ahead = np.array([0.0, 0.0, 1.0]) - down[2] * down
    if np.linalg.norm(ahead) < 1e-3:
        raise ValueError('a camera that looks straight up or down has no level direction of view')
    ahead /= np.linalg.norm(ahead)
    return np.stack([np.cross(down, ahead), down, ahead])


def draw_picture(moments: Sequence[Moment], levelled: NDArray[np.float64] | None = None) -> Image:
    """Return the picture (H, W, 3) BGR: a column per moment: image, side view, plan; all to one scale.

    levelled: rotation (3, 3) to apply before drawing, so that people stand upright though the camera looks down. Raises
    ValueError without moments.
    """
    if not moments:
        raise ValueError('no moments to draw')
    if levelled is not None:
        moments = [replace(moment, people=[replace(person, position=person.position @ levelled.T, body=None)
                                           for person in moment.people]) for moment in moments]
    bounds = Bounds.around([person for moment in moments for person in moment.people])
    start = moments[0].stamp_ns
    return joined([
        joined([captioned(moment.image, f'{(moment.stamp_ns - start) * 1e-9:.2f} s'),
                 draw_view(moment.people, 'side', (_COLUMN, _SIDE), bounds),
                 draw_view(moment.people, 'above', (_COLUMN, _ABOVE), bounds)], axis=0)
        for moment in moments], axis=1)


def captioned(image: Image, caption: str, space: tuple[int, int] = (_COLUMN, _TALLEST)) -> Image:
    """Return the image scaled into a column, with the caption in its lower left corner.

    space: px, the width of the column and the most height.
    """
    scale = min(space[0] / image.shape[1], space[1] / image.shape[0])
    width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
    result = np.full((height, space[0], 3), _PAPER, dtype=np.uint8)
    left = (space[0] - width) // 2
    result[:, left:left + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):  # legible on anything
        cv2.putText(result, caption, (left + 12, height - 14), cv2.FONT_HERSHEY_DUPLEX, 0.6, colour, thickness,
                    cv2.LINE_AA)
    return result


def joined(parts: Sequence[Image], axis: int) -> Image:
    """Return the parts in a row (axis 1) or a column (axis 0), with space around each."""
    shape = (_GAP, parts[0].shape[1], 3) if axis == 0 else (parts[0].shape[0], _GAP, 3)
    gap = np.full(shape, _PAPER, dtype=np.uint8)
    return np.concatenate([part for piece in parts for part in (piece, gap)], axis=axis)
