"""A stand-in for cuda-python's module of the CUDA runtime: memory of this computer, streams that run when waited for.

It is as strict as CUDA: copies within what was allocated and of the right kind, work that only runs once it is waited
for, captured work that does not run at all.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Status(IntEnum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorInvalidValue = 1  # noqa: N815
    cudaErrorStreamCaptureUnsupported = 900  # noqa: N815


class Kind(IntEnum):
    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815
    cudaMemcpyDeviceToDevice = 3  # noqa: N815


class Mode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1  # noqa: N815


class FakeStream:
    """A queue; captured is what a capture that has begun holds so far."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.queue: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None

    def __int__(self) -> int:
        return self.handle

    def add(self, work: Callable[[], None]) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def drain(self) -> None:
        while self.queue:
            self.queue.pop(0)()


class FakeCuda:
    """The functions of cuda.bindings.runtime that are used, and what a test wants to know."""

    __name__ = 'cuda.bindings.runtime'
    cudaMemcpyKind = Kind  # noqa: N815
    cudaStreamCaptureMode = Mode  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815
    cudaEventDisableTiming = 2  # noqa: N815

    def __init__(self) -> None:
        self.memory: dict[int, tuple[str, Any]] = {}  # by address: 'device' or 'host', and the bytes
        self.streams: dict[int, FakeStream] = {1: FakeStream(1)}
        self.calls: Counter[str] = Counter()
        self.captures_fail = False
        self.lock = threading.Lock()

    def bytes_at(self, pointer: int, size: int, kind: str) -> NDArray[np.uint8]:
        """Return `size` bytes of memory of a kind. Raises ValueError outside of what was allocated."""
        for begin, (what, block) in self.memory.items():
            if what == kind and begin <= pointer and pointer + size <= begin + len(block):
                return np.frombuffer(block, np.uint8)[pointer - begin:pointer - begin + size]
        raise ValueError(f'{size} bytes at {pointer} are not {kind} memory')

    def put(self, array: NDArray) -> int:
        """Return the address of device memory with an array's content."""
        status, pointer = self.cudaMalloc(array.nbytes)
        assert not status
        self.bytes_at(pointer, array.nbytes, 'device')[:] = np.ascontiguousarray(array).view(np.uint8).ravel()
        return pointer

    def _allocate(self, size: int, kind: str) -> tuple[Status, int]:
        block = (ctypes.c_uint8 * size)(*[0xA5] * min(size, 64))  # as in life, it is not zero
        pointer = ctypes.addressof(block)
        with self.lock:
            self.memory[pointer] = kind, block
        return Status.cudaSuccess, pointer

    def _free(self, pointer: int, kind: str) -> tuple[Status]:
        with self.lock:
            if self.memory.get(pointer, ('', None))[0] != kind:
                return (Status.cudaErrorInvalidValue,)
            del self.memory[pointer]
        return (Status.cudaSuccess,)

    def cudaGetDeviceCount(self) -> tuple[Status, int]:  # noqa: N802
        return Status.cudaSuccess, 1

    def cudaMalloc(self, size: int) -> tuple[Status, int]:  # noqa: N802
        return self._allocate(size, 'device')

    def cudaFree(self, pointer: int) -> tuple[Status]:  # noqa: N802
        return self._free(pointer, 'device')

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Status, int]:  # noqa: N802
        return self._allocate(size, 'host')

    def cudaFreeHost(self, pointer: int) -> tuple[Status]:  # noqa: N802
        return self._free(pointer, 'host')

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, FakeStream]:  # noqa: N802
        assert flags == self.cudaStreamNonBlocking
        with self.lock:
            stream = FakeStream(max(self.streams) + 1)
            self.streams[stream.handle] = stream
        return Status.cudaSuccess, stream

    def cudaStreamDestroy(self, stream: FakeStream) -> tuple[Status]:  # noqa: N802
        del self.streams[stream.handle]
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: FakeStream) -> tuple[Status]:  # noqa: N802
        self.calls['wait'] += 1
        stream.drain()
        return (Status.cudaSuccess,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Status, dict]:  # noqa: N802
        return Status.cudaSuccess, {}

    def cudaEventDestroy(self, event: dict) -> tuple[Status]:  # noqa: N802
        return (Status.cudaSuccess,)

    def cudaEventRecord(self, event: dict, stream: int) -> tuple[Status]:  # noqa: N802
        if int(stream) not in self.streams:
            return (Status.cudaErrorInvalidValue,)
        event['stream'] = self.streams[int(stream)]
        return (Status.cudaSuccess,)

    def cudaStreamWaitEvent(self, stream: FakeStream, event: dict, flags: int) -> tuple[Status]:  # noqa: N802
        stream.add(event['stream'].drain)
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: Kind, stream: FakeStream) -> tuple:  # noqa: N802
        ends = {Kind.cudaMemcpyHostToDevice: ('device', 'host'), Kind.cudaMemcpyDeviceToHost: ('host', 'device'),
                Kind.cudaMemcpyDeviceToDevice: ('device', 'device')}[kind]
        try:
            target, origin = (self.bytes_at(place, size, what) for place, what in zip((to, source), ends))
        except ValueError:
            return (Status.cudaErrorInvalidValue,)
        self.calls[kind.name] += 1
        stream.add(lambda: np.copyto(target, origin))
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: FakeStream, mode: Mode) -> tuple[Status]:  # noqa: N802
        stream.captured = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: FakeStream) -> tuple[Status, Any]:  # noqa: N802
        captured, stream.captured = stream.captured, None
        return (Status.cudaErrorStreamCaptureUnsupported if self.captures_fail else Status.cudaSuccess), captured

    def cudaGraphInstantiateWithFlags(self, graph: list, flags: int) -> tuple[Status, list]:  # noqa: N802
        self.calls['graphs'] += 1
        return Status.cudaSuccess, list(graph)

    def cudaGraphDestroy(self, graph: list) -> tuple[Status]:  # noqa: N802
        return (Status.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph: list) -> tuple[Status]:  # noqa: N802
        self.calls['graphs released'] += 1
        return (Status.cudaSuccess,)

    def cudaGraphLaunch(self, graph: list, stream: FakeStream) -> tuple[Status]:  # noqa: N802
        self.calls['launches'] += 1
        for work in graph:
            stream.add(work)
        return (Status.cudaSuccess,)
