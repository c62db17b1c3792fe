"""The sample evaluation on synthetic people: its figures must say what was done to them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.cli.evaluate_sample import Replayed, figures
from pose3d_ros.cli.main import main
from pose3d_ros.cli.sample_reference import View, build_reference, largest
from pose3d_ros.cli.sample_scores import add_up, is_swapped, on_subject, score, size_of
from pose3d_ros.records import Frame, JointState, Person2D, Person3D, PersonState
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, LIMBS12, select
from pose3d_ros.train.metrics import mblstd

FRAMES = 20
CAMERA = Camera(1088, 1920, 1680.0, 1680.0, 543.5, 959.5)


def world_joints() -> NDArray:
    """Return limb joints (FRAMES, 12, 3) m, z up, of someone who stands, sways and swings the arms; it faces +x."""
    place = {'shoulder': (0.2, 1.45), 'elbow': (0.35, 1.15), 'wrist': (0.45, 0.95), 'hip': (0.12, 0.95),
             'knee': (0.14, 0.5), 'ankle': (0.13, 0.08)}
    sway = 0.1 * np.sin(np.linspace(0, np.pi, FRAMES))
    joints = np.zeros((FRAMES, 12, 3))
    for position, name in enumerate(LIMBS12.joints):
        side, part = name.split('_')
        across, up = place[part]
        sign = 1.0 if side == 'left' else -1.0
        joints[:, position, 0] = sway * (sign if part in ('elbow', 'wrist') else 1.0)
        joints[:, position, 1:] = sign * across, up
    return joints


def four_views() -> list[View]:
    views = []
    for number, angle in enumerate(np.radians([10, 100, 190, 280])):
        centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.2])
        forward = np.array([0.0, 0.0, 0.9]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        pose[:3, 3] = -pose[:3, :3] @ centre
        views.append(View(f'cam{number}', CAMERA, pose))
    return views


def in_view(points: NDArray, view: View) -> NDArray:
    return points @ view.camera_T_world[:3, :3].T + view.camera_T_world[:3, 3]


def person_2d(pixels: NDArray, identity: int = 1, camera: Camera = CAMERA) -> Person2D:
    """Return a BlazePose person with the given limb joints (12, 2) px and nothing else known."""
    full = select(pixels, LIMBS12, BLAZEPOSE33)
    box = np.concatenate([np.nanmin(full, axis=0), np.nanmax(full, axis=0)])
    known = np.isfinite(full[:, 0])
    return Person2D(BLAZEPOSE33, full, camera.undistort(full), np.where(known, 3.0, np.nan),
                    np.where(known, 0.9, np.nan), np.full(33, np.nan), box, 0.9, identity, PersonState.TRACKED)


def person_3d(points: NDArray, identity: int = 1) -> Person3D:
    full = select(points, LIMBS12, HUMAN17)
    return Person3D(HUMAN17, full, np.zeros((17, 3)), np.zeros((17, 3, 3)), np.ones(17),
                    np.full(17, JointState.OBSERVED, dtype=np.uint8), 0.9, identity, PersonState.TRACKED)


@pytest.fixture
def one_view() -> tuple[NDArray, NDArray]:
    """Return the subject in the first view: pixels (T, 12, 2) and points (T, 12, 3) m."""
    view = four_views()[0]
    points = in_view(world_joints(), view)
    return view.camera.project(points), points


def test_reference_finds_the_joints_in_spite_of_exchanged_sides_and_outliers() -> None:
    rng = np.random.default_rng(0)
    truth, views = world_joints(), four_views()
    detections = []
    for position, view in enumerate(views):
        of_view = []
        for frame, pixels in enumerate(view.camera.project(in_view(truth, view))):
            noisy = pixels + rng.normal(0, 2.0, size=pixels.shape)
            if position == 2 and 5 <= frame < 12:
                noisy = noisy[LIMBS12.mirror]
            if position == 1 and frame % 5 == 0:
                noisy[0] += 150.0
            of_view.append([person_2d(noisy)])
        detections.append(of_view)
    reference = build_reference(views, detections)
    error = np.linalg.norm(reference.points - truth, axis=-1)
    assert np.nanmax(error) < 0.03
    assert np.isfinite(error).all()
    assert reference.exchanged_share == pytest.approx(7 / (4 * FRAMES))
    assert reference.dropped_share == pytest.approx(4 / (4 * FRAMES * 12))
    assert 0.5 < reference.reprojection_px < 4.0
    assert reference.limb_variation < 0.05


def test_people_in_the_background_are_not_the_subject(one_view: tuple[NDArray, NDArray]) -> None:
    pixels, _ = one_view
    subject = person_2d(pixels[0])
    small = person_2d(0.3 * (pixels[0] - pixels[0].mean(axis=0)) + [200.0, 700.0], identity=2)
    assert largest([small, subject]) is subject
    assert largest([]) is None
    assert on_subject([small, subject], pixels[0]) == [subject]
    assert on_subject([subject.mirrored()], pixels[0]) != []


def test_a_perfect_run_scores_perfectly(one_view: tuple[NDArray, NDArray]) -> None:
    pixels, points = one_view
    people = [[person_2d(frame)] for frame in pixels]
    values = score(pixels, points, people, people, [[person_3d(frame)] for frame in points]).figures()
    assert values == pytest.approx({'person_share': 1.0, 'id_switches': 0, 'swap_share': 0.0, 'raw_swap_share': 0.0,
                                    'part_swap_share': 0.0,
                                    'mpjpe_mm': 0.0, 'pa_mpjpe_mm': 0.0, 'mrpe_mm': 0.0, 'mpjve_mm': 0.0,
                                    'mblstd_mm': 1e3 * mblstd(points), 'frames_3d_share': 1.0},
                                   abs=1e-6)


def test_each_fault_shows_in_its_own_figure(one_view: tuple[NDArray, NDArray]) -> None:
    pixels, points = one_view
    people = [[person_2d(frame)] for frame in pixels]
    space = [[person_3d(frame)] for frame in points]

    def values(tracked: list, lifted: list | None = None, detected: list | None = None) -> dict[str, float]:
        return score(pixels, points, detected or people, tracked, lifted or space).figures()

    missing = [[], *people[1:]]
    doubled = [people[0] * 2, *people[1:]]
    assert values(missing)['person_share'] == values(doubled)['person_share'] == pytest.approx(1 - 1 / FRAMES)
    renamed = [[replace(entry[0], id=1 + (frame >= 8))] for frame, entry in enumerate(people)]
    assert values(renamed)['id_switches'] == 1
    turned = [[entry[0].mirrored()] if frame < 5 else entry for frame, entry in enumerate(people)]
    assert values(turned)['swap_share'] == pytest.approx(5 / FRAMES)
    assert values(turned)['raw_swap_share'] == 0.0
    assert values(people, detected=turned)['raw_swap_share'] == pytest.approx(5 / FRAMES)
    legs = np.array([name.endswith(('hip', 'knee', 'ankle')) for name in BLAZEPOSE33.joints])
    crossed = [[entry[0].mirrored(legs)] if frame < 4 else entry for frame, entry in enumerate(people)]
    assert values(crossed)['swap_share'] == 0.0
    assert values(crossed)['part_swap_share'] > 0.0
    farther = values(people, [[person_3d(frame + [0.0, 0.0, 0.25])] for frame in points])
    assert farther['mrpe_mm'] == pytest.approx(250.0)
    assert farther['mpjpe_mm'] == pytest.approx(0.0, abs=1e-6)
    larger = values(people, [[person_3d(1.1 * frame)] for frame in points])
    assert larger['pa_mpjpe_mm'] == pytest.approx(0.0, abs=1e-6)
    assert larger['mpjpe_mm'] > 10
    assert larger['mblstd_mm'] == pytest.approx(1.1 * values(people)['mblstd_mm'])
    trembling = values(people, [[person_3d(frame * (1 + 0.02 * (number % 2)))] for number, frame in enumerate(points)])
    assert trembling['mblstd_mm'] > 3 and trembling['mpjve_mm'] > 3
    gap = values(people, [[], *space[1:]])
    assert gap['frames_3d_share'] == pytest.approx(1 - 1 / FRAMES)
    assert gap['mpjpe_mm'] == gap['mpjve_mm'] == pytest.approx(0.0, abs=1e-6)


def test_sides_in_line_with_the_camera_cannot_be_told() -> None:
    joints = np.zeros((12, 2))
    joints[:, 1] = np.repeat(np.linspace(0, 500, 6), 2)  # left exactly behind right
    assert is_swapped(joints[LIMBS12.mirror], joints) is None
    joints[:, 0] = np.tile([40.0, -40.0], 6)
    assert is_swapped(joints[LIMBS12.mirror], joints) is True
    assert is_swapped(joints, joints) is False
    assert is_swapped(np.full((12, 2), np.nan), joints) is None
    assert np.isnan(size_of(np.full((12, 2), np.nan)))


def test_cameras_add_up_frame_by_frame_and_nobody_gives_nan(one_view: tuple[NDArray, NDArray]) -> None:
    pixels, points = one_view
    people = [[person_2d(frame)] for frame in pixels]
    good = score(pixels, points, people, people, [[person_3d(frame)] for frame in points])
    nobody = score(pixels, points, [[]] * FRAMES, [[]] * FRAMES, [[]] * FRAMES)
    assert nobody.figures()['person_share'] == 0.0
    assert np.isnan(nobody.figures()['mpjpe_mm'])
    both = add_up([good, nobody]).figures()
    assert both['person_share'] == both['frames_3d_share'] == 0.5
    assert both['mpjpe_mm'] == pytest.approx(0.0, abs=1e-6)
    short = score(pixels[:9], points[:9], people[:9], people[:9], [[person_3d(frame)] for frame in points[:9]])
    uneven = add_up([good, short])
    assert uneven.figures()['frames_3d_share'] == 1.0 and uneven.figures()['mrpe_mm'] == pytest.approx(0.0, abs=1e-6)


def test_a_replay_says_the_same_again(one_view: tuple[NDArray, NDArray]) -> None:
    pixels, _ = one_view
    found = [[person_2d(frame)] for frame in pixels[:3]]
    replay = Replayed(found)
    frame = Frame(np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8), 0, CAMERA)
    for _ in range(2):
        replay.reset()
        assert [replay(frame) for _ in range(3)] == found


@pytest.mark.parametrize('stature', ['172', '0', 'tall'])
def test_a_stature_is_in_metres(stature: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(['evaluate', 'sample', '--stature', stature])
    assert stopped.value.code == 2 and '--stature' in capsys.readouterr().err


def test_figures_carry_the_agreed_names(one_view: tuple[NDArray, NDArray]) -> None:
    pixels, points = one_view
    people = [[person_2d(frame)] for frame in pixels]
    scores = [score(pixels, points, people, people, [[person_3d(frame)] for frame in points])] * 4
    views = four_views()
    reference = build_reference(views, [[[person_2d(view.camera.project(frame))] for frame in in_view(
        world_joints(), view)] for view in views])
    values = figures(reference, views, {name: scores for name in ('full', 'heavy', 'full_stature', 'heavy_stature')})
    assert {'person_share', 'id_switches', 'swap_share'} <= set(values)
    for model in ('full', 'heavy', 'full_stature', 'heavy_stature'):
        assert {'mpjpe_mm', 'pa_mpjpe_mm', 'mrpe_mm', 'cam0'} <= set(values[model])


@pytest.mark.slow
def test_what_ships_finds_the_man_on_the_beam(sample_dir: Path, models_dir: Path, tmp_path: Path) -> None:
    if not (models_dir / 'pose_landmark_heavy.onnx').exists():
        pytest.skip('the reference needs the heavy model: `pose3d fetch` where npm is installed')
    assert main(['evaluate', 'sample', '--models', 'full', '--frames', '40', '--json', str(tmp_path / 'f.json')]) == 0
    values = json.loads((tmp_path / 'f.json').read_text())
    assert values['reference_reprojection_px'] < 10 and values['reference_dropped_views'] < 0.5
    assert values['person_share'] >= 0.95
    assert values['id_switches'] == 0
    assert values['swap_share'] < 0.02
    assert values['full']['mpjpe_mm'] < 150 and values['full']['pa_mpjpe_mm'] < 110  # wrong axes give far more
    assert values['full']['mrpe_mm'] < 300 and values['full_stature']['mrpe_mm'] < 200
