"""TensorRT's Python API, with all that differs between its versions 8.6, 9, 10 and 11.

Where a version has an attribute or lacks it, that is asked rather than the number. What changed:
- Networks are strongly typed (computed in the types that the ONNX file's tensors have) from 9.1 on if asked for, and
  in 11 always. Before, types are chosen by the builder among those that its flags allow, unless layers are told.
- 8.6 and 9 need the flag for an explicit batch axis; 10 ignores it and 11 lacks it.
- 8.6 reports no progress, and has to be told that several contexts may share one optimisation profile.
- Errors of the ONNX parser name their node from 10 on; before, they count it.
- A context without its own memory is created and given its memory in three ways.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from pose3d_ros.runtime.backend import Progress
from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.onnx_header import node_label
from pose3d_ros.runtime.trt.layer_types import choose_types, relax_types
from pose3d_ros.runtime.trt.messages import log_of
from pose3d_ros.runtime.trt.progress import monitor

_LOG = logging.getLogger(__name__)
_MODULES = ('tensorrt', 'tensorrt_bindings')  # the second is all that the first is made of, when it comes from wheels
_OLDEST = (8, 6)
_WORKSPACE = 1 << 30  # bytes a layer may use beside its tensors; networks this small never need more
_TYPES = {'FLOAT': np.float32, 'HALF': np.float16, 'INT32': np.int32, 'INT64': np.int64, 'INT8': np.int8,
          'UINT8': np.uint8, 'BOOL': np.bool_}


@dataclass(frozen=True)
class Binding:
    """An input or output of an engine. shape: -1 for an open axis."""

    name: str
    is_input: bool
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass
class Parsed:
    """A network in TensorRT's form; the parser owns the weights, so it has to live as long as the network."""

    builder: Any
    network: Any
    parser: Any


def find_tensorrt() -> TensorRT:
    """Return the installed TensorRT. Raises EngineError saying why it cannot be used, with the cure."""
    module = None
    for name in _MODULES:
        try:
            module = importlib.import_module(name)
            break
        except ModuleNotFoundError as error:
            if error.name != name:
                raise EngineError(f'TensorRT is installed incompletely ({error}): install it again') from error
        except Exception as error:  # whatever a broken installation raises while it is imported
            reason = ' '.join(str(error).split())
            raise EngineError(f"TensorRT's libraries cannot be loaded ({reason}): install the libraries of the version "
                              'of its Python module, and put them on LD_LIBRARY_PATH') from error
    if module is None:
        raise EngineError("TensorRT's Python module is not installed: on a Jetson, apt install python3-libnvinfer (and "
                          'make virtual environments with --system-site-packages); elsewhere, pip install tensorrt '
                          '(docs/tensorrt.md lists the few files that are needed)')
    version = str(getattr(module, '__version__', '0'))
    if not hasattr(module, 'Builder') or _numbers(version) < _OLDEST:
        raise EngineError(f'TensorRT {version} at {getattr(module, "__file__", "?")} cannot be used: 8.6 or newer with '
                          'its builder is needed')
    return TensorRT(module)


