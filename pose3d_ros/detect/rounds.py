"""Which tiles of one camera's images are searched in which frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Rounds:
    """Goes round through the tiles (T, 3) of one camera's images.

    period: frames over which one round is spread in equal portions, so that every frame pays the same and each place is
    looked at once per period (twice for people near the camera).
    """

    def __init__(self, tiles: NDArray[np.float64], period: int) -> None:
        self.tiles = tiles
        self.visits = near_twice(tiles)
        self._period = period
        self._turn = 0

    def everywhere(self) -> NDArray[np.float64]:
        """Return all tiles, and begin a new round."""
        self._turn = 0
        return self.tiles

    def next_portion(self) -> NDArray[np.float64]:
        """Return this frame's share of the tiles, which may be none (0, 3)."""
        first, last = (len(self.visits) * turn // self._period for turn in (self._turn, self._turn + 1))
        self._turn = (self._turn + 1) % self._period
        return self.visits[first:last]


def near_twice(planned: NDArray) -> NDArray[np.float64]:
    """Return one round through the tiles (T, 3): those for people near the camera twice, half a round apart.

    Near are those of more than half the largest side: they are few, and who is near matters most.
    """
    near = planned[:, 2] > planned[:, 2].max(initial=0.0) / 2.0
    far = planned[~near]
    half = (len(far) + 1) // 2
    return np.concatenate([planned[near], far[:half], planned[near], far[half:]])
