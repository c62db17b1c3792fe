"""An engine that serves while a better one is made: the swap, failures, and closing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from pose3d_ros.runtime.backend import Progress, Stage
from pose3d_ros.runtime.engine import Engine, EngineError
from pose3d_ros.runtime.waiting import EngineInWaiting, RemarkedEngine


class Slow:
    """An engine whose two outputs both tell which engine computed them."""

    def __init__(self, mark: float, provider: str, delay_s: float = 0.0) -> None:
        self.mark, self.provider, self.delay_s = mark, provider, delay_s
        self.inputs, self.outputs, self.input_shapes = ('image',), ('first', 'second'), {'image': (None, 1)}
        self.precision, self.remarks, self.status, self.metadata = 'fp32', (f'made by {provider}',), '', {'name': 'net'}
        self._count = threading.Lock()
        self.warm, self.closed, self.running, self.calls = False, False, 0, 0

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        with self._count:
            self.running += 1
        try:
            first = self._output(inputs['image'])
            time.sleep(self.delay_s)
            return {'first': first, 'second': self._output(inputs['image'])}
        finally:
            with self._count:
                self.running, self.calls = self.running - 1, self.calls + 1

    def _output(self, image: NDArray) -> NDArray:
        if self.closed:
            raise EngineError('used after it was closed')
        return image * 0 + self.mark

    def warm_up(self) -> None:
        self.warm = True

    def close(self) -> None:
        assert not self.running, 'closed while a call was running'
        assert not self.closed, 'closed twice'
        self.closed = True


IMAGE = {'image': np.zeros((1, 1))}


def until(happened: Callable[[], object], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(happened())


class Build:
    """What makes the better engine, step by step as the test says."""

    def __init__(self, result: Engine | Exception) -> None:
        self.result, self.go_on, self.ended = result, threading.Event(), threading.Event()

    def __call__(self, stage: Stage, progress: Progress) -> Engine:
        try:
            stage('building engine net fp16')
            progress(0.25)
            while not self.go_on.wait(0.01):
                progress(0.25)
            if isinstance(self.result, Exception):
                raise self.result
            return self.result
        finally:
            self.ended.set()


def test_it_serves_and_tells_what_is_going_on_until_the_swap() -> None:
    now = [100.0]
    serving, better = Slow(1, 'CPU'), Slow(2, 'GPU')
    build = Build(better)
    engine = EngineInWaiting(serving, build, name='net', clock=lambda: now[0])
    assert until(lambda: '%' in engine.status)
    now[0] += 43
    assert engine.status == 'building engine net fp16, 25 %, 43 s'
    assert engine.provider == 'CPU' and engine.run(IMAGE)['first'] == 1 and not engine.wait(0.0)
    build.go_on.set()
    assert engine.wait(5) and engine.status == ''
    assert engine.provider == 'GPU' and engine.run(IMAGE)['first'] == 2 and engine.remarks == ('made by GPU',)
    assert (engine.inputs, engine.outputs, engine.metadata) == (('image',), ('first', 'second'), {'name': 'net'})
    assert engine.input_shapes == {'image': (None, 1)} and engine.precision == 'fp32'
    assert serving.closed and better.warm and not better.closed
    engine.close()
    assert better.closed


def test_the_swap_loses_no_call_and_mixes_no_outputs() -> None:
    serving, better = Slow(1, 'CPU', delay_s=0.002), Slow(2, 'GPU', delay_s=0.001)
    build = Build(better)
    engine = EngineInWaiting(serving, build, name='net')

    def call(number: int) -> float:
        if number == 100:
            build.go_on.set()
        found = engine.run({'image': np.full((1, 1), number)})
        assert found['first'] == found['second']
        return float(found['first'][0, 0])

    with ThreadPoolExecutor(4) as pool:
        marks = list(pool.map(call, range(600)))
        assert engine.wait(5)
        marks += pool.map(call, range(101, 110))
    assert set(marks) == {1.0, 2.0} and serving.calls + better.calls == len(marks) == 609
    assert marks[:100] == [1.0] * 100 and marks[-9:] == [2.0] * 9
    assert serving.closed
    engine.close()


def test_the_old_engine_is_closed_after_its_last_call() -> None:
    serving, better = Slow(1, 'CPU', delay_s=0.3), Slow(2, 'GPU')
    build = Build(better)
    engine = EngineInWaiting(serving, build, name='net')
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(engine.run, IMAGE)
        assert until(lambda: serving.running)
        build.go_on.set()
        assert engine.wait(5) and engine.run(IMAGE)['first'] == 2  # the new one serves already
        assert serving.running and not serving.closed
        assert call.result()['second'] == 1
    assert serving.closed
    engine.close()


@pytest.mark.parametrize(('failure', 'remark', 'traceback'), [
    (EngineError('not on TensorRT: fp32 failed the check'), 'not on TensorRT: fp32 failed the check', False),
    (ZeroDivisionError('nobody thought of this'), 'ZeroDivisionError: nobody thought of this', True)])
def test_a_failed_build_leaves_the_engine_that_serves(caplog: pytest.LogCaptureFixture, failure: Exception,
                                                      remark: str, traceback: bool) -> None:
    serving, build = Slow(1, 'CPU'), Build(failure)
    engine = EngineInWaiting(serving, build, name='net')
    build.go_on.set()
    assert engine.wait(5)
    assert engine.status == '' and engine.remarks == (remark, 'made by CPU') and engine.provider == 'CPU'
    assert engine.run(IMAGE)['first'] == 1
    warning, = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.getMessage() == f'net stays on CPU: {remark}' and bool(warning.exc_info) == traceback
    engine.close()
    assert serving.closed


def test_a_new_engine_that_fails_warm_or_is_another_network_is_not_taken() -> None:
    other, broken = Slow(2, 'GPU'), Slow(2, 'GPU')
    other.outputs = ('boxes',)
    broken.warm_up = lambda: broken.run({})  # type: ignore[method-assign]
    for better, remark in ((other, 'other inputs or outputs'), (broken, 'KeyError')):
        build = Build(better)
        engine = EngineInWaiting(Slow(1, 'CPU'), build, name='net')
        build.go_on.set()
        assert engine.wait(5) and engine.run(IMAGE)['first'] == 1 and remark in engine.remarks[0] and better.closed
        engine.close()


def test_closing_ends_the_build_quickly() -> None:
    serving, build = Slow(1, 'CPU'), Build(Slow(2, 'GPU'))
    engine = EngineInWaiting(serving, build, name='net')
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < 1 and build.ended.is_set() and serving.closed and engine.wait(0)
    with pytest.raises(EngineError, match='net: the engine is closed'):
        engine.run(IMAGE)
    with pytest.raises(EngineError, match='closed'):
        engine.warm_up()
    engine.close()


def test_an_engine_that_is_ready_too_late_is_closed() -> None:
    """The build has just ended when everything is closed: it cannot be ended any more."""
    serving, better, go_on = Slow(1, 'CPU'), Slow(2, 'GPU'), threading.Event()

    def prepare(stage: Stage, progress: Progress) -> Engine:
        go_on.wait()
        return better

    engine = EngineInWaiting(serving, prepare, name='net')
    closing = threading.Thread(target=engine.close)
    closing.start()
    assert until(lambda: serving.closed)
    go_on.set()
    closing.join()
    assert better.closed and not better.warm and engine.status == ''


def test_closing_waits_for_nobody_who_is_computing() -> None:
    serving, build = Slow(1, 'CPU', delay_s=0.3), Build(Slow(2, 'GPU'))
    engine = EngineInWaiting(serving, build, name='net')
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(engine.run, IMAGE)
        assert until(lambda: serving.running)
        engine.close()
        assert not serving.closed and call.result()['second'] == 1
    assert serving.closed


def test_remarks_join_those_of_the_engine() -> None:
    inner = Slow(1, 'GPU')
    engine = RemarkedEngine(inner, ('not fp16: wrong',))
    assert engine.remarks == ('not fp16: wrong', 'made by GPU') and engine.status == ''
    assert engine.run(IMAGE)['first'] == 1 and engine.provider == 'GPU'
    engine.warm_up()
    engine.close()
    assert inner.warm and inner.closed
