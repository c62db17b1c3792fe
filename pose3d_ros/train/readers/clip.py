"""What a reader hands on: one recording of one person, before cleaning and resampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Clip:
    """A recording of one person.

    positions (T, 17, 3) float64 m in the order of HUMAN17, world axes right-handed with z up, the floor near z = 0;
    fps frames per second; split 'train', 'val' or 'test' where the data set prescribes one, '' where it does not;
    source the format it came in.
    """

    name: str
    subject: str
    positions: NDArray[np.float64]
    fps: float
    source: str
    split: str = ''

    def __len__(self) -> int:
        return len(self.positions)
