"""Networks on ONNX Runtime, on the CPU or on a CUDA GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _native

from pose3d_ros.runtime.engine import EngineError, cure
from pose3d_ros.runtime.inputs import check_inputs

_TYPES = {'tensor(float)': np.float32, 'tensor(float16)': np.float16, 'tensor(double)': np.float64,
          'tensor(int64)': np.int64, 'tensor(int32)': np.int32, 'tensor(uint8)': np.uint8, 'tensor(bool)': np.bool_}
# The runtime's exceptions share no base class but Exception.
_ERRORS: tuple[type[Exception], ...] = (RuntimeError, *(
    error for error in vars(_native).values() if isinstance(error, type) and issubclass(error, Exception)))
_CUDA = 'CUDAExecutionProvider'
_CPU = 'CPUExecutionProvider'
_MOST_THREADS = 4  # networks this small gain nothing from more


class OnnxEngine:
    """An ONNX file opened in ONNX Runtime; see Engine for the meaning of its members."""

    def __init__(self, path: Path, *, cuda: bool = False, threads: int = 0, remarks: tuple[str, ...] = ()) -> None:
        """cuda: on the GPU. remarks: see Engine. Raises EngineError where CUDA is wanted and cannot be used."""
        self._path, self.remarks, self.status = path, remarks, ''
        session = _open_cuda(path, threads) if cuda else _session(path, threads, [_CPU])
        self._session: onnxruntime.InferenceSession | None = session
        self._types: dict[str, np.dtype | str] = {
            spec.name: np.dtype(_TYPES[spec.type]) if spec.type in _TYPES else spec.type
            for spec in session.get_inputs()}
        self.inputs = tuple(spec.name for spec in session.get_inputs())
        self.outputs = tuple(spec.name for spec in session.get_outputs())
        self.input_shapes: dict[str, tuple[int | None, ...]] = {
            spec.name: tuple(size if isinstance(size, int) else None for size in spec.shape)
            for spec in session.get_inputs()}
        self.provider: str = session.get_providers()[0]
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        self.precision = 'fp16' if np.dtype(np.float16) in self._types.values() else 'fp32'

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Compute all outputs."""
        if self._session is None:
            raise EngineError(f'{self._path.name}: the engine is closed')
        check_inputs(self._path.name, self.input_shapes, self._types, inputs)
        try:
            results = self._session.run(self.outputs, dict(inputs))
        except _ERRORS as error:
            raise EngineError(f'{self._path.name} failed on {self.provider}: {error}') from error
        return dict(zip(self.outputs, results))

    def warm_up(self) -> None:
        """Run twice on zeros: the first call allocates, on a GPU it also chooses kernels."""
        zeros: dict[str, NDArray] = {name: np.zeros([size or 1 for size in shape], dtype=self._types[name])
                                     for name, shape in self.input_shapes.items()}
        for _ in range(2):
            self.run(zeros)

    def close(self) -> None:
        """Release the network's memory."""
        self._session = None


def _sensible_threads() -> int:
    return min(len(os.sched_getaffinity(0)), _MOST_THREADS)


def _open_cuda(path: Path, threads: int) -> onnxruntime.InferenceSession:
    if _CUDA not in onnxruntime.get_available_providers():
        raise EngineError('this ONNX Runtime cannot use CUDA: install onnxruntime-gpu')
    # An exhaustive search for the fastest kernel would run again for every new batch size.
    session = _session(path, threads, [(_CUDA, {'cudnn_conv_algo_search': 'HEURISTIC'}), _CPU])
    if session.get_providers()[0] != _CUDA:  # it falls back without a word
        raise EngineError(f'{path.name} runs on {session.get_providers()[0]} instead of CUDA: check the driver, CUDA '
                          'and cuDNN versions against onnxruntime-gpu')
    return session


def _session(path: Path, threads: int, providers: list) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _sensible_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Threads that spin between operators gain a little where they have their cores for themselves. Shared with
    # anything else (the driver, DDS, a second node) they burn 3 to 6 times the computing time and multiply the latency.
    # Spinning only while a call lasts (session.force_spinning_stop) is 8 to 14 % faster alone, and on two cores a node
    # then has 1.4 times the delay at the 95th percentile.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except _ERRORS as error:
        reason = ' '.join(str(error).split())  # older ones end it with a line break
        raise EngineError(f'{path} is not a usable network ({reason}); {cure(path)}') from error
