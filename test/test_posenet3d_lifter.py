"""The lifter of PoseNet3D: what its networks say, in metres before the camera, with a body; and the file of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from procedural import write_mocap
from scipy.spatial.transform import Rotation

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.body_model import MANNEQUIN, BodyModel  # noqa: E402
from pose3d_ros.body_model_file import write_body_arrays  # noqa: E402
from pose3d_ros.camera import Camera  # noqa: E402
from pose3d_ros.cli import export_posenet3d as command  # noqa: E402
from pose3d_ros.cli.main import main  # noqa: E402
from pose3d_ros.lift import INPUTS, Lifter, input_points  # noqa: E402
from pose3d_ros.nets.body_model import BodyModel as TorchBody  # noqa: E402
from pose3d_ros.nets.posenet3d import HIPS, JOINTS, Adaptation, PoseNet3D, middle, normalised  # noqa: E402
from pose3d_ros.nets.posenet3d_lifter import SIZES, PoseNet3DLifter, Said  # noqa: E402
from pose3d_ros.records import BodyPose  # noqa: E402
from pose3d_ros.skeleton import COCO17, HUMAN17, LIMBS12, mirrored  # noqa: E402
from pose3d_ros.stature import stature  # noqa: E402
from pose3d_ros.train import export_posenet3d as file  # noqa: E402
from pose3d_ros.train.even_samples import even_samples, laboratory_samples  # noqa: E402
from pose3d_ros.train.filming import Film  # noqa: E402
from pose3d_ros.train.loop import limit_threads  # noqa: E402
from pose3d_ros.train.metrics import coverage  # noqa: E402
from pose3d_ros.train.mocap import Mocap, load_mocap  # noqa: E402
from pose3d_ros.train.posenet3d_data import turned  # noqa: E402
from pose3d_ros.train.posenet3d_variants import DEPLOYED, VARIANTS, is_teacher  # noqa: E402
from pose3d_ros.train.samples import POPULATION  # noqa: E402

limit_threads(1)
BODY = BodyModel.load()
RESTS_ON = [[0]] * len(HUMAN17)


def networks(kind: str = 'convex', frames: int = 9) -> tuple[PoseNet3D, Adaptation, TorchBody]:
    """Return networks that nobody trained, whose answers differ from person to person all the same."""
    torch.manual_seed(0)
    model = TorchBody(BODY.arrays)
    net, adaptation = PoseNet3D(frames, 32, 0.1, 1.5), Adaptation(model, kind)
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.05 * torch.randn_like(weight)
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm1d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 2)
        for weight in adaptation.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return net.eval(), adaptation, model


def lifter_of(kind: str = 'convex', frames: int = 9, **options: object) -> PoseNet3DLifter:
    return PoseNet3DLifter(*networks(kind, frames), RESTS_ON, **options).eval()


def people(count: int, frames: int = 5, spread: float = 0.1) -> list[torch.Tensor]:
    """Return rays, confidence and stature of people of whom some joints are missing, but no hip."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, (count, frames, 13)) * (rng.random((count, frames, 13)) < 0.8)
    confidence[..., list(HIPS)] = 0.9
    rays = rng.normal(0, 0.2, (count, 1, 1, 2)) + rng.normal(0, spread, (count, frames, 13, 2))
    return [torch.tensor(array, dtype=torch.float32) for array in (rays, confidence, np.tile([1.7, 0.1], (count, 1)))]


def run(lifter: PoseNet3DLifter, *inputs: torch.Tensor) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: output.numpy() for name, output in zip(file.OUTPUTS, lifter(*inputs))}


