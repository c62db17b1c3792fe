"""Chance for windows of motion: what is drawn for a person holds for all frames of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class WindowRandom:
    """Random numbers of which `frames` rows in a row are alike: one body stays itself over the frames of a window."""

    def __init__(self, rng: np.random.Generator, frames: int) -> None:
        self.rng = rng
        self.frames = frames

    def random(self, count: int) -> NDArray:
        """Return uniform numbers (count,) in 0..1."""
        return self._repeated(self.rng.random(count // self.frames, dtype=np.float32))

    def uniform(self, low: float, high: float, shape: int | tuple[int, ...]) -> NDArray:
        """Return uniform numbers in low..high; the first axis of the shape counts frames."""
        return (low + (high - low) * self._repeated(self.rng.random(self._rows(shape), dtype=np.float32))).astype('f4')

    def normal(self, mean: float, deviation: float, shape: int | tuple[int, ...]) -> NDArray:
        """Return normal numbers; the first axis of the shape counts frames."""
        return (mean + deviation * self._repeated(
            self.rng.standard_normal(self._rows(shape), dtype=np.float32))).astype('f4')

    def newest(self, values: NDArray) -> NDArray:
        """Return for every frame what holds for the newest of its window."""
        return self._repeated(values[::self.frames])

    def _rows(self, shape: int | tuple[int, ...]) -> tuple[int, ...]:
        shape = (shape,) if isinstance(shape, int) else shape
        return (shape[0] // self.frames, *shape[1:])

    def _repeated(self, values: NDArray) -> NDArray:
        return np.repeat(values, self.frames, axis=0) if self.frames > 1 else values
