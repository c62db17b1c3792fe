"""PoseNet3D: its geometry, the losses of its equations, and that it learns from 2D alone."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from laboratory_film import film, walk

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.body_model import MANNEQUIN  # noqa: E402
from pose3d_ros.body_model_file import read_body_arrays  # noqa: E402
from pose3d_ros.nets.body_model import BodyModel  # noqa: E402
from pose3d_ros.nets.posenet3d import (  # noqa: E402
    BONES,
    HEAD,
    HIPS,
    JOINTS,
    MODEL_JOINTS,
    SHAPES,
    Adaptation,
    Body,
    C,
    Discriminator,
    PoseNet3D,
    middle,
    normalised,
    units_per_metre,
)
from pose3d_ros.skeleton import SMPL24  # noqa: E402
from pose3d_ros.train import posenet3d as teacher_module  # noqa: E402
from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, LoopSettings, Run, read_checkpoint  # noqa: E402
from pose3d_ros.train.posenet3d import (  # noqa: E402
    TeacherLoss,
    TeacherSettings,
    bone_variance,
    corrupted,
    judged,
    load_teacher,
    project,
    random_views,
    seen_from,
    train_teacher,
    upright,
)
from pose3d_ros.train.posenet3d_data import clips_of, turned  # noqa: E402
from pose3d_ros.train.posenet3d_labels import train_supervised, true_joints  # noqa: E402
from pose3d_ros.train.posenet3d_student import (  # noqa: E402
    StudentLoss,
    StudentSettings,
    StudentTraining,
    load_student,
    train_student,
)
from pose3d_ros.train.posenet3d_variants import VARIANTS, is_teacher, train_variant  # noqa: E402
from pose3d_ros.train.recording import Recording, RecordingError  # noqa: E402

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
LOOP = LoopSettings(steps=4, learning_rate=3e-3, warm_up=1, validate_every=2, average=0.9, weight_decay=0.0)
TEACHER = TeacherSettings(width=16, batch=16, watched=8, loop=LOOP)
STUDENT = StudentSettings(batch=8, watched=8, loop=LOOP)
Filmed = tuple[Recording, np.ndarray]


@pytest.fixture(scope='module')
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Filmed:
    return film(walk(Path(tmp_path_factory.mktemp('data')), 40), takes=2)


@pytest.fixture(scope='module')
def model() -> BodyModel:
    return BodyModel(read_body_arrays(MANNEQUIN))


@pytest.fixture(scope='module')
def trained(filmed: Filmed, model: BodyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a teacher, and a student that begins with it."""
    folder = Path(tmp_path_factory.mktemp('runs'))
    for name in ('teacher_9', 'student_convex'):
        train_variant(name, filmed[0], filmed[0], folder, model, TEACHER, STUDENT, command='told', quiet=True)
    return folder


def poses(count: int = 3, frames: int = 9, seed: int = 0) -> torch.Tensor:
    """Return joints (count, frames, 14, 3) in units about their roots, as large as people."""
    joints = 0.5 * torch.randn(count, frames, len(JOINTS), 3, generator=torch.Generator().manual_seed(seed))
    return joints - middle(joints)


def body_of(model: BodyModel, count: int = 2, frames: int = 3, seed: int = 0) -> Body:
    """Return bodies in poses drawn at random."""
    from scipy.spatial.transform import Rotation
    turns = Rotation.from_rotvec(np.random.default_rng(seed).normal(0, 0.3, (count * frames * 24, 3))).as_matrix()
    return Body(torch.from_numpy(turns.reshape(count, frames, 24, 3, 3).astype(np.float32)),
                0.5 * torch.ones(count, SHAPES), torch.full((count, 1), units_per_metre(model)))


def test_the_joints_of_a_body_are_those_of_the_detector() -> None:
    assert len(JOINTS) == 14
    for joint, number in zip(JOINTS, MODEL_JOINTS):
        assert SMPL24.joints[number] == ('head' if joint == 'ears' else joint)


def test_normalising_forgets_size_and_puts_the_head_at_a_tenth() -> None:
    clip = project(poses())
    shown, factor = normalised(clip)
    assert shown[:, :, HEAD].norm(dim=-1).mean(dim=1).max() <= 1 / C + 1e-6
    upright_clip = clip.clone()
    upright_clip[:, :, HEAD] = torch.tensor([0.0, -1.0])
    np.testing.assert_allclose(normalised(upright_clip)[0][:, :, HEAD].norm(dim=-1).mean(dim=1), 1 / C, rtol=1e-5)
    again, smaller = normalised(3 * clip)
    torch.testing.assert_close(again, shown)
    torch.testing.assert_close(3 * smaller, factor)
    blind = torch.ones_like(clip[..., 0])
    blind[:, 4:, HEAD] = 0
    wild = clip.clone()
    wild[:, 4:, HEAD] = 100.0                                        # what is not seen has no say
    torch.testing.assert_close(normalised(wild, blind)[1], normalised(clip, blind)[1])


