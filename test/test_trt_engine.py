"""TensorRT engines: what they compute, in parts, with graphs, from several threads. On stand-ins for CUDA and TensorRT.

The stand-ins (fake_cuda.py, fake_tensorrt.py) compute for real, on the CPU; test_gpu.py holds what needs a GPU.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_cuda import FakeCuda
from fake_tensorrt import fake_tensorrt
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.onnx_header import read_header
from pose3d_ros.runtime.trt.api import TensorRT
from pose3d_ros.runtime.trt.cuda_python import CudaPython
from pose3d_ros.runtime.trt.engine import TensorRTEngine

VERSIONS = ('8.6.1', '10.0.1', '10.16.1.11', '11.4.0.106')
MOST = 4


def save_net(path: Path, dtype: int = TensorProto.FLOAT) -> Path:
    """Write a network of two inputs, one for all people and one each, and three outputs, one for all of them."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node('Add', ['image', 'offset'], ['sum'], 'adding'),
         helper.make_node('Mul', ['sum', 'sum'], ['square'], 'squaring'),
         helper.make_node('Relu', ['offset'], ['rest'], 'resting')],
        'tiny', [info('image', dtype, ['N', 3, 5]), info('offset', dtype, [1, 3, 5])],
        [info('sum', dtype, ['N', 3, 5]), info('square', dtype, ['N', 3, 5]), info('rest', dtype, [1, 3, 5])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, {'licence': 'free'})
    onnx.save(model, path)
    return path


def open_net(path: Path, version: str = '11.4.0.106', most: int = MOST) -> tuple[TensorRTEngine, FakeCuda, Any]:
    """Build and load a network; return the engine and the stand-ins for CUDA and TensorRT that it runs on."""
    cuda = FakeCuda()
    trt = fake_tensorrt(version, cuda)
    api = TensorRT(trt)
    plan, _ = api.compile(api.parse(path.read_bytes()), most, b'', lambda share: None)
    engine = TensorRTEngine(api, CudaPython(cuda), plan, path.name, read_header(path), 'fp32')
    return engine, cuda, trt


def given(count: int, seed: int = 0) -> dict[str, NDArray]:
    rng = np.random.default_rng(seed)
    return {'image': rng.normal(size=(count, 3, 5)).astype(np.float32),
            'offset': rng.normal(size=(1, 3, 5)).astype(np.float32)}


def assert_right(found: dict[str, NDArray], inputs: dict[str, NDArray]) -> None:
    np.testing.assert_allclose(found['sum'], inputs['image'] + inputs['offset'], rtol=1e-6)
    np.testing.assert_allclose(found['square'], found['sum'] ** 2, rtol=1e-6)
    np.testing.assert_array_equal(found['rest'], np.maximum(inputs['offset'], 0))


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return save_net(tmp_path / 'tiny.onnx')


@pytest.mark.parametrize('version', VERSIONS)
def test_every_number_of_people_is_computed_rightly(version: str, net: Path) -> None:
    engine, _, _ = open_net(net, version)
    for count in (1, 2, MOST, MOST + 1, 3 * MOST, 1):
        inputs = given(count, seed=count)
        assert_right(engine.run(inputs), inputs)


def test_it_tells_what_the_file_says(net: Path) -> None:
    engine, _, _ = open_net(net)
    assert engine.inputs == ('image', 'offset') and engine.outputs == ('sum', 'square', 'rest')
    assert engine.input_shapes == {'image': (None, 3, 5), 'offset': (1, 3, 5)}
    assert engine.metadata == {'licence': 'free'}
    assert (engine.provider, engine.precision, engine.remarks, engine.status) == ('TensorRT', 'fp32', (), '')


def test_no_people_are_computed_without_the_gpu(net: Path) -> None:
    engine, cuda, _ = open_net(net)
    engine.run(given(1))
    calls = dict(cuda.calls)
    found = engine.run(given(0))
    assert {name: value.shape for name, value in found.items()} == {
        'sum': (0, 3, 5), 'square': (0, 3, 5), 'rest': (1, 3, 5)}
    assert dict(cuda.calls) == calls


def test_half_precision_inputs_and_outputs(tmp_path: Path) -> None:
    engine, _, _ = open_net(save_net(tmp_path / 'half.onnx', TensorProto.FLOAT16))
    inputs = {name: value.astype(np.float16) for name, value in given(3).items()}
    found = engine.run(inputs)
    assert found['sum'].dtype == np.float16
    np.testing.assert_allclose(found['sum'], inputs['image'] + inputs['offset'], rtol=2e-3)


