"""The geometry-driven lifter: its geometry, its losses, its networks, and that it learns from 2D alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from laboratory_film import film, walk
from scipy.spatial.transform import Rotation

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.cli.main import main  # noqa: E402
from pose3d_ros.nets.geometric import BACKBONES, GeometricLifter, TemporalDilated  # noqa: E402
from pose3d_ros.train import geometric_labels  # noqa: E402
from pose3d_ros.train.geometric import (  # noqa: E402
    GeometricLoss,
    GeometricSettings,
    crossview_errors,
    load_trained,
    make_network,
    paired,
    pairs,
    predict,
    pretraining_loss,
    project,
    train,
    training_loss,
    transformed,
    watched,
)
from pose3d_ros.train.geometric_labels import seen_by, train_adversarial, train_supervised  # noqa: E402
from pose3d_ros.train.geometric_variants import VARIANTS, settings_of, train_self_supervised  # noqa: E402
from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, LoopSettings, Run, read_checkpoint  # noqa: E402
from pose3d_ros.train.metrics import mpjpe, mrpe  # noqa: E402
from pose3d_ros.train.recording import Recording, RecordingError, save_truth  # noqa: E402
from pose3d_ros.train.views import with_virtual_views  # noqa: E402

torch.set_num_threads(1)
SMALL = GeometricSettings(width=32, batch=64, dropout=0.0, mixed=False, watched=100, loop=LoopSettings(
    steps=12, learning_rate=3e-3, warm_up=2, validate_every=6, average=0.9, weight_decay=0.0))
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def filmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, np.ndarray]:
    return film(walk(Path(tmp_path_factory.mktemp('data')), 40), takes=4)


@pytest.fixture(scope='module')
def recording(filmed: tuple[Recording, np.ndarray]) -> Recording:
    return filmed[0]


def table_of(recording: Recording) -> np.ndarray:
    poses = recording.camera_T_world
    return np.array([[b @ np.linalg.inv(a) for b in poses] for a in poses])


def batch_and_joints(
        filmed: tuple[Recording, np.ndarray]) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Return a batch of pairs of views, and the true joints (B, 17, 3) m as both views have them."""
    recording, truth = filmed
    rng = np.random.default_rng(3)
    moments = rng.integers(len(recording), size=20)
    first = rng.integers(4, size=20)
    second = (first + rng.integers(1, 4, size=20)) % 4
    batch = paired(recording, moments, first, second, table_of(recording), True, 1)
    joints = (torch.from_numpy(seen_by(recording, truth, moments, views)) for views in (first, second))
    return ({name: torch.from_numpy(array) for name, array in batch.items()}, *joints)  # type: ignore[return-value]


def test_projection_and_rigid_transforms_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 2], [1, 1, 6], (5, 17, 3))
    np.testing.assert_allclose(project(torch.from_numpy(points)), points[..., :2] / points[..., 2:])
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = Rotation.random(5, random_state=1).as_matrix(), rng.normal(size=(5, 3))
    expected = [[pose[:3, :3] @ joint + pose[:3, 3] for joint in body] for body, pose in zip(points, poses)]
    np.testing.assert_allclose(transformed(torch.from_numpy(points), torch.from_numpy(poses)), expected)


def test_the_paper_s_extrinsics_give_the_same_transform() -> None:
    # Equations 3 and 4 with R, t of "x_camera = R (x_world - t)": R_1to2 (Y - t_1to2).
    rng = np.random.default_rng(0)
    first, second = Rotation.random(2, random_state=2).as_matrix()
    at = rng.normal(size=(2, 3))
    joints = rng.normal(size=(17, 3))
    paper = (second @ first.T) @ (joints - first @ (at[1] - at[0]))[..., None]
    poses = [np.block([[turn, -(turn @ center)[:, None]], [np.zeros((1, 3)), 1]])
             for turn, center in zip((first, second), at)]
    ours = transformed(torch.from_numpy(joints[None]), torch.from_numpy((poses[1] @ np.linalg.inv(poses[0]))[None]))
    np.testing.assert_allclose(ours[0], paper[..., 0])


def test_a_joint_behind_the_camera_still_has_a_projection() -> None:
    points = torch.tensor([[0.5, 0.0, -2.0]], requires_grad=True)
    rays = project(points)
    rays.square().sum().backward()
    assert torch.isfinite(rays).all() and points.grad is not None and torch.isfinite(points.grad).all()


