"""AbsPoseLifter as published: what its layers do, its training, and its way to a file and to the tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from procedural import write_mocap

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.cli.main import main  # noqa: E402
from pose3d_ros.nets.absolute import AbsPoseLifter, Normalise, ToAbsolute, absolute, loss  # noqa: E402
from pose3d_ros.skeleton import HUMAN17  # noqa: E402
from pose3d_ros.train import export_published as export_module  # noqa: E402
from pose3d_ros.train.error_fit import load_errors  # noqa: E402
from pose3d_ros.train.export_published import export_published, parity  # noqa: E402
from pose3d_ros.train.laboratory import Shots, shoot  # noqa: E402
from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, LoopSettings  # noqa: E402
from pose3d_ros.train.mocap import Mocap, load_mocap  # noqa: E402
from pose3d_ros.train.onnx_file import ExportError  # noqa: E402
from pose3d_ros.train.published import (  # noqa: E402
    GAUSSIAN,
    MIXTURE,
    VARIANTS,
    PublishedSettings,
    figures,
    load_variant,
    make_network,
    predict,
    train_variant,
    weak_perspective_root,
)
from pose3d_ros.train.published_tables import HeldOut, Trained, compare, table  # noqa: E402

torch.set_num_threads(1)
SMALL = PublishedSettings(width=32, batch=64, validation_samples=100, mixed=False, loop=LoopSettings(
    steps=30, learning_rate=5e-3, warm_up=5, validate_every=15, average=0.9))
ERRORS = {MIXTURE: load_errors('blazepose_full'), GAUSSIAN: load_errors('blazepose_full_gaussian')}


@pytest.fixture(scope='module')
def mocap(tmp_path_factory: pytest.TempPathFactory) -> Mocap:
    return load_mocap([write_mocap(Path(tmp_path_factory.mktemp('data')) / 'walk.npz')], 'train')


@pytest.fixture(scope='module')
def shots(mocap: Mocap) -> Shots:
    return shoot(mocap, 300, np.random.default_rng(0))


def tensors(shots: Shots) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(getattr(shots, name)) for name in ('pixels', 'principal', 'focal', 'points')}


def test_normalised_joints_have_mean_0_and_variance_1(shots: Shots) -> None:
    given = tensors(shots)
    features = Normalise()(given['pixels'], given['principal'])
    assert features.shape == (300, 2 * 17 + 3)
    joints = features[:, :34].unflatten(1, (17, 2))
    torch.testing.assert_close(joints.mean(dim=1), torch.zeros(300, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(joints.square().sum(dim=(1, 2)) / 17, torch.ones(300))


def test_the_principal_point_does_not_matter_beyond_where_the_pixels_lie_from_it(shots: Shots) -> None:
    given, shift = tensors(shots), torch.tensor([[123.0, -45.0]])
    torch.testing.assert_close(Normalise()(given['pixels'] + shift[:, None], given['principal'] + shift),
                               Normalise()(given['pixels'], given['principal']), atol=1e-4, rtol=1e-4)


def test_place_and_size_are_features_of_their_own_and_can_be_left_out(shots: Shots) -> None:
    given = tensors(shots)
    moved = given['principal'][:, None] + 2 * (given['pixels'] - given['principal'][:, None]) + 30
    whole, other = (Normalise()(pixels, given['principal']) for pixels in (given['pixels'], moved))
    torch.testing.assert_close(other[:, :34], whole[:, :34], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(other[:, 36], 2 * whole[:, 36])
    for location, scale, columns in ((False, False, []), (True, False, [34, 35]), (False, True, [36])):
        part = Normalise(location, scale)(given['pixels'], given['principal'])
        torch.testing.assert_close(part, whole[:, [*range(34), *columns]])


def test_a_longer_focal_length_moves_the_root_away_and_leaves_the_pose() -> None:
    """Equations 5 and 6: depth in proportion, across as it was, so that the root stays on its pixel's ray."""
    generator = torch.Generator().manual_seed(0)
    pixels = 500 + 100 * torch.randn(5, 17, 2, generator=generator)
    relative = torch.randn(5, 17, 3, generator=generator)
    relative[:, 0] = 0
    principal, depth = torch.full((5, 2), 480.0), torch.full((5, 1), 4.0)
    near, far = (absolute(depth, relative, pixels, principal, torch.full((5, 1), focal)) for focal in (1000.0, 1500.0))
    torch.testing.assert_close(near[:, 0, 2], torch.full((5,), 4.0))
    torch.testing.assert_close(far[:, 0], near[:, 0] * torch.tensor([1, 1, 1.5]))
    torch.testing.assert_close(far - far[:, :1], relative, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(far[:, 0, :2] / far[:, 0, 2:] * 1500 + principal, pixels[:, 0])


def test_the_loss_is_zero_for_the_truth_only_and_blind_to_focal_length_when_canonical(shots: Shots) -> None:
    given = tensors(shots)
    depth, relative = 1000 * given['points'][:, 0, 2:] / given['focal'], given['points'] - given['points'][:, :1]
    assert loss(depth, relative, given['points'], given['focal']) < 1e-5
    assert loss(depth * given['focal'] / 1000, relative, given['points'], given['focal'], canonical=False) < 1e-5
    assert loss(depth + 0.1, relative, given['points'], given['focal']).item() == pytest.approx(0.1, rel=1e-3)
    assert loss(depth, relative + 0.01, given['points'], given['focal'], 2.0).item() == pytest.approx(1.02, rel=1e-3)


def test_the_published_network_has_the_published_size() -> None:
    network = AbsPoseLifter()
    weights = sum(values.numel() for name, values in network.named_parameters() if name.endswith('weight'))
    assert weights == 37 * 4096 + 4 * (4096 ** 2 + 4096) + 4096 * (3 * 17 - 2)
    assert [layer.p for layer in network.modules() if isinstance(layer, torch.nn.Dropout)] == [0.5] * 4
    depth, relative = network.eval()(torch.randn(2, 17, 2), torch.zeros(2, 2))
    assert depth.shape == (2, 1) and relative.shape == (2, 17, 3) and (relative[:, 0] == 0).all()


def test_the_analytic_root_is_right_when_the_pose_is_flat(shots: Shots) -> None:
    """A weak perspective is exact for people as flat as paper."""
    relative = (shots.points - shots.points[:, :1]) * np.array([1, 1, 0], np.float32)
    flat = shots.points[:, :1] + relative
    pixels = flat[..., :2] / flat[..., 2:] * shots.focal[:, None] + shots.principal[:, None]
    root = weak_perspective_root(replace(shots, pixels=pixels), relative)
    np.testing.assert_allclose(root, shots.points[:, 0], atol=0.01)
    truth = shots.points - shots.points[:, :1]
    assert 0.005 < np.linalg.norm(weak_perspective_root(shots, truth) - shots.points[:, 0], axis=-1).mean() < 0.5


@pytest.mark.parametrize('name', ['mixture', 'direct'])
def test_training_learns_and_a_checkpoint_knows_its_variant(name: str, mocap: Mocap, shots: Shots,
                                                            tmp_path: Path) -> None:
    settings = replace(SMALL, loop=replace(SMALL.loop, steps=150, validate_every=50))
    train_variant(name, mocap, mocap, ERRORS, tmp_path, settings, quiet=True, command='this')
    network, variant, command = load_variant(tmp_path / CHECKPOINT)
    assert variant == VARIANTS[name] and command == 'this'
    untrained = figures(predict(make_network(variant, 32, 0.0).eval(), shots, variant.canonical), shots.points)
    trained = figures(predict(network, shots, variant.canonical), shots.points)
    assert trained['mpjpe_mm'] < 0.6 * untrained['mpjpe_mm'] and trained['mrpe_mm'] < 0.6 * untrained['mrpe_mm']
    with pytest.raises(CheckpointError, match='variant'):
        train_variant('baseline', mocap, mocap, ERRORS, tmp_path, settings, quiet=True)


def test_perfect_predictions_measure_zero_and_a_shift_is_of_the_root_only(shots: Shots) -> None:
    assert max(figures(shots.points, shots.points).values()) < 1e-3
    shifted = figures(shots.points + np.array([0, 0, 0.1], np.float32), shots.points)
    assert shifted['mrpe_mm'] == pytest.approx(100, abs=0.1) == shifted['mrpe_z_mm']
    assert shifted['mpjpe_mm'] < 1e-3 and shifted['mrpe_x_mm'] < 1e-3


def test_tables_compare_what_was_trained(mocap: Mocap) -> None:
    tests = HeldOut.draw(mocap, 50, 1, ERRORS[MIXTURE], np.zeros((3, 17, 2)))
    np.testing.assert_allclose(tests.measured.pixels, tests.exact.pixels)
    trained = {name: Trained(make_network(variant, 16, 0.0).eval(), variant, 1, 1.0)
               for name, variant in VARIANTS.items() if name not in ('gaussian', 'scale')}
    found = table(trained, tests)
    assert set(found['lab_exact']) == {'baseline', 'location', 'exact'}
    assert set(found['lab_root']) == {'analytic', 'learned'}
    gains = compare({'lab_exact': {'baseline': {'mpjpe_mm': 50.0, 'mrpe_mm': 400.0},
                                   'exact': {'mpjpe_mm': 40.0, 'mrpe_mm': 80.0}}})
    assert gains['location_scale'] == pytest.approx({'mpjpe_gain': 0.2, 'mrpe_gain': 0.8, 'mrpe_ratio': 5.0})
    assert gains['lab_gt']['mrpe_mm'] == 80 and 'noise_model' not in gains
    assert {'noise_model', 'canonical', 'learned_root', 'lab_noisy'} <= set(compare(found))


def test_a_file_that_computes_something_else_is_not_left_behind(tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, 'parity', lambda *_: 0.02)
    with pytest.raises(ExportError, match='20.000 mm'):
        export_published(AbsPoseLifter(width=16), True, tmp_path / 'small.onnx', {})
    assert list(tmp_path.glob('small*')) == []


@pytest.mark.parametrize('canonical', [True, False])
def test_parity_sees_other_weights(canonical: bool, tmp_path: Path) -> None:
    network, other = (AbsPoseLifter(width=16).eval() for _ in range(2))
    assert export_published(network, canonical, tmp_path / 'small.onnx', {}) < 1e-4
    assert parity(ToAbsolute(other, canonical).eval(), tmp_path / 'small.onnx') > 1e-3


def test_from_file_to_tables_with_three_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out, found = write_mocap(tmp_path / 'walk.npz'), tmp_path / 'runs', tmp_path / 'figures.json'
    assert main(['train', 'absolute', '--data', str(data), '--out', str(out), '--steps', '2', '--width', '16',
                 '--variants', 'baseline', 'exact', 'mixture', 'canonical', 'direct']) == 0
    assert main(['export', 'absolute', '--out', str(out)]) == 0
    np.savez(tmp_path / 'errors.npz', errors=np.zeros((2, 17, 2)))
    assert main(['evaluate', 'paper', '--data', str(data), '--runs', str(out), '--samples', '100', '--json', str(found),
                 '--residuals', str(tmp_path / 'errors.npz')]) == 0
    values = json.loads(found.read_text())
    assert {'mrpe_ratio', 'mpjpe_gain'} <= set(values['location_scale'])
    assert values['lab_training']['exact']['steps'] == 2
    assert {'noise_model', 'canonical', 'learned_root', 'lab_gt', 'lab_noisy', 'lab_measured'} <= set(values)
    assert 'learned_root' in capsys.readouterr().out

    import onnxruntime
    metadata = onnxruntime.InferenceSession(out / 'absolute_mixture.onnx').get_modelmeta().custom_metadata_map
    assert json.loads(metadata['output_joints']) == list(HUMAN17.joints) and 'cmu.edu' in metadata['notice']
    assert metadata['training_command'].startswith('pose3d train absolute --data walk.npz')
    assert str(tmp_path) not in json.dumps(metadata)


@pytest.mark.parametrize(('command', 'told'), [
    (['train', 'absolute', '--data', 'nowhere.npz', '--out', 'x'], 'nowhere.npz'),
    (['train', 'absolute', '--data', 'nowhere.npz', '--out', 'x', '--variants', 'best'], 'no variant best'),
    (['train', 'absolute', '--data', 'nowhere.npz', '--out', 'x', '--errors', 'none.json'], 'none.json'),
    (['export', 'absolute', '--out', 'x'], 'train first'),
    (['evaluate', 'paper', '--data', 'nowhere.npz', '--runs', 'x'], 'train first'),
])
def test_mistakes_are_told_in_one_line(command: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    error = capsys.readouterr().err
    assert told in error and error.count('\n') == 1
