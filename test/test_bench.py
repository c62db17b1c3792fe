"""`pose3d bench`: turns, figures and what happens to a runtime that fails; mostly on stand-ins."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pose3d_ros.cli.bench import command as bench
from pose3d_ros.cli.bench import crowd
from pose3d_ros.cli.bench.turns import CandidateFailed, Times, Worker, percentiles, take_turns
from pose3d_ros.cli.bench.worker import PIPELINE, Everything, Job, Network, opened, serve
from pose3d_ros.cli.main import main
from pose3d_ros.runtime.engine import EngineError, Wanted
from pose3d_ros.runtime.store import ModelStore

ABOUT = {'open_ms': 10.0, 'first_call_ms': 12.0, 'memory_mb': 5.0, 'precision': 'fp32', 'provider': 'Stub',
         'remarks': []}


class StubCandidate:
    """Takes as many ms as its batch says, times a factor; fails from a given block on."""

    def __init__(self, name: str, diary: list[tuple[str, int]], factor: float = 1.0, fails_at: int = 10 ** 9,
                 **about: Any) -> None:
        self.name, self.diary, self.factor, self.fails_at = name, diary, factor, fails_at
        self.about = {**ABOUT, 'sizes': [1, 4], **about}
        self.closed = 0

    def block(self, size: int, seconds: float) -> dict[str, list[float]]:
        self.diary.append((self.name, size))
        if sum(name == self.name for name, _ in self.diary) >= self.fails_at:
            raise CandidateFailed(f'{self.name} caught fire')
        return {'total': [self.factor * size] * 3, 'detect': [0.5] * 3, 'found': [size] * 3}

    def close(self) -> None:
        self.closed += 1


class StubEngine:
    """An engine of one input whose batch may be fixed."""

    inputs, outputs, provider, precision, remarks, status = ('x',), ('y',), 'Stub', 'fp32', (), ''
    metadata: dict[str, str] = {}

    def __init__(self, batch: int | None = None) -> None:
        self.input_shapes = {'x': (batch, 5)}
        self.batches: list[int] = []

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.batches.append(len(inputs['x']))
        if len(self.batches) > 100:
            raise EngineError('the engine\n is tired')
        return {'y': inputs['x']}

    def warm_up(self) -> None: ...

    def close(self) -> None: ...


def test_percentiles_of_known_times() -> None:
    assert percentiles([float(value) for value in range(101)]) == {'p50_ms': 50.0, 'p95_ms': 95.0, 'p99_ms': 99.0}
    assert all(math.isnan(value) for value in percentiles([]).values())


def test_every_candidate_has_as_many_blocks_and_another_one_begins_each_round() -> None:
    diary: list[tuple[str, int]] = []
    times = take_turns({'a': StubCandidate('a', diary), 'b': StubCandidate('b', diary, 2.0)}, 0.1, rounds=4)
    assert sorted(diary) == sorted(4 * [('a', 1), ('a', 4), ('b', 1), ('b', 4)])
    assert len({diary[4 * number] for number in range(4)}) == 4
    assert len(times['b'].values[4]['total']) == 4 * 3
    assert times['b'].figures()[4]['p50_ms'] == 8.0 == 2 * times['a'].figures()[4]['p95_ms']
    assert times['a'].figures()[4]['people_found'] == 4.0 and times['a'].figures()[1]['detect_p99_ms'] == 0.5


def test_a_candidate_that_fails_is_left_out_and_the_others_go_on() -> None:
    diary: list[tuple[str, int]] = []
    times = take_turns({'good': StubCandidate('good', diary), 'bad': StubCandidate('bad', diary, fails_at=3)}, 0.1, 5)
    assert [name for name, _ in diary].count('bad') == 3 and [name for name, _ in diary].count('good') == 10
    assert times['bad'].failure == 'bad caught fire' and not times['good'].failure
    assert 3 <= sum(len(values['total']) for values in times['bad'].values.values()) <= 6  # before it failed


def test_a_runtime_that_cannot_be_opened_is_reported_once_and_the_others_are_measured(
        capsys: pytest.CaptureFixture[str]) -> None:
    candidates: list[StubCandidate] = []

    def open_stub(job: Job) -> StubCandidate:
        if job.wanted.runtime == 'cuda':
            raise CandidateFailed('there is no CUDA here: buy a GPU')
        candidates.append(StubCandidate(job.wanted.runtime, [], precision=job.wanted.precision))
        return candidates[-1]

    report = bench.Report()
    subjects = [bench.Subject(name, f'{name}.onnx', (1, 4)) for name in ('full', 'lifter')]
    bench.measure(subjects, ('cpu', 'cuda', 'tensorrt'), 'fp16', 0, 0.05, report, open_stub)
    assert report.refused == {'there is no CUDA here: buy a GPU': ['full on cuda', 'lifter on cuda']}
    assert set(report.times) == {(ran_on, name) for ran_on in ('cpu', 'tensorrt_fp16') for name in ('full', 'lifter')}
    assert [candidate.closed for candidate in candidates] == [1] * 4
    bench.show(report)
    shown = capsys.readouterr().out
    assert re.search(r'full +tensorrt_fp16 +4 +4\.00 +4\.00 +4\.00 +1\.00 +15', shown)
    assert 'full on cuda, lifter on cuda: there is no CUDA here: buy a GPU' in shown


def test_a_failure_in_the_middle_is_reported_too() -> None:
    report = bench.Report()
    bench.measure([bench.Subject('full', 'full.onnx', (1, 4))], ('cpu',), 'auto', 0, 0.05, report,
                  lambda job: StubCandidate('cpu', [], fails_at=5))
    assert report.refused == {'cpu caught fire': ['full on cpu (further calls)']}
    assert report.times['cpu', 'full'].figures()[1]['p50_ms'] == 1.0


def test_figures_are_flat_with_their_units() -> None:
    report = bench.Report()
    values = {4: {'total': [3.0, 5.0], 'detect': [2.0, 2.0], 'found': [4.0, 4.0]}}
    report.times['cpu', PIPELINE] = Times({**ABOUT, 'gpu_memory_mb': 7.0}, values)
    report.times['tensorrt_fp16', 'full'] = Times({**ABOUT, 'precision': 'fp16'}, {4: {'total': [1.0]}})
    figures = bench.flat_figures(report)
    assert all(isinstance(value, (int, float, str)) for value in figures.values())
    assert all(re.fullmatch(r'[a-z0-9_]+(\.[a-z0-9_]+)+', key) for key in figures)
    assert figures['cpu.pipeline_4.p50_ms'] == 4.0 and figures['cpu.pipeline_4.detect_p95_ms'] == 2.0
    assert figures['cpu.pipeline_4.people_found'] == 4.0 and figures['cpu.pipeline.gpu_memory_mb'] == 7.0
    assert figures['tensorrt_fp16.full.batch_4_p99_ms'] == 1.0
    assert figures['tensorrt_fp16.full.first_call_ms'] == 12.0 and figures['tensorrt_fp16.full.precision'] == 'fp16'


def test_an_engine_that_was_just_built_is_opened_again_so_that_the_first_call_is_true() -> None:
    opening = iter([240_000.0, 300.0])
    candidates: list[StubCandidate] = []

    def open_stub(job: Job) -> StubCandidate:
        candidates.append(StubCandidate('t', [], open_ms=next(opening)))
        return candidates[-1]

    job = Job('full', 'full.onnx', Wanted('tensorrt'), (1,))
    candidate = bench.once_built(job, open_stub)
    assert candidate.about['open_ms'] == 300.0 and candidate.about['prepare_s'] == 240.0
    assert [each.closed for each in candidates] == [1, 0]


def test_a_job_is_the_same_in_the_other_process() -> None:
    job = Job('full', '/x/full.onnx', Wanted('tensorrt', 'fp16', 2), (1, 8), 11, 'uint8', 'own.yaml')
    assert Job.load(job.dump()) == job


def test_the_lifter_has_the_thread_it_has_in_the_pipeline() -> None:
    threads = {name: bench.Subject(name, '', (1,)).job('cpu', 'auto', 0).wanted.threads for name in ('lifter', 'full')}
    assert threads == {'lifter': 1, 'full': 0}
    assert bench.Subject('lifter', '', (1,)).job('cpu', 'auto', 2).wanted.threads == 2


def test_a_network_is_timed_in_each_batch_and_one_with_a_fixed_batch_in_that_one() -> None:
    engine = StubEngine()
    subject, about = opened(lambda: Network(engine, (1, 4)))
    assert about['sizes'] == [1, 4] and set(engine.batches) == {1, 4}
    assert 0 <= about['open_ms'] <= about['first_call_ms'] and about['provider'] == 'Stub'
    assert Network(StubEngine(batch=2), (1, 4)).sizes == (2,)
    assert Network(StubEngine(batch=2), (1, 4)).prepare(2)()['total'] >= 0


def test_a_process_answers_in_lines_and_says_what_is_wrong_in_one() -> None:
    engine, answers = StubEngine(), io.StringIO()
    questions = [json.dumps({'size': 4, 'seconds': 0.0}), json.dumps({'size': 4, 'seconds': 100.0})]
    serve(Job('x', '', Wanted(), (1, 4)), lambda job: lambda: Network(engine, job.sizes), questions, answers)
    about, first, second = map(json.loads, answers.getvalue().splitlines())
    assert about['sizes'] == [1, 4] and len(first['values']['total']) == 3
    assert second == {'error': 'the engine is tired'}


def test_the_pipeline_is_timed_by_stage_on_frames_in_order() -> None:
    stamps, resets = [], []

    def pipeline(frame: Any) -> Any:
        stamps.append(frame.stamp_ns)
        return SimpleNamespace(stage_ms={'detect': 5.0, 'lift': 1.0}, people=[1, 2])

    stub: Any = pipeline
    stub.reset = lambda: resets.append(len(stamps))
    subject = Everything(stub, {count: crowd.frames(count, ModelStore('/nowhere')) for count in (1, 2)})
    values = [subject.prepare(2)() for _ in range(3)]
    assert values[0]['detect'] == 5.0 and values[0]['found'] == 2 and values[0]['total'] >= 0
    assert stamps == sorted(set(stamps)) and resets == [0, 1, 2]


def test_scenes_hold_as_many_people_as_wanted_all_alike_in_size(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)                                          # nothing fetched: drawn people
    empty = crowd.frames(0, store)[0].image
    for count in (1, 3, 8):
        scene = crowd.frames(count, store)
        there = np.abs(scene[0].image.astype(int) - empty).max(axis=2) > 40
        cells = there.reshape(2, 360, 4, 320).any(axis=(1, 3)).ravel()
        assert cells.sum() == count and cells[:count].all()
        assert len(scene) == 2 * crowd.FRAMES - 2                   # forth and back
        assert all((a.image != b.image).any() for a, b in zip(scene, scene[1:]))
    with pytest.raises(ValueError, match='9 people'):
        crowd.frames(9, store)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return a small network of any batch."""
    onnx = pytest.importorskip('onnx')
    from onnx import TensorProto, helper, numpy_helper
    weight = numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), 'w')
    graph = helper.make_graph(
        [helper.make_node('MatMul', ['x', 'w'], ['y'])], 'tiny',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, ['N', 3])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, ['N', 2])], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8),
              tmp_path / 'tiny.onnx')
    return tmp_path / 'tiny.onnx'