def test_losses_are_zero_for_the_truth_and_for_nothing_else(filmed: tuple[Recording, np.ndarray]) -> None:
    batch, first, second = batch_and_joints(filmed)
    assert pretraining_loss(first, second, batch['second_T_first']) < 1e-9
    assert training_loss(first, second, batch, 1.0) < 1e-3            # squared thousandths of a ray
    off = first + torch.tensor([0.0, 0.0, 0.1])
    assert pretraining_loss(off, second, batch['second_T_first']) > 0.01
    assert training_loss(off, second, batch, 1.0) > 10
    deeper = first * 1.1                                              # invisible to the view itself
    assert training_loss(deeper, second * 1.1, batch, 0.0) < 1e-3
    assert training_loss(deeper, second * 1.1, batch, 1.0) > 1000


def test_pretraining_is_content_with_anything_that_both_views_agree_on(filmed: tuple[Recording, np.ndarray]) -> None:
    batch, first, _ = batch_and_joints(filmed)
    anything = torch.from_numpy(np.random.default_rng(0).normal(size=first.shape).astype(np.float32))
    assert pretraining_loss(anything, transformed(anything, batch['second_T_first']), batch['second_T_first']) < 1e-8


def test_the_loss_does_not_change_when_the_whole_rig_is_moved(filmed: tuple[Recording, np.ndarray]) -> None:
    recording, _ = filmed
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = Rotation.from_rotvec([0.3, -1.2, 2.0]).as_matrix(), [4, -7, 1]
    elsewhere = replace(recording, camera_T_world=recording.camera_T_world @ moved)
    network = make_network(SMALL).eval()
    values = []
    for each in (recording, elsewhere):
        run = Run(network, SMALL.loop)
        batch = {name: torch.from_numpy(array)
                 for name, array in next(pairs(each, SMALL, 1, np.random.default_rng(0))).items()}
        for step in (0, 5):
            run.step = step
            values.append(float(GeometricLoss(SMALL, run)(network.eval(), batch).detach()))
    np.testing.assert_allclose(values[:2], values[2:], rtol=1e-4)


def test_unseen_and_unsure_joints_do_not_teach(filmed: tuple[Recording, np.ndarray]) -> None:
    recording, _ = filmed
    confidence = recording.confidence.copy()
    confidence[:, :, 3] = 0
    wild = recording.rays.copy()
    wild[:, :, 3] = 9.0
    rng = np.random.default_rng(0)
    joints = torch.from_numpy(rng.normal([0, 0, 5], 0.3, (2, 64, 17, 3)).astype(np.float32))
    values = []
    for rays in (recording.rays, wild):
        blind = replace(recording, confidence=confidence, rays=rays)
        batch = next(pairs(blind, SMALL, 1, np.random.default_rng(1)))
        values.append(training_loss(joints[0], joints[1], {k: torch.from_numpy(v) for k, v in batch.items()}, 1.0))
    assert values[0] == values[1]
    even = next(pairs(recording, replace(SMALL, confidence=False), 1, np.random.default_rng(1)))
    assert (even['weight_1'] == 1).all() and (even['across_2'] == 1).all()


def test_pairs_are_two_different_views_of_one_moment(recording: Recording) -> None:
    batch = next(pairs(recording, SMALL, 1, np.random.default_rng(0)))
    assert (batch['first'] != batch['second']).all()
    assert set(zip(batch['first'], batch['second'])) == {(a, b) for a in range(4) for b in range(4) if a != b}
    np.testing.assert_array_equal(batch['window_1'][:, 0], batch['rays_1'])


def test_of_a_pair_with_virtual_views_one_is_real(recording: Recording) -> None:
    more = with_virtual_views(recording, 8, np.random.default_rng(0))
    batch = next(pairs(more, replace(SMALL, batch=2000, virtual=8), 1, np.random.default_rng(0)))
    assert (batch['first'] < 4).all() and set(batch['second']) == set(range(12))
    assert (batch['first'] != batch['second']).all()


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize('middle', [True, False])
def test_every_backbone_gives_a_pose_about_its_root(backbone: str, middle: bool) -> None:
    torch.manual_seed(0)
    network = GeometricLifter(backbone, width=16, middle=middle).eval()
    relative, root = network(torch.randn(3, network.frames, 17, 2) * 0.1)
    assert relative.shape == (3, 17, 3) and root.shape == (3, 3)
    assert (relative[:, 0] == 0).all() and (root[:, 2] > 1).all()


