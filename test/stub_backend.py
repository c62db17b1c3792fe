"""A stand-in for TensorRT: 'engines' that ONNX Runtime computes on the CPU, with faults to order.

What it does is told by the JSON file that the environment variable STUB_BACKEND names, so that it is the same in the
process that builds: see Stub. Its engines hold the ONNX file and the precision; the self-check is a plain comparison.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pose3d_ros.runtime.backend import NotNowError, Progress, Target
from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.onnx_engine import OnnxEngine
from pose3d_ros.runtime.steps import Tools

VARIABLE = 'STUB_BACKEND'
PROVIDER = 'StubExecutionProvider'
PLAIN = 'plain'


@dataclass(frozen=True)
class Stub:
    """Orders. why_not, version, device: what the backend says. quantised: what is_quantised() says.

    error: precision -> factor by which its outputs are wrong. faults: precision -> 'error', 'not now', 'bug', 'hang',
    'hang with the lock' (of Python), 'noise' or the name of a signal, each while it builds; 'cannot load', 'no room',
    'cannot run'; 'convert' -> 'error'. build_s: time that a build takes. log: gets a line 'pid precision' per build.
    """

    why_not: str = ''
    version: str = '1.0'
    device: str = 'Stub'
    quantised: bool = False
    error: dict[str, float] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    build_s: float = 0.0
    log: str = ''

    def save(self, path: Path) -> None:
        """Give these orders to every process that is started from now on, and to this one."""
        path.write_text(json.dumps(asdict(self)))
        os.environ[VARIABLE] = str(path)


def orders() -> Stub:
    path = os.environ.get(VARIABLE)
    return Stub(**json.loads(Path(path).read_text())) if path else Stub()


class StubBackend:
    """See Backend for the methods."""

    def why_not(self) -> str:
        return orders().why_not

    def target(self) -> Target:
        return Target('StubRT', orders().version, orders().device, '1.0')

    def build(self, model: bytes, most: int, timing: bytes, progress: Progress) -> tuple[bytes, bytes]:
        stub, step = orders(), parted(model)[0]
        if stub.log:
            with open(stub.log, 'a') as log:
                log.write(f'{os.getpid()} {step}\n')
        _go_wrong(stub.faults.get(step, ''))
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < stub.build_s:
            progress(passed / stub.build_s)
            time.sleep(0.01)
        progress(1.0)
        return model, timing + step.encode()

    def load(self, plan: bytes, model: Path, precision: str) -> StubEngine:
        stub, (step, content) = orders(), parted(plan)
        fault = stub.faults.get(precision)
        if fault == 'cannot load':
            raise EngineError('this driver cannot load it')
        if fault == 'no room':
            raise NotNowError('no GPU memory is left')
        if step not in (precision, PLAIN):
            raise EngineError(f'the engine is {step}, its record says {precision}')
        return StubEngine(content, precision, stub.error.get(precision, 0.0), fault == 'cannot run')


def _go_wrong(fault: str) -> None:
    if fault == 'error':
        raise EngineError('node Conv_7 is not supported')
    if fault == 'out of memory':
        raise EngineError('Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)')
    if fault == 'not now':
        raise NotNowError('3 GB of GPU memory are needed and 1 GB is free')
    if fault == 'bug':
        raise ZeroDivisionError('nobody thought of this')
    if fault.startswith('SIG'):
        os.write(2, b'terminate called after throwing something\n')
        os.kill(os.getpid(), signal.Signals[fault])
    if fault == 'noise':
        os.write(1, b'{"kind": "result", "lengths": []}\n' * 10000)
        print('a line of Python', flush=True)
        sys.stderr.write('x' * 200_000)
    if fault == 'hang':
        time.sleep(100)
    if fault == 'hang with the lock':
        ctypes.PyDLL(None).sleep(100)


class StubEngine:
    """See Engine for the members."""

    def __init__(self, content: bytes, precision: str, error: float = 0.0, broken: bool = False) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: onnxruntime.InferenceSession | None = onnxruntime.InferenceSession(
            content, options, providers=['CPUExecutionProvider'])
        self._error, self._broken = error, broken
        self.inputs = tuple(spec.name for spec in self._session.get_inputs())
        self.outputs = tuple(spec.name for spec in self._session.get_outputs())
        self.input_shapes = {spec.name: tuple(size if isinstance(size, int) else None for size in spec.shape)
                             for spec in self._session.get_inputs()}
        self.provider, self.precision, self.status, self.remarks = PROVIDER, precision, '', ()
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        session = self._session
        if session is None:
            raise EngineError('the engine is closed')
        if self._broken:
            raise EngineError('the GPU reports an illegal address')
        found = session.run(self.outputs, dict(inputs))
        return {name: value * np.float32(1 + self._error) for name, value in zip(self.outputs, found)}

    def warm_up(self) -> None:
        self.run(zeros(self.input_shapes))

    def close(self) -> None:
        self._session = None


@dataclass(frozen=True)
class StubVerdict:
    passed: bool
    text: str


def convert(model: bytes, step: str) -> bytes:
    if orders().faults.get('convert') == 'error':
        raise EngineError("half precision needs onnx: run 'pip install onnx'")
    return marked(model, step)


def is_quantised(model: bytes) -> bool:
    return orders().quantised


def self_check(engine: StubEngine, model: Path) -> StubVerdict:
    reference, given = OnnxEngine(model, threads=1), {}
    for name, value in zeros(engine.input_shapes).items():
        given[name] = value + 1
    found, expected = engine.run(given), reference.run(given)
    worst = max(float(np.abs(found[name] - value).max() / np.abs(value).max()) for name, value in expected.items())
    return StubVerdict(worst < 0.01, f'{100 * worst:.0f} % off')


TOOLS = Tools(convert, is_quantised, self_check)


def zeros(shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, NDArray]:
    return {name: np.zeros([size or 1 for size in shape], np.float32) for name, shape in shapes.items()}


def marked(model: bytes, step: str) -> bytes:
    return f'STUB {step}\n'.encode() + model


def parted(content: bytes) -> tuple[str, bytes]:
    """Return precision and ONNX file; 'plain' for a file as it is: a quantised one, or what our own tools made."""
    if not content.startswith(b'STUB '):
        return PLAIN, content
    line, _, model = content.partition(b'\n')
    return line.decode().split(' ')[1], model


def save_network(path: Path, factor: float = 2.0) -> Path:
    """Write a small network: image (N, 3, 4) -> scaled, the image times a factor."""
    graph = helper.make_graph(
        [helper.make_node('Mul', ['image', 'factor'], ['scaled'])], 'tiny',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, ['N', 3, 4])],
        [helper.make_tensor_value_info('scaled', TensorProto.FLOAT, ['N', 3, 4])],
        [helper.make_tensor('factor', TensorProto.FLOAT, [1], [factor])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, {'skeleton': 'tiny'})
    onnx.save(model, path)
    return path