class TensorRT:
    """The module `tensorrt`, whatever its version."""

    def __init__(self, module: Any) -> None:
        """Take the module."""
        self.module, self.version = module, str(module.__version__)
        self.log = log_of(module)
        module.init_libnvinfer_plugins(self.log, '')  # some operators of ONNX are among them

    @property
    def strongly_typed(self) -> bool:
        """Whether networks can be computed in exactly the types of the ONNX file's tensors."""
        return hasattr(self.module.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED')

    def parse(self, model: bytes) -> Parsed:
        """Return an ONNX file as a network. Raises EngineError quoting the nodes that TensorRT cannot take."""
        trt = self.module
        kinds, flags = trt.NetworkDefinitionCreationFlag, 0
        for name in ('STRONGLY_TYPED', 'EXPLICIT_BATCH'):
            if hasattr(kinds, name):
                flags |= 1 << int(getattr(kinds, name))
        self.log.take()
        try:
            builder = trt.Builder(self.log)
        except TypeError as error:  # what a null pointer becomes
            raise EngineError(self._failure('cannot start its builder')) from error
        network = builder.create_network(flags)
        parser = trt.OnnxParser(network, self.log)
        if not parser.parse(model):
            errors = [self._parse_error(parser.get_error(number), model) for number in range(parser.num_errors)]
            raise EngineError(f'TensorRT {self.version} cannot read the network: '
                              f'{"; ".join(errors) or self._logged()}')
        if not network.num_outputs:  # so it calls a file that holds no network at all
            raise EngineError(f'TensorRT {self.version} cannot read the network: it has no outputs')
        return Parsed(builder, network, parser)

    def compile(self, parsed: Parsed, most: int, timing: bytes, progress: Progress,
                config: Any = None) -> tuple[bytes, bytes]:
        """Return the engine for 1..most people at once, and what was learned about the GPU's timing.

        config: a builder's configuration to complete, by default a new one. Raises EngineError, and what `progress`
        raised.
        """
        trt, builder, network = self.module, parsed.builder, parsed.network
        config = config or builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE)
        config.clear_flag(trt.BuilderFlag.TF32)  # it has the mantissa of half precision: fp32 means fp32 here
        sharing = getattr(trt.PreviewFeature, 'PROFILE_SHARING_0806', None)
        if sharing is not None and not config.get_preview_feature(sharing):
            config.set_preview_feature(sharing, True)
        if not self.strongly_typed:
            choose_types(trt, network, config)
        self._add_profile(builder, network, config, most)
        self._begin_timing(config, timing)
        watcher = None
        if hasattr(trt, 'IProgressMonitor'):
            watcher = monitor(trt, progress)
            config.progress_monitor = watcher
        else:
            progress(0.0)
        self.log.take()
        plan = builder.build_serialized_network(network, config)
        if watcher is not None and watcher.error is not None:
            raise watcher.error
        if plan is None and not self.strongly_typed and relax_types(trt, config, self._logged()):
            plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError(self._failure('cannot compile the network'))
        progress(1.0)
        return bytes(memoryview(plan)), self._learned(config)

    def load(self, plan: bytes) -> Any:
        """Return a built engine. Raises EngineError where it was built by another version or for another GPU."""
        self.log.take()
        try:
            engine = self.module.Runtime(self.log).deserialize_cuda_engine(plan)
        except TypeError as error:  # what a null pointer becomes
            raise EngineError(self._failure('cannot start')) from error
        if engine is None:
            raise EngineError(self._failure('cannot load the engine'))
        return engine

    def bindings(self, engine: Any) -> list[Binding]:
        """Return the inputs and outputs. Raises EngineError for a type that NumPy does not have."""
        found = []
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            kind = engine.get_tensor_dtype(name).name
            if kind not in _TYPES:
                raise EngineError(f'{name!r} has the type {kind}, which NumPy lacks: export the network with float32 '
                                  'inputs and outputs')
            found.append(Binding(name, engine.get_tensor_mode(name) == self.module.TensorIOMode.INPUT,
                                 tuple(engine.get_tensor_shape(name)), np.dtype(_TYPES[kind])))
        return found

    def most(self, engine: Any, name: str) -> int:
        """Return how many rows of an input with an open first axis the engine was built for."""
        return int(tuple(engine.get_tensor_profile_shape(name, 0)[2])[0])

    def scratch(self, engine: Any) -> int:
        """Return the bytes of GPU memory that running takes, beside inputs, outputs and weights."""
        size = engine.device_memory_size_v2 if hasattr(engine, 'device_memory_size_v2') else engine.device_memory_size
        return int(size)

    def context(self, engine: Any, pointer: int, size: int, stream: int) -> Any:
        """Return what runs the engine, in memory that contexts share which never run at the same time."""
        self.log.take()
        if hasattr(engine, 'create_execution_context_without_device_memory'):
            context = engine.create_execution_context_without_device_memory()
        else:
            context = engine.create_execution_context(self.module.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise EngineError(self._failure('cannot start the engine'))
        if hasattr(context, 'set_device_memory'):
            context.set_device_memory(pointer, size)
        else:
            context.device_memory = pointer
        # Only the first context of an engine has a profile by itself in every version.
        if context.active_optimization_profile != 0 and not context.set_optimization_profile_async(0, stream):
            raise EngineError(self._failure('cannot start the engine'))
        return context

    def queue(self, context: Any, stream: int) -> None:
        """Queue a run on a stream. Raises EngineError."""
        if not context.execute_async_v3(stream):
            raise EngineError(self._failure('failed'))

    def _add_profile(self, builder: Any, network: Any, config: Any, most: int) -> None:
        profile, needed = builder.create_optimization_profile(), False
        # Kernels are chosen for this size. Usually there are few people, but many must not be slow either.
        usual = max(1, round(most ** 0.5))
        for number in range(network.num_inputs):
            tensor = network.get_input(number)
            shape = tuple(tensor.shape)
            if -1 in shape[1:]:
                raise EngineError(f'input {tensor.name!r} has an open axis other than the first: export the network '
                                  'with fixed sizes')
            if shape and shape[0] == -1:
                needed = True
                profile.set_shape(tensor.name, *((size, *shape[1:]) for size in (1, usual, most)))
        if needed:
            config.add_optimization_profile(profile)

    def _begin_timing(self, config: Any, timing: bytes) -> None:
        for known in (timing, b''):
            cache = config.create_timing_cache(known)
            if cache is not None and config.set_timing_cache(cache, False):
                return
            _LOG.debug('timing cache of %d bytes is not for this GPU and TensorRT: %s', len(known), self._logged())

    @staticmethod
    def _learned(config: Any) -> bytes:
        cache = config.get_timing_cache()
        learned = cache.serialize() if cache is not None else None
        return bytes(memoryview(learned)) if learned is not None else b''

    def _parse_error(self, error: Any, model: bytes) -> str:
        """Return a parser's error with its node's operator and name."""
        if hasattr(error, 'node_name') and error.node_name():
            label = f'{error.node_operator()} {error.node_name()!r}'
        else:
            label = node_label(model, error.node())
        return f'{label or f"node {error.node()}"}: {error.code().name}, {" ".join(error.desc().split())}'

    def _failure(self, what: str) -> str:
        return f'TensorRT {self.version} {what}: {self._logged()}'

    def _logged(self) -> str:
        return '; '.join(self.log.take()[-3:])[:900] or 'it does not say why'


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: '10.0.1.post2' -> (10, 0, 1)."""
    found = []
    for part in version.split('.'):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)