def test_a_view_of_another_memory_order_is_read_correctly(net: Path) -> None:
    engine, _, _ = open_net(net)
    inputs = given(3)
    assert_right(engine.run({name: np.asfortranarray(value) for name, value in inputs.items()}), inputs)


def test_results_are_the_callers_own(net: Path) -> None:
    engine, _, _ = open_net(net)
    first = engine.run(given(2, seed=1))
    kept = first['sum'].copy()
    engine.run(given(2, seed=2))
    np.testing.assert_array_equal(first['sum'], kept)


def test_each_size_has_one_graph_which_is_launched_from_then_on(net: Path) -> None:
    engine, cuda, trt = open_net(net)
    contexts = trt.seen.contexts
    for _ in range(3):
        engine.run(given(2))
        engine.run(given(3))
    assert cuda.calls['graphs'] == 2 and cuda.calls['launches'] == 6
    assert trt.seen.contexts == contexts + 2


def test_after_warming_up_no_size_needs_anything_new(net: Path) -> None:
    engine, cuda, trt = open_net(net)
    engine.warm_up()
    graphs, contexts, memory = cuda.calls['graphs'], trt.seen.contexts, len(cuda.memory)
    assert graphs == MOST
    for count in range(1, 2 * MOST):
        engine.run(given(count))
    assert (cuda.calls['graphs'], trt.seen.contexts, len(cuda.memory)) == (graphs, contexts, memory)


def test_inputs_go_to_the_gpu_in_one_copy(net: Path) -> None:
    engine, cuda, _ = open_net(net)
    engine.warm_up()
    before = cuda.calls.copy()
    engine.run(given(3))
    assert (cuda.calls - before) == {'cudaMemcpyHostToDevice': 1, 'cudaMemcpyDeviceToHost': 1, 'launches': 1, 'wait': 1}


def test_computing_again_moves_nothing(net: Path) -> None:
    engine, cuda, _ = open_net(net)
    engine.warm_up()
    before = cuda.calls.copy()
    engine.replay(2)
    assert (cuda.calls - before) == {'launches': 1, 'wait': 1}
    with pytest.raises(EngineError, match='5 people at once; the engine was built for 1 to 4'):
        engine.replay(MOST + 1)
    engine.close()
    with pytest.raises(EngineError, match='is closed'):
        engine.replay(1)


def test_the_number_of_graphs_is_bounded(net: Path) -> None:
    engine, cuda, _ = open_net(net, most=30)
    for count in range(1, 31):
        inputs = given(count)
        assert_right(engine.run(inputs), inputs)
    assert cuda.calls['graphs'] == 16


