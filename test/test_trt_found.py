"""Why TensorRT cannot be used here: each lacking part is named with its cure, and nothing raises."""

from __future__ import annotations

import ctypes
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_cuda import FakeCuda, Status
from fake_tensorrt import fake_tensorrt

from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.trt import backend as backend_module
from pose3d_ros.runtime.trt import gpu as gpu_module
from pose3d_ros.runtime.trt.api import find_tensorrt
from pose3d_ros.runtime.trt.backend import TensorRTBackend
from pose3d_ros.runtime.trt.found_memory import find_memory
from pose3d_ros.runtime.trt.gpu import Gpu, find_gpu


def driver(init: int = 0, count: int = 1, count_status: int = 0, detail: int = 0) -> Any:
    """Return a stand-in for libcuda: statuses of its functions, and how many GPUs it sees."""
    def count_of(place: Any) -> int:
        place._obj.value = count
        return count_status

    def name_of(place: Any, size: int, device: Any) -> int:
        place.value = b'Orin'
        return detail

    def total(place: Any, device: Any) -> int:
        place._obj.value = 7 << 30
        return detail

    def attribute(place: Any, number: int, device: Any) -> int:
        place._obj.value = {75: 8, 76: 7, 18: 1}[number]
        return detail
    return SimpleNamespace(cuInit=lambda flags: init, cuDeviceGetCount=count_of, cuDeviceGetName=name_of,
                           cuDeviceGet=lambda place, number: detail, cuDeviceTotalMem_v2=total,
                           cuDeviceGetAttribute=attribute)


def with_driver(monkeypatch: pytest.MonkeyPatch, **how: int) -> None:
    monkeypatch.setattr(gpu_module.ctypes, 'CDLL', lambda name: driver(**how))


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    with_driver(monkeypatch)
    assert find_gpu() == Gpu('Orin', '8.7', 7 << 30, True)


@pytest.mark.parametrize(('how', 'message'), [
    ({'init': 100}, 'sees no GPU: look at nvidia-smi'), ({'count': 0}, 'sees no GPU'),
    ({'count_status': 100}, 'CUDA_VISIBLE_DEVICES'), ({'init': 803}, r'does not start \(CUDA error 803\)'),
    ({'detail': 1}, 'cannot describe its GPU'),
])
def test_a_driver_without_a_gpu_is_a_reason(how: dict, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_driver(monkeypatch, **how)
    with pytest.raises(EngineError, match=message):
        find_gpu()


def test_no_driver_is_a_reason_and_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f'{name}: cannot open shared object file')
    monkeypatch.setattr(gpu_module.ctypes, 'CDLL', missing)
    monkeypatch.setattr(backend_module, 'find_tensorrt', lambda: pytest.fail('TensorRT was asked for'))
    assert TensorRTBackend().why_not().startswith('there is no NVIDIA driver (libcuda.so.1 cannot be loaded)')
    with pytest.raises(EngineError, match='no NVIDIA driver'):
        TensorRTBackend().target()


class Broken:
    """Finds no TensorRT, or one that raises when it is imported."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == 'tensorrt' and self.error is not None:
            raise self.error
        if name in ('tensorrt', 'tensorrt_bindings'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)


@pytest.mark.parametrize(('error', 'message'), [
    (None, 'apt install python3-libnvinfer'),
    (ModuleNotFoundError("No module named 'tensorrt_bindings'", name='tensorrt_bindings'), 'installed incompletely'),
    (ImportError('libnvinfer.so.10: cannot open shared object file'), r'libraries cannot be loaded \(libnvinfer.so.10'),
    (OSError('bad ELF'), r'libraries cannot be loaded \(bad ELF'),
    (TypeError('compiled with NumPy 1'), 'cannot be loaded'),
])
def test_a_tensorrt_that_cannot_be_imported_is_a_reason(error: Exception | None, message: str,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('tensorrt', 'tensorrt_bindings'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, 'meta_path', [Broken(error), *sys.meta_path])
    with pytest.raises(EngineError, match=message):
        find_tensorrt()
    with_driver(monkeypatch)
    assert TensorRTBackend().why_not()


@pytest.mark.parametrize(('version', 'fits'), [('8.5.3', False), ('8.6.1', True), ('10.14.1.48.post1', True),
                                               ('', False)])
def test_an_old_tensorrt_is_a_reason(version: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt('8.6.1', FakeCuda())
    trt.__version__ = version
    monkeypatch.setitem(sys.modules, 'tensorrt', trt)
    if fits:
        assert find_tensorrt().version == version
    else:
        with pytest.raises(EngineError, match='8.6 or newer with its builder is needed'):
            find_tensorrt()


def test_the_bindings_alone_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, 'tensorrt', raising=False)
    monkeypatch.setattr(sys, 'meta_path', [Broken(None), *sys.meta_path])
    monkeypatch.setitem(sys.modules, 'tensorrt_bindings', fake_tensorrt('10.16.1.11', FakeCuda()))
    assert find_tensorrt().version == '10.16.1.11'


def test_a_folder_named_tensorrt_is_no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'tensorrt', types.ModuleType('tensorrt'))
    with pytest.raises(EngineError, match='cannot be used'):
        find_tensorrt()


def modules(monkeypatch: pytest.MonkeyPatch, **present: Any) -> None:
    """Let cuda-python's and PyTorch's modules be those given, under names with _ for dots, and no others."""
    found = {name.replace('_', '.'): module for name, module in present.items()}
    for name in ('cuda', 'cuda.bindings', 'cuda.bindings.runtime', 'cuda.cudart', 'torch'):
        parent = any(other.startswith(f'{name}.') for other in found)
        monkeypatch.setitem(sys.modules, name, found.get(name, types.ModuleType(name) if parent else None))


@pytest.mark.parametrize('layout', ['cuda_bindings_runtime', 'cuda_cudart'])
def test_cuda_python_is_found_in_both_layouts(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    modules(monkeypatch, **{layout: cuda})
    memory = find_memory()
    buffer = memory.device(100)
    assert cuda.memory[buffer.pointer][0] == 'device'
    buffer.close()
    buffer.close()
    assert not cuda.memory


def test_pytorch_is_taken_where_cuda_python_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(cuda, 'cudaGetDeviceCount', lambda: (Status.cudaErrorInvalidValue, 0))
    torch = SimpleNamespace(__version__='2.9', cuda=SimpleNamespace(is_available=lambda: True))
    modules(monkeypatch, cuda_cudart=cuda, torch=torch)
    assert find_memory().name == 'torch 2.9'


def test_neither_is_a_reason_with_both_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    modules(monkeypatch, torch=SimpleNamespace(__version__='2.9+cpu', cuda=SimpleNamespace(is_available=lambda: False)))
    with pytest.raises(EngineError, match='pip install cuda-python') as caught:
        find_memory()
    assert 'PyTorch 2.9+cpu cannot use a GPU' in str(caught.value) and 'cuda-python: ' in str(caught.value)


def test_whatever_else_breaks_is_a_reason_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise AttributeError('module has no attribute Builder')
    monkeypatch.setattr(backend_module, 'find_gpu', broken)
    assert 'AttributeError: module has no attribute Builder' in TensorRTBackend().why_not()


def test_here_the_reason_is_given_at_once_and_in_one_line() -> None:
    reason = TensorRTBackend().why_not()
    assert '\n' not in reason
    if not Path('/dev/nvidia0').exists() and not Path('/dev/nvhost-gpu').exists():
        assert reason, 'there is no GPU, so there has to be a reason'
    assert ctypes.CDLL is gpu_module.ctypes.CDLL
