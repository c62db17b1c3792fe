"""A stand-in for the module `tensorrt` in the shape of several versions, computing with ONNX Runtime on the CPU.

It has what each version has, and lacks what it lacks (as the wheels' modules say); what it runs on is a FakeCuda.
"""

from __future__ import annotations

import json
import threading
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from fake_cuda import FakeCuda
from onnx import TensorProto, shape_inference

UNSUPPORTED = 'Det'  # the operator that its parser does not know
_KINDS = {TensorProto.FLOAT: 'FLOAT', TensorProto.FLOAT16: 'HALF', TensorProto.INT64: 'INT64',
          TensorProto.INT32: 'INT32', TensorProto.INT8: 'INT8', TensorProto.UINT8: 'UINT8', TensorProto.BOOL: 'BOOL'}
_TYPES = {'FLOAT': np.float32, 'HALF': np.float16, 'INT64': np.int64, 'INT32': np.int32}
_SECRET = b'fake engine '


def fake_tensorrt(version: str, cuda: FakeCuda) -> Any:
    """Return a module. Its `seen` tells a test what was asked of it."""
    major = int(version.split('.')[0])
    trt: Any = ModuleType('tensorrt')
    trt.__version__, trt.cuda, trt.major = version, cuda, major
    trt.seen = SimpleNamespace(flags=[], cleared=[], network_flags=0, previews=[], profile={}, timing=None, layers=[],
                               contexts=0, overlaps=0, cannot_obey=False)
    kinds = ['EXPLICIT_BATCH'] * (major < 11) + ['STRONGLY_TYPED'] * (major >= 10)
    trt.NetworkDefinitionCreationFlag = IntEnum('NetworkDefinitionCreationFlag', {name: i for i, name in
                                                                                 enumerate(kinds)})
    weak = ['FP16', 'INT8', 'OBEY_PRECISION_CONSTRAINTS', 'PREFER_PRECISION_CONSTRAINTS'] * (major < 11)
    trt.BuilderFlag = IntEnum('BuilderFlag', {name: i for i, name in enumerate(['TF32', *weak])})
    trt.PreviewFeature = IntEnum('PreviewFeature', {'PROFILE_SHARING_0806': 0} if major < 11 else {'OTHER': 0})
    trt.MemoryPoolType = IntEnum('MemoryPoolType', {'WORKSPACE': 0})
    trt.DataType = IntEnum('DataType', {name: i for i, name in enumerate(_KINDS.values())})
    trt.TensorIOMode = IntEnum('TensorIOMode', {'NONE': 0, 'INPUT': 1, 'OUTPUT': 2})
    trt.ErrorCode = IntEnum('ErrorCode', {'UNSUPPORTED_NODE': 8})
    trt.ILogger = type('ILogger', (), {'__init__': lambda self: None, 'Severity': IntEnum(
        'Severity', {'INTERNAL_ERROR': 0, 'ERROR': 1, 'WARNING': 2, 'INFO': 3, 'VERBOSE': 4})})
    trt.init_libnvinfer_plugins = lambda log, name: True
    if major >= 10:
        trt.IProgressMonitor = type('IProgressMonitor', (), {'__init__': lambda self: None})
        trt.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED='user')
    trt.Builder = lambda log: _Builder(trt, log)
    trt.OnnxParser = lambda network, log: _Parser(trt, network)
    trt.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=lambda plan: _deserialise(trt, plan, log))
    return trt


class _Builder:
    def __init__(self, trt: Any, log: Any) -> None:
        self.trt, self.log = trt, log

    def create_network(self, flags: int = 0) -> Any:
        self.trt.seen.network_flags = flags
        return SimpleNamespace(model=b'', inputs=[], layers=[], num_inputs=0, num_layers=0, num_outputs=0,
                               get_input=lambda i: self.network.inputs[i], get_layer=lambda i: self.network.layers[i])

    def create_builder_config(self) -> Any:
        return _Config(self.trt)

    def create_optimization_profile(self) -> Any:
        profile: dict[str, tuple] = {}
        return SimpleNamespace(shapes=profile, set_shape=lambda name, *shapes: profile.update({name: shapes}))

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        trt, severity = self.trt, self.trt.ILogger.Severity
        typed = trt.major >= 10 and network.flags & 1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        if typed and config.seen.flags:
            return self.log.log(severity.ERROR, 'precision flags are not allowed in a strongly typed network')
        if any(-1 in tensor.shape for tensor in network.inputs) and not config.profiles:
            return self.log.log(severity.ERROR, 'the network has dynamic inputs but no optimization profile')
        if 'OBEY_PRECISION_CONSTRAINTS' in config.seen.flags and config.seen.cannot_obey:
            return self.log.log(severity.ERROR, 'could not find any implementation for node half')
        monitor = getattr(config, 'progress_monitor', None)
        if monitor is not None:
            monitor.phase_start('Building', None, 2)
            for step in range(2):
                monitor.phase_start('Timing', 'Building', 5)
                for inner in range(5):
                    if not _told(monitor, inner):
                        return self.log.log(severity.ERROR, 'cancelled')
                monitor.phase_finish('Timing')
                monitor.step_complete('Building', step)
            monitor.phase_finish('Building')
        profile = config.profiles[0] if config.profiles else {}
        config.learned = b'timing of ' + trt.__version__.encode()
        about = json.dumps({'version': trt.__version__, 'profile': profile}).encode()
        return memoryview(_SECRET + about + b'\n' + network.model)