def test_without_graphs_it_computes_all_the_same_and_says_so_once(net: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine, cuda, _ = open_net(net)
    cuda.captures_fail = True
    with caplog.at_level(logging.WARNING):
        for count in (1, 2, 2, 6):
            inputs = given(count)
            assert_right(engine.run(inputs), inputs)
    assert cuda.calls['graphs'] == 0
    assert [record.getMessage() for record in caplog.records] == [
        'tiny.onnx runs without CUDA graphs, a little slower: cudaStreamEndCapture: cudaErrorStreamCaptureUnsupported']


def test_several_threads_may_run_it(net: Path) -> None:
    engine, _, trt = open_net(net)
    expected = {count: engine.run(given(count)) for count in range(1, 7)}
    with ThreadPoolExecutor(4) as pool:
        for count, found in pool.map(lambda count: (count, engine.run(given(count))), [1, 2, 3, 4, 5, 6] * 20):
            np.testing.assert_array_equal(found['square'], expected[count]['square'])
    assert trt.seen.overlaps == 0


class OnGpu:
    """An array in the stand-in's device memory, as PyTorch and CuPy hand theirs over."""

    def __init__(self, cuda: FakeCuda, array: NDArray, **changes: Any) -> None:
        self.__cuda_array_interface__ = {'shape': array.shape, 'typestr': array.dtype.str, 'version': 3,
                                         'data': (cuda.put(array), False), **changes}


@pytest.mark.parametrize('count', [2, 2 * MOST + 1])
def test_inputs_on_the_gpu_are_taken_from_there(count: int, net: Path) -> None:
    engine, cuda, _ = open_net(net)
    inputs = given(count)
    for names in (('image',), ('offset',), ('image', 'offset')):
        mixed = {name: OnGpu(cuda, value) if name in names else value for name, value in inputs.items()}
        assert_right(engine.run(mixed), inputs)


def test_an_input_that_another_stream_still_writes_is_waited_for(net: Path) -> None:
    engine, cuda, _ = open_net(net)
    inputs = given(2)
    for changes, stream in (({'stream': 1}, 1), ({'version': 2}, 1)):
        late = OnGpu(cuda, np.zeros_like(inputs['image']), **changes)
        place = cuda.bytes_at(late.__cuda_array_interface__['data'][0], inputs['image'].nbytes, 'device')
        cuda.streams[stream].add(lambda place=place: np.copyto(place, inputs['image'].view(np.uint8).ravel()))
        assert_right(engine.run({**inputs, 'image': late}), inputs)


@pytest.mark.parametrize(('change', 'message'), [
    ({'image': np.zeros((2, 3, 6), np.float32)}, r"tiny.onnx: input 'image' is \(2, 3, 6\) float32, expected "
                                                 r'\(any, 3, 5\) float32'),
    ({'image': np.zeros((2, 3, 5))}, r"tiny.onnx: input 'image' is \(2, 3, 5\) float64, expected .* float32"),
    ({'face': np.zeros(1)}, "tiny.onnx has no input 'face'; it takes image, offset"),
])
def test_wrong_inputs_are_refused_like_everywhere(change: dict, message: str, net: Path) -> None:
    engine, cuda, _ = open_net(net)
    with pytest.raises(EngineError, match=message):
        engine.run({**given(2), **change})
    with pytest.raises(EngineError, match="tiny.onnx needs the input 'offset'"):
        engine.run({'image': given(2)['image']})
    with pytest.raises(EngineError, match='make it contiguous'):
        engine.run({**given(2), 'image': OnGpu(cuda, given(2)['image'], strides=(4, 8, 12))})


def test_inputs_for_different_numbers_of_people_are_refused(tmp_path: Path) -> None:
    path = save_net(tmp_path / 'tiny.onnx')
    model = onnx.load(path)
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = 'N'
    onnx.save(model, path)
    engine, _, _ = open_net(path)
    with pytest.raises(EngineError, match='different numbers of rows: image 2, offset 1'):
        engine.run(given(2))


def test_closing_gives_everything_back_and_may_be_repeated(net: Path) -> None:
    engine, cuda, _ = open_net(net)
    engine.warm_up()
    assert cuda.memory
    engine.close()
    engine.close()
    assert not cuda.memory and set(cuda.streams) == {1}
    assert cuda.calls['graphs released'] == cuda.calls['graphs']
    with pytest.raises(EngineError, match='tiny.onnx: the engine is closed'):
        engine.run(given(1))


def test_an_engine_of_another_file_is_refused_and_leaves_nothing(net: Path, tmp_path: Path) -> None:
    engine, cuda, trt = open_net(net)
    engine.close()
    other = onnx.load(net)
    other.graph.output[0].name = 'total'
    other.graph.node[0].output[0] = other.graph.node[1].input[0] = other.graph.node[1].input[1] = 'total'
    onnx.save(other, tmp_path / 'other.onnx')
    api = TensorRT(trt)
    plan, _ = api.compile(api.parse(net.read_bytes()), MOST, b'', lambda share: None)
    with pytest.raises(EngineError, match='not built from other.onnx: it has rest, square, sum instead of total'):
        TensorRTEngine(api, CudaPython(cuda), plan, 'other.onnx', read_header(tmp_path / 'other.onnx'), 'fp16')
    assert not cuda.memory


def test_a_gpu_without_memory_is_an_error_that_leaves_nothing(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, cuda, trt = open_net(net)
    engine.close()
    api = TensorRT(trt)
    plan, _ = api.compile(api.parse(net.read_bytes()), MOST, b'', lambda share: None)
    monkeypatch.setattr(cuda, 'cudaHostAlloc', lambda size, flags: (2, 0))
    with pytest.raises(EngineError, match='cudaHostAlloc'):
        TensorRTEngine(api, CudaPython(cuda), plan, net.name, read_header(net), 'fp16')
    assert not cuda.memory
