"""The ways to compute a network that engines_gpu.py compares: TensorRT, ONNX Runtime on CUDA, PyTorch."""

from __future__ import annotations

import copy
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pose3d_ros.lift import lifter_file
from pose3d_ros.runtime.check import self_check
from pose3d_ros.runtime.check_inputs import inputs_for
from pose3d_ros.runtime.engine import Engine, EngineError
from pose3d_ros.runtime.half import convert
from pose3d_ros.runtime.onnx_engine import OnnxEngine
from pose3d_ros.runtime.onnx_header import read_header
from pose3d_ros.runtime.store import ModelStore
from pose3d_ros.runtime.trt.backend import TensorRTBackend
from pose3d_ros.runtime.trt.engine import TensorRTEngine

DEVICE = 'cuda'
FP16, FP32, ORT = 'trt_fp16', 'trt_fp32', 'ort_cuda'
Figures = dict[str, Any]
Inputs = dict[str, NDArray]


@dataclass
class Candidate:
    """One way to compute a network. run: arrays in and out; again: on the GPU alone, waiting; None: not measured."""

    run: Callable[[Inputs], object]
    again: Callable[[Inputs], Callable[[], object]] | None = None
    close: Callable[[], object] = lambda: None


@dataclass
class Network:
    """A network with all ways to compute it, by name. module: the same (or one of the same form) in PyTorch."""

    name: str
    path: Path
    module: Any = None
    candidates: dict[str, Candidate] = field(default_factory=dict)

    def inputs(self, count: int) -> Inputs:
        """Return what the check computes with, for `count` people."""
        header = read_header(self.path)
        return inputs_for(header.metadata, {spec.name: spec.shape for spec in header.inputs}, count)[-1]


def open_network(name: str, folder: Path, torch: Any) -> Network:
    """Return a network without candidates. Raises ModelMissing, and ImportError for what exporting needs."""
    if torch is None:
        if name == 'published_1024':
            raise ImportError('it is made with PyTorch, which is not installed')
        return Network(name, lifter_file() if name == 'lifter' else Path(ModelStore().path(name)))
    path, module = importlib.import_module('torch_networks').pair(name, folder)
    return Network(name, lifter_file() if name == 'lifter' else path, module)


def add_tensorrt(network: Network, backend: TensorRTBackend, most: int, figures: Figures) -> None:
    """Build and check both precisions; a verdict and the seconds of building become figures."""
    for name, step in ((FP16, 'fp16'), (FP32, 'fp32')):
        place = f'{name}.{network.name}'
        start = time.perf_counter()
        try:
            plan, _ = backend.build(convert(network.path.read_bytes(), step), most, b'', _dots(place))
            figures[f'{place}.build_s'] = time.perf_counter() - start
            figures[f'{place}.engine_mb'] = len(plan) / 1e6
            engine = backend.load(plan, network.path, step)
            start = time.perf_counter()
            engine.warm_up()
            figures[f'{place}.warm_up_s'] = time.perf_counter() - start
            verdict = self_check(engine, network.path)
        except EngineError as error:
            print(f'{place}: {error}', flush=True)
            figures[f'{place}.check'] = f'not built: {error}'
            continue
        assert isinstance(engine, TensorRTEngine)
        figures |= {f'{place}.check': verdict.text, f'{place}.check_passed': verdict.passed}
        print(f'{place}: built in {figures[f"{place}.build_s"]:.1f} s; check '
              f'{"passed" if verdict.passed else "FAILED"}: {verdict.text}', flush=True)
        network.candidates[name] = Candidate(engine.run, _replayed(engine), engine.close)


def _dots(place: str) -> Callable[[float], None]:
    """Return a progress that shows every tenth."""
    told = [0]

    def progress(share: float) -> None:
        if int(10 * share) > told[0]:
            told[0] = int(10 * share)
            print(f'{place}: building, {10 * told[0]} %', flush=True)
    return progress


def _replayed(engine: TensorRTEngine) -> Callable[[Inputs], Callable[[], object]]:
    def prepared(inputs: Inputs) -> Callable[[], object]:
        engine.run(inputs)
        count = len(next(iter(inputs.values())))
        return lambda: engine.replay(count)
    return prepared


def add_onnx_runtime(network: Network) -> str:
    """Add ONNX Runtime on CUDA; return why not."""
    try:
        engine: Engine = OnnxEngine(network.path, cuda=True)
    except EngineError as error:
        return str(error)
    network.candidates[ORT] = Candidate(engine.run, None, engine.close)
    return ''


def add_torch(network: Network, torch: Any, mode: str) -> None:
    """Add PyTorch eager and compiled, in full and half precision, where the network computes in it."""
    if torch is None or network.module is None:
        return
    # The networks share one forward(): a limit on recompiling it would leave the later ones eager without a word.
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = 64
    for precision, kind in (('fp32', torch.float32), ('fp16', torch.float16)):
        module, kind, cast = _in_precision(network, torch, kind)
        ways = {f'torch_eager_{precision}': module,
                f'torch_compiled_{precision}': torch.compile(module, mode=mode, dynamic=False)}
        for name, way in ways.items():
            network.candidates[name] = Candidate(*_torch_calls(torch, way, kind, cast))


def _in_precision(network: Network, torch: Any, kind: Any) -> tuple[Any, Any, bool]:
    """Return the module, the type of its inputs, and whether PyTorch is to cast: where not all can be in half."""
    module = copy.deepcopy(network.module).to(DEVICE, kind).eval()
    try:
        _torch_calls(torch, module, kind, False)[0](network.inputs(1))
    except RuntimeError:
        return copy.deepcopy(network.module).to(DEVICE).eval(), torch.float32, True
    return module, kind, False


def _torch_calls(torch: Any, module: Any, kind: Any, cast: bool) -> tuple[Callable, Callable]:
    def compute(tensors: list) -> Any:
        with torch.inference_mode(), torch.autocast(DEVICE, torch.float16, enabled=cast):
            return module(*tensors)

    def there(inputs: Inputs) -> list:
        tensors = [torch.from_numpy(value).to(DEVICE, kind) for value in inputs.values()]
        return [tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 and tensor.shape[1] == 3
                else tensor for tensor in tensors]

    def run(inputs: Inputs) -> list[NDArray]:
        return [output.float().cpu().numpy() for output in compute(there(inputs))]

    def again(inputs: Inputs) -> Callable[[], object]:
        tensors = there(inputs)

        def call() -> None:
            compute(tensors)
            torch.cuda.synchronize()
        return call
    return run, again