def _told(monitor: Any, step: int) -> bool:
    """Report a step; an exception must not come back: in TensorRT, that ends the process."""
    try:
        return monitor.step_complete('Timing', step)
    except BaseException as error:
        raise AssertionError('an exception went into TensorRT') from error


class _Config:
    def __init__(self, trt: Any) -> None:
        self.trt, self.seen, self.profiles, self.cache, self.learned = trt, trt.seen, [], None, b''

    def set_memory_pool_limit(self, pool: int, size: int) -> None:
        assert pool == self.trt.MemoryPoolType.WORKSPACE and size > 1 << 20

    def set_flag(self, flag: IntEnum) -> None:
        self.seen.flags.append(flag.name)

    def clear_flag(self, flag: IntEnum) -> None:
        self.seen.cleared.append(flag.name)
        self.seen.flags[:] = [name for name in self.seen.flags if name != flag.name]

    def get_flag(self, flag: IntEnum) -> bool:
        return flag.name in self.seen.flags

    def get_preview_feature(self, feature: IntEnum) -> bool:
        return self.trt.major >= 10

    def set_preview_feature(self, feature: IntEnum, enable: bool) -> None:
        self.seen.previews.append(feature.name)

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(dict(profile.shapes))
        self.seen.profile = profile.shapes
        return 0

    def create_timing_cache(self, content: bytes) -> Any:
        return bytes(content)

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        fits = cache in (b'', b'timing of ' + self.trt.__version__.encode())
        if fits:
            self.seen.timing = cache
        return fits

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: memoryview(self.learned))


class _Parser:
    def __init__(self, trt: Any, network: Any) -> None:
        self.trt, self.network, self.errors = trt, network, []

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, number: int) -> Any:
        return self.errors[number]

    def parse(self, model: bytes) -> bool:
        trt, network = self.trt, self.network
        proto = shape_inference.infer_shapes(onnx.load_from_string(model))
        for number, node in enumerate(proto.graph.node):
            if node.op_type == UNSUPPORTED:
                about = {'node': lambda number=number: number, 'desc': lambda: 'no importer\nfor it',
                         'code': lambda: trt.ErrorCode.UNSUPPORTED_NODE}
                if trt.major >= 10:
                    about |= {'node_name': lambda node=node: node.name, 'node_operator': lambda node=node: node.op_type}
                self.errors.append(SimpleNamespace(**about))
        kinds = {info.name: trt.DataType[_KINDS[info.type.tensor_type.elem_type]]
                 for info in [*proto.graph.input, *proto.graph.value_info, *proto.graph.output]}
        network.model, network.flags = model, trt.seen.network_flags
        network.inputs = [SimpleNamespace(name=info.name, shape=tuple(
            axis.dim_value or -1 for axis in info.type.tensor_type.shape.dim)) for info in proto.graph.input]
        names = {'QuantizeLinear': 'QUANTIZE', 'DequantizeLinear': 'DEQUANTIZE', 'Cast': 'CAST'}
        network.layers = [_Layer(trt, node.name, names.get(node.op_type, 'ELEMENTWISE'),
                                 [kinds[name] for name in node.output if name in kinds]) for node in proto.graph.node]
        trt.seen.layers = network.layers
        network.num_inputs, network.num_layers = len(network.inputs), len(network.layers)
        network.num_outputs = len(proto.graph.output)
        network.get_input, network.get_layer = network.inputs.__getitem__, network.layers.__getitem__
        return not self.errors


