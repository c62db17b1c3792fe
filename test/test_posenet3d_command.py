"""PoseNet3D by its commands: from motion capture to recordings, runs, tables and pictures; and what tables measure."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from procedural import write_mocap
from test_benchmarks import load as load_benchmark

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from pose3d_ros.body_model import MANNEQUIN  # noqa: E402
from pose3d_ros.body_model_file import read_body_arrays  # noqa: E402
from pose3d_ros.cli import train_posenet3d as command  # noqa: E402
from pose3d_ros.cli.main import main  # noqa: E402
from pose3d_ros.nets.body_model import BodyModel  # noqa: E402
from pose3d_ros.nets.posenet3d import JOINTS, SHAPES, Adaptation, Body, PoseNet3D, middle, units_per_metre  # noqa: E402
from pose3d_ros.train import posenet3d_bodies  # noqa: E402
from pose3d_ros.train.loop import CHECKPOINT, limit_threads, read_checkpoint  # noqa: E402
from pose3d_ros.train.posenet3d import TeacherSettings  # noqa: E402
from pose3d_ros.train.posenet3d_bodies import (  # noqa: E402
    joints_in_body,
    rest_joints,
    surface_distance,
    turn_angles,
    winding,
)
from pose3d_ros.train.posenet3d_student import StudentSettings, StudentTraining  # noqa: E402
from pose3d_ros.train.posenet3d_tables import (  # noqa: E402
    Scene,
    TrainedVariant,
    compare,
    measured,
    said,
    velocity_error,
    with_average,
)
from pose3d_ros.train.posenet3d_variants import VARIANTS  # noqa: E402
from pose3d_ros.train.recording import RecordingError, load_recording, load_truth, save_truth  # noqa: E402

limit_threads(1)
TRAINING = ['--steps', '2', '--student-steps', '2', '--width', '16', '--batch', '16', '--student-batch', '8',
            '--threads', '1']
STUDENTS = ('student_direct', 'student_convex', 'finetuned')
TRAINED = ('teacher_9', 'teacher_1', 'supervised', *STUDENTS)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with films of motion capture: train, val, test (true 2D) and detected, each with its truth."""
    folder = Path(tmp_path_factory.mktemp('films'))
    data = write_mocap(folder / 'walk.npz', 40)
    for name, split, *more in (('train', 'train', '--errors', 'none'), ('test', 'test', '--errors', 'none'),
                               ('val', 'val', '--errors', 'none', '--heights', '1', '2', '--distances', '4', '6'),
                               ('detected', 'test', '--memory', '0.25')):
        assert main(['record', '--data', str(data), '--split', split, '--takes', '1', *more, '--out',
                     str(folder / f'{name}.npz'), '--truth', str(folder / f'{name}_truth.npz')]) == 0
    return folder


@pytest.fixture(scope='module')
def scene(folder: Path) -> Scene:
    return Scene.of(load_recording(folder / 'test.npz'), load_truth(folder / 'test_truth.npz'))


def train(folder: Path, out: Path, *more: str) -> int:
    return main(['train', 'posenet3d', '--recording', str(folder / 'train.npz'), '--validation',
                 str(folder / 'val.npz'), '--out', str(out), *TRAINING, *more])


@pytest.fixture(scope='module')
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = Path(tmp_path_factory.mktemp('runs'))
    # In any order: what a student begins with comes first.
    assert train(folder, out, '--variants', *reversed(TRAINED), '--truth', str(folder / 'train_truth.npz')) == 0
    return out


def test_from_recordings_to_tables_and_pictures(folder: Path, runs: Path, tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posenet3d_bodies, 'SAMPLED', 6)
    assert main(['evaluate', 'posenet3d', '--runs', str(runs), '--recording', str(folder / 'test.npz'), '--truth',
                 str(folder / 'test_truth.npz'), '--detected', str(folder / 'detected.npz'),
                 str(folder / 'detected_truth.npz'), '--pictures', str(tmp_path / 'drawn'), '--json',
                 str(tmp_path / 'found.json')]) == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / 'found.json').read_text())
    for name in (*TRAINED, 'average', 'student_convex_average', 'finetuned_lifted'):
        assert found[name].keys() >= {'p_mpjpe_mm', 'p_mpjpe_detected_mm', 'mpjve_mm', 'mpjve_gt_mm', 'mblstd_mm',
                                      'flipped_share'}
        assert ('p_mpjpe_causal_mm' in found[name]) == (name != 'teacher_1') and name in told
        assert 0 < found[name]['p_mpjpe_mm'] < 500
    assert found['truth']['mblstd_gt_mm'] < 2.0                      # motion capture in whole millimetres
    for name in STUDENTS:
        assert found[name].keys() >= {'outside_share', 'outside_mm', 'shape_abs', 'turned_deg'}
    assert found['posenet3d_ratios']['teacher_over_supervised'] == pytest.approx(
        found['teacher_9']['p_mpjpe_mm'] / found['supervised']['p_mpjpe_mm'])
    assert found['posenet3d_ratios']['mpjve_1_over_9'] > 0
    assert found['student_convex_adaptation']['hips_apart_model_mm'] == pytest.approx(130, abs=1)
    assert found['student_convex_adaptation']['hips_apart_true_mm'] > 150
    assert found['posenet3d_training']['finetuned'] == {'steps': 2, 'width': 16, 'minutes': pytest.approx(0, abs=9)}
    for name in ('monsters', 'adaptation', 'smoothness', 'mpjve'):
        picture = cv2.imread(str(tmp_path / 'drawn' / f'{name}.png'))
        assert picture is not None and picture.std() > 5, name


