"""The geometry-driven lifter by its commands: from motion capture to a recording, runs, tables, curves and a file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from procedural import write_mocap

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.cli import train_geometric as command  # noqa: E402
from pose3d_ros.cli.main import main  # noqa: E402
from pose3d_ros.nets.geometric import BACKBONES, GeometricLifter  # noqa: E402
from pose3d_ros.skeleton import HUMAN17  # noqa: E402
from pose3d_ros.train import export_geometric as export_module  # noqa: E402
from pose3d_ros.train.export_geometric import ToJoints, export_geometric, parity  # noqa: E402
from pose3d_ros.train.geometric import GeometricSettings, load_trained  # noqa: E402
from pose3d_ros.train.geometric_tables import (  # noqa: E402
    Strangers,
    TrainedVariant,
    figures,
    on_recording,
)
from pose3d_ros.train.geometric_variants import VARIANTS  # noqa: E402
from pose3d_ros.train.loop import CHECKPOINT, limit_threads  # noqa: E402
from pose3d_ros.train.mocap import load_mocap  # noqa: E402
from pose3d_ros.train.onnx_file import ExportError  # noqa: E402
from pose3d_ros.train.recording import load_recording, load_truth  # noqa: E402

limit_threads(1)
TRAINING = ['--steps', '6', '--width', '16', '--batch', '16', '--threads', '1']


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with motion capture and films of its splits: train, val, test with truth, and a prior."""
    folder = Path(tmp_path_factory.mktemp('films'))
    data = write_mocap(folder / 'walk.npz', 40)
    for name, split, seed in (('train', 'train', 0), ('val', 'val', 1), ('test', 'test', 2), ('other', 'train', 3)):
        assert main(['record', '--data', str(data), '--split', split, '--takes', '2', '--seed', str(seed), '--out',
                     str(folder / f'{name}.npz'), '--truth', str(folder / f'{name}_truth.npz')]) == 0
    return folder


def train(folder: Path, out: Path, *more: str) -> int:
    return main(['train', 'geometric', '--recording', str(folder / 'train.npz'), '--validation',
                 str(folder / 'val.npz'), '--out', str(out), *TRAINING, *more])


def test_from_motion_capture_to_tables_with_the_commands(folder: Path, tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder, tmp_path, '--variants', *VARIANTS, '--truth', str(folder / 'train_truth.npz'), '--prior',
                 str(folder / 'other_truth.npz')) == 0
    capsys.readouterr()
    assert main(['evaluate', 'geometric', '--runs', str(tmp_path), '--recording', str(folder / 'test.npz'), '--truth',
                 str(folder / 'test_truth.npz'), '--extrinsics', str(folder / 'train.npz'), '--robot', '--data',
                 str(folder / 'walk.npz'), '--people', '2000', '--curves', str(tmp_path / 'curves.png'), '--watched',
                 str(folder / 'val.npz'), str(folder / 'val_truth.npz'), '--json', str(tmp_path / 'found.json')]) == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / 'found.json').read_text())
    for name in VARIANTS:
        assert found[name]['mpjpe_mm'] >= found[name]['n_mpjpe_mm'] > 0 and found[f'robot_{name}']['mpjpe_mm'] > 0
        assert name in told
    assert found['geometric_ratios']['transform_over_supervised'] == pytest.approx(
        found['transform']['mpjpe_mm'] / found['supervised']['mpjpe_mm'])
    assert found['confidence_on'] == found['transform'] and found['confidence_off'] == found['no_confidence']
    assert 0 < found['extrinsics']['rotation_max_deg'] < 10
    assert found['pretraining'].keys() >= {'mpjpe_last_with_mm', 'mpjpe_worst_without_mm'}
    assert found['geometric_training']['transform']['steps'] == 6
    assert cv2.imread(str(tmp_path / 'curves.png')).shape == (1120, 820, 3)


def test_a_run_needs_no_file_with_3d_poses(folder: Path, tmp_path: Path) -> None:
    # Nothing lies there but the 2D, and whatever is asked of NumPy that is not one of the two recordings fails.
    alone = tmp_path / 'alone'
    alone.mkdir()
    for name in ('train', 'val'):
        (alone / f'{name}.npz').write_bytes((folder / f'{name}.npz').read_bytes())
    opened: list[str] = []
    load = np.load

    def watched_load(file: object, **options: object) -> object:
        opened.append(Path(file.name).name)  # type: ignore[attr-defined]
        return load(file, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, 'load', watched_load)
        assert train(alone, tmp_path / 'runs', '--variants', *(name for name in VARIANTS
                                                               if not VARIANTS[name].needs)) == 0
    assert opened == ['train.npz', 'val.npz']


def test_names_in_the_command_are_those_of_the_modules() -> None:
    assert tuple(VARIANTS) == command.VARIANTS and tuple(BACKBONES) == command.BACKBONES
    defaults = GeometricSettings()
    assert (defaults.loop.steps, defaults.width, defaults.dropout, defaults.batch, defaults.backbone) == (
        command.STEPS, command.WIDTH, command.DROPOUT, command.BATCH, command.BACKBONE)


