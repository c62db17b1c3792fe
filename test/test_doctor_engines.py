"""`pose3d doctor`: engines that work and do not, models, and the cache."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stub_backend import TOOLS, VARIABLE, Stub, StubBackend, StubEngine, save_network

from pose3d_ros.cli.doctor import caches, probe, probed, working_engines
from pose3d_ros.cli.doctor.findings import NOTE, OK, PROBLEM, Finding
from pose3d_ros.cli.doctor.machine import Gpus
from pose3d_ros.cli.doctor.probe import Reply
from pose3d_ros.cli.networks import Network
from pose3d_ros.lift import LIFTERS
from pose3d_ros.runtime.backend import Progress, Target
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.catalogue import CATALOGUE
from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.manager import prepare
from pose3d_ros.runtime.store import ModelCorrupt, ModelMissing
from pose3d_ros.runtime.trt import backend as trt_backend

NO_GPU, GPU = Gpus(), Gpus(('NVIDIA Test, driver 550.1, 8192 MiB, compute capability 8.9',))
TARGET = Target('TensorRT', '10.3', 'NVIDIA Test', '8.9')
WORKS = {'provider': 'CPUExecutionProvider', 'precision': 'fp32', 'ms': 0.5, 'finite': True, 'remarks': []}
NO_CUDA = {'error': 'this ONNX Runtime cannot use CUDA: install onnxruntime-gpu'}


def only(findings: Iterable[Finding], name: str) -> Finding:
    found = [finding for finding in findings if finding.name == name]
    assert len(found) == 1, found
    assert found[0].cure or found[0].level == OK
    return found[0]


def answers(**said: Any) -> Callable[..., Reply]:
    """Return a stand-in for probe.ask: cpu, cuda, tensorrt: the answers, or a text with which the process failed."""
    def ask(question: str, argument: str = '', **names: float) -> Reply:
        answer = said[argument if question == 'engine' else question]
        return Reply((), answer, ()) if isinstance(answer, str) else Reply(tuple(answer), '', ())
    return ask


@pytest.mark.parametrize(('said', 'gpus', 'levels', 'auto'), [
    ({'cpu': [WORKS], 'cuda': [NO_CUDA], 'tensorrt': [{'why_not': 'there is no NVIDIA GPU'}]}, NO_GPU, (OK, OK, OK),
     'takes the CPU'),
    ({'cpu': [WORKS], 'cuda': [NO_CUDA], 'tensorrt': [{'why_not': 'pip install tensorrt'}]}, GPU, (OK, NOTE, NOTE),
     'takes the CPU'),
    ({'cpu': [WORKS], 'cuda': [WORKS], 'tensorrt': [{'target': asdict(TARGET)}, WORKS]}, GPU, (OK, OK, OK),
     'takes TensorRT'),
    ({'cpu': [WORKS], 'cuda': [WORKS], 'tensorrt': [{'target': asdict(TARGET)}, {'error': 'out of memory'}]}, GPU,
     (OK, OK, PROBLEM), 'takes ONNX Runtime with CUDA'),
    ({'cpu': [WORKS], 'cuda': 'crashed (SIGSEGV)', 'tensorrt': 'gave no answer within 40 s'}, GPU,
     (OK, NOTE, PROBLEM), 'takes the CPU'),
    ({'cpu': 'crashed (SIGILL)', 'cuda': [NO_CUDA], 'tensorrt': [{'why_not': 'no GPU'}]}, NO_GPU, (PROBLEM, OK, OK),
     None),
    ({'cpu': [{**WORKS, 'finite': False}], 'cuda': [NO_CUDA], 'tensorrt': []}, NO_GPU, (PROBLEM, OK, NOTE), None)])
def test_engines_are_judged_by_what_they_do(said: dict[str, Any], gpus: Gpus, levels: tuple[str, ...],
                                            auto: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_engines, 'ask', answers(**said))
    monkeypatch.setattr(working_engines, 'relayed', lambda *args: [])
    monkeypatch.setattr(working_engines, 'distributions', lambda path: {'onnxruntime': '1.2'})
    found = list(working_engines.engines(gpus))
    assert tuple(only(found, name).level for name in ('CPU', 'CUDA', 'TensorRT')) == levels
    assert [finding.text for finding in found if finding.name == 'runtime: auto'] == ([auto] if auto else [])


def test_a_gpu_package_that_cannot_use_the_gpu_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_engines, 'distributions', lambda path: {'onnxruntime-gpu': '1.2'})
    finding = working_engines.cuda_missing('lifter runs on CPUExecutionProvider instead of CUDA', GPU)
    assert finding.level == PROBLEM and 'onnxruntime-gpu is installed, but' in finding.text and finding.cure
    assert working_engines.cuda_missing('no', NO_GPU).level == NOTE


def test_the_lifter_really_runs_on_the_cpu() -> None:
    reply = probe.ask('engine', 'cpu')
    assert not reply.failed and reply.answers[0]['finite'] and reply.answers[0]['ms'] > 0
    wrong = probe.ask('engine', 'abacus')
    assert 'abacus' in wrong.answers[0]['error'] or 'abacus' in wrong.failed


class PlainBackend(StubBackend):
    """TensorRT as it should be: what it builds is the network in the precision that it was given."""

    def build(self, model: bytes, most: int, timing: bytes, progress: Progress) -> tuple[bytes, bytes]:
        return model, b''

    def load(self, plan: bytes, model: Path, precision: str) -> StubEngine:
        return StubEngine(plan, precision)


def test_on_a_gpu_the_lifter_is_built_kept_and_run_as_the_nodes_do(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(trt_backend, 'TensorRTBackend', PlainBackend)
    target, ran = probed._tensorrt(None)
    assert target == {'target': asdict(PlainBackend().target())}
    assert ran['finite'] and ran['precision'] == 'fp16' and ran['provider'] == 'StubExecutionProvider'
    kept, *_ = probed._kept(target['target'])
    assert kept['name'] == 'cached lifter' and kept['level'] == OK and 'fp16: passed the self-check' in kept['text']


def test_without_engines_the_first_start_is_foretold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    found = list(probe.relayed('kept', asdict(TARGET)))
    assert only(found, 'cached').text == 'no engines'
    assert only(found, 'not built yet').text.startswith('lifter: ')  # no other network is there


class Store:
    """Stands in for the model store: name -> an error, or a path."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors

    def path(self, name: str) -> Path:
        if name in self.errors:
            raise self.errors[name]
        return Path(__file__)