def test_the_command_measures_a_file_in_a_process_of_its_own(tiny: Path, tmp_path: Path,
                                                             capfd: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / 'figures.json'
    assert main(['bench', '--models', str(tiny), '--people', '--runtimes', 'cpu', 'cuda', '--batch', '1', '2',
                 '--seconds', '0.1', '--json', str(written)]) == 0
    figures, shown = json.loads(written.read_text()), capfd.readouterr().out
    for size in (1, 2):
        assert 0 < figures[f'cpu.tiny.batch_{size}_p50_ms'] <= figures[f'cpu.tiny.batch_{size}_p99_ms']
    assert figures['cpu.tiny.first_call_ms'] > figures['cpu.tiny.batch_1_p50_ms']
    assert 1 < figures['cpu.tiny.memory_mb'] < 1000                       # ONNX Runtime itself is part of it
    assert figures['cores'] >= 1 and figures['load_before'] >= 0
    assert 'cuda.tiny.batch_1_p50_ms' in figures or 'tiny on cuda: ' in shown


def test_a_process_that_dies_is_a_reason_and_not_the_end(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Job, 'dump', lambda job: 'no JSON')
        with pytest.raises(CandidateFailed, match='process ended with 1'):
            Worker(Job('tiny', str(tiny), Wanted('cpu'), (1,)))
    with Worker(Job('tiny', str(tiny), Wanted('cpu'), (1,))) as worker:
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(CandidateFailed, match='killed by signal 9'):
            worker.block(1, 0.01)


def test_what_cannot_be_measured_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert main(['bench', '--models', 'full', '--people', '--runtimes', 'cpu', '--seconds', '0.1']) == 1
    out, err = capsys.readouterr()
    assert 'full: pose_landmark_full' in out and 'pose3d fetch' in out and 'nothing could be measured' in err
    other = tmp_path / 'other'
    other.mkdir()
    for path in (tmp_path / 'same.onnx', other / 'same.onnx'):
        path.touch()
    for wrong, said in ((['--models', 'nobody'], 'nobody'), (['--people', '9'], '8 at most'),
                        (['--seconds', '0'], 'more than 0'), (['--models', 'nobody.yaml'], 'check the path'),
                        (['--models', str(tmp_path / 'same.onnx'), str(other / 'same.onnx')], 'rename one')):
        assert main(['bench', *wrong]) == 1
        assert said in capsys.readouterr().err