def test_perfect_predictions_measure_zero(folder: Path) -> None:
    truth = load_truth(folder / 'test_truth.npz')
    measured = figures(truth - truth[:, :1], truth[:, 0], truth)
    np.testing.assert_allclose(list(measured.values()), 0, atol=1e-3)
    measured = figures(1.1 * (truth - truth[:, :1]), truth[:, 0] + [0.3, 0, 0.4], truth)
    assert measured['n_mpjpe_mm'] < 1e-2 < measured['mpjpe_mm'] and measured['mrpe_mm'] == pytest.approx(500, abs=0.1)


def test_strangers_are_seen_whole_by_other_cameras(folder: Path) -> None:
    people = Strangers.draw(load_mocap([folder / 'walk.npz'], 'test'), 1000, None, np.random.default_rng(0))
    np.testing.assert_allclose(people.rays, people.points[..., :2] / people.points[..., 2:], atol=1e-5)
    assert len(people.rays) > 100 and np.ptp(people.points[:, 0, 2]) > 4


@pytest.mark.parametrize('backbone', BACKBONES)
def test_an_exported_file_computes_what_the_network_does(backbone: str, folder: Path, tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder, tmp_path, '--backbone', backbone) == 0
    assert main(['export', 'geometric', '--out', str(tmp_path)]) == 0
    import onnx
    import onnxruntime
    path = tmp_path / 'geometric_transform.onnx'
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    network, _, _ = load_trained(tmp_path / 'transform' / CHECKPOINT)
    recording = load_recording(folder / 'test.npz')
    rays = recording.windows(np.arange(5, 10), np.zeros(5, dtype=int), network.frames)
    joints = session.run(['joints'], {'rays': rays})[0]
    assert joints.shape == (5, 17, 3)
    with torch.no_grad():
        np.testing.assert_allclose(joints, ToJoints(network)(torch.from_numpy(rays)).numpy(), atol=1e-4)
    metadata = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert json.loads(metadata['output_joints']) == list(HUMAN17.joints)
    assert metadata['frames'] == str(network.frames) and metadata['backbone'] == backbone
    assert metadata['training_command'].startswith('pose3d train geometric --recording train.npz')
    assert str(folder) not in str(metadata)
    assert 'within' in capsys.readouterr().out


def test_a_file_that_computes_something_else_is_not_left_behind(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, 'parity', lambda *_: 0.01)
    with pytest.raises(ExportError, match='differ by 10'):
        export_geometric(GeometricLifter(width=16), tmp_path / 'wrong.onnx', {})
    assert not list(tmp_path.iterdir())


def test_parity_sees_other_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, other = (GeometricLifter(width=16).eval() for _ in range(2))
    export_geometric(network, tmp_path / 'one.onnx', {})
    assert parity(ToJoints(network).eval(), tmp_path / 'one.onnx') < 1e-4
    assert parity(ToJoints(other).eval(), tmp_path / 'one.onnx') > 1e-3


def test_a_recording_without_truth_says_so(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['record', '--data', str(folder / 'walk.npz'), '--out', str(tmp_path / 'rec.npz'), '--cameras', '2',
                 '--takes', '1', '--errors', 'none', '--json', str(tmp_path / 'told.json')]) == 0
    assert 'no 3D poses' in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.suffix == '.npz'] == ['rec.npz']
    assert json.loads((tmp_path / 'told.json').read_text())['cameras'] == 2
    assert load_recording(tmp_path / 'rec.npz').rays.shape[1] == 2


def test_training_is_not_judged_by_another_recording_s_truth(folder: Path) -> None:
    recording = load_recording(folder / 'test.npz')
    variant = TrainedVariant(GeometricLifter(width=8), GeometricSettings(), folder, 0, 0.0)
    with pytest.raises(ValueError, match='not its own'):
        on_recording(variant, recording, load_truth(folder / 'test_truth.npz')[:-1])


RECORDING = ['--recording', 'train.npz', '--validation', 'val.npz', '--out', 'runs', '--threads', '1']
TESTED = ['evaluate', 'geometric', '--runs', 'runs', '--recording', 'test.npz', '--truth', 'test_truth.npz']


@pytest.mark.parametrize(('words', 'told'), [
    (['train', 'geometric', *RECORDING, '--variants', 'supervised'], '--truth'),
    (['train', 'geometric', *RECORDING, '--variants', 'transform', 'adversarial'], '--prior'),
    (['train', 'geometric', *RECORDING, '--dropout', '1.5'], 'less than 1'),
    (['train', 'geometric', '--recording', 'train_truth.npz', *RECORDING[2:]], 'pose3d record'),
    (['train', 'geometric', '--recording', 'missing.npz', *RECORDING[2:]], 'missing.npz'),
    (['train', 'geometric', *RECORDING, '--variants', 'supervised', '--truth', 'test.npz'], 'truth'),
    (TESTED, 'train first'),
    ([*TESTED, '--robot'], '--data'),
    ([*TESTED, '--curves', 'a.png'], '--watched'),
    (['export', 'geometric', '--out', 'runs'], 'train first'),
    (['record', '--data', 'walk.npz', '--out', 'a.npz', '--truth', 'a.npz'], 'same file'),
    (['record', '--data', 'walk.npz', '--out', 'a.npz', '--cameras', '1'], 'two at least'),
    (['record', '--data', 'walk.npz', '--out', 'a.npz', '--errors', 'nobody'], 'nobody'),
    (['record', '--data', 'missing.npz', '--out', 'a.npz'], 'missing.npz'),
])
def test_mistakes_are_told_in_one_line(words: list[str], told: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith('pose3d: ') and told in error and error.count('\n') == 1
