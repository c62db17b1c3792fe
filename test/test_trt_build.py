"""Building TensorRT engines: what each version is asked for, errors by node, progress, timing. On stand-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_cuda import FakeCuda
from fake_tensorrt import UNSUPPORTED, fake_tensorrt
from onnx import TensorProto, helper, numpy_helper

from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.trt import backend as backend_module
from pose3d_ros.runtime.trt.api import Parsed, TensorRT
from pose3d_ros.runtime.trt.backend import TensorRTBackend
from pose3d_ros.runtime.trt.cuda_python import CudaPython
from pose3d_ros.runtime.trt.gpu import Gpu
from pose3d_ros.runtime.trt.progress import Share

WEAK, STRONG = ('8.6.1',), ('10.0.1', '10.16.1.11', '11.4.0.106')
GPU = Gpu('Test Orin', '8.7', 8 << 30, True)


def model_of(*nodes: onnx.NodeProto, weights: dict[str, np.ndarray] | None = None,
             shape: tuple = ('N', 4), out: tuple = ('N', 4)) -> bytes:
    """Return a network from 'x' to 'y'."""
    graph = helper.make_graph(
        list(nodes), 'tiny', [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, out)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8).SerializeToString()


def mixed_model() -> bytes:
    """Return a network with a part in half precision between parts in full precision."""
    return model_of(helper.make_node('Relu', ['x'], ['a'], 'before'),
                    helper.make_node('Cast', ['a'], ['b'], 'down', to=TensorProto.FLOAT16),
                    helper.make_node('Relu', ['b'], ['c'], 'half'),
                    helper.make_node('Cast', ['c'], ['d'], 'up', to=TensorProto.FLOAT),
                    helper.make_node('Relu', ['d'], ['y'], 'after'))


def quantised_model() -> bytes:
    scale, zero = np.float32(0.1), np.int8(0)
    return model_of(helper.make_node('QuantizeLinear', ['x', 's', 'z'], ['a'], 'quantise'),
                    helper.make_node('DequantizeLinear', ['a', 's', 'z'], ['b'], 'dequantise'),
                    helper.make_node('Relu', ['b'], ['y'], 'rectify'),
                    weights={'s': np.asarray(scale), 'z': np.asarray(zero)})


def built(version: str, model: bytes, most: int = 8, timing: bytes = b'', progress: Any = lambda share: None
          ) -> tuple[Any, bytes, bytes]:
    """Build on a version; return its stand-in, the engine and the timing."""
    trt = fake_tensorrt(version, FakeCuda())
    api = TensorRT(trt)
    return trt, *api.compile(api.parse(model), most, timing, progress)


def network_kinds(trt: Any) -> set[str]:
    kinds = trt.NetworkDefinitionCreationFlag
    return {kind.name for kind in kinds if trt.seen.network_flags & 1 << kind}


@pytest.mark.parametrize('version', STRONG)
def test_from_10_on_the_tensors_types_decide(version: str) -> None:
    trt, _, _ = built(version, mixed_model())
    assert 'STRONGLY_TYPED' in network_kinds(trt)
    assert trt.seen.flags == [] and trt.seen.previews == []
    assert not any(layer.told for layer in trt.seen.layers)


@pytest.mark.parametrize('version', WEAK)
def test_before_each_layer_is_told_its_tensors_types(version: str) -> None:
    trt, _, _ = built(version, mixed_model())
    assert network_kinds(trt) == {'EXPLICIT_BATCH'}
    assert trt.seen.flags == ['FP16', 'OBEY_PRECISION_CONSTRAINTS']
    half, full = trt.DataType.HALF, trt.DataType.FLOAT
    told = {layer.name: (layer.precision, layer.told) for layer in trt.seen.layers}
    assert told == {'before': (full, {0: full}), 'half': (half, {0: half}), 'after': (full, {0: full}),
                    'down': (None, {}), 'up': (None, {})}
    assert trt.seen.previews == ['PROFILE_SHARING_0806']


@pytest.mark.parametrize('version', WEAK)
def test_types_without_kernels_may_be_left_which_is_said(version: str, caplog: pytest.LogCaptureFixture) -> None:
    trt = fake_tensorrt(version, FakeCuda())
    trt.seen.cannot_obey = True
    api = TensorRT(trt)
    plan, _ = api.compile(api.parse(mixed_model()), 8, b'', lambda share: None)
    assert plan and trt.seen.flags == ['FP16', 'PREFER_PRECISION_CONSTRAINTS']
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert 'could not find any implementation for node half' in caplog.text


@pytest.mark.parametrize('version', WEAK)
def test_before_10_full_precision_allows_nothing_else(version: str) -> None:
    trt, _, _ = built(version, model_of(helper.make_node('Relu', ['x'], ['y'], 'only')))
    assert trt.seen.flags == []


@pytest.mark.parametrize('version', WEAK + STRONG)
def test_quantised_networks_are_left_to_their_quantising_layers(version: str) -> None:
    trt, _, _ = built(version, quantised_model())
    assert trt.seen.flags == (['INT8'] if version in WEAK else [])
    assert not any(layer.told for layer in trt.seen.layers)


@pytest.mark.parametrize('version', WEAK + STRONG)
def test_full_precision_means_full_precision(version: str) -> None:
    trt, _, _ = built(version, mixed_model())
    assert 'TF32' in trt.seen.cleared


@pytest.mark.parametrize(('most', 'usual'), [(1, 1), (2, 1), (8, 3), (16, 4)])
def test_the_profile_reaches_from_one_to_the_most(most: int, usual: int) -> None:
    trt, _, _ = built('10.0.1', mixed_model(), most)
    assert trt.seen.profile == {'x': ((1, 4), (usual, 4), (most, 4))}


def test_fixed_networks_need_no_profile_and_other_open_axes_are_refused() -> None:
    relu = helper.make_node('Relu', ['x'], ['y'], 'only')
    trt, _, _ = built('8.6.1', model_of(relu, shape=(2, 4), out=(2, 4)))
    assert trt.seen.profile == {}
    with pytest.raises(EngineError, match="input 'x' has an open axis other than the first"):
        built('8.6.1', model_of(relu, shape=('N', 'M'), out=('N', 'M')))


@pytest.mark.parametrize('version', WEAK + STRONG)
@pytest.mark.parametrize('name', ['measure', ''])
def test_what_cannot_be_read_is_quoted_by_node(version: str, name: str) -> None:
    model = model_of(helper.make_node('Relu', ['x'], ['a'], 'first'),
                     helper.make_node(UNSUPPORTED, ['a'], ['y'], name), shape=('N', 4, 4), out=('N',))
    shown = f'{UNSUPPORTED} {name or "y"!r}'  # by what it computes where it has no name
    with pytest.raises(EngineError, match=f'TensorRT {version} cannot read the network: {shown}: UNSUPPORTED_NODE, no '
                                          'importer for it'):
        built(version, model)


def test_what_fails_to_compile_is_told_in_tensorrts_words() -> None:
    trt = fake_tensorrt('10.0.1', FakeCuda())
    api = TensorRT(trt)
    parsed = api.parse(mixed_model())
    config = parsed.builder.create_builder_config()
    config.seen.flags.append('FP16')
    with pytest.raises(EngineError, match='TensorRT 10.0.1 cannot compile the network: precision flags are not '
                                          'allowed in a strongly typed network'):
        api.compile(parsed, 8, b'', lambda share: None, config)


@pytest.mark.parametrize('version', STRONG)
def test_progress_grows_from_nothing_to_all(version: str) -> None:
    shares: list[float] = []
    built(version, mixed_model(), progress=shares.append)
    assert shares == sorted(shares) and shares[0] < 0.2 and shares[-1] == 1.0
    assert len(set(shares)) >= 10


@pytest.mark.parametrize('version', WEAK + STRONG)
@pytest.mark.parametrize('error', [EngineError, KeyboardInterrupt])
def test_a_build_is_cancelled_by_progress(version: str, error: type[BaseException]) -> None:
    calls = []

    def stop(share: float) -> None:
        calls.append(share)
        raise error('enough')
    with pytest.raises(error, match='enough'):
        built(version, mixed_model(), progress=stop)
    assert len(calls) == 1


def test_timing_is_used_where_it_fits_and_begun_anew_where_not() -> None:
    _, _, learned = built('10.0.1', mixed_model())
    assert learned
    for version, timing, used in (('10.0.1', learned, learned), ('11.4.0.106', learned, b''), ('10.0.1', b'?', b'')):
        trt, _, _ = built(version, mixed_model(), timing=timing)
        assert trt.seen.timing == used


def test_nested_phases_make_one_share() -> None:
    share = Share()
    share.begin('all', None, 2)
    share.begin('first', 'all', 4)
    assert share.share() == 0.0
    share.step('first', 1)
    assert share.share() == pytest.approx(0.25)
    share.end('first')
    assert share.share() == pytest.approx(0.25)  # it never goes back
    share.step('all', 0)
    share.begin('second', 'all', 1)
    share.step('second', 5)
    assert share.share() == pytest.approx(1.0)
    share.step('unknown', 3)
    assert share.share() <= 1.0


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> TensorRTBackend:
    """Return the backend on stand-ins for the GPU, TensorRT and CUDA."""
    cuda = FakeCuda()
    api = TensorRT(fake_tensorrt('10.3.0', cuda))
    monkeypatch.setattr(backend_module, 'find_gpu', lambda: GPU)
    monkeypatch.setattr(backend_module, 'find_tensorrt', lambda: api)
    monkeypatch.setattr(backend_module, 'find_memory', lambda: CudaPython(cuda))
    return TensorRTBackend()


def test_the_backend_builds_and_loads(backend: TensorRTBackend, tmp_path: Path) -> None:
    assert backend.why_not() == ''
    target = backend.target()
    assert (target.runtime, target.version, target.device, target.capability) == (
        'TensorRT', '10.3.0', 'Test Orin', '8.7')
    path = tmp_path / 'tiny.onnx'
    path.write_bytes(mixed_model())
    shares: list[float] = []
    plan, timing = backend.build(path.read_bytes(), 4, b'', shares.append)
    assert timing and shares[0] == 0.0
    engine = backend.load(plan, path, 'mixed')
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_allclose(engine.run({'x': x})['y'], np.maximum(x, 0), rtol=1e-3)
    assert engine.precision == 'mixed'


def test_the_backend_refuses_what_it_cannot_use(backend: TensorRTBackend, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match='the network cannot be read: it holds no graph'):
        backend.build(b'', 4, b'', lambda share: None)
    with pytest.raises(EngineError, match='an engine for 0 people'):
        backend.build(mixed_model(), 0, b'', lambda share: None)
    path = tmp_path / 'tiny.onnx'
    path.write_bytes(mixed_model())
    with pytest.raises(EngineError, match='TensorRT 10.3.0 cannot load the engine: the engine is of another version'):
        backend.load(b'rubbish', path, 'fp16')


def test_a_machine_without_memory_for_the_parser_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt('8.6.1', FakeCuda())

    def null(log: Any) -> Parsed:
        log.log(trt.ILogger.Severity.ERROR, 'CUDA initialization failure with error: 35')
        raise TypeError('factory function returned nullptr')
    trt.Builder = null
    with pytest.raises(EngineError, match='TensorRT 8.6.1 cannot start its builder: CUDA initialization failure'):
        TensorRT(trt).parse(mixed_model())