class _Layer:
    """A layer; before version 11, it can be told its types."""

    def __init__(self, trt: Any, name: str, kind: str, outputs: list) -> None:
        self.name, self.type, self.told = name, SimpleNamespace(name=kind), {}
        self.outputs = [SimpleNamespace(dtype=dtype) for dtype in outputs]
        self.num_outputs = len(outputs)
        if trt.major < 11:
            self.precision = None
            self.set_output_type = self.told.__setitem__

    def get_output(self, number: int) -> Any:
        return self.outputs[number]


def _deserialise(trt: Any, plan: bytes, log: Any) -> Any:
    about = plan[len(_SECRET):plan.find(b'\n')] if plan.startswith(_SECRET) else b'{}'
    told = json.loads(about)
    if told.get('version') != trt.__version__:
        return log.log(trt.ILogger.Severity.ERROR, 'the engine is of another version')
    return _Engine(trt, plan[plan.find(b'\n') + 1:], told['profile'])


class _Engine:
    def __init__(self, trt: Any, model: bytes, profile: dict) -> None:
        self.trt, self.profile, self.device_memory_size = trt, profile, 4096
        self.running, self.contexts = threading.Lock(), 0
        proto = onnx.load_from_string(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
        self.infos = {info.name: info for info in [*proto.graph.input, *proto.graph.output]}
        self.names = [*(info.name for info in proto.graph.output), *(info.name for info in proto.graph.input)]
        self.input_names = [info.name for info in proto.graph.input]
        self.num_io_tensors = len(self.names)
        if trt.major < 11:
            self.create_execution_context_without_device_memory = lambda: _Context(self)

    def create_execution_context(self, strategy: Any = None) -> Any:
        assert strategy == 'user', 'a context with memory of its own'
        return _Context(self)

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.trt.DataType[_KINDS[self.infos[name].type.tensor_type.elem_type]]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name in self.input_names else self.trt.TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(axis.dim_value or -1 for axis in self.infos[name].type.tensor_type.shape.dim)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list:
        return [tuple(shape) for shape in self.profile[name]]


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine, self.shapes, self.addresses, self.lent = engine, {}, {}, None
        self.prepared = False
        self.active_optimization_profile = -1 if engine.contexts else 0
        engine.contexts += 1
        engine.trt.seen.contexts += 1
        if engine.trt.major >= 11:
            self.set_device_memory = lambda pointer, size: setattr(self, 'lent', pointer)

    @property
    def device_memory(self) -> int | None:
        return self.lent

    @device_memory.setter
    def device_memory(self, pointer: int) -> None:
        self.lent = pointer

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self.active_optimization_profile = number
        return number == 0 and stream in self.engine.trt.cuda.streams

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        profile = self.engine.profile.get(name)
        self.shapes[name] = shape
        return profile is None or profile[0][0] <= shape[0] <= profile[2][0]

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.input_names if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        zeros = {name: np.zeros(shape, _TYPES[self.engine.get_tensor_dtype(name).name])
                 for name, shape in self.shapes.items()}
        return self.engine.session.run([name], zeros)[0].shape

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        assert pointer % 16 == 0
        self.addresses[name] = pointer
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, cuda = self.engine, self.engine.trt.cuda
        stream = cuda.streams[stream_handle]
        if set(self.addresses) != set(engine.names) or self.lent is None or self.active_optimization_profile < 0:
            return False
        if stream.captured is not None and not self.prepared:
            return False  # as TensorRT: the first run of a shape allocates, which a capture does not allow
        self.prepared = True
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        stream.add(lambda: self._compute(shapes, addresses))
        return True

    def _compute(self, shapes: dict, addresses: dict) -> None:
        engine, seen = self.engine, self.engine.trt.seen
        if not engine.running.acquire(blocking=False):  # its contexts share their memory
            seen.overlaps += 1
            return
        try:
            given = {}
            for name, shape in shapes.items():
                dtype = np.dtype(_TYPES[engine.get_tensor_dtype(name).name])
                size = int(np.prod(shape)) * dtype.itemsize
                given[name] = engine.trt.cuda.bytes_at(addresses[name], size, 'device').view(dtype).reshape(shape)
            outputs = [name for name in engine.names if name not in given]
            for name, value in zip(outputs, engine.session.run(outputs, given)):
                place = engine.trt.cuda.bytes_at(addresses[name], value.nbytes, 'device')
                np.copyto(place, np.ascontiguousarray(value).view(np.uint8).ravel())
        finally:
            engine.running.release()
