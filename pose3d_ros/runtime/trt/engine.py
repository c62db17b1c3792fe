"""A built TensorRT engine as every other one: named arrays in, named arrays out."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.inputs import batch_of, check_inputs
from pose3d_ros.runtime.onnx_header import Header
from pose3d_ros.runtime.trt.api import Binding, TensorRT
from pose3d_ros.runtime.trt.memory import Buffer, Graph, Memory, Stream

_LOG = logging.getLogger(__name__)
_ALIGNMENT = 256  # bytes, of every tensor in the GPU's memory
_MOST_GRAPHS = 16  # sizes with a graph of their own; each keeps a little GPU memory
_LEGACY_STREAM = 1  # the default stream, as __cuda_array_interface__ names it


@dataclass(frozen=True)
class OnDevice:
    """An array in the GPU's memory, C-contiguous. stream: what fills it, by CUDA's handle; None: it is filled."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pointer: int
    stream: int | None


@dataclass(frozen=True)
class _Place:
    """A tensor within a buffer: first byte, shape and type."""

    begin: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass
class _Size:
    """What running a certain number of people at once needs. used: bytes in the buffers."""

    context: Any
    inputs: dict[str, _Place]
    outputs: dict[str, _Place]
    used_inputs: int
    used_outputs: int
    graph: Graph | None = None


