"""Sessions of ONNX Runtime with settings to compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from pose3d_ros.runtime.check_inputs import inputs_for

_LEVELS = {'none': onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
           'basic': onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
           'extended': onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
           'all': onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL}


@dataclass(frozen=True)
class Settings:
    """What can be chosen of a session on the CPU; the defaults are those of runtime/onnx_engine.py with two threads.

    spin: threads wait for work at full speed. arena: freed memory is kept for the next call. pattern: memory of a call
    is planned by the shapes of the one before. flush: numbers next to zero count as zero. graph: how much the graph is
    rewritten.
    """

    threads: int = 2
    spin: bool = False
    arena: bool = True
    pattern: bool = True
    flush: bool = False
    graph: str = 'all'


def open_session(path: Path, settings: Settings) -> onnxruntime.InferenceSession:
    """Open a file on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = settings.arena
    options.enable_mem_pattern = settings.pattern
    options.graph_optimization_level = _LEVELS[settings.graph]
    options.add_session_config_entry('session.intra_op.allow_spinning', str(int(settings.spin)))
    options.add_session_config_entry('session.set_denormal_as_zero', str(int(settings.flush)))
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def inputs_of(session: onnxruntime.InferenceSession, size: int) -> dict[str, NDArray[np.float32]]:
    """Return inputs of a batch, as the self-check of engines takes them."""
    shapes = {spec.name: tuple(axis if isinstance(axis, int) else None for axis in spec.shape)
              for spec in session.get_inputs()}
    return inputs_for(session.get_modelmeta().custom_metadata_map, shapes, size)[-1]
