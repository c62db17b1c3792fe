"""From a network to a checked engine: order of the precisions, what is kept, and every mishap on the way."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import stub_backend
from stub_backend import TOOLS, Stub, StubBackend

from pose3d_ros.runtime import cache as cache_module
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.manager import GivenUpError, Prepared, key_of, prepare, ready, steps_from

ROOT = Path(__file__).parents[1]


@dataclass
class Bench:
    """A network, a cache and a backend that does what it is told, in this process unless a test is about the child."""

    folder: Path
    said: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = stub_backend.save_network(self.folder / 'net.onnx')
        self.cache = EngineCache(self.folder / 'cache' / 'engines', say=self.said.append)

    def orders(self, **orders: object) -> None:
        Stub(log=str(self.folder / 'log'), **orders).save(self.folder / 'orders.json')  # type: ignore[arg-type]

    def prepare(self, precision: str = 'auto', *, in_process: bool = True, **named: object) -> Prepared:
        named.setdefault('say', self.said.append)
        return prepare(self.model, StubBackend(), self.cache, precision=precision, in_process=in_process, tools=TOOLS,
                       stage=self.stages.append, **named)  # type: ignore[arg-type]

    @property
    def built(self) -> list[str]:
        """Precisions of all builds so far, by whatever process."""
        log = self.folder / 'log'
        return [line.split()[1] for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def plan(self) -> Path:
        return next(self.cache.folder.glob('*.plan'))

    @property
    def record(self) -> Path:
        return next(self.cache.folder.glob('*.json'))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv(stub_backend.VARIABLE, '')
    bench = Bench(tmp_path)
    bench.orders()
    return bench


def works(prepared: Prepared) -> bool:
    image = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    found = prepared.engine.run({'image': image})['scaled']
    prepared.engine.close()
    return bool(np.allclose(found, 2 * image, rtol=1e-5))


@pytest.mark.parametrize(('wanted', 'wrong', 'tried'), [
    ('auto', (), ['fp16']), ('auto', ('fp16',), ['fp16', 'mixed']),
    ('auto', ('fp16', 'mixed'), ['fp16', 'mixed', 'fp32']),
    ('fp16', (), ['fp16']), ('fp16', ('fp16',), ['fp16', 'mixed']),
    ('mixed', ('fp16',), ['mixed']), ('mixed', ('mixed',), ['mixed', 'fp32']), ('fp32', ('fp16', 'mixed'), ['fp32'])])
@pytest.mark.parametrize('how', ['wrong', 'not supported'])
def test_a_safer_precision_follows_one_that_fails(bench: Bench, wanted: str, wrong: tuple[str, ...], tried: list[str],
                                                  how: str) -> None:
    bench.orders(error=dict.fromkeys(wrong, 0.5) if how == 'wrong' else {},
                 faults=dict.fromkeys(wrong, 'error') if how != 'wrong' else {})
    prepared = bench.prepare(wanted)
    assert bench.built == tried and prepared.record.precision == prepared.engine.precision == tried[-1]
    assert works(prepared) and prepared.kept == ''
    assert [line.split(':')[0] for line in prepared.record.check] == tried
    # Every step is announced, and what was wrong with the one before.
    assert bench.said[0].startswith(f'net: building an engine for StubRT 1.0 on Stub in {tried[0]}')
    reason = 'failed the self-check: 50 % off' if how == 'wrong' else 'node Conv_7 is not supported'
    for text, step, following in zip(bench.said[1:], tried, tried[1:]):
        assert text == f'net: {step}: {reason}; building it in {following} instead'
    assert bench.said[-1].startswith(f'net: {tried[-1]} built in ') and len(bench.said) == len(tried) + 1
    assert [stage for stage in bench.stages if 'building' in stage] == [f'building engine net {step}' for step in tried]


def test_the_next_start_builds_nothing(bench: Bench) -> None:
    bench.orders(error={'fp16': 0.5})
    first = bench.prepare()
    del bench.said[:]
    second = bench.prepare()
    assert bench.built == ['fp16', 'mixed'] and bench.said == []
    assert works(second) and second.record == first.record and second.engine.precision == 'mixed'
    found = ready(bench.model, StubBackend(), bench.cache, say=bench.said.append)
    assert found is not None and works(found)


def test_fp16_by_name_is_what_auto_begins_with(bench: Bench) -> None:
    bench.prepare('auto')
    bench.prepare('fp16')
    assert bench.built == ['fp16']
    assert steps_from('auto') == steps_from('fp16') == ('fp16', 'mixed', 'fp32')


def test_given_up_is_remembered_until_something_changes(bench: Bench) -> None:
    bench.orders(error={'fp16': 0.5, 'mixed': 0.2, 'fp32': 0.1})
    reasons = 'fp16: failed the self-check: 50 % off; mixed: failed.* 20 % off; fp32: failed.* 10 % off'
    with pytest.raises(GivenUpError, match=f'net: no engine of StubRT 1.0 on Stub: {reasons}'):
        bench.prepare()
    assert bench.said[-1].endswith('giving up') and bench.built == ['fp16', 'mixed', 'fp32']
    bench.orders()
    for again in (bench.prepare, lambda: ready(bench.model, StubBackend(), bench.cache, say=bench.said.append)):
        with pytest.raises(GivenUpError, match=f'no engine of StubRT.*to try again, remove {bench.record}'):
            again()
    assert len(bench.built) == 3
    bench.orders(version='1.1')
    assert works(bench.prepare())


@pytest.mark.parametrize('faults', [
    {'fp16': 'not now'}, {'fp16': 'SIGKILL'}, {'convert': 'error'}, {'fp16': 'error', 'mixed': 'no room'},
    {'fp16': 'error', 'mixed': 'error', 'fp32': 'cannot run'}], ids=str)
def test_what_may_pass_is_tried_again_at_the_next_start(bench: Bench, faults: dict[str, str]) -> None:
    bench.orders(faults=faults)
    with pytest.raises(EngineError, match='The next start tries again') as caught:
        bench.prepare(in_process='SIGKILL' not in faults.values())
    assert not isinstance(caught.value, GivenUpError) and not list(bench.cache.folder.glob('*.json'))
    bench.orders()
    assert works(bench.prepare())


def test_after_a_kill_for_memory_nothing_larger_is_tried(bench: Bench) -> None:
    bench.orders(faults={'fp16': 'SIGKILL'})
    with pytest.raises(EngineError, match='killed'):
        bench.prepare(in_process=False)
    assert bench.built == ['fp16']


def test_where_the_compiler_cannot_be_used_nothing_more_is_tried_and_nothing_remembered(bench: Bench) -> None:
    bench.orders(why_not='no GPU is left')
    with pytest.raises(EngineError, match='no GPU is left') as caught:
        bench.prepare(in_process=False)
    assert str(caught.value).count('no GPU is left') == 1 and not isinstance(caught.value, GivenUpError)
    bench.orders()
    assert works(bench.prepare())


def test_a_crash_of_the_compiler_is_a_failed_step(bench: Bench) -> None:
    bench.orders(faults={'fp16': 'SIGSEGV'})
    prepared = bench.prepare(in_process=False)
    assert bench.built == ['fp16', 'mixed'] and works(prepared)
    assert 'net: fp16: the compiler crashed (SIGSEGV)' in bench.said[1]


@pytest.mark.parametrize('error', [0.0, 0.5])
def test_a_quantised_network_is_taken_as_it_is_or_not_at_all(bench: Bench, error: float) -> None:
    bench.orders(quantised=True, error={'int8': error})
    if error:
        with pytest.raises(GivenUpError, match='int8: failed the self-check'):
            bench.prepare()
    else:
        prepared = bench.prepare()
        assert prepared.engine.precision == prepared.record.precision == 'int8' and works(prepared)
    assert bench.built == ['plain']


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def foreign(bench: Bench) -> None:
    """Put the engine of another GPU where this one's is looked for."""
    plan, record = bench.plan.read_bytes(), bench.record.read_bytes()
    names = bench.plan, bench.record
    bench.cache.discard(key_of(bench.model, StubBackend(), bench.cache))
    bench.orders(device='Other')
    key = key_of(bench.model, StubBackend(), bench.cache)
    assert key.name not in names[0].name
    bench.cache.plan_file(key).write_bytes(plan)
    bench.cache.record_file(key).write_bytes(record)