def test_recordings_are_made_as_asked(folder: Path) -> None:
    poses = load_recording(folder / 'val.npz').camera_T_world
    centres = -np.einsum('vji,vj->vi', poses[:, :3, :3], poses[:, :3, 3])
    np.testing.assert_allclose(np.sort(centres[:, 2]), [1.125, 1.375, 1.625, 1.875])
    np.testing.assert_allclose(np.sort(np.linalg.norm(centres[:, :2], axis=1)), [4.25, 4.75, 5.25, 5.75])
    exact, errs = (load_recording(folder / f'{name}.npz').rays for name in ('test', 'detected'))
    np.testing.assert_array_equal(load_truth(folder / 'test_truth.npz'), load_truth(folder / 'detected_truth.npz'))
    error = np.linalg.norm(errs - exact, axis=-1)                    # mostly that of the frame before: 13 of 15 frames
    assert (np.abs(np.diff(error, axis=0)) < 0.2 * error[:-1]).mean() > 0.7


def test_a_run_opens_the_two_recordings_and_the_body_model(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / 'alone'
    alone.mkdir()
    for name in ('train', 'val'):
        (alone / f'{name}.npz').write_bytes((folder / f'{name}.npz').read_bytes())
    opened: list[str] = []
    load = np.load

    def watched_load(file: object, **options: object) -> object:
        opened.append(Path(getattr(file, 'name', file)).name)  # type: ignore[arg-type]
        return load(file, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, 'load', watched_load)
        patch.delitem(sys.modules, 'pose3d_ros.train.posenet3d_labels', raising=False)
        assert train(alone, tmp_path / 'runs') == 0                  # the method: what is trained by default
        assert 'pose3d_ros.train.posenet3d_labels' not in sys.modules
    assert sorted(set(opened)) == [MANNEQUIN.name, 'train.npz', 'val.npz']


def test_other_truth_gives_the_same_weights(folder: Path, tmp_path: Path) -> None:
    # The same 2D beside the truth, beside nonsense called the truth, and beside nothing.
    names = ('teacher_9', 'student_convex', 'finetuned')
    truth = load_truth(folder / 'train_truth.npz')
    states = []
    for number, positions in enumerate((truth, np.random.default_rng(0).normal(size=truth.shape), None)):
        place = tmp_path / str(number)
        place.mkdir()
        for name in ('train', 'val'):
            (place / f'{name}.npz').write_bytes((folder / f'{name}.npz').read_bytes())
        if positions is not None:
            save_truth(place / 'train_truth.npz', positions)
        assert train(place, place / 'runs', '--variants', *names) == 0
        states.append([read_checkpoint(place / 'runs' / name / CHECKPOINT)['network'] for name in names])
    for other in states[1:]:
        for mine, theirs in zip(states[0], other):
            assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_names_and_defaults_of_the_command_are_those_of_the_modules() -> None:
    assert tuple(VARIANTS) == command.VARIANTS
    teacher, student = TeacherSettings(), StudentSettings()
    assert (teacher.loop.steps, teacher.width, teacher.dropout, teacher.batch) == (
        command.STEPS, command.WIDTH, command.DROPOUT, command.BATCH)
    assert (student.loop.steps, student.batch) == (command.STUDENT_STEPS, command.STUDENT_BATCH)


def test_checkpoints_know_the_command_and_the_body_model(runs: Path) -> None:
    state = read_checkpoint(runs / 'student_convex' / CHECKPOINT)
    assert state['command'] == ('pose3d train posenet3d --recording train.npz --variants student_convex --steps 2 '
                                '--student-steps 2 --width 16 --batch 16 --student-batch 8')
    assert len(state['identity']['body_model']) == 64
    assert '--truth train_truth.npz' in read_checkpoint(runs / 'supervised' / CHECKPOINT)['command']


def test_perfect_joints_measure_zero_in_any_size_and_place(scene: Scene) -> None:
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -1, 0], [1, 0, 2], [0, -2, 0]], dtype=torch.float64)).numpy()
    values = measured(0.3 * scene.truth @ turn + [1, 2, 3], scene)
    assert values['p_mpjpe'] < 1e-6 and values['mpjve'] < 1e-6 and values['flipped'] == 0
    assert measured(scene.truth * [1, 1, -1], scene)['flipped'] == 1