@pytest.mark.parametrize(('kind', 'frames', 'frame'), [('convex', 9, None), ('linear', 9, 7), ('none', 1, None)])
def test_it_says_what_the_networks_say(kind: str, frames: int, frame: int | None) -> None:
    net, adaptation, model = networks(kind, frames)
    lifter = PoseNet3DLifter(net, adaptation, model, RESTS_ON, frame).eval()
    assert lifter.frame == (frames // 2 if frame is None else frame)
    with torch.no_grad():
        look = lifter.look(*people(6, lifter.shown)[:2])
        said = lifter.answers(look.clip, look.seen)
        clip, _ = normalised(look.clip, look.seen)
        features = net.features(clip, look.seen)
        teacher, body = net.lift(features, clip, look.seen)[:, lifter.frame], net.body(features, [lifter.frame])
        student = adaptation(model, body)[:, 0]
        rest, _ = BODY.rest(body.shape[0].numpy())
    torch.testing.assert_close(said.joints, 0.5 * (teacher + student), atol=1e-5, rtol=0)
    torch.testing.assert_close(said.columns.mT, body.rotations[:, 0], atol=1e-5, rtol=0)
    assert float(said.tall[0] / said.scale[0]) == pytest.approx(np.ptp(rest[:, 1]), abs=2e-3)
    assert float((student - student.mean(dim=0)).abs().max()) > 0.1   # and it is worth comparing


@pytest.mark.parametrize('repeat', [None, 2, 0])
def test_frames_come_oldest_first_as_a_camera_turned_to_each_sees_them(repeat: int | None) -> None:
    lifter = lifter_of(repeat=repeat)
    repeat = 4 if repeat is None else repeat
    rays, confidence, _ = people(5, 9 - repeat)
    look = lifter.look(rays, confidence)
    shown = rays.numpy()[:, ::-1].astype(np.float64)
    known = confidence.numpy()[:, ::-1] > 0
    shoulders = [INPUTS.index('left_shoulder'), INPUTS.index('right_shoulder')]
    shown = np.concatenate([shown, shown[:, :, shoulders].mean(axis=2, keepdims=True)], axis=2)
    known = np.concatenate([known, known[:, :, shoulders].all(axis=2, keepdims=True)], axis=2)
    flat, seen, turn = turned(shown, known)
    np.testing.assert_allclose(look.clip[:, :9 - repeat], flat, atol=1e-6)
    np.testing.assert_array_equal(look.seen[:, :9 - repeat], seen)
    np.testing.assert_array_equal(look.clip[:, 8 - repeat:], look.clip[:, 8 - repeat:9 - repeat].expand(-1, repeat + 1,
                                                                                                        -1, -1))
    assert look.clip.shape == (5, 9, 14, 2) and lifter.frame == 8 - repeat
    np.testing.assert_array_equal(look.sure, confidence[:, 0, :, None])
    np.testing.assert_allclose(look.turn, turn[:, -1], atol=1e-6)


def test_a_camera_that_pans_sees_the_same_people_from_where_it_is() -> None:
    lifter = lifter_of()
    lifter.spread.copy_(torch.rand(2, 17, 9))
    rays, confidence, stature = people(5, spread=0.02)   # farther away: the middle of rays is that of points
    before = run(lifter, rays, confidence, stature)
    turn = Rotation.from_rotvec([0, 0.5, 0]).as_matrix().astype(np.float32)
    ways = np.concatenate([rays.numpy(), np.ones((*rays.shape[:3], 1), np.float32)], axis=-1) @ turn.T
    after = run(lifter, torch.from_numpy(ways[..., :2] / ways[..., 2:]), confidence, stature)
    for name in ('relative', 'root', 'body_root'):
        np.testing.assert_allclose(after[name], before[name] @ turn.T, atol=2e-3 * np.abs(before[name]).max())
    np.testing.assert_allclose(after['covariance'], turn @ before['covariance'] @ turn.T,
                               atol=5e-3 * before['covariance'].max())
    np.testing.assert_allclose(after['rotations'][:, 0], turn @ before['rotations'][:, 0], atol=5e-3)
    np.testing.assert_allclose(after['rotations'][:, 1:], before['rotations'][:, 1:], atol=5e-3)


def test_larger_people_are_farther_away() -> None:
    lifter, (rays, confidence, stature) = lifter_of(), people(5)
    small, large = run(lifter, rays, confidence, stature), run(lifter, rays, confidence, 1.2 * stature)
    for name, power in (('relative', 1), ('root', 1), ('covariance', 2), ('scale', 1), ('body_root', 1),
                        ('rotations', 0), ('shape', 0)):
        np.testing.assert_allclose(large[name], 1.2 ** power * small[name], rtol=1e-4, atol=1e-5)
    unsure = run(lifter, rays, confidence, torch.tensor([[1.7, 0.2]]).repeat(5, 1))
    point = small['root'][:, None] + small['relative']
    share = (0.2 ** 2 - 0.1 ** 2) / 1.7 ** 2 * point[..., None] * point[:, :, None]
    np.testing.assert_allclose(unsure['covariance'] - small['covariance'], share, rtol=1e-3, atol=1e-4 * share.max())


@pytest.mark.parametrize('size', SIZES)
def test_the_body_is_where_its_joints_are(size: str) -> None:
    net, adaptation, model = networks()
    lifter = PoseNet3DLifter(net, adaptation, model, RESTS_ON, size=size).eval()
    inputs = people(4)
    found = run(lifter, *inputs)
    bodies = [BodyPose(*(np.asarray(found[name][i], np.float64) for name in ('rotations', 'shape')),
                       float(found['scale'][i, 0]), found['body_root'][i].astype(np.float64)) for i in range(4)]
    vertices, _ = BODY.placed(bodies)
    with torch.no_grad():
        adapted = adaptation.mixture.numpy() @ vertices
        look = lifter.look(*inputs[:2])
        clip, _ = normalised(look.clip, look.seen)
        body = net.body(net.features(clip, look.seen), [lifter.frame])
        units = found['scale'][:, None] / body.scale.numpy()[:, None]                 # metres in a unit
        student = units * (adaptation(model, body)[:, 0] @ look.turn).numpy()
    np.testing.assert_allclose(adapted, found['root'][:, None] + student, atol=1e-3)


def test_people_in_a_mirror_are_mirrored() -> None:
    lifter, (rays, confidence, stature) = lifter_of(), people(4)
    other = [INPUTS.index(mirrored(joint)) for joint in INPUTS]
    found = run(lifter, rays, confidence, stature)
    image = run(lifter, (rays * torch.tensor([-1.0, 1.0]))[:, :, other], confidence[:, :, other], stature)
    flip = np.array([-1.0, 1.0, 1.0])
    limbs = HUMAN17.indices([*LIMBS12.joints, 'thorax', 'neck', 'head'])
    np.testing.assert_allclose(image['relative'][:, HUMAN17.mirror][:, limbs], (found['relative'] * flip)[:, limbs],
                               atol=1e-4)
    np.testing.assert_allclose(image['root'], found['root'] * flip, atol=1e-3)
    assert np.abs(found['relative'][:, HUMAN17.mirror] * flip - found['relative']).max() > 0.1


def stand(lifter: PoseNet3DLifter, place: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Have a lifter say that people are the body at rest; return its joints (14, 3) m at a place, facing the camera."""
    vertices, _ = BODY.rest()
    flip = np.array([1.0, -1.0, -1.0])
    joints = (lifter_mixture() @ vertices) * flip
    top = vertices[vertices[:, 1].argmax()] * flip - joints[list(HIPS)].mean(axis=0)
    joints = joints - joints[list(HIPS)].mean(axis=0)

    def ask(look: object) -> Said:
        turn = lifter.look(*seen_from(place, joints)[:2]).turn
        units = 1.5 * torch.tensor(joints, dtype=torch.float32)[None] @ turn.mT
        line = torch.zeros(1, 4, 3)
        line[:, 3] = 1.5 * torch.tensor(top, dtype=torch.float32) @ turn[0].T
        return Said(units, line, torch.eye(3).repeat(1, 24, 1, 1), torch.zeros(1, 10), torch.full((1, 1), 1.5),
                    torch.full((1, 1), 1.5 * float(np.ptp(vertices[:, 1]))), torch.zeros(1, 1, 3))

    monkeypatch.setattr(lifter, 'ask', ask)
    return joints


def lifter_mixture() -> np.ndarray:
    with torch.no_grad():
        return Adaptation(TorchBody(BODY.arrays)).mixture.numpy()


def seen_from(place: np.ndarray, joints: np.ndarray) -> list[torch.Tensor]:
    """Return the inputs of five frames of somebody who stands at a place."""
    points = place + joints[:13]
    rays = np.broadcast_to(points[:, :2] / points[:, 2:], (1, 5, 13, 2)).astype(np.float32)
    return [torch.from_numpy(rays.copy()), torch.ones(1, 5, 13), torch.tensor([[1.7, 0.1]])]


@pytest.mark.parametrize('place', [(0.0, 0.0, 4.0), (1.5, 0.3, 2.5), (-4.0, -0.5, 9.0)])
def test_a_person_is_placed_where_the_rays_meet_the_body(place: tuple[float, ...],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    lifter = lifter_of()
    joints = stand(lifter, np.array(place), monkeypatch)
    grown = 1.7 / np.ptp(BODY.rest()[0][:, 1])
    found = run(lifter, *seen_from(np.array(place), grown * joints))
    np.testing.assert_allclose(found['root'][0], place, atol=2e-3)
    assert found['scale'][0, 0] == pytest.approx(grown, rel=1e-4)
    limbs = HUMAN17.indices(LIMBS12.joints)
    np.testing.assert_allclose(found['relative'][0, limbs], grown * joints[:12], atol=2e-3)   # each under its name
    np.testing.assert_allclose(found['relative'][0, 0], 0, atol=1e-5)
    assert found['relative'][0, HUMAN17.index('head'), 1] < found['relative'][0, HUMAN17.index('left_shoulder'), 1]
    assert found['relative'][0, HUMAN17.index('left_hip'), 0] > 0 > found['relative'][0, HUMAN17.index('right_hip'), 0]


def test_without_both_hips_nobody_is_placed() -> None:
    lifter, (rays, confidence, stature) = lifter_of(), people(3)
    confidence[1, 0, HIPS[0]] = 0
    found = run(lifter, rays, confidence, stature)
    for name in ('relative', 'root', 'covariance', 'body_root'):
        finite = np.isfinite(found[name].reshape(3, -1))
        assert finite[[0, 2]].all() and not finite[1].any()
    # A frame of the past without them is as the one after it.
    confidence[0, 3, HIPS[1]] = 0
    lost = run(lifter, rays, confidence, stature)
    rays[0, 3], confidence[0, 3] = rays[0, 2], confidence[0, 2]
    np.testing.assert_array_equal(run(lifter, rays, confidence, stature)['root'][0], lost['root'][0])
    assert np.abs(lost['root'][0] - found['root'][0]).max() > 1e-4


@pytest.fixture(scope='module')
def walk(tmp_path_factory: pytest.TempPathFactory) -> Mocap:
    return load_mocap([write_mocap(Path(tmp_path_factory.mktemp('walk')) / 'walk.npz', 40)], 'val')


def test_samples_have_even_steps_and_repeat_the_first_frame(walk: Mocap) -> None:
    rng = np.random.default_rng(0)
    people = even_samples(walk, 200, rng, POPULATION, 1 / 30, 9)
    assert people.rays.shape == (200, 9, 13, 2) and people.confidence.shape == (200, 9, 13)
    np.testing.assert_allclose(people.age, np.tile(np.arange(9) / 30, (200, 1)), atol=1e-6)
    filmed = laboratory_samples(walk, 200, rng, Film(takes=1), None, 9)
    exact = (input_points() @ filmed.points.astype(np.float64))
    np.testing.assert_allclose(filmed.rays[:, 0, :12], (exact[..., :2] / exact[..., 2:])[:, :12], atol=1e-4)
    np.testing.assert_allclose(filmed.age, people.age, atol=1e-6)
    assert np.allclose(filmed.up[:, 1], -1, atol=0.3) and np.allclose(filmed.camera_height, 1.5, atol=1e-4)


def test_ellipsoids_hold_what_they_should(walk: Mocap) -> None:
    rng = np.random.default_rng(0)
    people = even_samples(walk, 1500, rng, POPULATION, 1 / 30, 5)
    rests_on = [[INPUTS.index(joint) if joint in INPUTS else 0] for joint in HUMAN17.joints]
    lifter = PoseNet3DLifter(*networks(), rests_on).eval()
    file.set_bones(lifter, walk)
    errors = file.choose_size(lifter, people)
    assert errors[lifter.size] == min(errors.values())
    assert min(file.fit_spread(lifter, people)) > 0
    told = np.tile(file.ADULTS, (len(people), 1))
    factors = file.calibrate(lifter, people)
    assert factors.shape == (2, 17) and np.allclose(factors, factors[:, HUMAN17.mirror])
    relative, root, covariance = file.predict(lifter, people, told)
    placed = np.isfinite(root).all(axis=1)
    held = coverage((people.points - root[:, None] - relative)[placed], covariance[placed].astype(np.float64), 0.9)
    assert held == pytest.approx(0.9, abs=0.02)
    assert np.linalg.eigvalsh(covariance[placed].astype(np.float64)).min() > 0


def test_bones_of_recorded_people_make_their_stature(walk: Mocap) -> None:
    lifter = lifter_of(size='chain')
    file.set_bones(lifter, walk)
    points = input_points() @ walk.positions
    joints = torch.tensor(np.concatenate([points, points[:, :2].mean(axis=1, keepdims=True)], axis=1)).float()
    joints[:, JOINTS.index('neck')] = 0.5 * (joints[:, JOINTS.index('left_shoulder')]
                                             + joints[:, JOINTS.index('right_shoulder')])
    nothing = torch.zeros(len(joints), 1)
    said = Said(joints - middle(joints), *[nothing + 1.5] * 6)
    heights = 1 / lifter.statures_per_unit(said)
    np.testing.assert_allclose(heights.mean(), stature(walk.positions).mean(), rtol=1e-3)
    lifter.size = 'both'
    torch.testing.assert_close(lifter.statures_per_unit(said), 1 / (1.5 * heights).sqrt())


def test_the_file_is_the_network_and_the_lifter_opens_it(tmp_path: Path) -> None:
    path = tmp_path / 'posenet3d.onnx'
    assert file.export(lifter_of(), path, ('mannequin', 'ab' * 32), {'training_command': 'none'}) < 1e-4
    with_body = Lifter.open(path)
    assert with_body.body_model == ('mannequin', 'ab' * 32)
    assert float(with_body.engine.metadata['step_s']) == pytest.approx(1 / 30)
    assert with_body.engine.metadata['frames'] == '5' and path.stat().st_size < 3e6
    assert json.loads(with_body.engine.metadata['tolerances']).keys() == {*file.OUTPUTS}
    camera = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)
    rng = np.random.default_rng(0)
    pixels, sure = rng.uniform(200, 300, (3, len(COCO17), 2)), np.ones((3, len(COCO17)))
    pixels[1, COCO17.index('left_hip')] = np.nan
    found = Lifter(with_body.engine).lift(pixels, sure, camera, COCO17)
    placed = np.isfinite(found.position).all(axis=(1, 2))
    assert placed.tolist() == [True, False, True] == [body is not None for body in found.body]


def test_the_command_calibrates_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, 'CALIBRATION', 300)
    monkeypatch.setattr(command, 'LABORATORY', 100)
    data, runs = write_mocap(tmp_path / 'walk.npz', 40), tmp_path / 'runs'
    for split in ('train', 'val'):
        assert main(['record', '--data', str(data), '--split', split, '--takes', '1', '--out',
                     str(tmp_path / f'{split}.npz')]) == 0
    assert main(['train', 'posenet3d', '--recording', str(tmp_path / 'train.npz'), '--validation',
                 str(tmp_path / 'val.npz'), '--out', str(runs), '--variants', 'teacher_9', 'student_convex', '--steps',
                 '2', '--student-steps', '2', '--width', '16', '--batch', '4', '--student-batch', '4', '--threads',
                 '1']) == 0
    told = ['export', 'posenet3d', '--data', str(data), '--out', str(runs)]
    assert main([*told, '--variant', 'student_convex']) == 0
    said = capsys.readouterr().out
    assert 'metres from' in said and "before robots' cameras" in said and '90 % ellipsoids hold' in said
    engine = Lifter.open(runs / 'posenet3d.onnx').engine
    assert engine.metadata['body_model'] == 'mannequin'
    assert engine.metadata['body_model_sha256'] == hashlib.sha256(MANNEQUIN.read_bytes()).hexdigest()
    assert str(tmp_path) not in json.dumps(dict(engine.metadata))
    assert main(told) == 1
    assert 'robust' in capsys.readouterr().err
    other = tmp_path / 'other.npz'
    write_body_arrays(other, replace(BODY.arrays, template=1.1 * BODY.arrays.template))
    assert main([*told, '--variant', 'student_convex', '--body-model', str(other)]) == 1
    assert 'another body model' in capsys.readouterr().err


def test_the_command_knows_the_variants() -> None:
    assert command.DEPLOYED == DEPLOYED
    assert set(command.STUDENTS) == {name for name in VARIANTS if name != 'supervised' and not is_teacher(name)}