@pytest.mark.parametrize('harm', [
    lambda bench: spoil(bench.plan), lambda bench: bench.plan.write_bytes(b''), lambda bench: bench.plan.unlink(),
    lambda bench: bench.record.write_text(bench.record.read_text().replace('fp16', 'fp32')),
    lambda bench: bench.record.write_text('{"engine": "of an old version"}'), foreign,
], ids=['one bit', 'empty', 'no engine', 'tampered record', 'foreign record', 'copied from another GPU'])
def test_a_bad_cache_ends_in_a_working_engine(bench: Bench, harm: Callable[[Bench], None]) -> None:
    bench.prepare()
    harm(bench)
    del bench.said[:]
    prepared = bench.prepare()
    assert works(prepared) and bench.built == ['fp16', 'fp16'] and 'discarded' in bench.said[0]
    assert works(bench.prepare()) and len(bench.built) == 2


@pytest.mark.parametrize('change', [{'device': 'Other GPU'}, {'version': '2.0'}])
def test_a_cache_of_another_gpu_or_version_is_no_hindrance(bench: Bench, change: dict[str, str]) -> None:
    bench.prepare()
    bench.orders(**change)
    assert works(bench.prepare()) and len(bench.built) == 2
    bench.orders()
    bench.prepare()
    assert len(bench.built) == 2 and len(bench.cache.records()) == 2  # each keeps its own


