"""Which runtime is taken, what is said about it, and that a network is opened whatever fails."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stub_backend
from stub_backend import PROVIDER, TOOLS, Stub, StubBackend

from pose3d_ros.runtime import opening
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.engine import Engine, EngineError, Wanted
from pose3d_ros.runtime.opening import Building, open_engine
from pose3d_ros.runtime.waiting import EngineInWaiting

ROOT = Path(__file__).parents[1]
CPU = 'CPUExecutionProvider'


@pytest.fixture
def building(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Building:
    monkeypatch.setenv(stub_backend.VARIABLE, '')
    monkeypatch.setattr(opening, '_GPU_SIGNS', ())
    Stub(log=str(tmp_path / 'log')).save(tmp_path / 'orders.json')
    return Building(StubBackend(), EngineCache(tmp_path / 'engines'), tools=TOOLS, in_process=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return stub_backend.save_network(tmp_path / 'net.onnx')


def give(model: Path, **orders: object) -> None:
    Stub(log=str(model.parent / 'log'), **orders).save(model.parent / 'orders.json')  # type: ignore[arg-type]


def builds(model: Path) -> int:
    log = model.parent / 'log'
    return len(log.read_text().splitlines()) if log.exists() else 0


def works(engine: Engine) -> bool:
    found = engine.run({'image': np.ones((3, 3, 4), np.float32)})['scaled']
    return bool(np.allclose(found, 2))


ALL_WRONG = {'fp16': 0.5, 'mixed': 0.5, 'fp32': 0.5}


def test_the_best_is_taken(model: Path, building: Building, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine = open_engine(model, building=building)
    assert (engine.provider, engine.precision, engine.remarks, engine.status) == (PROVIDER, 'fp16', (), '')
    assert works(engine) and engine.metadata == {'skeleton': 'tiny'}
    assert caplog.records[-1].getMessage() == f'net runs on {PROVIDER} in fp16'
    assert caplog.records[0].levelno == logging.WARNING and 'this takes minutes' in caplog.records[0].getMessage()
    engine.close()


def test_why_not_in_the_wanted_precision_is_kept(model: Path, building: Building) -> None:
    give(model, error={'fp16': 0.5})
    for _ in ('built', 'from the cache'):
        engine = open_engine(model, building=building)
        assert engine.precision == 'mixed' and engine.remarks == ('not fp16: failed the self-check: 50 % off',)
        engine.close()
    assert builds(model) == 2


@pytest.mark.parametrize(('orders', 'reason'), [
    ({'why_not': 'there is no NVIDIA GPU'}, 'not on TensorRT: there is no NVIDIA GPU'),
    ({'error': ALL_WRONG}, 'not on TensorRT: net: no engine of StubRT 1.0 on Stub: fp16: failed the self-check'),
    ({'faults': {'fp16': 'not now'}}, 'not on TensorRT: .*3 GB of GPU memory.* The next start tries again')])
@pytest.mark.parametrize('times', [1, 2])
def test_auto_falls_back_and_tells_why(model: Path, building: Building, orders: dict, reason: str, times: int,
                                       caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    give(model, **orders)
    for _ in range(times):
        engine = open_engine(model, building=building)
        assert engine.provider == CPU and works(engine)
    assert re.match(reason, engine.remarks[0]) and engine.remarks[1].startswith('not on CUDA: ')
    last = caplog.records[-1].getMessage()
    assert last == f'net runs on {CPU} in fp32 ({"; ".join(engine.remarks)})'


@pytest.mark.parametrize('orders', [{'why_not': 'there is no NVIDIA GPU'}, {'error': ALL_WRONG}])
def test_tensorrt_by_name_is_a_start_up_error(model: Path, building: Building, orders: dict) -> None:
    give(model, **orders)
    for meanwhile in (False, False) if 'error' in orders else (False, True):
        with pytest.raises(EngineError, match="runtime 'tensorrt' cannot be used: .*; or choose 'auto'"):
            open_engine(model, Wanted('tensorrt', meanwhile=meanwhile), building=building)


def test_a_recorded_refusal_is_a_start_up_error_too(model: Path, building: Building) -> None:
    give(model, error=ALL_WRONG)
    assert open_engine(model, building=building).provider == CPU
    with pytest.raises(EngineError, match="runtime 'tensorrt' cannot be used: .*to try again, remove"):
        open_engine(model, Wanted('tensorrt', meanwhile=True), building=building)
    assert builds(model) == 3


@pytest.mark.parametrize(('signs', 'level'), [((), logging.INFO), (('/dev/null',), logging.WARNING)])
def test_only_a_gpu_that_stays_unused_is_worth_a_warning(model: Path, building: Building, signs: tuple[str, ...],
                                                         level: int, caplog: pytest.LogCaptureFixture,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(opening, '_GPU_SIGNS', signs)
    give(model, why_not='TensorRT is not installed')
    open_engine(model, building=building)
    assert [record.levelno for record in caplog.records] == [level]


def test_by_name_nothing_else_is_tried(model: Path, building: Building, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine = open_engine(model, Wanted('cpu'), building=building)
    assert engine.provider == CPU and engine.remarks == () and builds(model) == 0
    with pytest.raises(EngineError, match='install onnxruntime-gpu'):
        open_engine(model, Wanted('cuda'), building=building)


def test_meanwhile_it_serves_and_then_it_is_better(model: Path, building: Building,
                                                   caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    give(model, build_s=0.3, error={'fp16': 0.5})
    engine = open_engine(model, Wanted(meanwhile=True), building=building)
    assert isinstance(engine, EngineInWaiting) and engine.provider == CPU and works(engine)
    assert engine.status.split(' ')[0] in ('preparing', 'waiting', 'building') and engine.status.endswith(' s')
    assert engine.wait(10) and engine.provider == PROVIDER and engine.precision == 'mixed' and works(engine)
    assert engine.remarks == ('not fp16: failed the self-check: 50 % off',)
    assert caplog.records[-1].getMessage() == f'net runs on {PROVIDER} in mixed now'
    engine.close()
    again = open_engine(model, Wanted(meanwhile=True), building=building)
    assert again.provider == PROVIDER and again.status == '' and builds(model) == 2
    again.close()


def test_meanwhile_a_failure_leaves_a_remark(model: Path, building: Building) -> None:
    give(model, error=ALL_WRONG)
    engine = open_engine(model, Wanted(meanwhile=True), building=building)
    assert isinstance(engine, EngineInWaiting) and engine.wait(10)
    assert engine.provider == CPU and works(engine) and engine.status == ''
    assert engine.remarks[0].startswith('not on TensorRT: net: no engine of StubRT')
    engine.close()
    assert open_engine(model, Wanted(meanwhile=True), building=building).provider == CPU  # known from the start now
    assert builds(model) == 3


def test_meanwhile_the_build_is_in_another_process_and_ends_with_the_engine(model: Path, building: Building) -> None:
    give(model, faults={'fp16': 'hang with the lock'})
    engine = open_engine(model, Wanted(meanwhile=True), building=replace(building, in_process=False))
    while not (builds(model) and engine.status.startswith('building engine net fp16, ')):
        assert works(engine)
    engine.close()
    pid = (model.parent / 'log').read_text().split()[0]
    assert not Path(f'/proc/{pid}').exists()


def test_a_process_that_ends_while_it_builds_ends_at_once(model: Path, building: Building) -> None:
    give(model, faults={'fp16': 'hang'})
    assert building.cache is not None
    script = f'''
import sys, time
sys.path[:0] = {[str(ROOT), str(ROOT / "test")]!r}
from stub_backend import TOOLS, StubBackend
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.opening import Building, open_engine
building = Building(StubBackend(), EngineCache({str(building.cache.folder)!r}), tools=TOOLS)
engine = open_engine({str(model)!r}, Wanted(meanwhile=True), building=building)
while not engine.status.startswith('building engine'):
    time.sleep(0.01)
'''
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0 and 'Traceback' not in result.stderr, result.stderr
    assert 'this takes minutes, once' in result.stderr  # though nobody has set up logging
    if builds(model):
        pid = (model.parent / 'log').read_text().split()[0]
        assert not Path(f'/proc/{pid}').exists()


def test_names_are_checked_whatever_runs(model: Path, building: Building) -> None:
    with pytest.raises(EngineError, match="has no output 'boxes'"):
        open_engine(model, outputs=['boxes'], building=building)
