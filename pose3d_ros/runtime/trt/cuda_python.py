"""Device memory through cuda-python."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from pose3d_ros.runtime.backend import NotNowError
from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.trt.memory import Buffer, Graph, Stream


class CudaPython:
    """cuda-python. runtime: its module of the CUDA runtime, in the new or the old layout."""

    def __init__(self, runtime: Any) -> None:
        """Take the module; nothing is asked of CUDA yet."""
        self.runtime = runtime
        self.name = f'{runtime.__name__}'

    def call(self, name: str, *arguments: Any) -> Any:
        """Return what a function of the CUDA runtime gives besides its status. Raises EngineError for a bad one."""
        status, *values = getattr(self.runtime, name)(*arguments)
        if int(status):
            reason = str(getattr(status, 'name', status))
            kind = NotNowError if 'MemoryAllocation' in reason else EngineError
            raise kind(f'{name}: {reason}')
        return values[0] if values else None

    def device(self, size: int) -> Buffer:
        """Return memory on the GPU."""
        pointer = int(self.call('cudaMalloc', max(size, 1)))
        return Buffer(pointer, size, None, lambda: self.call('cudaFree', pointer))

    def host(self, size: int) -> Buffer:
        """Return pinned memory."""
        pointer = int(self.call('cudaHostAlloc', max(size, 1), 0))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * max(size, 1)).from_address(pointer))
        return Buffer(pointer, size, array, lambda: self.call('cudaFreeHost', pointer))

    def stream(self) -> Stream:
        """Return a stream that does not wait for the legacy default stream."""
        return _CudaStream(self)


class _CudaStream:
    def __init__(self, cuda: CudaPython) -> None:
        runtime = cuda.runtime
        self._call = cuda.call
        self._kinds, self._modes = runtime.cudaMemcpyKind, runtime.cudaStreamCaptureMode
        # cudaGraphInstantiate took other arguments before CUDA 12; this one is the same in both.
        self._instantiate = 'cudaGraphInstantiateWithFlags'
        if not hasattr(runtime, self._instantiate):
            self._instantiate = 'cudaGraphInstantiate'
        self._stream = cuda.call('cudaStreamCreateWithFlags', runtime.cudaStreamNonBlocking)
        self._event = cuda.call('cudaEventCreateWithFlags', runtime.cudaEventDisableTiming)
        self.handle = int(self._stream)

    def upload(self, device: Buffer, host: Buffer, begin: int, size: int) -> None:
        self._call('cudaMemcpyAsync', device.pointer + begin, host.pointer + begin, size,
                   self._kinds.cudaMemcpyHostToDevice, self._stream)

    def download(self, host: Buffer, device: Buffer, size: int) -> None:
        self._call('cudaMemcpyAsync', host.pointer, device.pointer, size, self._kinds.cudaMemcpyDeviceToHost,
                   self._stream)

    def take(self, device: Buffer, begin: int, pointer: int, size: int) -> None:
        self._call('cudaMemcpyAsync', device.pointer + begin, pointer, size, self._kinds.cudaMemcpyDeviceToDevice,
                   self._stream)

    def after(self, handle: int) -> None:
        self._call('cudaEventRecord', self._event, handle)
        self._call('cudaStreamWaitEvent', self._stream, self._event, 0)

    def capture(self, work: Callable[[], None]) -> Graph:
        # Thread-local: memory that another thread allocates meanwhile does not spoil it.
        self._call('cudaStreamBeginCapture', self._stream, self._modes.cudaStreamCaptureModeThreadLocal)
        try:
            work()
        except BaseException:
            # The capture has to end in any case; what went wrong in the work is the better reason of the two.
            with contextlib.suppress(EngineError):
                self._call('cudaStreamEndCapture', self._stream)
            raise
        graph = self._call('cudaStreamEndCapture', self._stream)
        try:
            return _CudaGraph(self._call, self._call(self._instantiate, graph, 0), self._stream)
        finally:
            self._call('cudaGraphDestroy', graph)

    def wait(self) -> None:
        # Not an event: waiting for one keeps other Python threads from running in older versions of cuda-python.
        self._call('cudaStreamSynchronize', self._stream)

    def close(self) -> None:
        if self.handle:
            self.handle = 0
            self._call('cudaEventDestroy', self._event)
            self._call('cudaStreamDestroy', self._stream)


class _CudaGraph:
    def __init__(self, call: Callable[..., Any], graph: Any, stream: Any) -> None:
        self._call, self._graph, self._stream = call, graph, stream

    def launch(self) -> None:
        self._call('cudaGraphLaunch', self._graph, self._stream)

    def close(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            self._call('cudaGraphExecDestroy', graph)
