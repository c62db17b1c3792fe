"""Body parts that depend on one another: who listens to whom, what is learnt, and the lifter made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from procedural import write_mocap
from scipy.spatial.transform import Rotation

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, ATTRIBUTE_MIRROR, labels  # noqa: E402
from pose3d_ros.lift import ATTRIBUTES, ENGINE_OUTPUTS, INPUTS  # noqa: E402
from pose3d_ros.nets.parts import PROGRESSIVE, VARIANTS, PartsLifter, PartsNet  # noqa: E402
from pose3d_ros.skeleton import DOF_GROUPS, HUMAN17, mirrored  # noqa: E402
from pose3d_ros.train import export_parts, parts  # noqa: E402
from pose3d_ros.train.export import random_people  # noqa: E402
from pose3d_ros.train.lifter import LifterSettings  # noqa: E402
from pose3d_ros.train.lifter import make_network as make_window  # noqa: E402
from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, LoopSettings  # noqa: E402
from pose3d_ros.train.metrics import CHI2_3, squared_mahalanobis  # noqa: E402
from pose3d_ros.train.mocap import load_mocap  # noqa: E402
from pose3d_ros.train.onnx_file import ExportError  # noqa: E402
from pose3d_ros.train.parts import (  # noqa: E402
    DEPLOYED,
    FEATURES,
    ROWS,
    PartsSettings,
    batches,
    evidence_of,
    joint_errors,
    load_trained,
    make_network,
    predict,
    sample_evidence,
    train,
)
from pose3d_ros.train.parts_data import People, PeopleError, draw, kept  # noqa: E402
from pose3d_ros.train.samples import EVALUATION, POPULATION, SampleSettings, make_samples  # noqa: E402

torch.set_num_threads(1)  # the networks here are too small for more
SMALL = PartsSettings(width=16, batch=64)
GROUPS = [[HUMAN17.index(joint) for joint in group if joint != 'pelvis'] for group in DOF_GROUPS]


@pytest.fixture(scope='module')
def mocap(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return load_mocap([write_mocap(Path(tmp_path_factory.mktemp('walk')) / 'walk.npz')], 'train')


@pytest.fixture(scope='module')
def people(mocap) -> People:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    lifter = make_window(LifterSettings(width=16, blocks=1, mixed=False)).eval()
    return draw(mocap, 3000, np.random.default_rng(0), SampleSettings(), uses=2, know_up=0.5, lifter=lifter)


def network(variant: str, seed: int = 0, **changes: object) -> PartsNet:
    """Return a small network whose layers all say something, with the statistics of a little training."""
    torch.manual_seed(seed)
    net = PartsNet(variant, GROUPS, FEATURES, len(ATTRIBUTE_JOINTS), **{'width': 16, **changes})  # type: ignore[arg-type]
    for layer in (*net.last, *net.heard.values()):
        torch.nn.init.normal_(layer.weight, std=0.3)
    for _ in range(5):
        net(2 * torch.randn(64, FEATURES) + 1, torch.rand(64, 9, 3), torch.randn(64, 17, 3))
    return net.eval()


def shown(count: int, seed: int = 0) -> tuple:
    torch.manual_seed(seed)
    return torch.randn(count, FEATURES), torch.rand(count, len(ATTRIBUTE_JOINTS), 3)


# --- the network -----------------------------------------------------------------------------------------------------

def listens(net: PartsNet, block: int, group: int) -> set[tuple[int, int]]:
    """Return the (block, group) of the modules that a module's answer hangs on, itself included, by gradients."""
    features, attributes = shown(8)
    poses = net(features, attributes)
    net.zero_grad()
    poses[block][:, GROUPS[group]].square().sum().backward()
    return {(number // 3, number % 3) for number, layer in enumerate(net.last)
            if layer.weight.grad is not None and layer.weight.grad.abs().max() > 0}


def test_groups_and_pelvis_are_all_joints_and_each_group_is_its_own_mirror_image() -> None:
    assert sorted(joint for group in DOF_GROUPS for joint in group) == sorted(HUMAN17.joints)
    for group in DOF_GROUPS:
        assert {mirrored(joint) for joint in group} == set(group)


@pytest.mark.parametrize('variant', VARIANTS)
def test_poses_have_every_joint_in_its_place_and_the_pelvis_at_the_origin(variant: str) -> None:
    net, (features, attributes) = network(variant), shown(5)
    # Each module says the number of its joint in place of x.
    step = 1 if variant == 'plain' else 3
    with torch.no_grad():
        for layer, part in zip(net.last, net.parts):
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor([[joint, 0, 0] for joint in part.joints], dtype=torch.float32).ravel())
        poses = net(features, attributes)
    assert len(poses) == len(net.parts) / step
    for pose in poses:
        assert pose.shape == (5, 17, 3)
        torch.testing.assert_close(pose[..., 0], torch.arange(17.0).expand(5, 17))