def test_an_engine_that_does_not_load_any_more_is_built_again(bench: Bench) -> None:
    bench.prepare()
    bench.orders(faults={'fp16': 'cannot load'})
    prepared = bench.prepare()
    assert any('discarded: it cannot be loaded (this driver cannot load it)' in text for text in bench.said)
    assert prepared.engine.precision == 'mixed'


def test_want_of_memory_does_not_cost_the_engine(bench: Bench) -> None:
    bench.prepare()
    bench.orders(faults={'fp16': 'no room'})
    with pytest.raises(EngineError, match='no GPU memory is left'):
        bench.prepare()
    bench.orders()
    assert works(bench.prepare()) and bench.built == ['fp16']


def full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('trouble', ['full', 'full at the last moment', 'file', 'group'])
def test_an_engine_that_cannot_be_kept_is_used(bench: Bench, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    folder = bench.cache.folder
    if trouble.startswith('full'):
        monkeypatch.setattr(cache_module.os, 'fsync' if trouble == 'full' else 'replace', full)
    elif trouble == 'file':
        folder.parent.touch()
    else:
        folder.mkdir(parents=True)
        folder.chmod(0o770)
    prepared = bench.prepare()
    assert works(prepared) and prepared.kept
    told = [text for text in bench.said if 'not kept' in text]
    assert len(told) == 1 and str(folder) in told[0] and ('chmod go-w' in told[0]) == (trouble == 'group')
    assert works(bench.prepare()) and len(bench.built) == 2


def test_what_builds_learn_is_handed_on(bench: Bench) -> None:
    bench.orders(error={'fp16': 0.5})
    bench.prepare()
    assert bench.cache.timing(StubBackend().target()) == b'fp16mixed'


def test_a_missing_model_is_told(bench: Bench) -> None:
    bench.model = bench.folder / 'gone.onnx'
    with pytest.raises(EngineError, match='gone.onnx cannot be read .*give the path of a valid ONNX file'):
        bench.prepare()


NODE = '''
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from stub_backend import TOOLS, StubBackend
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.manager import prepare
say = lambda text: print(text, flush=True)
prepared = prepare(Path({model!r}), StubBackend(), EngineCache({folder!r}, say=say), say=say, tools=TOOLS)
prepared.engine.warm_up()
say('works in ' + prepared.engine.precision)
'''


def node(bench: Bench) -> subprocess.Popen:
    """Start another process that needs the engine."""
    script = NODE.format(paths=[str(ROOT), str(ROOT / 'test')], model=str(bench.model), folder=str(bench.cache.folder))
    return subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)


