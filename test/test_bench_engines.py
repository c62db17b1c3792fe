"""The benchmarks of engines: paired ratios, networks in PyTorch, sessions, and the figures that are kept."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / 'benchmarks'
KEPT = ROOT / 'docs' / 'results' / 'engines.json'
NETWORKS = ('pose_detection', 'pose_landmark_full', 'lifter')
onnx = pytest.importorskip('onnx')


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Return a function that imports a script of benchmarks/, which is not a package."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))

    def load_one(name: str) -> ModuleType:
        return __import__(name)

    yield load_one
    for name in set(sys.modules) - before:
        if (FOLDER / f'{name}.py').exists():
            del sys.modules[name]


def small_network(path: Path, operator: str = 'Sigmoid') -> Path:
    """Write a network with every operator that the BlazePose networks have."""
    from onnx import TensorProto, helper, numpy_helper
    rng = np.random.default_rng(0)
    constants = {
        'w': rng.normal(0, 0.5, (8, 3, 3, 3)).astype(np.float32), 'b': rng.normal(0, 1, 8).astype(np.float32),
        'd': rng.normal(0, 0.5, (8, 1, 2, 2)).astype(np.float32), 'zero': np.float32(0), 'six': np.float32(6),
        'pads': np.array([0, 1, 0, 0, 0, 0, 1, 1]), 'scales': np.array([1, 1, 2, 2], dtype=np.float32),
        'sizes': np.array([0, -1, 4])}
    nodes = [
        helper.make_node('Conv', ['image', 'w', 'b'], ['a'], pads=[0, 0, 1, 1], strides=[2, 2], kernel_shape=[3, 3]),
        helper.make_node('Clip', ['a', 'zero', 'six'], ['c']),
        helper.make_node('Conv', ['c', 'd'], ['e'], group=8, kernel_shape=[2, 2]),
        helper.make_node('Pad', ['e', 'pads'], ['f']),                    # 9 channels
        helper.make_node('MaxPool', ['f'], ['g'], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node('Resize', ['g', '', 'scales'], ['h'], mode='linear',
                         coordinate_transformation_mode='half_pixel'),
        helper.make_node('Add', ['f', 'h'], ['i']),
        helper.make_node(operator, ['i'], ['j']),
        helper.make_node('Concat', ['j', 'j', 'j', 'j'], ['k'], axis=1),
        helper.make_node('DepthToSpace', ['k'], ['l'], blocksize=2, mode='DCR'),
        helper.make_node('Transpose', ['l'], ['m'], perm=[0, 2, 3, 1]),
        helper.make_node('Reshape', ['m', 'sizes'], ['result'])]
    graph = helper.make_graph(
        nodes, 'small', [helper.make_tensor_value_info('image', TensorProto.FLOAT, ['N', 3, 16, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ['N', *shape])
         for name, shape in (('result', (None, 4)), ('h', (9, 8, 8)))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), path)
    return path


def test_a_network_in_torch_computes_what_its_onnx_file_does(tmp_path: Path, load) -> None:
    torch = pytest.importorskip('torch')
    path = small_network(tmp_path / 'small.onnx')
    session = load('sessions').open_session(path, load('sessions').Settings(threads=1))
    image = np.random.default_rng(1).normal(0, 1, (3, 3, 16, 16)).astype(np.float32)
    network = load('onnx_in_torch').OnnxInTorch(path).eval()
    with torch.inference_mode():
        outputs = network(torch.from_numpy(image))
    for expected, output in zip(session.run(None, {'image': image}), outputs, strict=True):
        np.testing.assert_allclose(output.numpy(), expected, atol=1e-5)
    with pytest.raises(ValueError, match='Erf .* is not known'):
        load('onnx_in_torch').OnnxInTorch(small_network(tmp_path / 'other.onnx', 'Erf'))


def test_ratios_are_formed_within_rounds(load) -> None:
    paired = load('paired')
    slow_machine = [1.0, 1.0, 10.0]                                       # the last round on a busy one
    fast, slow = (paired.Series([[factor * share] * 5 for share in slow_machine], [factor * 2 for _ in slow_machine])
                  for factor in (1.0, 3.0))
    assert paired.ratio(fast, slow) == pytest.approx(1 / 3)
    assert paired.cpu_ratio(slow, fast) == pytest.approx(3.0)
    assert slow.percentile(50) == 3.0
    assert paired.geometric_mean([0.5, 2.0]) == pytest.approx(1.0)


def test_candidates_take_turns_and_the_slower_one_shows(load) -> None:
    calls: list[str] = []

    def quick() -> None:
        calls.append('quick')

    def slow() -> None:
        calls.append('slow')
        time.sleep(0.002)

    series = load('paired').paired({'quick': quick, 'slow': slow}, 0.02, 4)
    assert len(series['quick'].rounds) == len(series['slow'].cpu) == 4
    assert load('paired').ratio(series['quick'], series['slow']) < 0.5
    changes = [a for a, b in zip(calls, calls[1:]) if a != b]
    assert len(changes) == 4 * 2 - 1 - 3                                  # whoever ended a round begins the next


def test_settings_reach_the_session(tmp_path: Path, load) -> None:
    sessions, path = load('sessions'), small_network(tmp_path / 'small.onnx')
    image = {'image': np.ones((1, 3, 16, 16), dtype=np.float32)}
    results = []
    for settings in (sessions.Settings(), sessions.Settings(1, True, False, False, True, 'none')):
        session = sessions.open_session(path, settings)
        options = session.get_session_options()
        assert options.intra_op_num_threads == settings.threads
        assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (settings.arena, settings.pattern)
        assert options.get_session_config_entry('session.intra_op.allow_spinning') == str(int(settings.spin))
        assert options.get_session_config_entry('session.set_denormal_as_zero') == str(int(settings.flush))
        results.append(session.run(None, image)[0])
    np.testing.assert_allclose(*results, atol=1e-5)


def test_the_chosen_settings_are_those_of_the_engine(tmp_path: Path, load) -> None:
    from pose3d_ros.runtime.onnx_engine import OnnxEngine

    engine = OnnxEngine(small_network(tmp_path / 'small.onnx'), threads=2)
    session = load('sessions').open_session(tmp_path / 'small.onnx', load('sessions').Settings())
    chosen, compared = engine._session.get_session_options(), session.get_session_options()
    for name in ('intra_op_num_threads', 'inter_op_num_threads', 'enable_cpu_mem_arena', 'enable_mem_pattern',
                 'graph_optimization_level', 'execution_mode'):
        assert getattr(chosen, name) == getattr(compared, name), name
    spinning = 'session.intra_op.allow_spinning'
    assert chosen.get_session_config_entry(spinning) == compared.get_session_config_entry(spinning) == '0'


@pytest.mark.slow
def test_all_sections_run(tmp_path: Path, models_dir: Path, sample_dir: Path) -> None:
    pytest.importorskip('torch')
    written = tmp_path / 'figures.json'
    done = subprocess.run([sys.executable, str(FOLDER / 'engines.py'), '--quick', '--json', str(written)], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(written.read_text())
    assert all(isinstance(value, (int, float)) for value in figures.values())
    for name in ('ort_vs_torch_ratio', 'pruned_vs_full_ratio', 'cpu.lifter.batch_1_p95_ms',
                 'torch.lifter.batch_2_p50_ms', 'settings.lifter.no_arena.ratio', 'nodes.spinning.two_paced_p95_ms',
                 'batching.lifter.batch_4_vs_4_calls_ratio', 'two_cameras.together_ratio'):
        assert figures[name] > 0, name


def test_headlines_come_from_what_has_been_measured(load) -> None:
    results = load('results')
    figures = {'pruned_vs_full_ratio': 0.456, 'two_cameras.together_ratio': 0.789}
    line = 'time of the pruned joint network over the whole; of two cameras in one call over one after the other | '
    expected = [[f'{line}0.46; 0.79', 'engines.py']]
    assert results.headlines('engines', {'command': 'engines.py', 'figures': figures}) == expected
    assert results.headlines('engines', results.with_part({}, 'cpu', {'command': 'engines.py'}, figures)) == expected
    assert results.headlines('engines', {}) == []


def test_what_is_kept_has_the_promised_figures() -> None:
    if not KEPT.exists():
        pytest.skip('not measured yet: benchmarks/results.py keep engines python benchmarks/engines.py')
    figures = json.loads(KEPT.read_text())['figures']
    promised = ['ort_vs_torch_ratio', 'pruned_vs_full_ratio']
    promised += [f'cpu.{name}.batch_{size}_p{share}_ms' for name in NETWORKS for size in (1, 2, 4, 8)
                 for share in (50, 95)]
    if any(name.startswith('tensorrt') for name in figures):
        promised += ['trt_fp16_vs_torch_compiled_ratio', 'trt_fp16_vs_floor_ratio']
    assert [name for name in promised if not figures.get(name, 0) > 0] == []
    assert figures['ort_vs_torch_ratio'] < 1 and figures['pruned_vs_full_ratio'] < 1  # why it is done that way