def test_baseline_groups_hear_of_no_other_group() -> None:
    net = network('baseline')
    for group in range(3):
        assert listens(net, 1, group) == {(0, group), (1, group)}


def test_progressive_modules_listen_to_those_of_equations_4_and_5() -> None:
    # Straight from the equations, with what those modules hang on themselves. (block, group), counted from 0.
    told = {(0, 0): set(), (0, 1): {(0, 0)}, (0, 2): {(0, 1), (0, 0)}, (1, 0): {(0, 1), (0, 2)},
            (1, 1): {(1, 0), (0, 2)}, (1, 2): {(1, 0), (1, 1)}}

    def all_of(module: tuple[int, int]) -> set[tuple[int, int]]:
        return {module}.union(*(all_of(other) for other in told[module]))

    net = network('progressive')
    for block, group in told:
        assert {(source // 3, source % 3) for source in PROGRESSIVE[3 * block + group]} == told[block, group]
        assert listens(net, block, group) == all_of((block, group))


def test_attributes_reach_every_module_and_zeros_are_unknown() -> None:
    net, (features, attributes) = network('attributes'), shown(4)
    with torch.no_grad():
        told, zeros, nothing = (net(features, said) for said in (attributes, 0 * attributes, None))
    for block in range(2):
        for group in GROUPS:
            assert (told[block] - zeros[block])[:, group].abs().max() > 1e-3
        assert torch.isfinite(zeros[block]).all()
        torch.testing.assert_close(zeros[block], nothing[block])
    others = network('progressive')
    with torch.no_grad():
        torch.testing.assert_close(others(features, attributes)[-1], others(features)[-1])


def test_dependence_costs_few_weights() -> None:
    count = {name: sum(weight.numel() for weight in make_network(ROWS[name], PartsSettings()).parameters())
             for name in ('plain', 'baseline', 'progressive')}
    assert count['baseline'] < count['progressive'] < 1.06 * count['baseline']
    assert 0.85 < count['plain'] / count['baseline'] < 1.15


def test_a_network_that_refines_says_how_far_off_the_pose_is_that_it_is_given() -> None:
    net, (features, attributes) = network('attributes', refines=True), shown(6)
    start = torch.randn(6, 17, 3)
    start[:, 0] = 0
    with torch.no_grad():
        poses = net(features, attributes, start)
        other = net(features, attributes, start + torch.rand(6, 17, 3))
        for layer in net.last:
            layer.weight.zero_()
            layer.bias.zero_()
        unchanged = net(features, attributes, start)
    for block in range(2):
        torch.testing.assert_close(unchanged[block], start)
        assert (poses[block] - start).abs()[:, 1:].amax(dim=(0, 2)).min() > 1e-3
        assert (poses[block] - other[block]).abs()[:, 1:].amax(dim=(0, 2)).min() > 1e-3
    with pytest.raises(ValueError, match='needs one'):
        net(features, attributes)


@pytest.mark.parametrize('variant', VARIANTS)
def test_folded_networks_compute_the_same_without_batch_norms(variant: str) -> None:
    net, (features, attributes) = network(variant), shown(6)
    folded = net.folded()
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    with torch.no_grad():
        for one, other in zip(net(features, attributes), folded(features, attributes)):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('variant', 'groups'), [('whole', GROUPS), ('baseline', GROUPS[:2] + [[3]]),
                                                 ('plain', [*GROUPS, [0]])])
def test_other_variants_and_incomplete_groups_are_refused(variant: str, groups: list) -> None:
    with pytest.raises(ValueError, match='expected'):
        PartsNet(variant, groups, FEATURES)


# --- what it learns from ---------------------------------------------------------------------------------------------

def test_people_are_in_the_frame_of_the_camera_turned_to_them(people: People) -> None:
    assert people.features.shape == (3000, FEATURES) and people.features.dtype == np.float32
    assert np.abs(people.pose[:, 0]).max() == 0
    # The truth, seen straight ahead from afar, lies about where the normalised joints are: same order, same axes.
    whole = people.where(people.whole)
    body = whole.features[:, :3 * len(INPUTS)].reshape(len(whole), -1, 3)[..., :2]
    for joint in ('left_wrist', 'right_ankle', 'left_shoulder'):
        across = whole.pose[:, HUMAN17.index(joint), :2] - whole.pose[:, :, :2].mean(axis=1)
        found = body[:, INPUTS.index(joint)]
        assert np.corrcoef(across.ravel(), found.ravel())[0, 1] > 0.9
    assert 0.2 < people.whole.mean() < 0.6


def test_people_are_drawn_once_and_kept(people: People, tmp_path: Path) -> None:
    file = tmp_path / 'out' / 'people.npz'
    first = kept(file, {'people': 5}, lambda: people.where(slice(5)))
    again = kept(file, {'people': 5}, lambda: pytest.fail('drawn again'))
    np.testing.assert_array_equal(first.features, again.features)
    with pytest.raises(PeopleError, match='use another --out'):
        kept(file, {'people': 6}, lambda: people)
    file.write_bytes(b'nothing')
    with pytest.raises(PeopleError, match='delete it'):
        kept(file, {'people': 5}, lambda: people)


def test_all_rows_learn_from_the_same_people_in_the_same_order(people: People) -> None:
    first = [next(batches(people, row, SMALL, np.random.default_rng(3))) for row in ROWS.values()]
    for batch, row in zip(first, ROWS.values()):
        np.testing.assert_array_equal(batch['features'], first[0]['features'])
        assert (ATTRIBUTES in batch) == bool(row.evidence)


def test_evidence_is_as_often_right_as_it_should_be_and_unknown_for_some(people: People) -> None:
    told = evidence_of(ROWS['attributes'], people, 0)
    assert told is not None
    known = told.sum(axis=2) > 0
    assert (told.argmax(axis=2) == labels(people.distances))[known].mean() == pytest.approx(0.84, abs=0.02)
    assert known[people.whole].all() and not known[(people.confidence == 0).all(axis=1)].any()
    whole = people.where(people.whole)
    batch = next(batches(whole, ROWS[DEPLOYED], PartsSettings(batch=4000), np.random.default_rng(0)))
    unknown = (batch[ATTRIBUTES] == 0).all(axis=(1, 2))
    assert unknown.mean() == pytest.approx(ROWS[DEPLOYED].unknown, abs=0.03)


# --- training --------------------------------------------------------------------------------------------------------

def run(name: str, people: People, out: Path, steps: int, minutes: float = float('inf')):  # type: ignore[no-untyped-def]
    loop = LoopSettings(steps=steps, learning_rate=5e-3, warm_up=5, average=0.9, validate_every=20)
    return train(name, people, people.where(slice(500)), out, SMALL, loop, minutes, 'pose3d train parts', quiet=True)


@pytest.mark.parametrize('name', ROWS)
def test_a_little_training_lowers_the_error(name: str, people: People, tmp_path: Path) -> None:
    before = joint_errors(make_network(ROWS[name], SMALL), people).mean()
    trained = run(name, people, tmp_path, 60)
    log = np.genfromtxt(tmp_path / 'log.csv', delimiter=',', names=True)
    assert log['loss'][-1] < (1.0 if ROWS[name].refines else 0.8) * log['loss'][0]
    assert joint_errors(trained.result, people).mean() < (0.97 if ROWS[name].refines else 0.8) * before


def test_an_interrupted_training_ends_as_one_that_was_not(people: People, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    some = people.where(slice(9))
    whole = run(DEPLOYED, people, tmp_path / 'whole', 40)

    def interrupt(*_: object) -> dict[str, float]:
        if (tmp_path / 'parted' / CHECKPOINT).exists():
            raise KeyboardInterrupt
        return {}

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(parts, 'validate', interrupt)
        run(DEPLOYED, people, tmp_path / 'parted', 40)
    assert load_trained(tmp_path / 'parted' / CHECKPOINT)[1]['steps'] == 20
    run(DEPLOYED, people, tmp_path / 'parted', 40)
    network, told = load_trained(tmp_path / 'parted' / CHECKPOINT)
    assert told['row'] == DEPLOYED and told['steps'] == 40 and told['command'] == 'pose3d train parts'
    np.testing.assert_array_equal(predict(network, some), predict(whole.result, some))
    with pytest.raises(CheckpointError, match='other settings'):
        run('attributes', people, tmp_path / 'parted', 40)


# --- the lifter made of it -------------------------------------------------------------------------------------------

@pytest.fixture(scope='module', params=[False, True], ids=['from scratch', 'refining'])
def lifter(request: pytest.FixtureRequest) -> PartsLifter:
    torch.manual_seed(0)
    window = make_window(LifterSettings(width=32, blocks=1, mixed=False)).eval()
    return export_parts.make_lifter(window, network('attributes', refines=request.param))


def inputs(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    arrays = random_people(count, rng)
    arrays[ATTRIBUTES] = rng.dirichlet(np.ones(3), (count, 9)).astype(np.float32)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_pose_is_the_parts_networks_and_the_place_the_window_lifters(lifter: PartsLifter) -> None:
    told = inputs(6)
    window = [told[name] for name in told if name != ATTRIBUTES]
    with torch.no_grad():
        relative, root, covariance = lifter(*told.values())
        plain = lifter.window(*window)
        other = lifter(*window, 0 * told[ATTRIBUTES])
    torch.testing.assert_close(root, plain[1])
    assert (relative - plain[0]).abs().max() > 0.01 and (relative - other[0]).abs().max() > 0.01
    assert relative[:, 0].abs().max() == 0
    # With the pose at the pelvis only, covariances are the window lifter's.
    torch.testing.assert_close(covariance[:, 0], plain[2][:, 0])


def test_mirrored_people_give_mirrored_results(lifter: PartsLifter) -> None:
    told = inputs(6)
    other = [INPUTS.index(mirrored(joint)) for joint in INPUTS]
    flip = torch.tensor([-1.0, 1.0, 1.0])
    image = {**told, 'rays': told['rays'][:, :, other] * flip[:2], 'confidence': told['confidence'][:, :, other],
             'up': told['up'] * flip, ATTRIBUTES: told[ATTRIBUTES][:, ATTRIBUTE_MIRROR]}
    with torch.no_grad():
        relative, root, covariance = lifter(*told.values())
        again = lifter(*image.values())
    torch.testing.assert_close(again[0], relative[:, HUMAN17.mirror] * flip, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(again[1], root * flip, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(again[2], covariance[:, HUMAN17.mirror] * flip * flip[:, None], rtol=1e-2, atol=1e-3)


def test_where_the_person_stands_in_the_image_turns_the_pose_along(lifter: PartsLifter) -> None:
    # A camera turned about its own centre sees the same person elsewhere. But for the ray to the person, which the
    # network is told, it is shown the same, so the pose is the same one seen from the turned camera.
    told = inputs(6)
    told['confidence'][:] = 1
    told['rays'] = 0.1 * told['rays'] * torch.tensor([0.0, 1.0]) + 0.02 * told['rays'] * torch.tensor([1.0, 0.0])
    deaf = export_parts.make_lifter(lifter.window, lifter.parts)
    ray = 3 * len(INPUTS)
    with torch.no_grad():
        deaf.parts.first.weight[:, ray:ray + 2] = 0
        # So that the middle of the rays is the same person's in both views, its ray is the optical axis before.
        told['rays'] -= told['rays'].mean(dim=2, keepdim=True)
        turn = torch.from_numpy(Rotation.from_euler('x', 12, degrees=True).as_matrix()).float()
        ahead = torch.cat([told['rays'], torch.ones_like(told['rays'][..., :1])], dim=-1) @ turn.T
        turned = {**told, 'rays': ahead[..., :2] / ahead[..., 2:], 'up': told['up'] @ turn.T}
        one, other = (deaf(*view.values())[0] for view in (told, turned))
    assert (other - one @ turn.T).norm(dim=-1).mean() < 0.25 * (other - one).norm(dim=-1).mean()


def test_calibrated_ellipsoids_hold_what_they_promise(lifter: PartsLifter, mocap) -> None:  # type: ignore[no-untyped-def]
    samples = make_samples(mocap, 600, np.random.default_rng(1), POPULATION)
    told = sample_evidence(DEPLOYED, samples, 0)
    factors = export_parts.calibrate(lifter, samples, told)
    relative, root, covariance = export_parts.predict(lifter, samples, np.tile([1.7, 0.1], (600, 1)), told)
    inside = squared_mahalanobis(samples.points - root[:, None] - relative, covariance.astype(float)) <= CHI2_3[0.9]
    within = (factors > 0.21) & (factors < 4.9)
    held = inside.mean(axis=0)
    assert np.abs(0.5 * (held + held[HUMAN17.mirror]) - 0.9)[within].max(initial=0) < 0.01
    np.testing.assert_allclose(factors, factors[HUMAN17.mirror])


def test_the_exported_file_computes_what_the_network_does(lifter: PartsLifter, tmp_path: Path) -> None:
    path = tmp_path / 'parts.onnx'
    assert export_parts.export(lifter, path, {'data': 'none'}) < 1e-4
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    assert [value.name for value in session.get_inputs()] == list(export_parts.INPUT_NAMES)
    told = inputs(11, seed=4)
    with torch.no_grad():
        wanted = lifter(*told.values())
    for one, other in zip(session.run(list(ENGINE_OUTPUTS), {name: array.numpy() for name, array in told.items()}),
                          wanted):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-3, atol=1e-3)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata.keys() >= {'attribute_joints', 'input_joints', 'output_joints', 'stature', 'tolerances', 'notice'}


def test_a_file_that_computes_something_else_is_not_kept(lifter: PartsLifter, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_parts, 'parity', lambda *_: 0.01)
    with pytest.raises(ExportError):
        export_parts.export(lifter, tmp_path / 'parts.onnx', {})
    assert not list(tmp_path.iterdir())


def test_held_out_people_come_as_they_are(mocap) -> None:  # type: ignore[no-untyped-def]
    people = draw(mocap, 200, np.random.default_rng(0), EVALUATION)
    assert len(people) == 200 and np.isfinite(people.distances).all()
