"""On a real GPU: every network built, checked, cached and run by TensorRT. Skipped, with the reason, without one.

    python -m pytest -m gpu test/test_gpu.py
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.check import check, self_check, tolerances_of
from pose3d_ros.runtime.check_inputs import inputs_for
from pose3d_ros.runtime.engine import EngineError, Wanted
from pose3d_ros.runtime.half import convert
from pose3d_ros.runtime.manager import prepare, ready
from pose3d_ros.runtime.onnx_engine import OnnxEngine
from pose3d_ros.runtime.opening import open_engine
from pose3d_ros.runtime.store import ModelMissing, ModelStore
from pose3d_ros.runtime.trt.api import find_tensorrt
from pose3d_ros.runtime.trt.backend import TensorRTBackend
from pose3d_ros.runtime.trt.engine import TensorRTEngine
from pose3d_ros.runtime.trt.found_memory import find_memory

WEIGHTS = Path(__file__).parents[1] / 'pose3d_ros' / 'weights' / 'lifter.onnx'
BACKEND = TensorRTBackend()
REASON = BACKEND.why_not()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(REASON), reason=REASON or 'there is a GPU')]
NETWORKS = ('lifter', 'pose_detection', 'pose_landmark_lite', 'pose_landmark_full', 'pose_landmark_heavy')
MOST = 4


@pytest.fixture(autouse=True)
def _time_to_build() -> Iterator[None]:
    signal.alarm(1800)  # instead of the limit of conftest.py: a small GPU takes minutes to build
    yield


def path_of(name: str) -> Path:
    if name == 'lifter':
        return WEIGHTS
    try:
        return Path(ModelStore().path(name))
    except ModelMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope='module')
def cache(tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    folder = tmp_path_factory.mktemp('engines')
    folder.chmod(0o700)
    return EngineCache(folder)


def loaded(cache: EngineCache, name: str) -> TensorRTEngine:
    """Return the engine of a network, built when it is asked for first."""
    prepared = prepare(path_of(name), BACKEND, cache, most=MOST, say=lambda text: None, in_process=True)
    assert isinstance(prepared.engine, TensorRTEngine)
    return prepared.engine


def built(name: str, step: str) -> TensorRTEngine:
    """Return an engine in one precision, whatever the check says."""
    plan, _ = BACKEND.build(convert(path_of(name).read_bytes(), step), MOST, b'', lambda share: None)
    engine = BACKEND.load(plan, path_of(name), step)
    assert isinstance(engine, TensorRTEngine)
    return engine


def given(engine: Any, count: int) -> dict[str, NDArray]:
    return inputs_for(engine.metadata, engine.input_shapes, count)[-1]


def rows(inputs: dict[str, NDArray], count: int) -> dict[str, NDArray]:
    """Return inputs for `count` people, repeating those there are."""
    return {name: np.ascontiguousarray(np.resize(value, (count, *value.shape[1:]))) for name, value in inputs.items()}


@pytest.mark.parametrize('name', NETWORKS)
def test_every_network_is_built_checked_and_right_for_every_number_of_people(name: str, cache: EngineCache) -> None:
    said: list[str] = []
    prepared = prepare(path_of(name), BACKEND, cache, most=MOST, say=said.append, in_process=True)
    engine, reference = prepared.engine, OnnxEngine(path_of(name))
    print(f'{name}: {prepared.record.precision}, {prepared.record.build_s:.1f} s; {"; ".join(prepared.record.check)}')
    assert engine.provider == 'TensorRT' and engine.precision == prepared.record.precision
    inputs = given(engine, MOST)
    for count in (1, 2, MOST, MOST + 1, 3 * MOST):
        people = rows(inputs, count)
        verdict = check(engine, reference, [people], tolerances_of(engine.metadata, reference.run(people)))
        assert verdict.passed, verdict.text
    engine.close()
    again = prepare(path_of(name), BACKEND, cache, most=MOST, say=said.append, in_process=True)
    found = ready(path_of(name), BACKEND, cache, most=MOST, say=said.append)
    assert found is not None and found.record == again.record == prepared.record
    for kept in (again.engine, found.engine):
        kept.close()


@pytest.mark.parametrize('name', ['lifter', 'pose_landmark_lite'])
def test_full_precision_is_close_to_the_cpu(name: str) -> None:
    engine, reference = built(name, 'fp32'), OnnxEngine(path_of(name))
    people = given(engine, 3)
    expected = reference.run(people)
    for output, value in engine.run(people).items():
        np.testing.assert_allclose(value, expected[output], rtol=2e-3, atol=2e-3 * np.abs(expected[output]).max())
    assert self_check(engine, path_of(name)).passed
    engine.close()


def test_half_precision_is_really_computed(cache: EngineCache) -> None:
    """Half precision is close to full precision, but not the same: else nothing was gained."""
    engines = [built('pose_landmark_lite', step) for step in ('fp16', 'fp32')]
    half, full = (engine.run(given(engine, 1))['landmarks'] for engine in engines)
    assert np.abs(half - full).max() > 1e-5
    np.testing.assert_allclose(half, full, atol=0.05 * np.abs(full).max())


def test_graphs_are_captured_for_every_size(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    engine = loaded(cache, 'lifter')
    with caplog.at_level(logging.WARNING):
        engine.warm_up()
    assert [record.getMessage() for record in caplog.records if 'graphs' in record.getMessage()] == []
    people = given(engine, MOST)
    first = engine.run(people)
    for _ in range(20):
        for output, value in engine.run(people).items():
            np.testing.assert_array_equal(value, first[output])


def test_engines_run_side_by_side_from_several_threads(cache: EngineCache) -> None:
    engines = [loaded(cache, 'lifter'), loaded(cache, 'pose_detection')]
    work = [(engine, rows(given(engine, MOST), count)) for engine in engines for count in (1, 2, 3, MOST, MOST + 2)]
    expected = [engine.run(people) for engine, people in work]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            for found, right in zip(pool.map(lambda job: job[0].run(job[1]), work), expected):
                for output, value in found.items():
                    np.testing.assert_array_equal(value, right[output])


def test_inputs_may_lie_on_the_gpu(cache: EngineCache) -> None:
    engine, memory = loaded(cache, 'pose_detection'), find_memory()
    image = given(engine, 1)['image']
    people = rows({'image': image}, MOST + 1)['image']
    host, device, stream = memory.host(people.nbytes), memory.device(people.nbytes), memory.stream()
    assert host.array is not None
    host.array[:people.nbytes] = people.view(np.uint8).ravel()
    stream.upload(device, host, 0, people.nbytes)
    there = SimpleNamespace(__cuda_array_interface__={
        'shape': people.shape, 'typestr': people.dtype.str, 'version': 3, 'data': (device.pointer, False),
        'stream': stream.handle})
    for output, value in engine.run({'image': there}).items():
        np.testing.assert_array_equal(value, engine.run({'image': people})[output])
    engine.close()
    for thing in (host, device, stream):
        thing.close()


def test_a_build_is_cancelled_in_the_middle() -> None:
    if not hasattr(find_tensorrt().module, 'IProgressMonitor'):
        pytest.skip('this TensorRT reports no progress; its builds are cancelled by ending their process')
    shares: list[float] = []

    def stop(share: float) -> None:
        shares.append(share)
        if len(shares) > 3:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        BACKEND.build(path_of('pose_landmark_lite').read_bytes(), MOST, b'', stop)
    assert len(shares) == 4 and shares == sorted(shares)


def test_what_was_learned_about_timing_is_used_again() -> None:
    model = WEIGHTS.read_bytes()
    _, timing = BACKEND.build(model, 1, b'', lambda share: None)
    plan, again = BACKEND.build(model, 1, timing, lambda share: None)
    assert timing and again and plan
    BACKEND.build(model, 1, b'rubbish', lambda share: None)


def test_damaged_engines_and_closed_ones_are_refused(cache: EngineCache) -> None:
    engine = loaded(cache, 'lifter')
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match='is closed'):
        engine.run(given(engine, 1))
    with pytest.raises(EngineError, match='cannot load the engine'):
        BACKEND.load(b'not an engine', WEIGHTS, 'fp16')


def test_a_network_by_its_runtimes_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a node opens it: built in a process of its own, and kept."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    for _ in range(2):
        engine = open_engine(WEIGHTS, Wanted('tensorrt'), most=2)
        assert engine.provider == 'TensorRT' and engine.status == ''
        engine.close()
    assert list((tmp_path / 'pose3d_ros' / 'engines').iterdir())