def test_a_body_that_faces_the_other_way_is_noticed(scene: Scene) -> None:
    turn = scene.clips.turn[scene.moments, scene.views]
    there = np.einsum('nij,nkj->nki', turn, scene.truth)
    assert posenet3d_bodies.backwards(there, scene) == 0
    assert posenet3d_bodies.backwards(there * [-1, 1, -1], scene) == 1


def test_smoothness_is_measured_within_sequences_per_frame_at_30_hz(scene: Scene) -> None:
    assert scene.sequence[-1] == 3 and len(scene) == 4 * 40           # one clip, four views
    shaking = scene.truth.copy()
    wrist = JOINTS.index('left_wrist')
    shaking[1::2, wrist, 0] += 1e-3
    assert velocity_error(shaking, scene) == pytest.approx(1 / 14)
    assert velocity_error(shaking, replace(scene, rate=2 * scene.rate)) == pytest.approx(2 / 14)
    assert measured(shaking, scene)['mpjve'] < 0.2                    # alignment spreads it over the others
    # Another place and turn in every view: what lies between sequences does not count.
    moved = scene.truth + scene.sequence[:, None, None]
    assert measured(moved, replace(scene, truth=moved))['mpjve'] < 1e-6
    unseen = scene.truth.copy()
    unseen[5] = np.nan
    assert measured(unseen, scene)['p_mpjpe'] < 1e-6


def test_windows_are_around_the_moment_or_end_at_it_or_hold_nothing_else(scene: Scene) -> None:
    rays = scene.clips.rays[scene.moments, scene.views]
    for window, expected in (('centred', np.arange(16, 25)), ('causal', np.arange(12, 21)), ('single', [20] * 9)):
        clip, _, frame = scene.shown(9, window)
        np.testing.assert_array_equal(clip[20], rays[expected])
        np.testing.assert_array_equal(clip[:, frame], rays)
    assert scene.shown(9, 'causal')[2] == 8


def test_of_a_long_recording_whole_clips_are_left_out(folder: Path) -> None:
    recording, truth = load_recording(folder / 'test.npz'), load_truth(folder / 'test_truth.npz')
    four = replace(recording, clip=np.arange(40) // 10)
    some = Scene.of(four, truth, 20)
    assert len(some) == 4 * 20 and some.sequence[-1] == 2 * 4 - 1
    with pytest.raises(RecordingError, match='not its own'):
        Scene.of(recording, truth[1:])


def test_people_without_hips_are_left_out(folder: Path, scene: Scene) -> None:
    recording = load_recording(folder / 'test.npz')
    confidence = recording.confidence.copy()
    confidence[7, 2] = 0
    blind = Scene.of(replace(recording, confidence=confidence), load_truth(folder / 'test_truth.npz'))
    torch.manual_seed(0)
    joints = said(TrainedVariant('any', PoseNet3D(9, 16).eval(), None, 0, 0.0, 16), blind)['any']
    missing = np.isnan(joints).all(axis=(1, 2))
    assert missing.sum() == 1 and missing[(blind.moments == 7) & (blind.views == 2)].all()
    assert np.isfinite(measured(joints, blind)['mpjve'])


def test_the_average_is_that_of_the_last_step_there_is() -> None:
    first, last = {'p_mpjpe_mm': 2.0}, {'p_mpjpe_mm': 1.0}
    assert with_average({'student_convex_average': first})['average'] == first
    both = with_average({'student_convex_average': first, 'finetuned_average': last})
    assert both == {'student_convex_average': first, 'average': last}
    assert with_average({'teacher_9': first}) == {'teacher_9': first}
    assert compare({'teacher_9': first, 'supervised': last}) == {'teacher_over_supervised': 2.0}


@pytest.fixture(scope='module')
def model() -> BodyModel:
    return BodyModel(read_body_arrays(MANNEQUIN))


@pytest.mark.parametrize('kind', Adaptation.KINDS)
def test_joints_in_the_body_are_those_that_are_compared(kind: str, model: BodyModel) -> None:
    student = StudentTraining(TeacherSettings(width=8), StudentSettings(adaptation=kind), model)
    turns = torch.linalg.matrix_exp(torch.randn(2, 1, 24, 3, 3, generator=torch.Generator().manual_seed(0)))
    turns = torch.linalg.qr(turns)[0]
    body = Body(turns * torch.linalg.det(turns)[..., None, None], torch.ones(2, SHAPES), torch.full((2, 1), 1.5))
    own, learned = rest_joints(student)
    assert np.abs(own - learned).max() < 0.005
    with torch.no_grad():
        for weight in student.adaptation.parameters():               # as if it had learnt
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        expected = student.adaptation(model, body)
    joints = joints_in_body(student, body)
    torch.testing.assert_close(1.5 * (joints - middle(joints)), expected, atol=1e-4, rtol=0)


def test_what_is_inside_a_body_and_how_far_off_the_rest_is(model: BodyModel) -> None:
    corners = model.template.numpy().astype(np.float64)[model.faces.numpy()]
    joints = model.joint_template.numpy().astype(np.float64)
    assert (winding(joints, corners) > 0.99).all()
    around = joints + [0.0, 0.0, 1.0]
    assert (np.abs(winding(around, corners)) < 0.01).all()
    square = np.array([[[0, 0, 0], [1, 0, 0], [1, 1, 0]], [[0, 0, 0], [1, 1, 0], [0, 1, 0]]], dtype=np.float64)
    points = np.array([[0.3, 0.4, 0.2], [0.5, 0.5, -0.1], [1.3, 0.5, 0.4], [-3.0, -4.0, 0.0]])
    np.testing.assert_allclose(surface_distance(points, square), [0.2, 0.1, 0.5, 5.0])
    assert surface_distance(np.zeros((0, 3)), square).shape == (0,)
    angle = turn_angles(np.array([np.eye(3), np.diag([1.0, -1, -1]), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]]))
    np.testing.assert_allclose(angle, [0, np.pi, np.pi / 2], atol=1e-7)
    assert 1 < units_per_metre(model) < 2


