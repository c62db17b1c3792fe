"""What reads the joints of people, whatever the network: seen from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect.poses import Poses
from pose3d_ros.runtime.engine import Engine
from pose3d_ros.skeleton import Skeleton


class JointReader(Protocol):
    """Reads the joints of people in regions of images. It keeps nothing from call to call that shows in its results."""

    @property
    def skeleton(self) -> Skeleton:
        """The joints it gives."""

    @property
    def engine(self) -> Engine:
        """The network."""

    def __call__(self, views: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]]) -> list[Poses]:
        """Return what is read in each view, one call of the engine for all of them.

        views, at least one: an image (H, W, 3) BGR and its regions (N, 4), N >= 1 (regions.py): squares about people,
        of which it reads as much as its network takes. Raises EngineError.
        """
