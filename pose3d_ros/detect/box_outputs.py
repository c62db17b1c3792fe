"""From what a network of boxes puts out to boxes and scores, in the forms in which such networks are exported."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect.description import BoxesDescription, DescriptionError
from pose3d_ros.runtime.engine import Engine

_WIDTH = {'score': 5, 'score_label': 6, 'none': 4}  # columns of a box's row, where that is known


class BoxOutputs:
    """Reads the outputs of an engine as a description says. Raises DescriptionError for names that it lacks."""

    def __init__(self, description: BoxesDescription, engine: Engine) -> None:
        self._spec = description
        self._boxes = description.boxes or engine.outputs[0]
        self._cells = _cells(description.input.size, description.strides)
        self.names = tuple(filter(None, (self._boxes, description.scores, description.labels)))
        for key, name in (('boxes', self._boxes), ('scores', description.scores), ('labels', description.labels)):
            if name and name not in engine.outputs:
                raise DescriptionError(f'{description.source}: outputs.{key} is {name!r}, but the network has '
                                       f'{", ".join(engine.outputs)}; correct it')

    def check(self, outputs: Mapping[str, NDArray]) -> None:
        """Raise DescriptionError where the outputs of one run do not fit the description."""
        spec, shape = self._spec, outputs[self._boxes].shape
        axes = f'(N, {"columns, K" if spec.transposed else "K, columns"})'
        if len(shape) not in (2, 3):
            raise self._misfit(self._boxes, shape, axes, 'name the output with the boxes in outputs.boxes')
        columns, count = shape[-2:] if spec.transposed else shape[:-3:-1]
        classes = columns - (5 if spec.columns == 'objectness_classes' else 4)
        want = _WIDTH.get(spec.columns)
        if want is not None and columns != want:
            raise self._misfit(self._boxes, shape, f'{axes} with {want} columns, as outputs.columns is {spec.columns}',
                               'correct outputs.columns' + self._turned(count, want))
        if want is None and (classes < 1 or columns > 16 and columns > 4 * count > 0):
            raise self._misfit(self._boxes, shape, f'{axes}, columns being 4 numbers, then {spec.columns}',
                               f'write outputs.transposed: {str(not spec.transposed).lower()}')
        if spec.strides and count != len(self._cells):
            raise self._misfit(self._boxes, shape, f'{len(self._cells)} boxes, one per cell of the grids of '
                               f'outputs.strides {list(spec.strides)}', 'correct outputs.strides or input.size')
        if spec.scores:
            scores = outputs[spec.scores].shape
            if scores[:len(shape) - 1] != (*shape[:-2], count) or len(scores) > len(shape):
                raise self._misfit(spec.scores, scores, f'as many scores as {self._boxes!r} has boxes ({count})',
                                   'name the right one in outputs.scores')
            classes = scores[-1] if len(scores) == len(shape) else 0
        if spec.labels and outputs[spec.labels].shape != (*shape[:-2], count):
            raise self._misfit(spec.labels, outputs[spec.labels].shape, f'one class for each of the {count} boxes of '
                               f'{self._boxes!r}', 'name the right one in outputs.labels')
        if spec.columns.endswith('classes') or (spec.scores and classes):
            if spec.person >= classes:
                raise DescriptionError(f'{spec.source}: person is {spec.person}, but the network has {classes} classes '
                                       f'(0 .. {classes - 1}); write the number of the class person')
        elif spec.person and not spec.labels and spec.columns != 'score_label':
            raise DescriptionError(f'{spec.source}: person is {spec.person}, but no output tells classes; name '
                                   'outputs.labels, or remove person')

    def decode(self, outputs: Mapping[str, NDArray], item: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the boxes (K, 4) x0, y0, x1, y1 px of the input, and the scores (K,) that they are people."""
        spec = self._spec
        rows = _of(outputs[self._boxes], item, 3)
        rows = rows.T if spec.transposed else rows
        scores = self._scores(rows, outputs, item)
        if spec.labels:
            scores = np.where(_of(outputs[spec.labels], item, 2) == spec.person, scores, 0.0)
        with np.errstate(over='ignore', invalid='ignore'):
            boxes = rows[:, :4]
            if spec.strides:
                centre = (boxes[:, :2] + self._cells[:, :2]) * self._cells[:, 2:]
                boxes = np.concatenate([centre, np.exp(boxes[:, 2:]) * self._cells[:, 2:]], axis=1)
            boxes = _corners(boxes, spec.format)
        if spec.unit == 'fraction':
            boxes = boxes * np.tile(spec.input.size, 2)
        return boxes, scores

    def _scores(self, rows: NDArray, outputs: Mapping[str, NDArray], item: int) -> NDArray[np.float64]:
        spec = self._spec
        if spec.scores:
            given = outputs[spec.scores]
            scores = _of(given, item, 3 if given.ndim == outputs[self._boxes].ndim else 2)
        else:
            scores = rows[:, 4:]
        scores = scores.astype(np.float64)
        if spec.columns in ('score', 'score_label'):
            chosen = _probability(scores[:, 0], spec.values)
            return chosen if spec.columns == 'score' else np.where(scores[:, 1] == spec.person, chosen, 0.0)
        if scores.ndim == 1:
            return _probability(scores, spec.values)
        if spec.columns == 'objectness_classes':
            return _probability(scores[:, 0], spec.values) * _probability(scores[:, 1:], spec.values)[:, spec.person]
        return np.asarray(_probability(scores, spec.values)[:, spec.person])

    def _turned(self, count: int, want: int) -> str:
        other = str(not self._spec.transposed).lower()
        return f', or write outputs.transposed: {other}' if count == want else ''

    def _misfit(self, name: str, shape: tuple[int, ...], expected: str, cure: str) -> DescriptionError:
        return DescriptionError(f'{self._spec.source}: output {name!r} is {shape}, expected {expected}; {cure}')


def _of(values: NDArray, item: int, axes: int) -> NDArray:
    """Return one tile's share of an output that has so many axes with the batch; some networks of one have none."""
    return values[item] if values.ndim == axes else values


def _probability(values: NDArray, kind: str) -> NDArray[np.float64]:
    if kind == 'probability':
        return values
    if kind == 'softmax' and values.ndim > 1:
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0))))


def _corners(boxes: NDArray, form: str) -> NDArray[np.float64]:
    a, b, c, d = boxes.astype(np.float64).T
    if form == 'yxyx':
        a, b, c, d = b, a, d, c
    elif form == 'xywh':
        c, d = a + c, b + d
    elif form == 'cxcywh':
        a, b, c, d = a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0
    return np.stack([a, b, c, d], axis=-1)


def _cells(size: tuple[int, int], strides: tuple[int, ...]) -> NDArray[np.float64]:
    """Return x, y of each cell and its stride twice (K, 4), grid by grid, rows first."""
    grids = [np.zeros((0, 4))]
    for stride in strides:
        y, x = np.mgrid[:size[1] // stride, :size[0] // stride]
        grids.append(np.column_stack([x.ravel(), y.ravel(), np.full((x.size, 2), stride)]))
    return np.concatenate(grids).astype(np.float64)