def test_skinning_is_timed_against_pytorch_on_the_same_bodies() -> None:
    threads = torch.get_num_threads()
    try:
        figures = load_benchmark('skinning').measure(None, 1, 0.02, 1)
    finally:
        torch.set_num_threads(threads)
    assert figures.keys() >= {'skinning_ms', 'skinning_torch_ms', 'skinning_torch_over_numpy', 'skinning_8_ms'}
    assert all(value > 0 for value in figures.values())


ASKED = ['--recording', 'train.npz', '--validation', 'val.npz', '--out', 'none', '--threads', '1']
TESTED = ['evaluate', 'posenet3d', '--runs', 'none', '--recording', 'test.npz', '--truth', 'test_truth.npz']


@pytest.mark.parametrize(('words', 'told'), [
    (['train', 'posenet3d', *ASKED, '--variants', 'supervised'], '--truth'),
    (['train', 'posenet3d', *ASKED, '--variants', 'finetuned', 'teacher_9'], 'add student_convex to --variants'),
    (['train', 'posenet3d', *ASKED, '--dropout', '1.5'], 'less than 1'),
    (['train', 'posenet3d', *ASKED, '--body-model', 'missing.npz'], 'missing.npz'),
    (['train', 'posenet3d', *ASKED, '--body-model', 'train.npz'], 'a body model has'),
    (['train', 'posenet3d', '--recording', 'train_truth.npz', *ASKED[2:]], 'pose3d record'),
    (['train', 'posenet3d', *ASKED, '--variants', 'supervised', '--truth', 'test.npz'], 'truth'),
    (TESTED, 'train first'),
    (['record', '--data', 'walk.npz', '--out', 'a.npz', '--distances', '2', '6'], 'at least'),
])
def test_mistakes_are_told_in_one_line(words: list[str], told: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith('pose3d: ') and told in error and error.count('\n') == 1


def test_bodies_of_another_model_are_refused(folder: Path, runs: Path, tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(MANNEQUIN) as arrays:
        np.savez(tmp_path / 'other.npz', **arrays)
    assert main([*TESTED[:3], str(runs), '--recording', str(folder / 'test.npz'), '--truth',
                 str(folder / 'test_truth.npz'), '--body-model', str(tmp_path / 'other.npz')]) == 1
    assert 'another body model' in capsys.readouterr().err
    (tmp_path / 'student_convex').symlink_to(runs / 'student_convex')   # nor does step 4 begin with its student
    assert train(folder, tmp_path, '--variants', 'finetuned', '--body-model', str(tmp_path / 'other.npz')) == 1
    assert 'another body model' in capsys.readouterr().err
