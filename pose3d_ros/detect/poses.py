"""What a network of joints says about people, in the joints of any skeleton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, CLASSES
from pose3d_ros.detect import regions

ATTRIBUTES_SHAPE = (len(ATTRIBUTE_JOINTS), len(CLASSES))


@dataclass(frozen=True)
class Poses:
    """What was read in N regions of an image, J joints each.

    pixels (N, J, 2) px of the image; confidence (N, J) in 0..1: how probably a joint is right; sigma (N, J) px: the
    standard deviation of each coordinate; depth (N, J) px of the image, against the mid-hip, negative towards the
    camera, NaN where the network gives none; person (N,) in 0..1: that the region holds a person; middle (N, 2) px of
    the hips; rim (N, 2) px: a point above the head on the circle about the middle that encloses the body. All these
    but depth are finite, also for joints that are out of the image. attributes (N, 9, 3): probabilities as in
    pose3d_ros/attributes.py, NaN throughout where the network gives none.
    """

    pixels: NDArray[np.float64]
    confidence: NDArray[np.float64]
    sigma: NDArray[np.float64]
    depth: NDArray[np.float64]
    person: NDArray[np.float64]
    middle: NDArray[np.float64]
    rim: NDArray[np.float64]
    attributes: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.person)

    def __getitem__(self, chosen: NDArray | slice) -> Poses:
        return Poses(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def join(cls, parts: Sequence[Poses]) -> Poses:
        """Return the regions of all parts, at least one, in their order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    @classmethod
    def none(cls, joints: int) -> Poses:
        """Return no regions, of a skeleton with so many joints."""
        return cls(*(np.zeros((0, *shape)) for shape in ((joints, 2), *[(joints,)] * 3, (), (2,), (2,),
                                                     ATTRIBUTES_SHAPE)))

    def circles(self) -> NDArray[np.float64]:
        """Return the circles (N, 3) x, y, radius px about the middle of the hips that enclose the bodies."""
        return np.column_stack([self.middle, np.linalg.norm(self.rim - self.middle, axis=1)])

    def next_regions(self) -> NDArray[np.float64]:
        """Return where to look for the same people in the next frame: regions (N, 4)."""
        return regions.from_circle(self.middle, self.rim, regions.FOLLOWED_MARGIN)


def no_attributes(count: int) -> NDArray[np.float64]:
    """Return the attributes (count, 9, 3) of a network that gives none."""
    return np.full((count, *ATTRIBUTES_SHAPE), np.nan)
