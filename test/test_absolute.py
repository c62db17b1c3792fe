"""The lifting network, its training, and its way to the file that robots run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from procedural import write_mocap
from scipy.spatial.transform import Rotation

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.cli.main import main  # noqa: E402
from pose3d_ros.lift import Lifter, root_position  # noqa: E402
from pose3d_ros.nets.absolute import Normalise, facing  # noqa: E402
from pose3d_ros.skeleton import HUMAN17  # noqa: E402
from pose3d_ros.train import export as export_module  # noqa: E402
from pose3d_ros.train.absolute import (  # noqa: E402
    CHECKPOINT,
    CheckpointError,
    Run,
    TrainSettings,
    batches,
    load_average,
    loss,
    make_network,
    predict,
    train,
    validate,
)
from pose3d_ros.train.calibrate import calibrate, lifted  # noqa: E402
from pose3d_ros.train.export import ExportError, export, parity  # noqa: E402
from pose3d_ros.train.metrics import coverage  # noqa: E402
from pose3d_ros.train.mocap import Mocap, load_mocap  # noqa: E402
from pose3d_ros.train.samples import EVALUATION, INPUTS, Samples, SampleSettings, make_samples  # noqa: E402

torch.set_num_threads(1)  # the networks here are too small for more
SMALL = TrainSettings(steps=40, batch=64, width=32, pool=512, learning_rate=5e-3, warm_up=10, validate_every=20,
                      validation_samples=200, mixed=False)


@pytest.fixture()
def mocap(tmp_path: Path) -> Mocap:
    return load_mocap([write_mocap(tmp_path / 'walk.npz')], 'train')


@pytest.fixture()
def samples(mocap: Mocap) -> Samples:
    return make_samples(mocap, 500, np.random.default_rng(0), EVALUATION)


def test_normalised_joints_have_mean_0_and_variance_1_whatever_is_missing() -> None:
    generator = torch.Generator().manual_seed(0)
    rays = torch.randn(50, 13, 2, generator=generator) * 0.1 + 0.3
    confidence = (torch.rand(50, 13, generator=generator) < 0.7).float()
    features, scale = Normalise()(rays, confidence)
    normalised = features[:, :26].unflatten(1, (13, 2))
    seen = confidence.sum(dim=1, keepdim=True)
    torch.testing.assert_close(normalised.sum(dim=1), torch.zeros(50, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.square().sum(dim=(1, 2))[:, None] / seen, torch.ones(50, 1))
    assert (normalised[confidence == 0] == 0).all()
    torch.testing.assert_close(features[:, 28:29], scale.log())


def test_the_normalised_pose_is_blind_to_place_and_size_which_are_kept_beside_it() -> None:
    generator = torch.Generator().manual_seed(1)
    rays, confidence = torch.randn(9, 13, 2, generator=generator), torch.ones(9, 13)
    near, _ = Normalise()(rays, confidence)
    far, scale = Normalise()(rays / 4 + 0.2, confidence)
    torch.testing.assert_close(near[:, :26], far[:, :26], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(far[:, 26:28], near[:, 26:28] / 4 + 0.2)
    torch.testing.assert_close(scale, Normalise()(rays, confidence)[1] / 4)


def test_the_turned_camera_looks_at_the_person_and_stays_level() -> None:
    location = torch.randn(40, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    turn = facing(location)
    torch.testing.assert_close(turn @ turn.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(40, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(40, dtype=torch.float64))
    direction = (turn @ torch.cat([location, torch.ones_like(location[:, :1])], dim=1)[..., None])[..., 0]
    torch.testing.assert_close(direction[:, :2], torch.zeros(40, 2, dtype=torch.float64))
    assert (direction[:, 2] > 0).all() and (turn[:, 0, 1] == 0).all()


def test_a_network_sees_the_same_person_at_the_border_as_in_the_middle(samples: Samples) -> None:
    """With the location hidden from it, the turned person gives the turned result, and the distance stays."""
    network = make_network(32).eval()
    network.lifter.first.weight.data[:, 26:28] = 0
    whole = samples.where((samples.confidence > 0).all(axis=1))
    relative, depth = predict(network, whole)
    root = root_position(whole.rays, whole.confidence, relative, depth[:, 0], INPUTS)
    pixels = np.concatenate([whole.rays, np.ones_like(whole.rays[..., :1])], axis=-1)
    turn = Rotation.from_euler('y', 20, degrees=True).as_matrix()
    turned = (pixels @ turn.T).astype(np.float32)
    again, depth = predict(network, replace(whole, rays=turned[..., :2] / turned[..., 2:]))
    root_again = root_position(turned[..., :2] / turned[..., 2:], whole.confidence, again, depth[:, 0], INPUTS)
    assert len(whole) > 50
    # The mean of rays is not quite the same point of the person from every direction: a small difference stays.
    np.testing.assert_allclose(np.median(np.abs(again - relative @ turn.T)), 0, atol=0.002)
    assert np.median(np.linalg.norm(root_again, axis=1) / np.linalg.norm(root, axis=1)) == pytest.approx(1, abs=0.02)


def test_what_a_missing_joint_holds_does_not_matter() -> None:
    network = make_network(32).eval()
    rays, confidence = torch.rand(4, 13, 2), torch.ones(4, 13)
    confidence[:, 3:6] = 0
    expected = network(rays, confidence)
    for nonsense in (float('nan'), 1e6):
        rays[:, 3:6] = nonsense
        for output, value in zip(network(rays, confidence), expected):
            torch.testing.assert_close(output, value)
    for output in network(torch.full((2, 13, 2), float('nan')), torch.zeros(2, 13)):
        assert torch.isfinite(output).all()


def test_the_root_is_the_origin_and_depth_is_positive() -> None:
    relative, depth = make_network(32).eval()(torch.randn(20, 13, 2), torch.ones(20, 13))
    assert relative.shape == (20, len(HUMAN17), 3) and depth.shape == (20, 1)
    assert (relative[:, 0] == 0).all() and (depth > 0).all()


def test_a_tenth_of_the_depth_costs_the_same_near_and_far() -> None:
    pose, truth = torch.zeros(1, 17, 3), torch.tensor([[1.0], [10.0]])
    near, far = (loss(pose, 1.1 * depth[None], pose, depth[None], 1.0) for depth in truth)
    torch.testing.assert_close(near, far)
    assert loss(pose, truth, pose, truth, 1.0) == 0


def test_training_learns_and_continues_where_it_stopped(mocap: Mocap, tmp_path: Path) -> None:
    untrained = validate(Run(SMALL).average, make_samples(mocap, 200, np.random.default_rng(1), EVALUATION))
    train(mocap, mocap, tmp_path, replace(SMALL, steps=80), SampleSettings(), quiet=True)
    run = train(mocap, mocap, tmp_path, replace(SMALL, steps=160), SampleSettings(), command='again', quiet=True)
    rows = (tmp_path / 'log.csv').read_text().splitlines()
    assert run.step == 160 and [row.split(',')[0] for row in rows[1:]] == [str(n) for n in range(20, 161, 20)]
    trained = validate(run.average, make_samples(mocap, 200, np.random.default_rng(1), EVALUATION))
    assert trained['mpjpe_mm'] < 0.7 * untrained['mpjpe_mm']
    assert trained['depth_error'] < 0.7 * untrained['depth_error']
    network, command = load_average(tmp_path / CHECKPOINT)
    assert command == 'again'
    for kept, value in zip(network.state_dict().values(), run.average.state_dict().values()):
        torch.testing.assert_close(kept, value)


def test_a_limit_in_minutes_ends_the_training(mocap: Mocap, tmp_path: Path) -> None:
    run = train(mocap, mocap, tmp_path, replace(SMALL, steps=10 ** 6), SampleSettings(), minutes=0.02, quiet=True)
    assert 0 < run.step < 10 ** 5 and (tmp_path / CHECKPOINT).exists()


def test_the_same_seed_trains_the_same_weights(mocap: Mocap, tmp_path: Path) -> None:
    runs = [train(mocap, mocap, tmp_path / name, replace(SMALL, steps=5), SampleSettings(), quiet=True)
            for name in ('a', 'b')]
    for first, second in zip(*(run.network.state_dict().values() for run in runs)):
        torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_a_checkpoint_of_another_run_is_refused(mocap: Mocap, tmp_path: Path) -> None:
    train(mocap, mocap, tmp_path, replace(SMALL, steps=1), SampleSettings(), quiet=True)
    with pytest.raises(CheckpointError, match='width'):
        train(mocap, mocap, tmp_path, replace(SMALL, width=48), SampleSettings(), quiet=True)
    with pytest.raises(CheckpointError, match='train first'):
        load_average(tmp_path / 'nowhere' / CHECKPOINT)
    (tmp_path / CHECKPOINT).write_bytes(b'something else')
    with pytest.raises(CheckpointError, match='not a checkpoint'):
        load_average(tmp_path / CHECKPOINT)


def test_batches_never_repeat(mocap: Mocap) -> None:
    stream = batches(mocap, SampleSettings(), 32, 64, np.random.default_rng(0))
    first, second = next(stream), next(stream)
    assert len(first) == 32 and not np.array_equal(first.points, second.points)


def test_calibrated_ellipsoids_hold_what_they_promise(samples: Samples) -> None:
    rng = np.random.default_rng(2)
    relative = samples.relative + rng.normal(0, [0.03, 0.03, 0.08], samples.relative.shape)
    relative[:, 0] = 0
    depth = samples.depth * rng.normal(1, 0.1, samples.depth.shape)
    uncertainty = calibrate(samples, relative, depth)
    result = lifted(samples, relative, depth, uncertainty)
    assert coverage(samples.points - result.position, result.covariance) == pytest.approx(0.9, abs=0.005)
    assert uncertainty.root_depth[13] == pytest.approx(0.1, rel=0.3)
    wrist = HUMAN17.index('left_wrist')
    assert uncertainty.along[0, wrist] > 1.5 * uncertainty.across[0, wrist]


def test_the_exported_file_computes_what_the_network_does_and_says_what_it_is(samples: Samples, tmp_path: Path) -> None:
    network = make_network(32).eval()
    uncertainty = calibrate(samples, *predict(network, samples))
    path = tmp_path / 'small.onnx'
    assert export(network, path, uncertainty, {'training_command': 'none'}) < 1e-4
    lifter = Lifter.open(path, runtime='cpu', threads=1)
    assert lifter.inputs == INPUTS
    np.testing.assert_allclose(lifter.uncertainty.along, uncertainty.along, atol=1e-5)
    assert lifter.engine.metadata['training_command'] == 'none' and 'cmu.edu' in lifter.engine.metadata['notice']
    relative, depth = predict(network, samples)
    output = lifter.engine.run({'rays': samples.rays, 'confidence': samples.confidence})
    np.testing.assert_allclose(output['relative'], relative, atol=1e-4)
    np.testing.assert_allclose(output['depth'], depth, rtol=1e-4)


def test_a_file_that_computes_something_else_is_not_left_behind(samples: Samples, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network(32).eval()
    uncertainty = calibrate(samples, *predict(network, samples))
    monkeypatch.setattr(export_module, 'parity', lambda *_: 0.02)
    with pytest.raises(ExportError, match='20.000 mm'):
        export(network, tmp_path / 'small.onnx', uncertainty, {})
    assert list(tmp_path.glob('small*')) == []


def test_parity_sees_other_weights(samples: Samples, tmp_path: Path) -> None:
    network = make_network(32).eval()
    export(network, tmp_path / 'small.onnx', calibrate(samples, *predict(network, samples)), {})
    assert parity(make_network(32).eval(), tmp_path / 'small.onnx') > 1e-3


def test_from_file_to_figures_with_three_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out, figures = write_mocap(tmp_path / 'walk.npz'), tmp_path / 'run', tmp_path / 'figures.json'
    options = ['--data', str(data)]
    assert main(['train', 'absolute', *options, '--out', str(out), '--steps', '3', '--width', '16']) == 0
    assert main(['export', 'absolute', *options, '--out', str(out)]) == 0
    assert main(['evaluate', 'mocap', *options, '--model', str(out / 'absolute.onnx'), '--samples', '500',
                 '--json', str(figures)]) == 0
    values = json.loads(figures.read_text())
    assert {'mpjpe_mm', 'pa_mpjpe_mm', 'mrpe_mm', 'coverage_90', 'population.mrpe_mm'} <= set(values)
    assert values['pa_mpjpe_mm'] < values['mpjpe_mm']
    metadata = Lifter.open(out / 'absolute.onnx', runtime='cpu').engine.metadata
    assert metadata['training_command'].startswith('pose3d train absolute --data walk.npz --steps 3')
    assert str(tmp_path) not in json.dumps(metadata)
    assert 'whole_body' in capsys.readouterr().out


@pytest.mark.parametrize(('command', 'told'), [
    (['train', 'absolute', '--data', 'nowhere.npz', '--out', 'x'], 'nowhere.npz'),
    (['export', 'absolute', '--data', 'nowhere.npz', '--out', 'x'], 'train first'),
    (['evaluate', 'mocap', '--data', 'nowhere.npz'], 'nowhere.npz'),
])
def test_mistakes_are_told_in_one_line(command: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    error = capsys.readouterr().err
    assert told in error and error.count('\n') == 1
