"""The NVIDIA GPU of this machine, asked from its driver directly: no package is needed for that, and it is quick."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from pose3d_ros.runtime.engine import EngineError

_LIBRARY = 'libcuda.so.1'
_NO_DEVICE = 100
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute of the CUDA driver


@dataclass(frozen=True)
class Gpu:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves. memory: bytes; integrated: it shares the computer's, as a Jetson.

    capability: its architecture, such as '8.7'.
    """

    name: str
    capability: str
    memory: int
    integrated: bool


def find_gpu() -> Gpu:
    """Return the GPU. Raises EngineError saying why there is none, with the cure."""
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise EngineError(f'there is no NVIDIA driver ({_LIBRARY} cannot be loaded): TensorRT needs an NVIDIA GPU and '
                          'its driver; in a container, start it with the NVIDIA runtime (--gpus all)') from error
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if not status:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status == _NO_DEVICE or (not status and not count.value):
        raise EngineError('the NVIDIA driver sees no GPU: look at nvidia-smi (on a Jetson: tegrastats) and at '
                          'CUDA_VISIBLE_DEVICES')
    if status:
        raise EngineError(f'the NVIDIA driver does not start (CUDA error {status}): look at nvidia-smi; after an '
                          'update of the driver, restart the computer')
    device = ctypes.c_int(0)
    name = ctypes.create_string_buffer(256)
    memory = ctypes.c_size_t(0)
    for status in (driver.cuDeviceGet(ctypes.byref(device), 0), driver.cuDeviceGetName(name, len(name), device),
                   driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)):
        if status:
            raise EngineError(f'the NVIDIA driver cannot describe its GPU (CUDA error {status}): look at nvidia-smi')
    major, minor, integrated = (_attribute(driver, number, device) for number in (_MAJOR, _MINOR, _INTEGRATED))
    return Gpu(name.value.decode('utf-8', 'replace'), f'{major}.{minor}', memory.value, bool(integrated))


def _attribute(driver: ctypes.CDLL, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int(0)
    if status := driver.cuDeviceGetAttribute(ctypes.byref(value), number, device):
        raise EngineError(f'the NVIDIA driver cannot describe its GPU (CUDA error {status}): look at nvidia-smi')
    return value.value