def test_a_lifted_clip_is_what_its_camera_saw() -> None:
    torch.manual_seed(0)
    net = PoseNet3D(9, 16).eval()
    clip, _ = normalised(project(poses()))
    seen = torch.ones_like(clip[..., 0])
    seen[:, :, 5] = 0
    with torch.no_grad():
        joints = net.lift(net.features(clip, seen), clip * seen[..., None], seen)
        depth = (C + net.teacher(net.features(clip, seen)).unflatten(1, (9, 14, 3))[..., 2:]).clamp(min=1)
    torch.testing.assert_close(middle(joints), torch.zeros(3, 9, 1, 3))
    known = [number for number in range(len(JOINTS)) if number != 5]
    absolute = joints + middle(torch.cat([clip * depth, depth], dim=-1))
    torch.testing.assert_close((absolute[..., :2] / absolute[..., 2:])[:, :, known], clip[:, :, known])


@pytest.mark.parametrize('rotation', ['gravity', 'camera'])
def test_random_views_are_rotations_and_those_by_gravity_keep_people_upright(rotation: str) -> None:
    torch.manual_seed(0)
    up = torch.nn.functional.normalize(torch.tensor([0.0, -1, 0]) + 0.3 * torch.randn(2, 50, 3), dim=-1)
    turns = random_views({'up_from': up[0], 'up_to': up[1]}, rotation)
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(50))
    if rotation == 'gravity':
        torch.testing.assert_close((turns @ up[0, :, :, None])[..., 0], up[1], atol=1e-5, rtol=0)
    else:
        tilt = torch.rad2deg((turns[:, 1, 1]).clamp(-1, 1).acos())
        assert 10 < tilt.max() < 20.01
    torch.testing.assert_close((upright(up[0]) @ up[0, :, :, None])[..., 0], torch.tensor([[0.0, -1, 0]]).expand(50, 3),
                               atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match='anyhow'):
        random_views({'up_from': up[0], 'up_to': up[1]}, 'anyhow')


