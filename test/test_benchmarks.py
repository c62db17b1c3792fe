"""The arithmetic of the benchmarks and of the page that shows their results."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.opening import open_engine

FOLDER = Path(__file__).parents[1] / 'benchmarks'


def load(name: str) -> ModuleType:
    """Return a script of benchmarks/, which is not a package."""
    spec = importlib.util.spec_from_file_location(f'benchmark_{name}', FOLDER / f'{name}.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        spec.loader.exec_module(module)
    return module


def test_delays_count_after_the_warm_up_and_lost_frames_show() -> None:
    delay = load('delay')
    stamps = 100.0 + np.arange(0, 300) / 30.0
    kept = np.ones(300, dtype=bool)
    kept[200:215] = False
    delays = np.where(stamps - 100.0 > delay.WARM_UP_S, 20.0, 900.0)  # slow while models load
    heard = {'stamps_s': stamps[kept].tolist(), 'delays_ms': delays[kept].tolist(), 'people': [1.0] * int(kept.sum())}
    figures = delay.figures(heard, 30.0)
    assert figures['latency_p50_ms'] == figures['latency_p99_ms'] == 20.0
    settled = int((stamps - 100.0 > delay.WARM_UP_S).sum())
    assert figures['frames_dropped_share'] == pytest.approx(15 / settled)


def test_silence_is_an_error_and_not_a_figure() -> None:
    for heard in ([], [1.0]):
        with pytest.raises(RuntimeError, match='0 messages'):
            load('delay').figures({'stamps_s': heard, 'delays_ms': heard, 'people': heard}, 30.0)


@pytest.mark.ros
def test_frames_of_several_cameras_count_after_the_warm_up_and_their_processor_time_always() -> None:
    pytest.importorskip('pose3d_ros.msg')
    multi = load('multi_node')
    stamps = np.repeat(np.arange(0.0, multi.WARM_UP_S + 5.0, 0.1), 4)
    delays = np.where(stamps >= multi.WARM_UP_S, 30.0, 800.0)
    answer = {'stamps_s': stamps.tolist(), 'delays_ms': delays.tolist(), 'seconds': 5.0,
              'cpu_s': 0.02 * len(stamps), 'memory_mb': 300.0}
    figures = multi.summary([answer, answer])
    assert figures == pytest.approx({'frames_per_s': 40.0, 'latency_p50_ms': 30.0, 'latency_p95_ms': 30.0,
                                     'cpu_ms_per_frame': 20.0, 'memory_mb': 300.0}, rel=0.02)
    with pytest.raises(RuntimeError, match='0 messages'):
        multi.summary([{**answer, 'stamps_s': [], 'delays_ms': []}])


def test_the_page_shows_variants_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = load('results')
    monkeypatch.setattr(results, 'KEPT', tmp_path)
    (tmp_path / 'sample.json').write_text(json.dumps({
        'command': 'pose3d evaluate sample', 'commit': 'abc', 'date': '2026-01-01', 'machine': 'two cores',
        'figures': {'swap_share': 0.0123, 'full': {'mpjpe_mm': 108.4}, 'heavy': {'mpjpe_mm': None}}}))
    page = results.page()
    assert '## sample' in page and '`pose3d evaluate sample`, commit abc' in page
    assert '| figure | all | full | heavy |' in page
    assert '| swap_share | 0.0123 |  |  |' in page
    assert '| mpjpe_mm |  | 108 |  |' in page


def test_a_topic_of_several_commands_replaces_one_part_and_keeps_the_others(tmp_path: Path,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    results = load('results')
    monkeypatch.setattr(results, 'KEPT', tmp_path)
    about = {'command': 'pose3d evaluate lifter', 'commit': 'abc', 'date': '2026-01-01', 'machine': 'two cores'}
    topic = results.with_part({}, 'lifter', about, {'robot.mrpe_mm': 250.0, 'robot.old': 1.0})
    topic = results.with_part(topic, 'speed', {**about, 'command': 'benchmarks/lift.py'}, {'lift_1_ms': 0.2})
    topic = results.with_part(topic, 'lifter', about, {'robot.mrpe_mm': 190.0, 'robot_up.mrpe_mm': 180.0})
    assert topic['figures'] == {'lift_1_ms': 0.2, 'robot.mrpe_mm': 190.0, 'robot_up.mrpe_mm': 180.0}
    with pytest.raises(ValueError, match='robot'):
        results.with_part(topic, 'other', about, {'robot.mpjpe_mm': 1.0})
    (tmp_path / 'absolute.json').write_text(json.dumps(topic))
    assert results.headlines('absolute', topic) == []                  # a line needs all of its figures
    topic['figures']['lift_8_ms'] = 0.456
    assert results.headlines('absolute', topic) == [['lifting one person; eight | 0.20; 0.46 ms', 'benchmarks/lift.py']]
    page = results.page()
    assert '### absolute: speed\n\n`benchmarks/lift.py`, commit abc' in page and '| lift_1_ms | 0.2 |' in page
    assert '| | mrpe_mm |\n| --- | ---: |\n| robot | 190 |\n| robot_up | 180 |\n' in page
    assert 'png' not in page
    topic = results.with_part(topic, 'lifter', about, {
        'robot.mrpe_mm': 190.0, 'robot_up.mrpe_mm': 180.0, 'robot.half_ratio': 1.2})
    (tmp_path / 'absolute.json').write_text(json.dumps(topic))
    (tmp_path / 'absolute').mkdir()
    (tmp_path / 'absolute' / 'distance.png').touch()
    page = results.page()
    assert '| robot | 190 |' in page and '| robot.half_ratio | 1.2 |' in page
    assert '![distance](results/absolute/distance.png)' in page


def test_parts_are_measured_flat_and_under_their_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = load('results')
    monkeypatch.setattr(results, 'KEPT', tmp_path)
    tool = tmp_path / 'tool.py'
    tool.write_text('import json, sys\njson.dump({"heavy": {"cam01": {"mrpe_mm": 3}}, "frames": 4}, '
                    'open(sys.argv[sys.argv.index("--json") + 1], "w"))\n')
    results.keep('absolute', [sys.executable, str(tool)], 'sample', 'sample_')
    kept = json.loads((tmp_path / 'absolute.json').read_text())
    assert kept['figures'] == {'sample_heavy.cam01.mrpe_mm': 3, 'sample_frames': 4}
    assert kept['parts']['sample']['groups'] == ['sample_frames', 'sample_heavy.cam01']
    assert kept['parts']['sample']['command'].endswith('tool.py')
    # Another part may have figures of the same first word, but none of the same group.
    both = results.with_part(kept, 'other', {'command': 'x'}, {'sample_heavy.cam02.mrpe_mm': 5})
    assert both['figures']['sample_heavy.cam01.mrpe_mm'] == 3 and both['figures']['sample_heavy.cam02.mrpe_mm'] == 5
    for name in ('sample_heavy.cam01.mpjpe_mm', 'sample_heavy.share'):
        with pytest.raises(ValueError, match='sample_heavy'):
            results.with_part(kept, 'other', {'command': 'x'}, {name: 5})


def test_the_baseline_of_lifting_is_a_network_of_the_published_size(tmp_path: Path) -> None:
    onnx = pytest.importorskip('onnx')
    lift = load('lift')
    network = lift.published_network(64, joints_in=13, joints_out=17)
    weights = sum(int(np.prod(tensor.dims)) for tensor in network.graph.initializer)
    assert weights == (29 + 1) * 64 + 4 * (64 + 1) * 64 + (64 + 1) * 49 + 5 * 2 * 64   # linear layers, batch norms
    onnx.save(network, tmp_path / 'n.onnx')
    engine = open_engine(tmp_path / 'n.onnx', Wanted('cpu', threads=1))
    output, = engine.run({'features': np.ones((8, 29), dtype=np.float32)}).values()
    assert output.shape == (8, 49) and np.isfinite(output).all() and output.std() > 0


def test_medians_are_taken_per_candidate_paced_and_not() -> None:
    calls: list[str] = []
    figures = load('lift').measure({name: lambda name=name: calls.append(name) for name in ('a', 'b')}, 2, 5, 1)
    assert set(figures) == {'a_ms', 'a_paced_ms', 'b_ms', 'b_paced_ms'} and min(figures.values()) >= 0
    assert calls.count('a') == calls.count('b') == 2 * (20 + 5 + 1)


def test_the_page_in_the_repository_is_up_to_date() -> None:
    results = load('results')
    if not results.PAGE.exists():
        pytest.skip('no result has been kept yet: benchmarks/results.py keep ...')
    assert results.PAGE.read_text() == results.page()
    assert results.README.read_text() == results.readme()


def test_no_path_of_this_environment_reaches_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PYTHONPATH', '/somewhere')
    assert 'PYTHONPATH' not in load('peer').clean_environment()