def wait_for_builds(bench: Bench, count: int) -> int:
    """Wait until so many builds have begun; returns the process of the last."""
    end = time.monotonic() + 20
    while len(bench.built) < count and time.monotonic() < end:
        time.sleep(0.02)
    return int((bench.folder / 'log').read_text().split()[2 * (count - 1)])


def test_two_nodes_build_once(bench: Bench) -> None:
    bench.orders(build_s=1.0, error={'fp16': 0.5})
    with node(bench) as first, node(bench) as second:
        texts = [process.communicate(timeout=30)[0] for process in (first, second)]
    assert bench.built == ['fp16', 'mixed']
    assert all(text.endswith('works in mixed\n') for text in texts)
    assert sum('another process is building this engine; waiting for it' in text for text in texts) == 1


def test_a_killed_build_leaves_a_working_next_start(bench: Bench) -> None:
    bench.orders(faults={'fp16': 'hang'})
    with node(bench) as process:
        wait_for_builds(bench, 1)
        process.kill()
    bench.orders()
    begun = time.monotonic()
    assert works(bench.prepare()) and time.monotonic() - begun < 5  # no lock is left
    assert bench.built == ['fp16', 'fp16'] and not list(bench.cache.folder.glob('*.tmp'))


def test_a_killed_compiler_leaves_a_working_next_start(bench: Bench) -> None:
    bench.orders(faults={'fp16': 'hang'})
    with node(bench) as process:
        os.kill(wait_for_builds(bench, 1), signal.SIGKILL)
        assert process.wait(20) == 1  # it says so and ends; a node goes on without
        assert process.stdout is not None and 'killed (SIGKILL)' in process.stdout.read()
    bench.orders()
    assert works(bench.prepare())


def test_ending_a_wait_or_a_build_leaves_no_lock(bench: Bench) -> None:
    def stop(share: float) -> None:
        if waiting or share > 0.3:
            raise InterruptedError

    waiting: list[int] = []
    bench.orders(build_s=30.0)
    key = replace(key_of(bench.model, StubBackend(), bench.cache))
    with pytest.raises(InterruptedError), bench.cache.lock(key):
        waiting.append(1)
        bench.prepare(progress=stop)
    waiting.clear()
    bench.orders(build_s=1.0)
    with pytest.raises(InterruptedError):
        bench.prepare(progress=stop)
    bench.orders()
    assert works(bench.prepare())


def test_our_own_tools_take_a_network_of_the_package_through(bench: Bench) -> None:
    """Half precision, the build process and the self-check as they are; only the compiler is a stand-in."""
    lifter = ROOT / 'pose3d_ros' / 'weights' / 'lifter.onnx'
    prepared = prepare(lifter, StubBackend(), bench.cache, say=bench.said.append)
    assert prepared.record.precision == 'fp16' and 'passed the self-check' in prepared.record.check[0]
    bench.orders(error={'fp16': 0.2}, version='2')
    again = prepare(lifter, StubBackend(), bench.cache, say=bench.said.append)
    assert again.record.precision == 'mixed' and 'failed the self-check' in again.record.check[0]
    for each in (prepared, again):
        each.engine.warm_up()
        each.engine.close()
