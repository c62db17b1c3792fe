"""Builds in a process of their own: what comes back, and what crashes, noise, cancelling and death do."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import stub_backend
from stub_backend import TOOLS, Stub, StubBackend

from pose3d_ros.runtime import build_process
from pose3d_ros.runtime.build_process import build_in_child
from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.steps import Order, StepResult, Tools, take_step

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(stub_backend.VARIABLE, str(tmp_path / 'orders.json'))
    Stub(log=str(tmp_path / 'log')).save(tmp_path / 'orders.json')
    yield


def order(tmp_path: Path, step: str = 'fp16', timing: bytes = b'') -> Order:
    path = stub_backend.save_network(tmp_path / 'net.onnx')
    return Order(path, hashlib.sha256(path.read_bytes()).hexdigest(), step, 8, timing, StubBackend(), TOOLS)


def give(tmp_path: Path, **faults: object) -> None:
    Stub(log=str(tmp_path / 'log'), **faults).save(tmp_path / 'orders.json')  # type: ignore[arg-type]


def build(tmp_path: Path, **named: object) -> StepResult:
    return build_in_child(order(tmp_path, **named), lambda text: None, lambda share: None)  # type: ignore[arg-type]


def until(happened: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.02)
    return happened()


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for yet does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


def builders(tmp_path: Path) -> list[int]:
    log = tmp_path / 'log'
    return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


def test_a_checked_engine_comes_back_with_what_was_learned(tmp_path: Path) -> None:
    timing = bytes(range(256)) * 2000  # more than a pipe holds
    stages: list[str] = []
    result = build_in_child(order(tmp_path, 'mixed', timing), stages.append, lambda share: None)
    assert result.passed and result.precision == 'mixed' and result.text == 'passed the self-check: 0 % off'
    assert result.plan == stub_backend.marked((tmp_path / 'net.onnx').read_bytes(), 'mixed')
    assert result.timing == timing + b'mixed'
    assert stages == ['building engine net mixed', 'checking engine net mixed']
    assert builders(tmp_path) != [os.getpid()] and not alive(builders(tmp_path)[0])


def test_progress_and_the_time_are_told(tmp_path: Path) -> None:
    give(tmp_path, build_s=0.5)
    shares: list[float] = []
    result = build_in_child(order(tmp_path), lambda text: None, shares.append)
    assert result.build_s == pytest.approx(0.5, abs=0.3)
    told = sorted(set(shares))
    assert len(told) >= 4 and told[0] == 0.0 and told[-1] <= 1.0


def test_noise_of_libraries_does_not_disturb(tmp_path: Path) -> None:
    give(tmp_path, faults={'fp16': 'noise'})
    assert build(tmp_path).passed


@pytest.mark.parametrize(('fault', 'text', 'final', 'hopeless'), [
    ('SIGSEGV', r'the compiler crashed \(SIGSEGV\); its last words: terminate called after', True, False),
    ('SIGKILL', r'was killed \(SIGKILL\), mostly a sign of too little memory', False, True),
    ('bug', 'exit code 1 and no result; its last words: ZeroDivisionError: nobody thought of this', False, False)])
def test_a_crash_is_a_result(tmp_path: Path, fault: str, text: str, final: bool, hopeless: bool) -> None:
    give(tmp_path, faults={'fp16': fault})
    result = build(tmp_path)
    assert not result.passed and result.plan == b'' and result.precision == 'fp16'
    assert re.search(text, result.text)
    assert (result.final, result.hopeless) == (final, hopeless)


@pytest.mark.parametrize(('fault', 'text', 'final', 'hopeless'), [
    ('error', '^node Conv_7 is not supported', True, False),
    ('not now', '3 GB of GPU memory are needed', False, True),
    ('cannot load', 'it cannot be checked: this driver cannot load it', False, False),
    ('no room', 'no GPU memory is left', False, True),
    ('out of memory', r'^Error Code 2: OutOfMemory \(Requested', False, True),
    ('cannot run', 'it cannot be checked: the GPU reports', False, False)])
def test_an_error_is_a_result(tmp_path: Path, fault: str, text: str, final: bool, hopeless: bool) -> None:
    give(tmp_path, faults={'fp16': fault})
    result = take_step(order(tmp_path), lambda text: None, lambda share: None)
    assert not result.passed and result.plan == b'' and re.search(text, result.text)
    assert (result.final, result.hopeless) == (final, hopeless)


def test_a_wrong_engine_is_not_given_out(tmp_path: Path) -> None:
    give(tmp_path, error={'fp16': 0.5})
    result = build(tmp_path)
    assert (result.passed, result.plan, result.final) == (False, b'', True)
    assert result.text == 'failed the self-check: 50 % off'


@pytest.mark.parametrize('faults', [{}, {'fp16': 'cannot run'}], ids=str)
def test_the_checked_engine_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: dict) -> None:
    closed: list[object] = []
    monkeypatch.setattr(stub_backend.StubEngine, 'close', lambda engine: closed.append(engine))
    give(tmp_path, faults=faults)
    assert take_step(order(tmp_path), lambda text: None, lambda share: None).passed != bool(faults)
    assert len(closed) == 1


def test_a_model_that_changed_is_not_built(tmp_path: Path) -> None:
    given = order(tmp_path)
    given.path.write_bytes(given.path.read_bytes() + b' ')
    result = build_in_child(given, lambda text: None, lambda share: None)
    assert 'was changed while' in result.text and not result.final and builders(tmp_path) == []


class Enough(Exception):  # noqa: N818
    """Raised out of a progress report."""


@pytest.mark.parametrize('fault', ['hang with the lock', 'noise'])
def test_cancelling_kills_the_child_at_once(tmp_path: Path, fault: str) -> None:
    give(tmp_path, faults={'fp16': fault}, build_s=100.0)

    def progress(share: float) -> None:
        if builders(tmp_path):
            raise Enough

    with pytest.raises(Enough):
        build_in_child(order(tmp_path), lambda text: None, progress)
    assert not alive(builders(tmp_path)[0])


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    build(tmp_path)
    before = set(os.listdir('/proc/self/fd'))
    build(tmp_path)
    give(tmp_path, faults={'fp16': 'SIGSEGV'})
    build(tmp_path)
    assert len(os.listdir('/proc/self/fd')) == len(before)


PARENT = '''
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from stub_backend import TOOLS, StubBackend
from pose3d_ros.runtime.build_process import build_in_child
from pose3d_ros.runtime.steps import Order
path = Path({path!r})
import hashlib
order = Order(path, hashlib.sha256(path.read_bytes()).hexdigest(), 'fp16', 8, b'', StubBackend(), TOOLS)
build_in_child(order, print, lambda share: None)
'''


@pytest.mark.parametrize(('fault', 'end'), [
    ('hang', signal.SIGKILL), ('hang with the lock', signal.SIGKILL), ('hang', signal.SIGINT)])
def test_the_child_ends_with_its_parent(tmp_path: Path, fault: str, end: signal.Signals) -> None:
    give(tmp_path, faults={'fp16': fault})
    path = stub_backend.save_network(tmp_path / 'net.onnx')
    script = PARENT.format(paths=[str(ROOT), str(ROOT / 'test')], path=str(path))
    with subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as parent:
        try:
            assert until(lambda: len(builders(tmp_path)) == 1)
            parent.send_signal(end)
            parent.wait(10)
        finally:
            parent.kill()
    assert until(lambda: not alive(builders(tmp_path)[0]), 3.0)


def test_ctrl_c_reaches_the_parent_alone(tmp_path: Path) -> None:
    """The terminal sends it to a whole group; the child is in another one."""
    give(tmp_path, faults={'fp16': 'hang'})
    groups = []

    def progress(share: float) -> None:
        if builders(tmp_path):
            groups.append(os.getpgid(builders(tmp_path)[0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_in_child(order(tmp_path), lambda text: None, progress)
    assert groups[0] != os.getpgid(0) and not alive(builders(tmp_path)[0])


def test_what_no_other_process_can_find_is_refused(tmp_path: Path) -> None:
    path = stub_backend.save_network(tmp_path / 'net.onnx')
    tools = Tools(lambda model, step: model, TOOLS.is_quantised, TOOLS.self_check)
    with pytest.raises(EngineError, match='not a function or class of a module'):
        build_in_child(Order(path, '', 'fp16', 8, b'', StubBackend(), tools), lambda text: None, lambda share: None)


def test_a_process_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_process.sys, 'executable', '/nowhere/python')
    with pytest.raises(EngineError, match='no process can be started to build the engine .*/nowhere/python'):
        build(tmp_path)


def test_the_folder_it_is_started_from_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / 'trap'
    trap.mkdir()
    (trap / 'json.py').write_text('raise SystemExit(3)')
    given = order(tmp_path)
    monkeypatch.chdir(trap)
    assert build_in_child(given, lambda text: None, lambda share: None).passed
