"""Engines: what they promise about names, shapes, providers and errors."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pose3d_ros.runtime import onnx_engine, opening
from pose3d_ros.runtime.engine import Engine, EngineError, Wanted
from pose3d_ros.runtime.opening import open_engine


def save_sum(path: Path, dtype: int = TensorProto.FLOAT) -> Path:
    """Write a network with two inputs and two outputs: their sum and its square."""
    graph = helper.make_graph(
        [helper.make_node('Add', ['image', 'offset'], ['sum']), helper.make_node('Mul', ['sum', 'sum'], ['square'])],
        'tiny', [helper.make_tensor_value_info('image', dtype, ['N', 3, 4]),
                 helper.make_tensor_value_info('offset', dtype, [1, 3, 4])],
        [helper.make_tensor_value_info(name, dtype, ['N', 3, 4]) for name in ('sum', 'square')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, {'skeleton': 'tiny', 'licence': 'free'})
    onnx.save(model, path)
    return path


def inputs(batch: int = 2) -> dict[str, NDArray]:
    rng = np.random.default_rng(0)
    return {'image': rng.normal(size=(batch, 3, 4)).astype(np.float32),
            'offset': rng.normal(size=(1, 3, 4)).astype(np.float32)}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_engine(save_sum(tmp_path / 'tiny.onnx'), Wanted('cpu'))


def test_it_tells_what_the_file_says(engine: Engine) -> None:
    assert engine.inputs == ('image', 'offset') and engine.outputs == ('sum', 'square')
    assert engine.input_shapes == {'image': (None, 3, 4), 'offset': (1, 3, 4)}
    assert engine.metadata == {'skeleton': 'tiny', 'licence': 'free'}
    assert engine.provider == 'CPUExecutionProvider' and engine.precision == 'fp32'


def test_it_computes_all_outputs_for_any_batch(engine: Engine) -> None:
    for batch in (1, 2, 5):
        given = inputs(batch)
        found = engine.run(given)
        np.testing.assert_allclose(found['sum'], given['image'] + given['offset'], rtol=1e-6)
        np.testing.assert_allclose(found['square'], found['sum'] ** 2, rtol=1e-6)


def test_a_view_of_another_memory_order_is_read_correctly(engine: Engine) -> None:
    given = inputs()
    turned = {name: np.asfortranarray(value) for name, value in given.items()}
    np.testing.assert_array_equal(engine.run(turned)['sum'], engine.run(given)['sum'])


def test_half_precision_is_told(tmp_path: Path) -> None:
    assert open_engine(save_sum(tmp_path / 'half.onnx', TensorProto.FLOAT16), Wanted('cpu')).precision == 'fp16'


def test_several_threads_may_run_it(engine: Engine) -> None:
    given = inputs(64)
    expected = engine.run(given)['square']
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: engine.run(given)['square'], range(40)):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(('change', 'message'), [
    ({'image': np.zeros((2, 3, 5), np.float32)},
     r"input 'image' is \(2, 3, 5\) float32, expected \(any, 3, 4\) float32"),
    ({'image': np.zeros((3, 4), np.float32)}, r"input 'image' is \(3, 4\) float32"),
    ({'image': np.zeros((2, 3, 4))}, r"is \(2, 3, 4\) float64, expected \(any, 3, 4\) float32"),
    ({'image': np.zeros((2, 3, 4), np.uint8)}, 'uint8, expected'),
    ({'offset': np.zeros((2, 3, 4), np.float32)}, r"input 'offset' is \(2, 3, 4\) float32, expected \(1, 3, 4\)"),
    ({'picture': np.zeros(1)}, "tiny.onnx has no input 'picture'; it takes image, offset"),
])
def test_wrong_inputs_are_quoted(engine: Engine, change: dict[str, NDArray], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        engine.run({**inputs(), **change})


def test_a_missing_input_is_named(engine: Engine) -> None:
    with pytest.raises(EngineError, match="tiny.onnx needs the input 'offset'"):
        engine.run({'image': inputs()['image']})


def test_an_engine_works_until_it_is_closed(engine: Engine) -> None:
    engine.warm_up()
    engine.run(inputs())
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match='tiny.onnx: the engine is closed'):
        engine.run(inputs())


def test_a_missing_file_names_file_and_cure(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no model file .*pose_detection.onnx; run 'pose3d fetch --force pose_det"):
        open_engine(tmp_path / 'pose_detection.onnx')
    with pytest.raises(EngineError, match=r'no model file .*mine.onnx; give the path of a valid ONNX file'):
        open_engine(tmp_path / 'mine.onnx')
    with pytest.raises(EngineError, match='no model file'):
        open_engine(tmp_path)


@pytest.mark.parametrize('content', [b'', b'not a network at all', b'\x00' * 1000, b'\xff' * 1000])
def test_garbage_names_file_and_cure(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'pose_landmark_full.onnx'
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"pose_landmark_full.onnx is not a usable network .*pose3d fetch --force"):
        open_engine(path, Wanted('cpu'))


def test_a_truncated_network_names_file_and_cure(tmp_path: Path) -> None:
    content = save_sum(tmp_path / 'whole.onnx').read_bytes()
    path = tmp_path / 'part.onnx'
    path.write_bytes(content[:len(content) // 2])
    with pytest.raises(EngineError, match='part.onnx is not a usable network'):
        open_engine(path)


@pytest.mark.parametrize(('wanted', 'message'), [({'inputs': ['image', 'picture']}, "has no input 'picture'"),
                                                 ({'outputs': ['boxes']}, r"has no output 'boxes' \(it has sum, squ")])
def test_another_network_than_expected_is_refused(tmp_path: Path, wanted: dict, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        open_engine(save_sum(tmp_path / 'tiny.onnx'), **wanted)


@pytest.mark.parametrize(('settings', 'message'), [
    ({'runtime': 'gpu'}, "runtime 'gpu' is not known; choose one of auto, cpu, cuda, tensorrt"),
    ({'runtime': 'tensorrt'}, "runtime 'tensorrt' cannot be used: "), ({'threads': -1}, 'threads is -1')])
def test_wrong_settings_are_refused(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        open_engine(save_sum(tmp_path / 'tiny.onnx'), Wanted(**settings))


class FakeSession:
    """ONNX Runtime on a computer where CUDA is offered; `works` tells whether it can really be used."""

    works: str = 'yes'
    asked: list[list] = []

    def __init__(self, path: str, options: object, providers: list) -> None:
        FakeSession.asked.append(providers)
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        if names[0] != 'CPUExecutionProvider' and self.works == 'raises':
            raise RuntimeError('cannot load libcudnn')
        self._used = names if self.works == 'yes' else ['CPUExecutionProvider']

    def get_providers(self) -> list[str]:
        return self._used

    def get_inputs(self) -> list:
        return []

    get_outputs = get_inputs

    def get_modelmeta(self) -> object:
        return type('Meta', (), {'custom_metadata_map': {}})()


class NoTensorRT:
    """What the ladder finds on such a computer, also where the tests run on one that has TensorRT."""

    def why_not(self) -> str:
        return 'TensorRT is not installed'


@pytest.fixture
def cuda_offered(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    monkeypatch.setattr(onnx_engine.onnxruntime, 'InferenceSession', FakeSession)
    monkeypatch.setattr(onnx_engine.onnxruntime, 'get_available_providers',
                        lambda: ['CUDAExecutionProvider', 'CPUExecutionProvider'])
    monkeypatch.setattr(FakeSession, 'asked', [])
    monkeypatch.setattr(opening, '_tensorrt', NoTensorRT)
    return FakeSession


@pytest.mark.parametrize(('runtime', 'works', 'provider'), [
    ('auto', 'yes', 'CUDAExecutionProvider'), ('cuda', 'yes', 'CUDAExecutionProvider'),
    ('auto', 'raises', 'CPUExecutionProvider'), ('auto', 'falls back', 'CPUExecutionProvider'),
    ('cpu', 'yes', 'CPUExecutionProvider')])
def test_the_provider_is_the_one_that_is_really_used(cuda_offered: type[FakeSession], tmp_path: Path, runtime: str,
                                                     works: str, provider: str, monkeypatch: pytest.MonkeyPatch,
                                                     ) -> None:
    monkeypatch.setattr(cuda_offered, 'works', works)
    assert open_engine(save_sum(tmp_path / 'tiny.onnx'), Wanted(runtime)).provider == provider


@pytest.mark.parametrize(('works', 'message'), [('raises', 'cannot load libcudnn'), ('falls back', 'instead of CUDA')])
def test_cuda_on_demand_never_becomes_something_else(cuda_offered: type[FakeSession], tmp_path: Path, works: str,
                                                     message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_offered, 'works', works)
    with pytest.raises(EngineError, match=message):
        open_engine(save_sum(tmp_path / 'tiny.onnx'), Wanted('cuda'))


def test_cuda_that_is_not_installed_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_engine.onnxruntime, 'get_available_providers', lambda: ['CPUExecutionProvider'])
    with pytest.raises(EngineError, match="install onnxruntime-gpu, or choose runtime 'cpu'"):
        open_engine(save_sum(tmp_path / 'tiny.onnx'), Wanted('cuda'))


def test_the_runtime_reports_nothing_to_anybody(tmp_path: Path) -> None:
    path = save_sum(tmp_path / 'tiny.onnx')
    home = tmp_path / 'home'
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ('CI', 'ORT_DISABLE_TELEMETRY')}
    code = ('from pose3d_ros.runtime.opening import Wanted, open_engine; '
            f'open_engine({str(path)!r}, Wanted("cpu")).warm_up()')
    subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parents[1], check=True,
                   env={**environment, 'HOME': str(home), 'XDG_CACHE_HOME': str(home)})
    assert not list(home.rglob('*'))


def test_the_blazepose_files_open_with_their_names(models_dir: Path) -> None:
    detection = open_engine(models_dir / 'pose_detection.onnx', Wanted('cpu', threads=1), inputs=['image'],
                            outputs=['boxes', 'scores'])
    landmarks = open_engine(models_dir / 'pose_landmark_full.onnx', Wanted('cpu', threads=1), inputs=['image'],
                            outputs=['landmarks', 'presence', 'heatmap', 'world'])
    assert detection.input_shapes['image'] == (None, 3, 224, 224)
    assert landmarks.metadata['skeleton'] == 'blazepose33'
    with pytest.raises(EngineError, match=r"is \(1, 3, 224, 223\) float32, expected \(any, 3, 224, 224\)"):
        detection.run({'image': np.zeros((1, 3, 224, 223), np.float32)})
    found = landmarks.run({'image': np.zeros((2, 3, 256, 256), np.float32)})
    assert found['heatmap'].shape == (2, 39, 64, 64) and np.all((found['presence'] >= 0) & (found['presence'] <= 1))
