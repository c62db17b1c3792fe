"""Device memory through PyTorch: what it queues, in which order, how it fails. Its CPU side stands in for a GPU."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='PyTorch is not installed')

from pose3d_ros.runtime.engine import EngineError  # noqa: E402
from pose3d_ros.runtime.trt.pytorch import PyTorch  # noqa: E402


class OnCpu:
    """The parts of `torch` that are used, with a GPU that is the CPU; events tells what was asked of it."""

    uint8, __version__ = torch.uint8, '2.test'

    def __init__(self) -> None:
        self.events: list[str] = []
        self.inside = 0
        self.cuda = SimpleNamespace(Stream=self._stream, stream=self._within, CUDAGraph=lambda: Graph(self),
                                    default_stream=lambda: 'default', ExternalStream=lambda handle: f'stream {handle}')

    def empty(self, size: int, dtype: Any, device: str = 'cpu', pin_memory: bool = False) -> Any:
        assert pin_memory == (device == 'cpu'), 'host memory has to be pinned'
        return torch.full((size,), 0xA5, dtype=dtype)

    def as_tensor(self, value: Any, device: str) -> Any:
        assert device == 'cuda'
        interface = value.__cuda_array_interface__
        holder = SimpleNamespace(__array_interface__={**interface, 'version': 3})
        return torch.from_numpy(np.array(holder, copy=False))

    def _stream(self) -> Any:
        return SimpleNamespace(cuda_stream=7, synchronize=lambda: self.events.append('wait'),
                               wait_stream=lambda other: self.events.append(f'after {other}'))

    @contextlib.contextmanager
    def _within(self, stream: Any) -> Iterator[None]:
        assert stream.cuda_stream == 7
        self.inside += 1
        yield
        self.inside -= 1


class Graph:
    """Notes what is captured and launched."""

    def __init__(self, torch_: OnCpu) -> None:
        self.torch = torch_

    def _note(self, what: str) -> None:
        assert self.torch.inside == (0 if what == 'reset' else 1), 'on the default stream'
        self.torch.events.append(what)

    def capture_begin(self, capture_error_mode: str) -> None:
        self._note(f'begin {capture_error_mode}')

    def capture_end(self) -> None:
        self._note('end')

    def replay(self) -> None:
        self._note('replay')

    def reset(self) -> None:
        self._note('reset')


@pytest.fixture
def on_cpu() -> OnCpu:
    return OnCpu()


def test_bytes_go_there_and_back(on_cpu: OnCpu) -> None:
    memory = PyTorch(on_cpu)
    host, device, other, stream = memory.host(64), memory.device(64), memory.device(64), memory.stream()
    assert host.array is not None and stream.handle == 7
    host.array[:] = np.arange(64)
    stream.upload(device, host, 16, 32)
    stream.take(other, 8, device.pointer + 16, 32)
    host.array[:] = 0
    stream.download(host, other, 40)
    stream.wait()
    np.testing.assert_array_equal(host.array, [*[0xA5] * 8, *range(16, 48), *[0] * 24])
    assert on_cpu.events == ['wait'] and on_cpu.inside == 0


def test_work_is_captured_and_launched_on_its_stream(on_cpu: OnCpu) -> None:
    stream = PyTorch(on_cpu).stream()
    graph = stream.capture(lambda: on_cpu.events.append('work'))
    graph.launch()
    graph.close()
    graph.close()
    assert on_cpu.events == ['begin thread_local', 'work', 'end', 'replay', 'reset']


def test_a_capture_that_fails_is_ended_and_its_reason_kept(on_cpu: OnCpu) -> None:
    def fail() -> None:
        raise EngineError('no kernel for it')
    with pytest.raises(EngineError, match='no kernel for it'):
        PyTorch(on_cpu).stream().capture(fail)
    assert on_cpu.events[-1] == 'end'


def test_other_streams_are_waited_for(on_cpu: OnCpu) -> None:
    stream = PyTorch(on_cpu).stream()
    stream.after(1)
    stream.after(12)
    assert on_cpu.events == ['after default', 'after stream 12']


def test_memory_is_given_back_once(on_cpu: OnCpu) -> None:
    buffer = PyTorch(on_cpu).host(8)
    buffer.close()
    buffer.close()
    assert buffer.array is None and buffer.owner is None


@pytest.mark.parametrize('work', [lambda memory: memory.device(8), lambda memory: memory.host(8)])
def test_pytorchs_errors_are_told(work: Callable[[PyTorch], object], on_cpu: OnCpu,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **names: Any) -> None:
        raise torch.cuda.OutOfMemoryError('CUDA out of memory.\nTried to allocate')
    monkeypatch.setattr(on_cpu, 'empty', full)
    with pytest.raises(EngineError, match='PyTorch: CUDA out of memory. Tried to allocate'):
        work(PyTorch(on_cpu))


def test_the_real_module_has_what_is_used() -> None:
    cuda = torch.cuda
    assert 'capture_error_mode' in inspect.signature(cuda.CUDAGraph.capture_begin).parameters
    for owner, names in ((cuda, ('Stream', 'ExternalStream', 'default_stream', 'stream')),
                         (cuda.Stream, ('wait_stream', 'synchronize')),
                         (cuda.CUDAGraph, ('capture_end', 'replay', 'reset'))):
        assert [name for name in names if not hasattr(owner, name)] == []
