"""Who provides the GPU's memory: cuda-python, which is light and only calls CUDA, or else PyTorch."""

from __future__ import annotations

import importlib

from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.trt.cuda_python import CudaPython
from pose3d_ros.runtime.trt.memory import Memory
from pose3d_ros.runtime.trt.pytorch import PyTorch

_RUNTIMES = ('cuda.bindings.runtime', 'cuda.cudart')  # cuda-python since 12.8, and before


def find_memory() -> Memory:
    """Return cuda-python's or PyTorch's. Raises EngineError saying why there is neither, with the cure."""
    reasons = []
    for open_one in (_cuda_python, _pytorch):
        try:
            return open_one()
        except (EngineError, ImportError, RuntimeError, OSError) as error:
            reasons.append(' '.join(str(error).split()))
    raise EngineError("TensorRT needs cuda-python or PyTorch for the GPU's memory: pip install cuda-python, in the "
                      f"version of the driver's CUDA (nvidia-smi shows it), such as 'cuda-python==12.*' "
                      f'({"; ".join(reasons)})')


def _cuda_python() -> Memory:
    reason = ''
    for name in _RUNTIMES:
        try:
            memory = CudaPython(importlib.import_module(name))
        except ImportError as error:
            reason = reason or f'cuda-python: {error}'
            continue
        memory.call('cudaGetDeviceCount')
        return memory
    raise EngineError(reason)


def _pytorch() -> Memory:
    torch = importlib.import_module('torch')
    if not torch.cuda.is_available():
        raise EngineError(f'PyTorch {torch.__version__} cannot use a GPU')
    return PyTorch(torch)
