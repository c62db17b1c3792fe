"""Parts of an image as the input that a description asks for, and the run of a network on any number of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect.description import DescriptionError, InputDescription
from pose3d_ros.runtime.engine import Engine, EngineError

_COARSEST = 8.0  # px of the image per px of the input up to which one sample per pixel will do


class NetworkInput:
    """The input of an engine. Raises DescriptionError where the engine takes something else than is described."""

    def __init__(self, described: InputDescription, engine: Engine, source: object) -> None:
        self.engine = engine
        self._described, self._source = described, source
        self._name, fixed = _fit(described, engine, source)
        self.at_once = fixed or described.batch  # 0: any number
        self._fixed = fixed
        low, high = described.range
        std, mean = np.array(described.std), np.array(described.mean)
        self._gain = ((high - low) / 255.0 / std).astype(np.float32)
        self._offset = ((low - mean) / std).astype(np.float32)
        self._batch = np.zeros((0, *described.shape), described.type)

    def try_out(self, outputs: Sequence[str]) -> dict[str, NDArray]:
        """Run the network on one empty crop; return its outputs. Raises DescriptionError where it cannot take two."""
        _, given = next(self.run(self.room(1)))
        if self.at_once:
            return given
        try:
            _, twice = next(self.run(self.room(2)))
            both = all(twice[name].shape[:1] == (2,) for name in outputs)
        except EngineError:
            both = False
        if not both:
            raise DescriptionError(f'{self._source}: input.batch is 0, but the network cannot take two images at once; '
                                   'write input.batch: 1, or export it with a batch of any size')
        return given

    def room(self, count: int) -> NDArray:
        """Return an array for so many crops; it is used again by the next call."""
        if len(self._batch) < count:
            self._batch = np.zeros((count, *self._described.shape), self._described.type)
        return self._batch[:count]

    def fill(self, place: NDArray, image: NDArray[np.uint8], crop_map: NDArray) -> None:
        """Write the part of an image (H, W, 3) BGR under a crop-to-image map (2, 3) into one place of room()."""
        crop = warp(image, crop_map, self._described.size, self._described.fill)
        order = (2, 1, 0) if self._described.channels == 'RGB' else (0, 1, 2)
        planes = place if self._described.layout == 'NCHW' else np.moveaxis(place, -1, 0)
        for plane, channel, gain, offset in zip(planes, order, self._gain, self._offset):
            if plane.dtype == np.uint8:
                plane[:] = crop[:, :, channel]
            else:
                plane[:] = crop[:, :, channel] * gain + offset

    def run(self, batch: NDArray) -> Iterator[tuple[int, dict[str, NDArray]]]:
        """Yield the outputs for the batch, in as few calls as the network allows: how many crops, and the outputs.

        An output may have more than so many rows, where a network of a fixed number got fewer.
        """
        step = self.at_once or max(len(batch), 1)
        for first in range(0, len(batch), step):
            part = batch[first:first + step]
            if self._fixed and len(part) < self._fixed:
                whole = np.zeros((self._fixed, *part.shape[1:]), part.dtype)
                whole[:len(part)] = part
                yield len(part), self.engine.run({self._name: whole})
            else:
                yield len(part), self.engine.run({self._name: part})


def warp(image: NDArray[np.uint8], crop_map: NDArray, size: tuple[int, int], fill: int) -> NDArray[np.uint8]:
    """Return the crop (h, w, 3) of size (w, h) of an image under a crop-to-image map (2, 3); grey outside the image."""
    samples = math.ceil(max(np.hypot(crop_map[0, :2], crop_map[1, :2])) / _COARSEST)
    fine = crop_map.copy()
    if samples > 1:
        fine[:, :2] /= samples
        fine[:, 2] -= fine[:, :2].sum(axis=1) * (samples - 1) / 2.0
    crop = cv2.warpAffine(image, fine, (size[0] * samples, size[1] * samples), borderValue=(fill, fill, fill),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT)
    if samples > 1:
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


def _fit(described: InputDescription, engine: Engine, source: object) -> tuple[str, int]:
    """Return the name of the input and the number of crops that it always takes, 0 for any."""
    if not described.name and len(engine.inputs) > 1:
        raise DescriptionError(f'{source}: the network has {len(engine.inputs)} inputs ({", ".join(engine.inputs)}), '
                               'expected one, the image; export it without the others')
    name = described.name or engine.inputs[0]
    if name not in engine.input_shapes:
        raise DescriptionError(f'{source}: input.name is {name!r}, but the network has {", ".join(engine.inputs)}; '
                               'correct it, or leave it out')
    shape = engine.input_shapes[name]
    if len(shape) != 4 or any(have not in (None, want) for have, want in zip(shape[1:], described.shape)):
        raise DescriptionError(f'{source}: input.size {list(described.size)} (width, height) with input.layout '
                               f'{described.layout} is {_shape((None, *described.shape))}, but the network takes '
                               f'{_shape(shape)}; {_cure(described, shape)}')
    return name, shape[0] or 0


def _cure(described: InputDescription, shape: tuple[int | None, ...]) -> str:
    channels_last = len(shape) == 4 and shape[3] == 3 and shape[1] != 3
    if len(shape) != 4:
        return 'it is not a network of images'
    height, width = shape[1:3] if channels_last else shape[2:4]
    return (f'write input.size: [{width or described.size[0]}, {height or described.size[1]}] and input.layout: '
            f'{"NHWC" if channels_last else "NCHW"}')


def _shape(shape: tuple[int | None, ...]) -> str:
    return '(' + ', '.join('any' if size is None else str(size) for size in shape) + ')'