def test_what_moves_all_joints_alike_is_the_position_branch_s() -> None:
    # The sum of all joints does not depend on the lifting branch, which so cannot take part in the distance.
    torch.manual_seed(0)
    network = GeometricLifter(width=16).eval()
    rays = torch.randn(3, 1, 17, 2) * 0.1
    relative, root = network(rays)
    (relative + root[:, None]).sum().backward()
    assert max(float(weight.grad.abs().max()) for weight in network.lift.parameters() if weight.grad is not None) < 1e-4
    assert all(weight.grad is not None for weight in network.root.parameters())


def test_the_branches_share_no_weights_and_have_the_published_size() -> None:
    network = GeometricLifter()
    lift, root = ({id(weight) for weight in branch.parameters()} for branch in (network.lift, network.root))
    assert not lift & root
    linear = [layer for layer in network.lift.modules() if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [1024] * 9 + [48]


def test_the_temporal_backbone_is_that_of_dilated_convolutions() -> None:
    torch.manual_seed(0)
    network = TemporalDilated(48, width=16, layers=3).eval()
    rays = torch.randn(2, 27, 17, 2) * 0.1
    x = torch.nn.functional.conv1d(rays.flatten(2).transpose(1, 2) / 0.15, network.wide[0][0].weight,
                                   network.wide[0][0].bias)
    x = network.wide[0][1:](x)
    for number, (wide, narrow) in enumerate(zip(network.wide[1:], network.narrow), start=1):
        step = 3 ** number
        y = torch.nn.functional.conv1d(x, wide[0].weight, wide[0].bias, dilation=step)
        x = x[:, :, step:-step] + narrow(wide[1:](y))
    assert x.shape[2] == 1
    torch.testing.assert_close(network.last(x[:, :, 0]), network(rays))


def test_a_few_steps_reduce_the_error_across_views(recording: Recording, tmp_path: Path) -> None:
    settings = replace(SMALL, loop=replace(SMALL.loop, steps=60, validate_every=60))
    moments, views = watched(recording, 100)
    errors = []
    for network in (make_network(settings), train(recording, recording, tmp_path, settings, quiet=True).result):
        relative, root = predict(network, recording, moments, views)  # type: ignore[arg-type]
        errors.append(np.median(crossview_errors(recording, moments, views, relative + root[:, None])[1]))
    assert errors[1] < 0.3 * errors[0]


def test_crossview_errors_are_zero_for_the_truth_and_nan_where_nothing_was_seen(
        filmed: tuple[Recording, np.ndarray]) -> None:
    recording, truth = filmed
    confidence = recording.confidence.copy()
    confidence[:, 2, 5] = 0
    moments, views = np.arange(8), np.array([0, 1, 2, 3] * 2)
    own, across = crossview_errors(replace(recording, confidence=confidence), moments, views,
                                   seen_by(recording, truth, moments, views))
    assert own.shape == (8, 17) and across.shape == (8, 3, 17)
    assert np.nanmax(own) < 1e-5 and np.nanmax(across) < 1e-5
    assert np.isnan(own[2, 5]) and np.isnan(across[1, 0, 5]) and np.isnan(across).sum() == 6


@pytest.mark.parametrize('name', [name for name, variant in VARIANTS.items() if not variant.needs])
def test_every_variant_trains_without_labels_and_knows_what_it_is(name: str, recording: Recording,
                                                                   tmp_path: Path) -> None:
    settings = replace(SMALL, loop=replace(SMALL.loop, steps=2, validate_every=2))
    train_self_supervised(name, recording, recording, tmp_path, settings, command='told', quiet=True)
    network, loaded, command = load_trained(tmp_path / CHECKPOINT)
    assert replace(loaded, loop=settings.loop, mixed=False) == settings_of(name, settings) and command == 'told'
    assert network.middle == loaded.middle
    with pytest.raises(CheckpointError, match='other settings'):
        train_self_supervised('transform' if name != 'transform' else 'pelvis', recording, recording, tmp_path,
                              settings, quiet=True)


def test_variants_with_labels_are_not_trained_without(recording: Recording, filmed: tuple[Recording, np.ndarray],
                                                      tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='prior'):
        train_self_supervised('adversarial', recording, recording, tmp_path, SMALL)
    with pytest.raises(RecordingError, match='not its own'):
        train_supervised(recording, filmed[1][:-1], recording, tmp_path, SMALL)


def test_labels_teach_place_and_pose(filmed: tuple[Recording, np.ndarray], tmp_path: Path) -> None:
    recording, truth = filmed
    settings = replace(SMALL, loop=replace(SMALL.loop, steps=100, validate_every=100))
    network = train_supervised(recording, truth, recording, tmp_path, settings, quiet=True).result
    moments, views = watched(recording, 100)
    relative, root = predict(network, recording, moments, views)  # type: ignore[arg-type]
    target = seen_by(recording, truth, moments, views)
    assert mpjpe(relative, target) < 0.16 and mrpe(root, target[:, 0]) < 0.1


def test_a_critic_trains_beside_and_can_be_left_behind(filmed: tuple[Recording, np.ndarray], tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    recording, truth = filmed
    train_adversarial(recording, recording, truth, tmp_path / 'prior', SMALL, quiet=True)
    monkeypatch.setattr(geometric_labels, 'PRIOR_WEIGHT', 0.0)
    train_adversarial(recording, recording, truth, tmp_path / 'none', SMALL, quiet=True)
    states = [read_checkpoint(tmp_path / name / CHECKPOINT)['result'] for name in ('prior', 'none')]
    assert any(name.startswith('critic.') for name in states[0])
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0] if name.startswith('lift.'))
    load_trained(tmp_path / 'prior' / CHECKPOINT)


