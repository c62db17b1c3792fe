"""Numbers out of parsed files, checked; every error names its source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pose3d_ros.camera import CalibrationError


def mapping(value: Any, source: str) -> Mapping[str, Any]:
    """Return value when it is a mapping. Raises CalibrationError."""
    if not isinstance(value, Mapping):
        raise CalibrationError(f'{source}: is not a mapping')
    return value


def numbers(values: Any, source: str) -> list[float]:
    """Return a list of numbers. Raises CalibrationError."""
    if not isinstance(values, list):
        raise CalibrationError(f'{source}: is not a list of numbers')
    try:
        return [float(value) for value in values]  # YAML 1.1 takes 1e-05 for text: float() reads it all the same
    except (TypeError, ValueError):
        raise CalibrationError(f'{source}: holds something that is not a number: {values!r}') from None


def given(entry: Mapping[str, Any], key: str, source: str, cure: str = '') -> Any:
    """Return entry[key]. Raises CalibrationError where it is missing."""
    if entry.get(key) is None:
        raise CalibrationError(f'{source}: {key} is missing{cure and "; "}{cure}')
    return entry[key]


def listed(entry: Mapping[str, Any], key: str, source: str, counts: Sequence[int]) -> list[float]:
    """Return the numbers under a key, as many as counts allows. Raises CalibrationError."""
    values = numbers(given(entry, key, source), f'{source}: {key}')
    if len(values) not in counts:
        wanted = ' or '.join(str(count) for count in counts)
        raise CalibrationError(f'{source}: {key} has {len(values)} values instead of {wanted}')
    return values


def rows_of(entry: Mapping[str, Any], key: str, source: str, rows: int, columns: int) -> list[list[float]]:
    """Return a matrix that is given as a list of rows. Raises CalibrationError."""
    matrix = given(entry, key, source)
    if not isinstance(matrix, list) or len(matrix) != rows:
        raise CalibrationError(f'{source}: {key} must be {rows} rows of {columns} numbers')
    found = [numbers(row, f'{source}: {key}') for row in matrix]
    if any(len(row) != columns for row in found):
        raise CalibrationError(f'{source}: {key} must be {rows} rows of {columns} numbers')
    return found


def size_of(values: Sequence[float], source: str) -> tuple[int, int]:
    """Return width and height (px) of two numbers. Raises CalibrationError where they are no image size."""
    if len(values) != 2 or not all(math.isfinite(v) and v > 0 and float(v).is_integer() for v in values):
        raise CalibrationError(f'{source}: the image size must be two positive whole numbers of pixels, not '
                               f'{list(values)}')
    return int(values[0]), int(values[1])
