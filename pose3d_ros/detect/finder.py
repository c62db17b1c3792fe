"""What finds people in images, whatever the network: seen from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect.finds import Finds
from pose3d_ros.runtime.engine import Engine
from pose3d_ros.skeleton import Skeleton


@dataclass(frozen=True)
class View:
    """Where to search in an image.

    image (H, W, 3) BGR; tiles (T, 3) x0, y0, side px: squares of it, which may reach over its edge; hidden (K, J, 2):
    px of joints, in the skeleton's order, of people whom one has already. A search that gives only the most prominent
    person of a tile paints them over; others need not, as known people are left out of what was found anyway.
    """

    image: NDArray[np.uint8]
    tiles: NDArray[np.float64]
    hidden: NDArray[np.float64]
    skeleton: Skeleton


class PersonFinder(Protocol):
    """Finds people in tiles of images. It keeps nothing from call to call that shows in its results.

    It is called from one thread at a time, not always the same.
    """

    @property
    def engine(self) -> Engine:
        """The network."""

    def plan(self, width: int, height: int, min_person_height: float) -> NDArray[np.float64]:
        """Return the tiles (T, 3) x0, y0, side px that cover an image of this size, largest first.

        min_person_height: of the smallest person to find, as a fraction of the image's height. No tiles (0, 3) for an
        image too small to show anybody.
        """

    def __call__(self, views: Sequence[View], threshold: float) -> list[Finds]:
        """Return the people found in each view, in px of its image, each once; the tiles of all views go through the
        engine together, a bounded number at a time.

        views: at least one, each with tiles. threshold: least score of a find, 0..1. Raises EngineError.
        """