@pytest.mark.parametrize('name', ['transform', 'adversarial'])
def test_a_resumed_run_is_the_uninterrupted_one(name: str, filmed: tuple[Recording, np.ndarray], tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    recording, truth = filmed
    settings = replace(SMALL, dropout=0.1, pretrain=0.25)   # 3 of 12 steps: the phase is kept, too
    update = Run.update

    def fit(folder: str) -> dict[str, torch.Tensor]:
        run = (train(recording, recording, tmp_path / folder, settings, quiet=True) if name == 'transform'
               else train_adversarial(recording, recording, truth, tmp_path / folder, settings, quiet=True))
        return run.network.state_dict()

    def dying(run: Run, *given: object) -> float:
        if run.step == 9:
            raise KeyboardInterrupt
        return update(run, *given)  # type: ignore[arg-type]

    whole = fit('whole')
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, 'update', dying)
        fit('parts')
    assert read_checkpoint(tmp_path / 'parts' / CHECKPOINT)['step'] == 6
    parts = fit('parts')
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_what_learns_without_labels_imports_nothing_that_knows_them() -> None:
    script = ('import sys, pose3d_ros.train.geometric_variants;'
              "print(*(name for name in sys.modules if name.startswith('pose3d_ros.train.')))")
    result = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) == {f'pose3d_ros.train.{name}' for name in (
        'geometric_variants', 'geometric', 'loop', 'recording', 'views')}


def test_other_truth_gives_the_same_weights(filmed: tuple[Recording, np.ndarray], tmp_path: Path) -> None:
    # The same 2D beside the truth, beside nonsense called the truth, and beside nothing.
    recording, truth = filmed
    states = []
    for number, positions in enumerate((truth, np.random.default_rng(0).normal(size=truth.shape), None)):
        folder = tmp_path / str(number)
        recording.save(folder / 'rec.npz')
        if positions is not None:
            save_truth(folder / 'rec_truth.npz', positions)
        assert main(['train', 'geometric', '--recording', str(folder / 'rec.npz'), '--validation',
                     str(folder / 'rec.npz'), '--out', str(folder), '--steps', '4', '--width', '16', '--batch', '16',
                     '--variants', 'transform', 'augmented', 'reprojection_only', '--threads', '1']) == 0
        states.append([read_checkpoint(folder / name / CHECKPOINT)['network']
                       for name in ('transform', 'augmented', 'reprojection_only')])
    for other in states[1:]:
        for mine, theirs in zip(states[0], other):
            assert all(torch.equal(mine[key], theirs[key]) for key in mine)