class TensorRTEngine:
    """See Engine for the meaning of its members.

    It has a stream of its own, so engines overlap with each other and with what the CPU does meanwhile. Inputs may lie
    on the GPU (anything with __cuda_array_interface__: PyTorch, CuPy, ...); they are copied within it.
    """

    provider = 'TensorRT'

    def __init__(self, api: TensorRT, memory: Memory, plan: bytes, file: str, header: Header, precision: str) -> None:
        """file, header: of the ONNX file that it was built from. Raises EngineError."""
        self._file, self._api, self._memory = file, api, memory
        self.precision, self.metadata = precision, dict(header.metadata)
        self.remarks: tuple[str, ...] = ()
        self.status = ''
        self._lock = threading.Lock()
        self._sizes: dict[int, _Size] = {}
        self._use_graphs = True
        self._buffers: list[Buffer] = []
        self._stream: Stream | None = None
        self._engine = api.load(plan)
        bindings = {binding.name: binding for binding in api.bindings(self._engine)}
        self.inputs = _ordered([spec.name for spec in header.inputs], bindings, True, file)
        self.outputs = _ordered([spec.name for spec in header.outputs], bindings, False, file)
        self.input_shapes: dict[str, tuple[int | None, ...]] = {
            name: tuple(None if size < 0 else size for size in bindings[name].shape) for name in self.inputs}
        self._types = {name: bindings[name].dtype for name in bindings}
        self._open_outputs = {name for name in self.outputs if bindings[name].shape[:1] == (-1,)}
        batched = [name for name, shape in self.input_shapes.items() if shape and shape[0] is None]
        self._most = min((api.most(self._engine, name) for name in batched), default=1)
        try:
            self._allocate()
        except EngineError:
            self.close()
            raise

    def run(self, inputs: Mapping[str, Any]) -> dict[str, NDArray]:
        """Compute all outputs, as arrays of the caller's own. More people than it was built for are done in parts."""
        given = {name: value if isinstance(value, np.ndarray) else on_device(value) for name, value in inputs.items()}
        check_inputs(self._file, self.input_shapes, self._types, given)
        count = batch_of(self._file, self.input_shapes, given)
        with self._lock:
            if self._stream is None:
                raise EngineError(f'{self._file}: the engine is closed')
            try:
                if count == 0:
                    return self._nobody()
                parts = [self._part(given, begin, min(self._most, (count or 1) - begin))
                         for begin in range(0, count or 1, self._most)]
            except EngineError as error:
                raise EngineError(f'{self._file} failed on {self.provider}: {error}') from error
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) if name in self._open_outputs else parts[0][name]
                for name in self.outputs}

    def warm_up(self) -> None:
        """Run every number of people once on zeros, so that graphs are there for all."""
        open_batch = any(shape and shape[0] is None for shape in self.input_shapes.values())
        for count in range(1, min(self._most, _MOST_GRAPHS) + 1 if open_batch else 2):
            self.run({name: np.zeros([count if size is None else size for size in shape], self._types[name])
                      for name, shape in self.input_shapes.items()})

    def replay(self, count: int) -> None:
        """Compute `count` people again from what lies on the GPU, without a copy, and wait: to measure that alone.

        Raises EngineError for more people than it was built for at once.
        """
        if not 0 < count <= self._most:
            raise EngineError(f'{self._file}: {count} people at once; the engine was built for 1 to {self._most}')
        with self._lock:
            if self._stream is None:
                raise EngineError(f'{self._file}: the engine is closed')
            self._launch(self._size(count))
            self._stream.wait()

    def close(self) -> None:
        """Release the GPU's memory; a second call does nothing."""
        with self._lock:
            sizes, self._sizes = self._sizes, {}
            for size in sizes.values():
                if size.graph is not None:
                    size.graph.close()
            sizes.clear()  # contexts go before the memory that they use, and before their engine
            self._engine = None
            for buffer in self._buffers:
                buffer.close()
            self._buffers = []
            if self._stream is not None:
                self._stream.close()
                self._stream = None

    def _allocate(self) -> None:
        """Take the stream and the memory for the largest number of people."""
        self._stream = self._memory.stream()
        self._scratch = self._buffer(self._memory.device, self._api.scratch(self._engine))
        context, inputs, outputs, sizes = self._shaped(self._most)
        del context  # with it goes the memory of its own
        if unknown := [name for name, place in outputs.items() if min(place.shape, default=1) < 0]:
            raise EngineError(f'{self._file}: the size of the output {unknown[0]!r} depends on the values of the '
                              'inputs, which TensorRT is not used for here: export the network without that step')
        self._host_in, self._device_in = (self._buffer(take, sizes[0])
                                          for take in (self._memory.host, self._memory.device))
        self._host_out, self._device_out = (self._buffer(take, sizes[1])
                                            for take in (self._memory.host, self._memory.device))

    def _buffer(self, take: Any, size: int) -> Buffer:
        buffer: Buffer = take(size)
        self._buffers.append(buffer)
        return buffer

    def _shaped(self, count: int) -> tuple[Any, dict[str, _Place], dict[str, _Place], tuple[int, int]]:
        """Return a context for `count` people, where its inputs and outputs lie, and the bytes that both take."""
        assert self._stream is not None
        context = self._api.context(self._engine, self._scratch.pointer, self._scratch.size, self._stream.handle)
        shapes = {name: tuple(count if size is None else size for size in shape)
                  for name, shape in self.input_shapes.items()}
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(f'the engine was not built for {name} of the shape {shape}')
        if missing := list(context.infer_shapes()):
            raise EngineError(f'the engine needs the shape of {missing[0]!r}')
        inputs, used_inputs = _laid_out(shapes, self._types)
        outputs, used_outputs = _laid_out({name: tuple(context.get_tensor_shape(name)) for name in self.outputs},
                                          self._types)
        return context, inputs, outputs, (used_inputs, used_outputs)

    def _part(self, given: Mapping[str, NDArray | OnDevice], begin: int, count: int) -> dict[str, NDArray]:
        """Compute people begin .. begin + count."""
        size = self._size(count)
        stream = self._stream
        assert stream is not None and self._host_out.array is not None
        self._fill(size, given, begin, count)
        self._launch(size)
        stream.download(self._host_out, self._device_out, size.used_outputs)
        stream.wait()
        return {name: _view(self._host_out.array, place).copy() for name, place in size.outputs.items()}

    def _launch(self, size: _Size) -> None:
        """Queue the network itself."""
        assert self._stream is not None
        if size.graph is not None:
            size.graph.launch()
        else:
            self._api.queue(size.context, self._stream.handle)

    def _fill(self, size: _Size, given: Mapping[str, NDArray | OnDevice], begin: int, count: int) -> None:
        """Queue the inputs' way to the GPU: all of the host's in one copy where none is on the GPU already."""
        stream = self._stream
        assert stream is not None and self._host_in.array is not None
        apart = any(isinstance(value, OnDevice) for value in given.values())
        for name, place in size.inputs.items():
            value = given[name]
            is_part = bool(self.input_shapes[name]) and self.input_shapes[name][0] is None
            if isinstance(value, OnDevice):
                if value.stream is not None:
                    stream.after(value.stream)
                skipped = place.size // count * begin if is_part else 0
                stream.take(self._device_in, place.begin, value.pointer + skipped, place.size)
                continue
            np.copyto(_view(self._host_in.array, place), value[begin:begin + count] if is_part else value)
            if apart:
                stream.upload(self._device_in, self._host_in, place.begin, place.size)
        if not apart:
            stream.upload(self._device_in, self._host_in, 0, size.used_inputs)

    def _size(self, count: int) -> _Size:
        """Return what `count` people need, made when they come for the first time."""
        if count in self._sizes:
            return self._sizes[count]
        stream = self._stream
        assert stream is not None
        context, inputs, outputs, used = self._shaped(count)
        for places, buffer in ((inputs, self._device_in), (outputs, self._device_out)):
            for name, place in places.items():
                context.set_tensor_address(name, buffer.pointer + place.begin)
        size = _Size(context, inputs, outputs, *used)
        # The first run of a shape prepares the context; only then may it be captured.
        self._api.queue(context, stream.handle)
        stream.wait()
        if self._use_graphs and len(self._sizes) < _MOST_GRAPHS:
            try:
                size.graph = stream.capture(lambda: self._api.queue(context, stream.handle))
            except EngineError as error:
                self._use_graphs = False
                _LOG.warning('%s runs without CUDA graphs, a little slower: %s', self._file, error)
        self._sizes[count] = size
        return size

    def _nobody(self) -> dict[str, NDArray]:
        """Return the outputs for no people at all."""
        outputs = self._size(1).outputs
        return {name: np.zeros((0, *place.shape[1:]) if name in self._open_outputs else place.shape, place.dtype)
                for name, place in outputs.items()}


