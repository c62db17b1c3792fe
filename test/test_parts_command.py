"""The parts network by its commands: from motion capture to runs, the table of the ablation, and a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from procedural import write_mocap

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.cli import evaluate_parts  # noqa: E402
from pose3d_ros.cli import train_parts as command  # noqa: E402
from pose3d_ros.cli.main import main  # noqa: E402
from pose3d_ros.lift import ENGINE_INPUTS  # noqa: E402
from pose3d_ros.train.export import export  # noqa: E402
from pose3d_ros.train.lifter import LifterSettings, make_network  # noqa: E402
from pose3d_ros.train.loop import CHECKPOINT, limit_threads  # noqa: E402
from pose3d_ros.train.parts import DEPLOYED, ROWS, folder  # noqa: E402
from pose3d_ros.train.parts_tables import KINDS  # noqa: E402

limit_threads(1)
SMALL = ['--steps', '4', '--width', '16', '--batch', '16', '--people', '400', '--threads', '1']


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mocap(Path(tmp_path_factory.mktemp('walk')) / 'walk.npz', 40)


@pytest.fixture(scope='module')
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of two trainings of every variant."""
    out = Path(tmp_path_factory.mktemp('runs')) / 'parts'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, 'VALIDATION', 200)
        assert train(data, out, '--variants', *ROWS, '--repeats', '2') == 0
    return out


def train(data: Path, out: Path, *more: str) -> int:
    return main(['train', 'parts', '--data', str(data), '--out', str(out), *SMALL, *more])


def evaluate(data: Path, runs: Path, *more: str) -> int:
    return main(['evaluate', 'parts', '--data', str(data), '--runs', str(runs), '--threads', '1', *more])


def test_the_command_knows_the_variants() -> None:
    assert tuple(ROWS) == command.ROWS and command.DEPLOYED == DEPLOYED


def test_the_table_has_every_variant_kind_of_joint_and_cost(data: Path, runs: Path, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(evaluate_parts, 'LATENCY_S', 0.5)
    assert evaluate(data, runs, '--people', '400', '--json', str(tmp_path / 'found.json')) == 0
    found, told = json.loads((tmp_path / 'found.json').read_text()), capsys.readouterr().out
    for name in ROWS:
        row = found[name]
        assert name in told and row['seeds'] == 2 and row['steps'] == 4
        assert 0 < row['n'] < found[f'{name}_everybody']['n'] == 400
        assert row['mpjpe_mm'] > 0 and row['mpjpe_mm_std'] >= 0
        assert min(row[f'{kind}_mm'] for kind in KINDS) < row['mpjpe_mm'] < max(row[f'{kind}_mm'] for kind in KINDS)
        assert row['parameters'] > 0 and row['latency_us'] > 0 and row['latency_ratio'] > 0
    assert found['baseline']['over_baseline'] == 1 and found['baseline']['latency_ratio'] == 1
    assert found['latency_ratio'] == found['progressive']['latency_ratio']
    assert found['refined_start'].keys() >= {'mpjpe_mm', 'wrist_mm'} <= found['refined_unknown'].keys()
    assert found['plain']['parameters'] == found['plain_l1']['parameters']


def test_what_cannot_be_compared_is_refused(data: Path, runs: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, 'VALIDATION', 200)
    assert evaluate(data, tmp_path / 'nothing') == 1
    assert 'train first' in capsys.readouterr().err
    assert evaluate(data, runs, '--people', '5') == 1
    assert 'raise --people' in capsys.readouterr().err
    longer = tmp_path / 'mixed'
    for steps, name in (('3', 'plain'), ('2', 'baseline')):
        assert train(data, longer, '--steps', steps, '--variants', name) == 0
    assert evaluate(data, longer) == 1
    assert 'cannot be compared' in capsys.readouterr().err
    assert train(data, longer, '--people', '300', '--variants', 'plain') == 1
    assert 'use another --out' in capsys.readouterr().err
    assert train(data, longer, '--dropout', '1.5') == 1
    assert '--dropout' in capsys.readouterr().err


def test_export_joins_the_training_with_a_lifter(data: Path, runs: Path, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, 'CALIBRATION', 100)
    torch.manual_seed(0)
    window = tmp_path / 'lifter.onnx'
    network = make_network(LifterSettings(width=16, blocks=1, mixed=False)).eval()
    for name, value in network.state_dict().items():   # equal tensors would share a name in the file
        if value.is_floating_point() and name not in ('trust', 'input_points'):
            value += 0.02 * torch.rand_like(value)
    export(network, window, {'training_command': 'window'}, (1.5, 0.2))
    path = tmp_path / 'parts.onnx'
    told = ['export', 'parts', '--data', str(data), '--out', str(runs), '--lifter', str(window), '--seed', '1']
    assert main(told) == 1
    assert 'refine another lifter' in capsys.readouterr().err
    told += ['--variant', 'attributes_detector']
    assert main([*told, '--onnx', str(path)]) == 0
    assert 'calibrated' in capsys.readouterr().out
    model = onnx.load(str(path))
    assert [value.name for value in model.graph.input] == [*ENGINE_INPUTS, 'attributes']
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata['stature']) == [1.5, 0.2]
    assert metadata['lifter'] == 'window' and '--seed 1' in metadata['training_command']
    assert str(data.parent) not in metadata['training_command']
    assert main([*told, '--seed', '7']) == 1
    assert 'does not exist' in capsys.readouterr().err
    assert main([*told[:6], '--lifter', str(path.with_name('none.onnx'))]) == 1
    assert 'none.onnx' in capsys.readouterr().err


def test_a_training_continues_and_leaves_nothing_of_this_machine_in_its_checkpoint(data: Path, runs: Path) -> None:
    with np.load(runs / 'people.npz', allow_pickle=False) as people:
        assert json.loads(str(people['identity'])) == {'data': [data.name], 'leave_out': [], 'people': 400}
    state = torch.load(runs / folder('plain', 1) / CHECKPOINT, weights_only=True)
    assert state['command'] == ('pose3d train parts --data walk.npz --steps 4 --people 400 --width 16 --batch 16 '
                                '--variants plain --seed 1')
