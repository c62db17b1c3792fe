"""The lifting network that ships: its geometry, its training, and its way to the file that robots run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from procedural import write_mocap
from scipy.spatial.transform import Rotation

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.cli import train_lifter  # noqa: E402
from pose3d_ros.cli.main import main  # noqa: E402
from pose3d_ros.lift import INPUTS, WINDOW, Lifter, input_points  # noqa: E402
from pose3d_ros.nets.window import WindowLifter, distance, facing, normalise, place  # noqa: E402
from pose3d_ros.runtime.engine import Wanted  # noqa: E402
from pose3d_ros.skeleton import HUMAN17, mirrored  # noqa: E402
from pose3d_ros.train import export as export_module  # noqa: E402
from pose3d_ros.train import lifter as lifter_module  # noqa: E402
from pose3d_ros.train.export import ADULTS, calibrate, export, parity  # noqa: E402
from pose3d_ros.train.lifter import (  # noqa: E402
    LifterSettings,
    batches,
    load_trained,
    loss,
    make_network,
    predict,
    train,
    validate,
)
from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, LoopSettings  # noqa: E402
from pose3d_ros.train.metrics import coverage  # noqa: E402
from pose3d_ros.train.mocap import Mocap, load_mocap  # noqa: E402
from pose3d_ros.train.onnx_file import ExportError  # noqa: E402
from pose3d_ros.train.samples import EVALUATION, POPULATION, Samples, SampleSettings, make_samples  # noqa: E402

torch.set_num_threads(1)  # the networks here are too small for more
SMALL = LifterSettings(width=32, blocks=1, batch=64, pool=512, mixed=False, validation_samples=200)
LOOP = LoopSettings(steps=40, learning_rate=5e-3, warm_up=10, validate_every=20)


@pytest.fixture()
def mocap(tmp_path: Path) -> Mocap:
    return load_mocap([write_mocap(tmp_path / 'walk.npz')], 'train')


@pytest.fixture()
def samples(mocap: Mocap) -> Samples:
    return make_samples(mocap, 500, np.random.default_rng(0), EVALUATION)


@pytest.fixture()
def network() -> WindowLifter:
    torch.manual_seed(0)
    return make_network(SMALL).eval()


def inputs_of(samples: Samples, up: bool = True) -> list[torch.Tensor]:
    stature = np.tile(np.float32([1.7, 0.1]), (len(samples), 1))
    return [torch.from_numpy(array) for array in (
        samples.rays, samples.confidence, samples.age, samples.up if up else 0 * samples.up,
        samples.landmarks[:, None], stature)]


def test_the_turned_camera_looks_at_the_person_and_stays_level() -> None:
    location = torch.randn(40, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    turn = facing(location)
    torch.testing.assert_close(turn @ turn.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(40, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(40, dtype=torch.float64))
    direction = (turn @ torch.cat([location, torch.ones_like(location[:, :1])], dim=1)[..., None])[..., 0]
    torch.testing.assert_close(direction[:, :2], torch.zeros(40, 2, dtype=torch.float64))
    assert (direction[:, 2] > 0).all() and (turn[:, 0, 1] == 0).all()


def test_the_root_of_a_known_pose_is_exact_for_exact_rays_whatever_is_seen() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.25, (200, 17, 3)) + rng.uniform([-2, -1, 2], [2, 1, 6], (200, 1, 3))
    joints = torch.from_numpy(input_points() @ points)
    rays = joints[..., :2] / joints[..., 2:]
    relative = joints - torch.from_numpy(points[:, :1])
    weight = torch.from_numpy((rng.random((200, 13, 1)) < 0.6) * rng.uniform(0.3, 1, (200, 13, 1)))
    weight[:, :3] = 0.5
    depth = distance(rays, relative, weight)
    np.testing.assert_allclose(depth[:, 0, 0], points[:, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(place(rays, relative, depth, weight)[:, 0], points[:, 0], atol=1e-6)


def test_normalised_joints_have_mean_0_and_variance_1_whatever_is_missing() -> None:
    generator = torch.Generator().manual_seed(0)
    rays = torch.randn(50, 4, 13, 2, generator=generator) * 0.1 + 0.3
    seen = (torch.rand(50, 4, 13, 1, generator=generator) < 0.7).float()
    body, mean, scale = normalise(rays, seen)
    count = seen.sum(dim=2)
    torch.testing.assert_close(body.sum(dim=2), torch.zeros(50, 4, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(body.square().sum(dim=(2, 3))[..., None] / count, torch.ones(50, 4, 1))
    torch.testing.assert_close((body * scale + mean) * seen, rays * seen)
    again, _, half = normalise(rays / 2 + 0.2, seen)
    torch.testing.assert_close(again, body, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(half, scale / 2)


def test_the_stature_scales_people_and_widens_them_along_their_rays(network: WindowLifter, samples: Samples) -> None:
    *told, _ = inputs_of(samples)
    count = len(samples)
    with torch.no_grad():
        one, two, unsure = (network(*told, torch.tensor([stature]).expand(count, 2))
                            for stature in ((1.0, 0.0), (2.0, 0.0), (1.0, 0.1)))
    torch.testing.assert_close(two[0], 2 * one[0])
    torch.testing.assert_close(two[1], 2 * one[1])
    torch.testing.assert_close(two[2], 4 * one[2])
    points = one[1][:, None] + one[0]
    share = 0.01 * points[..., :, None] * points[..., None, :]
    torch.testing.assert_close(unsure[2] - one[2], share, atol=1e-4, rtol=1e-3)


def test_a_mirrored_scene_gives_mirrored_people(network: WindowLifter, samples: Samples) -> None:
    rays, confidence, age, up, landmarks, stature = inputs_of(samples)
    other = [INPUTS.index(mirrored(joint)) for joint in INPUTS]
    flip = torch.tensor([-1.0, 1.0, 1.0])
    with torch.no_grad():
        relative, root, covariance = network(rays, confidence, age, up, landmarks, stature)
        again = network(rays[:, :, other] * flip[:2], confidence[:, :, other], age, up * flip, landmarks, stature)
    torch.testing.assert_close(again[0], relative[:, HUMAN17.mirror] * flip, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(again[1], root * flip, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again[2], covariance[:, HUMAN17.mirror] * flip[:, None] * flip, atol=1e-3, rtol=1e-3)


def test_covariances_are_symmetric_and_positive(network: WindowLifter, samples: Samples) -> None:
    with torch.no_grad():
        covariance = network(*inputs_of(samples))[2].double().numpy()
    np.testing.assert_allclose(covariance, np.swapaxes(covariance, -1, -2), atol=1e-6)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_a_network_sees_the_same_person_at_the_border_as_in_the_middle(network: WindowLifter, samples: Samples) -> None:
    """With the location hidden from it, the turned person gives the turned result."""
    location = slice(3 * len(INPUTS), 3 * len(INPUTS) + 2)
    for layer in (network.first, network.past[0]):
        layer.weight.data[:, location] = 0
    whole = samples.where((samples.confidence > 0).all(axis=(1, 2)))
    stature = np.tile(np.float32([1.7, 0.1]), (len(whole), 1))
    relative, root, _ = predict(network, whole, stature, whole.up)
    turn = Rotation.from_euler('y', 20, degrees=True).as_matrix()
    turned = (np.concatenate([whole.rays, np.ones_like(whole.rays[..., :1])], axis=-1) @ turn.T).astype(np.float32)
    other = replace(whole, rays=turned[..., :2] / turned[..., 2:])
    again, root_again, _ = predict(network, other, stature, (whole.up @ turn.T).astype(np.float32))
    assert len(whole) > 50
    # The mean of rays is not quite the same point of the person from every direction: a small difference stays.
    np.testing.assert_allclose(np.median(np.abs(again - relative @ turn.T)), 0, atol=0.005)
    assert np.median(np.linalg.norm(root_again, axis=1) / np.linalg.norm(root, axis=1)) == pytest.approx(1, abs=0.02)


def test_what_a_missing_joint_or_frame_holds_does_not_matter(network: WindowLifter, samples: Samples) -> None:
    inputs = inputs_of(samples)
    inputs[1][:, 0, 3:6] = 0
    inputs[1][:, 2] = 0
    with torch.no_grad():
        expected = network(*inputs)
        for nonsense in (float('nan'), 1e6):
            inputs[0][:, 0, 3:6] = nonsense
            inputs[0][:, 2] = nonsense
            for output, value in zip(network(*inputs), expected):
                torch.testing.assert_close(output, value)
        inputs[1][:] = 0
        for output in network(*inputs):
            assert torch.isfinite(output).all()


def test_the_root_is_the_origin_and_lies_ahead(network: WindowLifter, samples: Samples) -> None:
    with torch.no_grad():
        relative, root, covariance = network(*inputs_of(samples))
    assert relative.shape == (500, len(HUMAN17), 3) and covariance.shape == (500, len(HUMAN17), 3, 3)
    assert (relative[:, 0] == 0).all() and (torch.linalg.norm(root, dim=1) > 0.05).all()


def test_only_covariances_follow_the_likelihood(samples: Samples) -> None:
    network = make_network(SMALL)
    batch = next(batches_of(samples))
    gradients = []
    for weight in (0.0, 1.0):
        network.zero_grad()
        loss(network.eval(), batch, replace(SMALL, doubt_weight=weight)).backward()
        gradients.append({name: value.grad.clone() for name, value in network.named_parameters()
                          if value.grad is not None})
    for name in gradients[0]:
        same = torch.equal(gradients[0][name], gradients[1][name])
        assert same != name.startswith('doubt'), name


def batches_of(samples: Samples):
    truth = samples.points / samples.stature[:, None, None]
    arrays = {'rays': samples.rays, 'confidence': samples.confidence, 'age': samples.age, 'up': samples.up,
              'landmarks': samples.landmarks[:, None], 'points': truth}
    yield {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_training_learns_and_continues_where_it_stopped(mocap: Mocap, tmp_path: Path) -> None:
    check = make_samples(mocap, 200, np.random.default_rng(1), EVALUATION)
    untrained = validate(make_network(SMALL), check)
    settings = SampleSettings()
    train(mocap, mocap, tmp_path, SMALL, replace(LOOP, steps=60), settings, quiet=True)
    run = train(mocap, mocap, tmp_path, SMALL, replace(LOOP, steps=120), settings, command='again', quiet=True)
    assert run.step == 120
    trained = validate(run.result, check)
    assert trained['mpjpe_mm'] < 0.7 * untrained['mpjpe_mm']
    assert trained['mrpe_mm'] < 0.7 * untrained['mrpe_mm']
    network, command = load_trained(tmp_path / CHECKPOINT)
    assert command == 'again'
    for kept, value in zip(network.state_dict().values(), run.result.state_dict().values()):
        torch.testing.assert_close(kept, value)


def test_a_checkpoint_of_another_run_is_refused(mocap: Mocap, tmp_path: Path) -> None:
    one = replace(LOOP, steps=1)
    train(mocap, mocap, tmp_path, SMALL, one, SampleSettings(), quiet=True)
    with pytest.raises(CheckpointError, match='width'):
        train(mocap, mocap, tmp_path, replace(SMALL, width=48), one, SampleSettings(), quiet=True)
    with pytest.raises(CheckpointError, match='train first'):
        load_trained(tmp_path / 'nowhere' / CHECKPOINT)


def test_batches_never_repeat_and_sometimes_know_which_way_is_up(mocap: Mocap) -> None:
    stream = batches(mocap, SampleSettings(), replace(SMALL, batch=64, pool=64), np.random.default_rng(0))
    drawn = [next(stream) for _ in range(6)]
    assert all(len(batch['rays']) == 64 for batch in drawn)
    assert not any(np.array_equal(drawn[0]['rays'], batch['rays']) for batch in drawn[1:])
    known = np.linalg.norm(np.concatenate([batch['up'] for batch in drawn]), axis=1)
    np.testing.assert_allclose(known[known > 0], 1, atol=1e-5)
    assert 0.3 < (known > 0).mean() < 0.7


def test_calibrated_ellipsoids_hold_what_they_promise(network: WindowLifter, mocap: Mocap) -> None:
    people = make_samples(mocap, 400, np.random.default_rng(3), POPULATION)
    trust = calibrate(network, people)
    assert trust != 1 and network.trust == pytest.approx(trust)
    relative, root, covariance = predict(network, people, np.tile(ADULTS, (len(people), 1)))
    error = people.points - root[:, None] - relative
    assert coverage(error, covariance.astype(np.float64)) == pytest.approx(0.9, abs=0.01)


def test_the_exported_file_computes_what_the_network_does_and_says_what_it_is(
        network: WindowLifter, samples: Samples, tmp_path: Path) -> None:
    calibrate(network, samples)
    path = tmp_path / 'small.onnx'
    assert export(network, path, {'training_command': 'none'}, (1.6, 0.2)) < 1e-4
    lifter = Lifter.open(path, Wanted('cpu', threads=1))
    assert (lifter.stature, lifter.stature_sigma) == (1.6, 0.2)
    assert lifter.engine.metadata['training_command'] == 'none' and 'cmu.edu' in lifter.engine.metadata['notice']
    position, covariance = lifter.run(samples.rays, samples.confidence, samples.age, samples.up)
    relative, root, expected = predict(network, samples, np.tile([1.6, 0.2], (len(samples), 1)), samples.up)
    np.testing.assert_allclose(position, root[:, None] + relative, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(covariance, expected, rtol=1e-2, atol=1e-3)
    alone, _ = lifter.run(samples.rays[:, :1], samples.confidence[:, :1], samples.age[:, :1])
    assert alone.shape == position.shape and WINDOW > 1


def test_a_file_that_computes_something_else_is_not_left_behind(network: WindowLifter, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, 'parity', lambda *_: 0.02)
    with pytest.raises(ExportError, match='20.000 mm'):
        export(network, tmp_path / 'small.onnx', {})
    assert list(tmp_path.glob('small*')) == []


def test_parity_sees_other_weights(network: WindowLifter, tmp_path: Path) -> None:
    export(network, tmp_path / 'small.onnx', {})
    assert parity(make_network(SMALL).eval(), tmp_path / 'small.onnx') > 1e-3


def test_from_file_to_weights_with_two_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(train_lifter, 'SAMPLES', 500)
    monkeypatch.setattr(lifter_module, 'LifterSettings', lambda **given: replace(SMALL, **given))
    data, out = write_mocap(tmp_path / 'walk.npz'), tmp_path / 'run'
    options = ['--data', str(data), '--out', str(out)]
    assert main(['train', 'lifter', *options, '--steps', '3', '--width', '16', '--threads', '1']) == 0
    assert main(['export', 'lifter', *options]) == 0
    metadata = Lifter.open(out / 'lifter.onnx', engines=Wanted('cpu')).engine.metadata
    assert metadata['training_command'] == 'pose3d train lifter --data walk.npz --steps 3 --width 16'
    assert str(tmp_path) not in json.dumps(metadata)
    shown = capsys.readouterr().out
    assert f'{out / "lifter.onnx"}: ' in shown and 'opset 17' in shown and 'rays (N, ' in shown
    assert 'mm of PyTorch on 1 and on 7 random people (limit 0.1 mm)' in shown and 'tolerances' in shown
    (out / 'folder.onnx').mkdir()
    assert main(['export', 'lifter', *options, '--onnx', str(out / 'folder.onnx')]) == 1
    assert 'cannot write' in capsys.readouterr().err


@pytest.mark.parametrize(('command', 'told'), [
    (['train', 'lifter', '--data', 'nowhere.npz', '--out', 'x'], 'nowhere.npz'),
    (['export', 'lifter', '--data', 'nowhere.npz', '--out', 'x'], 'train first'),
])
def test_mistakes_are_told_in_one_line(command: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    error = capsys.readouterr().err
    assert told in error and error.count('\n') == 1