def on_device(value: Any) -> OnDevice | Any:
    """Return an array of the GPU's memory by its __cuda_array_interface__; anything else as an array of the host.

    Raises EngineError for one that is not C-contiguous.
    """
    interface = getattr(value, '__cuda_array_interface__', None)
    if interface is None:
        return np.asarray(value)
    shape, dtype = tuple(interface['shape']), np.dtype(interface['typestr'])
    strides = interface.get('strides')
    steps = [math.prod(shape[axis + 1:]) * dtype.itemsize for axis in range(len(shape))]
    if strides is not None and 0 not in shape and any(
            size > 1 and given != step for size, given, step in zip(shape, strides, steps)):
        raise EngineError(f'an array on the GPU has strides {tuple(strides)}: make it contiguous')
    # Before version 3 it does not say what fills it; with PyTorch that is usually the default stream.
    stream = interface.get('stream', _LEGACY_STREAM if interface.get('version', 0) < 3 else None)
    return OnDevice(shape, dtype, int(interface['data'][0]), stream)


def _ordered(names: list[str], bindings: dict[str, Binding], is_input: bool, file: str) -> tuple[str, ...]:
    """Return the names of inputs or outputs in the file's order. Raises EngineError where the engine has others."""
    present = {name for name, binding in bindings.items() if binding.is_input == is_input}
    if present != set(names):
        raise EngineError(f'the engine was not built from {file}: it has {", ".join(sorted(present))} instead of '
                          f'{", ".join(names)}')
    return tuple(names)


def _laid_out(shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, np.dtype]) -> tuple[dict[str, _Place], int]:
    """Return tensors one after the other, and the bytes that they take together."""
    places, end = {}, 0
    for name, shape in shapes.items():
        places[name] = _Place(end, shape, types[name])
        end += -(-max(places[name].size, 0) // _ALIGNMENT) * _ALIGNMENT
    return places, end


def _view(memory: NDArray[np.uint8], place: _Place) -> NDArray:
    """Return a tensor within a buffer of the host, as an array."""
    return memory[place.begin:place.begin + place.size].view(place.dtype).reshape(place.shape)
