"""The cache of engines: what is found, what is refused, and what a bad disk does to it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pose3d_ros.runtime import cache as cache_module
from pose3d_ros.runtime.backend import Target
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.engine_record import Key, Record

TARGET = Target('TensorRT', '10.3.0', 'Orin (nvgpu)', '8.7')
KEY = Key('pose_landmark_full', 'ab' * 32, TARGET, 'fp16', 8)
PLAN = bytes(range(256)) * 40


def record_of(key: Key, plan: bytes = PLAN, **changes: object) -> Record:
    target = key.target
    record = Record(key.model, key.model_sha256, target.runtime, target.version, target.device, target.capability,
                    wanted=key.precision, most=key.most, recipe=key.recipe, precision='mixed',
                    plan_sha256=hashlib.sha256(plan).hexdigest(), plan_bytes=len(plan), build_s=84.5,
                    built='2026-11-21 16:00:00', check=('fp16: failed', 'mixed: passed'), given_up='')
    return replace(record, **changes)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> EngineCache:
    return EngineCache(tmp_path / 'cache' / 'engines', say=said.append)


@pytest.fixture
def kept(cache: EngineCache) -> EngineCache:
    """Give a cache that holds one engine."""
    assert cache.keep(KEY, PLAN, record_of(KEY)) == ''
    return cache


def test_what_was_kept_is_found_as_it_was(kept: EngineCache, said: list[str]) -> None:
    assert kept.find(KEY) == (PLAN, record_of(KEY))
    assert kept.records() == [(kept.record_file(KEY), record_of(KEY))]
    assert said == [] and not list(kept.folder.glob('*.tmp'))


def test_a_few_people_more_are_the_same_engine(cache: EngineCache, tmp_path: Path) -> None:
    model = tmp_path / 'net.onnx'
    model.write_bytes(b'weights')
    assert [cache.key(model, KEY.target, 'fp16', most).most for most in (1, 2, 3, 7, 8, 9, 11, 16, 17)] == [
        1, 2, 4, 8, 8, 16, 16, 16, 32]


def test_nobody_else_can_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'home' / 'cache'))
    before = os.umask(0)
    try:
        cache = EngineCache()
        assert cache.keep(KEY, PLAN, record_of(KEY)) == ''
        with cache.lock(KEY):
            pass
    finally:
        os.umask(before)
    assert cache.folder == tmp_path / 'home' / 'cache' / 'pose3d_ros' / 'engines'
    assert {path.stat().st_mode & 0o777 for path in (cache.folder, cache.folder.parent)} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in cache.folder.iterdir()} == {0o600}


@pytest.mark.parametrize('other', [
    replace(KEY, model_sha256='cd' * 32), replace(KEY, precision='mixed'), replace(KEY, most=4),
    replace(KEY, recipe='next'), replace(KEY, target=replace(TARGET, version='10.4.0')),
    replace(KEY, target=replace(TARGET, device='Xavier')), replace(KEY, target=replace(TARGET, capability='7.2')),
    replace(KEY, target=replace(TARGET, runtime='Other'))], ids=str)
def test_another_model_gpu_version_or_setting_is_another_engine(kept: EngineCache, other: Key) -> None:
    assert kept.find(other) is None
    assert kept.find(KEY) is not None  # and it does not displace the first


def test_the_key_is_of_the_content_of_the_model(cache: EngineCache, tmp_path: Path) -> None:
    keys = []
    for content in (b'one', b'two'):
        (tmp_path / 'net.onnx').write_bytes(content)
        keys.append(cache.key(tmp_path / 'net.onnx', TARGET, 'fp16', 8))
    assert keys[0].name != keys[1].name and keys[0].model == 'net'


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def rewritten(cache: EngineCache, **changes: object) -> None:
    """Change values in the record, as somebody would who does not know its checksum."""
    file = cache.record_file(KEY)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(('harm', 'reason'), [
    (lambda cache: flip(cache.plan_file(KEY), 1000), 'not the one that was built'),
    (lambda cache: cache.plan_file(KEY).write_bytes(PLAN[:-1]), 'not the one that was built'),
    (lambda cache: cache.plan_file(KEY).write_bytes(b''), 'not the one that was built'),
    (lambda cache: cache.plan_file(KEY).unlink(), 'a record and no engine'),
    (lambda cache: cache.record_file(KEY).write_bytes(b''), 'damaged'),
    (lambda cache: cache.record_file(KEY).write_bytes(b'\xff\x00'), 'damaged'),
    (lambda cache: cache.record_file(KEY).write_bytes(b'[' * 100_000), 'damaged'),
    (lambda cache: cache.record_file(KEY).write_text('[1, 2]'), 'another version of this package'),
    (lambda cache: cache.record_file(KEY).write_text('{"format": 7}'), 'another version of this package'),
    (lambda cache: rewritten(cache, precision='fp16'), 'altered'),
    (lambda cache: rewritten(cache, plan_sha256='00' * 32), 'altered'),
    (lambda cache: rewritten(cache, most='8'), 'altered'),
    (lambda cache: rewritten(cache, given_up='never mind'), 'altered'),
    (lambda cache: cache.record_file(KEY).write_bytes(record_of(replace(KEY, most=1)).to_json()), 'another model, GPU'),
])
def test_what_was_altered_is_discarded_and_said(kept: EngineCache, said: list[str], harm: object, reason: str) -> None:
    harm(kept)  # type: ignore[operator]
    assert kept.find(KEY) is None
    assert len(said) == 1 and reason in said[0] and 'discarded' in said[0] and str(kept.plan_file(KEY)) in said[0]
    assert not kept.record_file(KEY).exists() and not kept.plan_file(KEY).exists()
    assert kept.keep(KEY, PLAN, record_of(KEY)) == '' and kept.find(KEY) is not None


def test_a_link_is_not_followed(kept: EngineCache, tmp_path: Path) -> None:
    elsewhere = tmp_path / 'plan'
    os.replace(kept.plan_file(KEY), elsewhere)
    kept.plan_file(KEY).symlink_to(elsewhere)
    assert kept.find(KEY) is None


def test_an_engine_that_was_given_up_has_a_record_and_no_file(kept: EngineCache) -> None:
    record = record_of(KEY, b'', precision='', given_up='fp32: failed')
    assert kept.keep(KEY, b'', record) == ''
    assert kept.find(KEY) == (b'', record) and not kept.plan_file(KEY).exists()


@pytest.mark.parametrize('mode', [0o770, 0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_neither_read_nor_written(kept: EngineCache, mode: int) -> None:
    kept.folder.chmod(mode)
    assert f"run 'chmod go-w {kept.folder}'" in kept.unsafe()
    assert kept.find(KEY) is None and kept.records() == [] and kept.timing(TARGET) == b''
    assert 'chmod go-w' in kept.keep(KEY, PLAN, record_of(KEY)) and 'chmod go-w' in kept.why_not()
    with kept.lock(KEY):  # without one, rather than not at all
        pass
    kept.folder.chmod(0o700)
    assert kept.find(KEY) is not None


def test_a_folder_of_another_user_is_not_read(kept: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'geteuid', lambda: 4321)
    owner = kept.folder.stat().st_uid
    assert ('belongs to another user' in kept.unsafe()) == (owner != 0)  # root may do anything anyhow
    if owner == 0:
        os.chown(kept.folder, 1234, -1)
        assert 'belongs to another user' in kept.unsafe() and kept.find(KEY) is None


def test_a_file_that_others_can_write_to_counts_where_they_can_reach_it(kept: EngineCache, said: list[str]) -> None:
    kept.plan_file(KEY).chmod(0o666)
    assert kept.find(KEY) is not None
    kept.folder.chmod(0o755)
    assert kept.find(KEY) is None and 'other users can write to it' in said[0]


@pytest.mark.parametrize('failing', ['fsync', 'replace'])
def test_a_full_disk_leaves_what_was_there(kept: EngineCache, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(cache_module.os, failing, full)
        problem = kept.keep(KEY, b'another', record_of(KEY, b'another'))
        kept.keep_timing(KEY, b'learned')
    assert 'No space left on device' in problem and 'free some space' in problem and str(kept.folder) in problem
    assert not list(kept.folder.glob('*.tmp'))
    found = kept.find(KEY)
    assert found is None if failing == 'replace' else found == (PLAN, record_of(KEY))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    cache = EngineCache(tmp_path / 'file' / 'engines')
    assert cache.find(KEY) is None and cache.records() == [] and cache.timing(TARGET) == b''
    for problem in (cache.why_not(), cache.keep(KEY, PLAN, record_of(KEY))):
        assert str(cache.folder) in problem and 'XDG_CACHE_HOME' in problem
    with cache.lock(KEY), cache.turn(KEY):
        cache.keep_timing(KEY, b'learned')
        cache.discard(KEY)


def test_a_read_only_cache_is_read(kept: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def read_only(path: object, flags: int, *arguments: object, **named: object) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, 'Read-only file system')
        return opened(path, flags, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(cache_module.os, 'open', read_only)
    assert kept.find(KEY) is not None and 'Read-only' in kept.why_not()
    with kept.lock(KEY):
        assert 'Read-only' in kept.keep(KEY, PLAN, record_of(KEY))
    assert kept.find(KEY) is not None


def test_timing_is_per_processor_and_checked(cache: EngineCache) -> None:
    cache.keep_timing(KEY, b'learned\nmuch')
    assert cache.timing(TARGET) == b'learned\nmuch'
    assert cache.timing(replace(TARGET, version='11.0')) == b''
    flip(next(cache.folder.glob('*.timing')), 70)
    assert cache.timing(TARGET) == b''


def test_a_lock_is_for_one_and_announced(cache: EngineCache) -> None:
    inside, order, texts = threading.Event(), [], []

    def second() -> None:
        inside.wait()
        with cache.lock(KEY, texts.append):
            order.append('second')

    thread = threading.Thread(target=second)
    thread.start()
    with cache.lock(KEY):
        with cache.lock(replace(KEY, most=1)):  # another engine is no matter
            inside.set()
        while not texts:
            time.sleep(0.01)
        order.append('first')
    thread.join()
    assert order == ['first', 'second']
    assert texts == ['pose_landmark_full: another process is building this engine; waiting for it']


def test_waiting_for_a_lock_can_be_ended(cache: EngineCache) -> None:
    def stop() -> None:
        raise InterruptedError

    with cache.lock(KEY):
        with pytest.raises(InterruptedError), cache.lock(KEY, beat=stop):
            raise AssertionError('two hold it')
        with pytest.raises(InterruptedError), cache.turn(KEY), cache.turn(replace(KEY, most=1), beat=stop):
            raise AssertionError('two engines at once')


def test_without_a_folder_there_is_still_one_at_a_time_in_a_process(tmp_path: Path) -> None:
    def stop() -> None:
        raise InterruptedError

    (tmp_path / 'file').touch()
    cache, other = (EngineCache(tmp_path / 'file' / 'engines') for _ in range(2))
    with cache.turn(KEY), pytest.raises(InterruptedError), other.turn(KEY, beat=stop):
        raise AssertionError('two at once')
    with cache.turn(KEY):
        pass


def test_a_killed_process_leaves_no_lock_and_no_litter(cache: EngineCache) -> None:
    """A process is killed while it writes an engine under the lock: half a file, and no engine."""
    script = f'''
import os, signal
from pose3d_ros.runtime import cache as module
from pose3d_ros.runtime.backend import Target
from pose3d_ros.runtime.engine_record import Key, Record
key = Key('pose_landmark_full', 'ab' * 32, Target(**{asdict(TARGET)!r}), 'fp16', 8)
cache = module.EngineCache({str(cache.folder)!r})
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
with cache.lock(key):
    cache.keep(key, b'half', None)
'''
    result = subprocess.run([sys.executable, '-c', script], cwd=Path(__file__).parents[1], check=False)
    assert result.returncode == -9
    assert len(list(cache.folder.glob('*.tmp'))) == 1
    assert cache.find(KEY) is None
    with cache.lock(KEY):
        assert not list(cache.folder.glob('*.tmp'))
        assert cache.keep(KEY, PLAN, record_of(KEY)) == ''
    assert cache.find(KEY) is not None