def test_a_person_that_is_not_turned_is_seen_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    joints, up = poses(), torch.tensor([[0.0, -0.95, 0.3]]).repeat(3, 1)
    up = torch.nn.functional.normalize(up, dim=1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, 'rand', torch.zeros)
        there, clip, factor = seen_from(joints, {'up_from': up, 'up_to': up}, TEACHER)
    torch.testing.assert_close(there, joints, atol=1e-5, rtol=0)
    expected, size = normalised(project(joints))
    torch.testing.assert_close(clip, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(factor, size, rtol=1e-4, atol=0)


def test_a_turn_keeps_distances_and_the_root() -> None:
    torch.manual_seed(0)
    joints, up = poses(), torch.tensor([[0.0, -1.0, 0.0]]).repeat(3, 1)
    there, _, _ = seen_from(joints, {'up_from': up, 'up_to': up}, TEACHER)
    torch.testing.assert_close(there.norm(dim=-1), joints.norm(dim=-1))
    torch.testing.assert_close(there[..., 1], joints[..., 1], atol=1e-5, rtol=0)   # upright: heights stay
    assert (there - joints).abs().max() > 0.5


class Says(torch.nn.Module):
    """A network that says what it is told to."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, clip: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        return self.answer


def test_equations_2_and_3_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_module, 'random_views', lambda batch, _: torch.eye(3).expand(2, 3, 3))
    torch.manual_seed(0)
    long = poses(2, 10)
    now, later = long[:, :9], long[:, 1:]
    factor = normalised(project(now))[1][:, None, None, None]
    batch, critic = {'real': project(now)}, Discriminator(9, 8)

    def parts(answer: torch.Tensor, after: torch.Tensor) -> dict[str, float]:
        loss = TeacherLoss(TEACHER)
        loss.value(Says(answer), critic, batch, now, after)  # type: ignore[arg-type]
        return loss.parts

    assert parts(factor * now, later)['consistency'] < 1e-9 > parts(factor * now, later)['smooth']
    off = torch.zeros_like(now)
    off[:, :, 3, 2] = 0.1                                             # one joint of 14
    assert parts(factor * now + off, later)['consistency'] == pytest.approx(0.01 / 14, rel=1e-3)
    assert parts(factor * now, later + torch.tensor([0.0, 0.3, 0.4]))['smooth'] == pytest.approx(0.25, rel=1e-4)
    # The last frame of the later clip has no partner in this one.
    changed = later.clone()
    changed[:, -1] += 5.0
    assert parts(factor * now, changed)['smooth'] < 1e-9


def test_equation_4_by_hand() -> None:
    joints = torch.zeros(1, 9, len(JOINTS), 3)
    assert bone_variance(joints) == 0
    elbow, wrist = JOINTS.index('left_elbow'), JOINTS.index('left_wrist')
    assert sum(wrist in bone for bone in BONES) == 1 and any({elbow, wrist} == set(bone) for bone in BONES)
    lengths = torch.tensor([1.0, 1.2, 0.8, 1.1, 0.9, 1.0, 1.3, 0.7, 1.0])
    joints[0, :, wrist, 1] = lengths
    assert bone_variance(joints) == pytest.approx(float(lengths.var(unbiased=False)))
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -1, 0], [1, 0, 2], [0, -2, 0]]))
    rigid = poses(1, 1).repeat(1, 9, 1, 1)
    rigid[:, 4] = rigid[:, 4] @ turn.mT + 3.0
    assert bone_variance(rigid) < 1e-10


def test_equation_5_teaches_each_side_its_own() -> None:
    torch.manual_seed(0)
    critic = Discriminator(9, 8)
    real, made = project(poses(4)), project(poses(4, seed=1)).requires_grad_()
    deceived, telling = judged(critic, real, made, squares=False)
    of_real, of_made = critic(real).sigmoid(), critic(made).sigmoid()
    torch.testing.assert_close(telling, -(of_real.log() + (1 - of_made).log()).mean())
    torch.testing.assert_close(deceived, -of_made.log().mean())
    deceived.backward()
    assert made.grad is not None and made.grad.abs().max() > 0
    assert all(weight.grad is None for weight in critic.parameters())
    made.grad = None
    telling.backward()
    assert made.grad is None and all(weight.grad is not None for weight in critic.parameters())
    deceived, telling = judged(critic, real, made, squares=True)
    assert float(deceived.detach()) == pytest.approx(0.5 * float((critic(made) - 1).square().mean().detach()))


def test_errors_and_gaps_never_hide_the_hips() -> None:
    torch.manual_seed(0)
    clip = project(poses(400))
    shown, seen = corrupted(clip, replace(TEACHER, noise=0.1, hidden=0.8))
    assert seen[..., HIPS].min() == 1 and 0.02 < 1 - seen.mean() < 0.5
    assert (shown[seen == 0] == 0).all()
    assert ((seen[:, 1:] - seen[:, :-1]) <= 0).all()                 # what is gone stays away
    moved = (shown - clip)[seen > 0].std()
    assert 0 < moved < 0.01
    shown, seen = corrupted(clip, TEACHER)
    assert torch.equal(shown, clip) and seen.min() == 1


def test_adaptation_starts_at_the_model_s_joints_and_stays_convex(model: BodyModel) -> None:
    body = body_of(model)
    own = Adaptation(model, 'none')(model, body)
    torch.testing.assert_close(Adaptation(model, 'linear')(model, body), own, atol=1e-5, rtol=0)
    convex = Adaptation(model, 'convex')
    units = units_per_metre(model)
    still = Body(torch.eye(3).expand(1, 1, 24, 3, 3), torch.zeros(1, SHAPES), torch.ones(1, 1))
    assert (convex(model, still) - Adaptation(model, 'none')(model, still)).norm(dim=-1).max() < 0.005
    # In other poses W of the vertices is not quite the joint that they turn about.
    assert (convex(model, body) - own).norm(dim=-1).mean() < 0.015 * units
    with torch.no_grad():
        convex.logits += torch.randn_like(convex.logits)
    assert convex.mixture.min() >= 0
    torch.testing.assert_close(convex.mixture.sum(dim=1), torch.ones(len(JOINTS)))
    torch.testing.assert_close(middle(convex(model, body)), torch.zeros(2, 3, 1, 3), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match='quadratic'):
        Adaptation(model, 'quadratic')


def test_the_student_begins_with_an_upright_body_of_the_right_size(model: BodyModel) -> None:
    torch.manual_seed(0)
    net = PoseNet3D(9, 16, units_per_metre=units_per_metre(model)).eval()
    clip, _ = normalised(project(poses()))
    with torch.no_grad():
        body = net.body(net.features(clip))
        joints = Adaptation(model, 'none')(model, body)
    torch.testing.assert_close(torch.linalg.det(body.rotations), torch.ones(3, 9, 24))
    head = joints[:, :, HEAD]
    assert 0.8 < head.norm(dim=-1).mean() < 1.2 and (head[..., 1] < -0.7).all()        # y is down
    shoulders = joints[:, :, JOINTS.index('left_shoulder')] - joints[:, :, JOINTS.index('right_shoulder')]
    assert (shoulders[..., 0] > 0.1).all()                           # it looks into the camera: its left is right
    one = net.body(net.features(clip), [4])
    torch.testing.assert_close(one.rotations[:, 0], body.rotations[:, 4], atol=1e-6, rtol=0)


def test_equation_8_leaves_the_root_free(model: BodyModel) -> None:
    still = torch.eye(3).expand(1, 2, 24, 3, 3).clone()
    still[:, :, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    loss, none = StudentLoss(STUDENT, TEACHER), torch.zeros(1, 2, 14)
    assert loss.value(none, Body(still, torch.zeros(1, SHAPES), torch.ones(1, 1))) == 0
    half = still.clone()
    half[:, :, 5] = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))      # ||R - I||^2 = 8
    value = loss.value(none, Body(half, 2 * torch.ones(1, SHAPES), torch.ones(1, 1)))
    assert float(value) == pytest.approx(STUDENT.pose * 8 / 23 + STUDENT.shape * 4)
    value = loss.value(none + 0.5, Body(still, torch.zeros(1, SHAPES), torch.ones(1, 1)))
    assert float(value) == pytest.approx(STUDENT.distil * 0.5)


def test_a_student_learns_the_pose_of_a_body_it_is_shown(model: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pose = body_of(model, 1, 1, seed=3)
    pose.rotations[:, :, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ pose.rotations[:, :, 0]
    target = Adaptation(model, 'none')(model, pose)
    monkeypatch.setattr(PoseNet3D, 'lift', lambda self, features, clip, seen: target.expand(len(clip), 9, -1, -1))
    settings = replace(STUDENT, adaptation='none', pose=0.0, loop=replace(LOOP, steps=160, learning_rate=2e-2))
    torch.manual_seed(0)
    network = StudentTraining(replace(TEACHER, dropout=0.0), settings, model)
    loss = StudentLoss(settings, TEACHER)
    loss.run = run = Run(network, settings.loop)
    clip = project(poses(4)).numpy()
    batch = {'clip': clip, 'seen': np.ones(clip.shape[:-1], dtype=np.float32)}
    run.generator()
    errors = []
    for step in range(settings.loop.steps):
        run.update(loss, batch, step / settings.loop.steps)
        errors.append(math.sqrt(loss.parts['distil']))
    assert errors[0] > 0.3 and errors[-1] < 0.2 * errors[0], errors[::10]


def test_clips_are_as_a_camera_turned_to_the_root_sees_people(filmed: Filmed) -> None:
    recording, truth = filmed
    clips = clips_of(recording)
    moments, views = np.arange(8), np.array([0, 1, 2, 3] * 2)
    joints = true_joints(recording, clips, truth, moments, views)
    distance = np.linalg.norm(recording.camera_T_world[views, :3, 3] + np.einsum(
        'bij,bj->bi', recording.camera_T_world[views, :3, :3], truth[moments].mean(axis=1)), axis=1)
    flat = joints[..., :2] / (joints[..., 2:] + distance[:, None, None])
    np.testing.assert_allclose(clips.rays[moments, views], flat, atol=0.006)
    np.testing.assert_allclose(np.linalg.norm(clips.up, axis=-1), 1, atol=1e-5)
    assert (joints[:, HEAD] * clips.up[moments, views]).sum(axis=-1).min() > 0.4       # heads are up
    first = clips.windows(np.array([0]), np.array([1]), 9)[0][0]
    np.testing.assert_array_equal(first[:4], np.repeat(clips.rays[:1, 1], 4, axis=0))  # before a clip: its first
    np.testing.assert_array_equal(first[5:], clips.rays[1:5, 1])


def test_without_a_hip_nothing_is_seen() -> None:
    rays = np.random.default_rng(0).normal(0, 0.1, (3, 14, 2))
    known = np.ones((3, 14), dtype=bool)
    known[1, HIPS[0]] = known[2, HEAD] = False
    flat, seen, turn = turned(rays, known)
    assert not seen[1].any() and (flat[1] == 0).all()
    assert seen[0].all() and seen[2].sum() == 13 and (flat[2, HEAD] == 0).all()
    np.testing.assert_allclose(turn @ turn.swapaxes(-1, -2), np.tile(np.eye(3), (3, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(flat[0, list(HIPS)].mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize('name', [name for name in VARIANTS if name != 'supervised'])
def test_every_variant_trains_without_labels_and_knows_what_it_is(name: str, filmed: Filmed, model: BodyModel,
                                                                   trained: Path, tmp_path: Path) -> None:
    begin = VARIANTS[name].begin
    if begin:
        (tmp_path / begin).symlink_to(trained / ('teacher_9' if is_teacher(begin) else 'student_convex'))
    loop = replace(LOOP, steps=1, validate_every=1)
    train_variant(name, filmed[0], filmed[0], tmp_path, model, replace(TEACHER, loop=loop), replace(STUDENT, loop=loop),
                  command='told', quiet=True)
    path = tmp_path / name / CHECKPOINT
    _, settings, *rest = load_student(path, model) if begin else load_teacher(path)
    assert settings.variant == name and rest[-1] == 'told'
    assert all(getattr(settings, key) == value for key, value in VARIANTS[name].changes.items())


def test_distillation_leaves_the_teacher_as_it_is(filmed: Filmed, model: BodyModel, trained: Path) -> None:
    before, after = (read_checkpoint(trained / name / CHECKPOINT) for name in ('teacher_9', 'student_convex'))
    for key, value in before['result'].items():
        same = torch.equal(value, after['network'][key])
        assert same != key.startswith('net.student') or 'num_batches' in key or not value.numel(), key
    assert not torch.equal(after['network']['adaptation.logits'], Adaptation(model).logits)   # step 3 has begun


def test_what_a_student_begins_with_must_be_there_and_be_it(filmed: Filmed, model: BodyModel, trained: Path,
                                                            tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='train first'):
        train_student(filmed[0], filmed[0], tmp_path / CHECKPOINT, tmp_path / 'out', STUDENT, model, quiet=True)
    with pytest.raises(CheckpointError, match='other settings'):
        train_teacher(filmed[0], filmed[0], trained / 'teacher_9', replace(TEACHER, width=8), quiet=True)
    with pytest.raises(CheckpointError, match='not a checkpoint of a PoseNet3D student'):
        load_student(trained / 'teacher_9' / CHECKPOINT, model)
    with pytest.raises(ValueError, match='labels'):
        train_variant('supervised', filmed[0], filmed[0], tmp_path, model, TEACHER, STUDENT)
    with pytest.raises(RecordingError, match='not its own'):
        train_supervised(filmed[0], filmed[1][:-1], filmed[0], tmp_path, TEACHER)


@pytest.mark.parametrize('name', ['teacher_9', 'student_convex'])
def test_a_resumed_run_is_the_uninterrupted_one(name: str, filmed: Filmed, model: BodyModel, trained: Path,
                                                tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Run.update

    def fit(folder: Path) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        begin = VARIANTS[name].begin
        if begin and not (folder / begin).exists():
            (folder / begin).symlink_to(trained / begin)
        return train_variant(name, filmed[0], filmed[0], folder, model, TEACHER, STUDENT, quiet=True
                             ).network.state_dict()

    def dying(run: Run, *given: object) -> float:
        if run.step == 3:
            raise KeyboardInterrupt
        return update(run, *given)  # type: ignore[arg-type]

    whole = fit(tmp_path / 'whole')
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, 'update', dying)
        fit(tmp_path / 'parts')
    assert read_checkpoint(tmp_path / 'parts' / name / CHECKPOINT)['step'] == 2
    parts = fit(tmp_path / 'parts')
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_what_learns_without_labels_imports_nothing_that_knows_them() -> None:
    script = ('import sys, pose3d_ros.train.posenet3d_variants;'
              "print(*(name for name in sys.modules if name.startswith('pose3d_ros.train.')))")
    result = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=True)
    known = ('posenet3d_variants', 'posenet3d_student', 'posenet3d', 'posenet3d_data')
    assert set(result.stdout.split()) == {f'pose3d_ros.train.{name}' for name in (*known, 'loop', 'recording')}
    for name in known:
        assert 'load_truth' not in (ROOT / 'pose3d_ros' / 'train' / f'{name}.py').read_text()
