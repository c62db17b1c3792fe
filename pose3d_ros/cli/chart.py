"""Line charts of results, drawn with OpenCV: what a table says, at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.cli.errors import UserError

Image = NDArray[np.uint8]
Series = Mapping[str, tuple[NDArray, NDArray]]

_SIZE, _MARGIN = (560, 820), (60, 30, 90, 40)   # px: height, width; left-over above, right, below, left
_PAPER, _GRID, _INK = (255, 255, 255), (225, 225, 225), (50, 50, 50)
# Blue, orange, green, purple, grey, told apart by colour-blind readers too (BGR).
_COLOURS = ((178, 114, 0), (0, 94, 213), (115, 158, 0), (167, 121, 204), (110, 110, 110))
_FONT, _LETTERS = cv2.FONT_HERSHEY_SIMPLEX, 0.5
_TICKS = 6


@dataclass(frozen=True)
class _Area:
    """The part of the picture that shows x in low[0]..high[0] and y in low[1]..high[1]."""

    low: tuple[float, float]
    high: tuple[float, float]

    def pixels(self, x: NDArray, y: NDArray) -> NDArray[np.int32]:
        """Return where values (N,) lie in the picture (N, 2)."""
        above, right, below, left = _MARGIN
        height, width = _SIZE
        across = (np.asarray(x) - self.low[0]) / (self.high[0] - self.low[0])
        upward = (np.asarray(y) - self.low[1]) / (self.high[1] - self.low[1])
        return np.stack([left + 30 + across * (width - left - 30 - right),
                         height - below - upward * (height - above - below)], axis=-1).round().astype(np.int32)


def chart(title: str, x_label: str, y_label: str, series: Series, dots: bool = True) -> Image:
    """Return a picture (560, 820, 3) BGR of lines by name: x (N,), y (N,), values that are not finite left out.

    Both axes start at 0 and end at a round number. dots: mark every value. Raises ValueError where there is nothing to
    show.
    """
    points = {name: np.stack([np.asarray(x, float), np.asarray(y, float)], 1) for name, (x, y) in series.items()}
    points = {name: line[np.isfinite(line).all(axis=1)] for name, line in points.items()}
    if not any(len(line) for line in points.values()):
        raise ValueError(f'nothing to show in the chart {title!r}')
    most = np.concatenate(list(points.values())).max(axis=0)
    steps = [_round_step(float(value) / _TICKS) for value in most]
    ends = [step * max(np.ceil(value / step - 1e-6), 1) for value, step in zip(most, steps)]
    area = _Area((0.0, 0.0), (float(ends[0]), float(ends[1])))

    picture = np.full((*_SIZE, 3), _PAPER, dtype=np.uint8)
    for x in np.arange(0, ends[0] + steps[0] / 2, steps[0]):
        foot, top = area.pixels(np.array([x, x]), np.array([0, ends[1]]))
        cv2.line(picture, foot.tolist(), top.tolist(), _GRID, 1)
        _write(picture, f'{x:g}', foot + [0, 22], middle=True)
    for y in np.arange(0, ends[1] + steps[1] / 2, steps[1]):
        start, end = area.pixels(np.array([0, ends[0]]), np.array([y, y]))
        cv2.line(picture, start.tolist(), end.tolist(), _GRID, 1)
        _write(picture, f'{y:g}', start + [-40, 5])
    for number, (name, line) in enumerate(points.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        drawn = area.pixels(*line.T)
        cv2.polylines(picture, [drawn], False, colour, 2, cv2.LINE_AA)
        for point in drawn.tolist() if dots else ():
            cv2.circle(picture, point, 4, colour, -1, cv2.LINE_AA)
        place = np.array([80 + 245 * (number % 3), _SIZE[0] - 34 + 20 * (number // 3)])
        cv2.line(picture, (place - [30, 5]).tolist(), (place - [6, 5]).tolist(), colour, 2, cv2.LINE_AA)
        _write(picture, name, place)
    _write(picture, title, np.array([20, 24]), 0.62)
    _write(picture, y_label, np.array([20, 46]))
    _write(picture, x_label, np.array([_SIZE[1] // 2, _SIZE[0] - 53]), middle=True)
    return picture


def write_chart(path: Path, picture: Image) -> None:
    """Write a picture as PNG. Raises UserError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error


def _round_step(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least so much."""
    if least <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(least))
    return float(power * next(digit for digit in (1, 2, 5, 10) if digit * power >= least * (1 - 1e-9)))


def _write(picture: Image, text: str, place: NDArray, size: float = _LETTERS, middle: bool = False) -> None:
    if middle:
        place = place - [cv2.getTextSize(text, _FONT, size, 1)[0][0] // 2, 0]
    cv2.putText(picture, text, np.asarray(place).tolist(), _FONT, size, _INK, 1, cv2.LINE_AA)
