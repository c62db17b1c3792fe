"""Device memory through PyTorch, for machines that have it and no cuda-python. The module comes as an argument."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.trt.memory import Buffer, Graph, Stream

_LEGACY = 1  # the default stream, as __cuda_array_interface__ names it


class PyTorch:
    """PyTorch with CUDA."""

    def __init__(self, torch: Any) -> None:
        """Take the module `torch`."""
        self._torch = torch
        self.name = f'torch {torch.__version__}'

    def device(self, size: int) -> Buffer:
        """Return memory on the GPU, from PyTorch's own pool."""
        with _told():
            tensor = self._torch.empty(max(size, 1), dtype=self._torch.uint8, device='cuda')
        return Buffer(tensor.data_ptr(), size, None, owner=tensor)

    def host(self, size: int) -> Buffer:
        """Return pinned memory."""
        with _told():
            tensor = self._torch.empty(max(size, 1), dtype=self._torch.uint8, pin_memory=True)
        return Buffer(tensor.data_ptr(), size, tensor.numpy(), owner=tensor)

    def stream(self) -> Stream:
        """Return a stream of its own."""
        return _TorchStream(self._torch)


class _TorchStream:
    def __init__(self, torch: Any) -> None:
        self._torch = torch
        with _told():
            self._stream = torch.cuda.Stream()
        self.handle = int(self._stream.cuda_stream)

    def upload(self, device: Buffer, host: Buffer, begin: int, size: int) -> None:
        self._copy(device.owner[begin:begin + size], host.owner[begin:begin + size])

    def download(self, host: Buffer, device: Buffer, size: int) -> None:
        self._copy(host.owner[:size], device.owner[:size])

    def take(self, device: Buffer, begin: int, pointer: int, size: int) -> None:
        with _told():
            source = self._torch.as_tensor(_Bytes(pointer, size), device='cuda')
        self._copy(device.owner[begin:begin + size], source)

    def after(self, handle: int) -> None:
        cuda = self._torch.cuda
        with _told():
            other = cuda.default_stream() if handle == _LEGACY else cuda.ExternalStream(handle)
            self._stream.wait_stream(other)

    def capture(self, work: Callable[[], None]) -> Graph:
        with _told(), self._torch.cuda.stream(self._stream):
            graph = self._torch.cuda.CUDAGraph()
            # Thread-local: memory that another thread allocates meanwhile does not spoil it.
            graph.capture_begin(capture_error_mode='thread_local')
            try:
                work()
            except BaseException:
                # The capture has to end in any case; what went wrong in the work is the better reason of the two.
                with contextlib.suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        return _TorchGraph(self._torch, graph, self._stream)

    def wait(self) -> None:
        with _told():
            self._stream.synchronize()

    def close(self) -> None:
        self.handle = 0

    def _copy(self, target: Any, source: Any) -> None:
        with _told(), self._torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)


class _TorchGraph:
    def __init__(self, torch: Any, graph: Any, stream: Any) -> None:
        self._torch, self._graph, self._stream = torch, graph, stream

    def launch(self) -> None:
        with _told(), self._torch.cuda.stream(self._stream):
            self._graph.replay()

    def close(self) -> None:
        if self._graph is not None:
            self._graph.reset()
            self._graph = None


class _Bytes:
    """Memory of the GPU as PyTorch takes it from others."""

    def __init__(self, pointer: int, size: int) -> None:
        self.__cuda_array_interface__ = {'data': (pointer, False), 'shape': (size,), 'typestr': '|u1', 'version': 2}


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn PyTorch's errors into EngineError; what an engine itself reports passes."""
    try:
        yield
    except EngineError:
        raise
    except (RuntimeError, TypeError) as error:
        raise EngineError(f'PyTorch: {" ".join(str(error).split())[:300]}') from error