def test_models_are_judged_by_whether_they_are_needed() -> None:
    missing = ModelMissing("x is not in the cache: run 'pose3d fetch x'")
    altered = ModelCorrupt("a.onnx was altered: run 'pose3d fetch --force x'")
    found = list(caches.models(Store(pose_detection=missing, pose_landmark_heavy=missing, sample=missing,
                                     pose_landmark_lite=altered)))
    assert [finding.name for finding in found] == list(CATALOGUE)
    levels = {finding.name: finding.level for finding in found}
    assert levels == {'pose_detection': PROBLEM, 'pose_landmark_full': OK, 'pose_landmark_lite': PROBLEM,
                      'pose_landmark_heavy': OK, 'sample': OK}
    assert only(found, 'pose_landmark_lite').cure == "run 'pose3d fetch --force x'"


def test_a_lifter_that_the_installation_lacks_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {(found.name, found.level) for found in caches.lifters()} == {(f'lifter {name}', OK) for name in LIFTERS}
    monkeypatch.setattr(caches, 'lifter_file', lambda name: tmp_path / name)
    (tmp_path / 'window').write_text('weights')
    found = list(caches.lifters())
    assert only(found, 'lifter window').level == OK and only(found, 'lifter parts').level == PROBLEM
    assert 'install' in only(found, 'lifter parts').cure


