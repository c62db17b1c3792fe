"""Checks of what an engine is given, the same whatever computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from pose3d_ros.runtime.engine import EngineError


class HasShape(Protocol):
    """An array, here or on a GPU."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size along each axis."""

    @property
    def dtype(self) -> Any:
        """The type of its values."""


def check_inputs(file: str, shapes: Mapping[str, tuple[int | None, ...]], types: Mapping[str, np.dtype | str],
                 given: Mapping[str, HasShape]) -> None:
    """Raise EngineError for a missing or unknown input, a wrong shape or type.

    file: the network's name, for the message. shapes: of each input, None for an axis of any size. types: of each
    input; a type that NumPy does not have is given by its name, and nothing fits it.
    """
    for name in given:
        if name not in shapes:
            raise EngineError(f'{file} has no input {name!r}; it takes {", ".join(shapes)}')
    for name, shape in shapes.items():
        if name not in given:
            raise EngineError(f'{file} needs the input {name!r}')
        value, dtype = given[name], types[name]
        fits = len(value.shape) == len(shape) and all(
            size in (None, actual) for actual, size in zip(value.shape, shape))
        if not fits or isinstance(dtype, str) or value.dtype != dtype:
            wanted = ', '.join('any' if size is None else str(size) for size in shape)
            raise EngineError(f'{file}: input {name!r} is {value.shape} {value.dtype}, expected ({wanted}) {dtype}')


def batch_of(file: str, shapes: Mapping[str, tuple[int | None, ...]], given: Mapping[str, HasShape]) -> int | None:
    """Return how many people (or tiles, ...) checked inputs hold; None where no first axis is open.

    Raises EngineError where two inputs disagree.
    """
    sizes = {name: value.shape[0] for name, value in given.items() if shapes[name] and shapes[name][0] is None}
    if len(set(sizes.values())) > 1:
        raise EngineError(f'{file}: the inputs hold different numbers of rows: '
                          f'{", ".join(f"{name} {size}" for name, size in sizes.items())}')
    return next(iter(sizes.values()), None)