def test_a_cache_that_others_can_write_to_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / 'engines').mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    assert {finding.level for finding in caches.folder(tmp_path)} <= {OK, NOTE}
    (tmp_path / 'engines').chmod(0o770)
    found = [finding for finding in caches.folder(tmp_path) if finding.level == PROBLEM]
    assert len(found) == 1 and '0770' in found[0].text and f'chmod 700 {tmp_path / "engines"}' in found[0].cure


def test_a_cache_of_another_user_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'geteuid', lambda: 4711)
    found = list(caches.permissions(tmp_path))
    if tmp_path.stat().st_uid == 0:  # made with sudo, or part of an image: to be read, not written
        assert found[0].level == NOTE
    else:
        assert found[0].level == PROBLEM and 'chown' in found[0].cure


def test_room_and_place_of_the_cache_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
    found = list(caches.folder(tmp_path / 'not' / 'yet'))
    assert only(found, 'XDG_CACHE_HOME').level == NOTE and 'not there yet' in only(found, 'place').text
    assert not (tmp_path / 'not').exists()
    for free, level in ((1 << 20, PROBLEM), (1 << 30, NOTE), (1 << 40, OK)):
        usage = SimpleNamespace(free=free, total=1 << 41)
        monkeypatch.setattr(caches.shutil, 'disk_usage', lambda path, usage=usage: usage)
        assert only(caches.folder(tmp_path), 'disk').level == level

    def refuse(dir: Path) -> None:
        raise OSError(30, 'Read-only file system')

    monkeypatch.setattr(caches.tempfile, 'TemporaryFile', refuse)
    finding = only(caches.folder(tmp_path), 'writing')
    assert finding.level == NOTE and 'Read-only' in finding.text and 'XDG_CACHE_HOME' in finding.cure


def test_engines_in_the_cache_are_told_with_what_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, '')
    cache, backend, network = EngineCache(tmp_path / 'engines'), StubBackend(), save_network(tmp_path / 'tiny.onnx')
    assert only(caches.kept(cache, None, {}), 'cached').text == 'no engines'
    Stub(error={'fp16': 0.5}).save(tmp_path / 'orders.json')
    said: list[str] = []
    prepare(network, backend, cache, say=said.append, in_process=True, tools=TOOLS).engine.close()
    target = backend.target()
    here = only(caches.kept(cache, target, {'tiny': network}), 'cached tiny')
    assert here.level == OK and 'mixed' in here.text and 'fp16: failed the self-check: 50 % off' in here.text
    for now, models, reason in ((replace(target, version='2'), {}, 'built by StubRT 1.0'),
                                (replace(target, device='Other'), {}, 'another GPU'),
                                (target, {'tiny': save_network(tmp_path / 'new.onnx', 5.0)}, 'another file')):
        stale = only(caches.kept(cache, now, models), 'cached tiny')
        assert stale.level == NOTE and reason in stale.text and stale.cure == 'pose3d build-engines --clear --stale'
    Stub(faults={'fp16': 'error', 'mixed': 'error', 'fp32': 'error'}).save(tmp_path / 'orders.json')
    with pytest.raises(EngineError):
        prepare(network, backend, cache, most=2, say=said.append, in_process=True, tools=TOOLS)
    given_up = [found for found in caches.kept(cache, target, {}) if found.level == NOTE]
    assert len(given_up) == 1 and 'Conv_7' in given_up[0].text and '--clear tiny' in given_up[0].cure
    for most, count in ((8, 0), (11, 1)):
        lacking = list(caches.unbuilt(cache, target, [Network('tiny', tmp_path / 'tiny.onnx', most)]))
        assert [found.cure for found in lacking] == count * ['pose3d build-engines']
    cache.folder.chmod(0o777)
    unsafe = list(caches.kept(cache, target, {}))
    assert {found.level for found in unsafe} == {NOTE} and 'other users' in unsafe[0].text
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o777  # the doctor looks, and changes nothing
