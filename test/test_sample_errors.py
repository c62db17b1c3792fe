"""A detector's errors on footage, on synthetic people whose errors are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.cli import evaluate_errors
from pose3d_ros.cli.main import main
from pose3d_ros.cli.sample_errors import MEASURED, STAND_INS, autocorrelation, detector_errors
from pose3d_ros.cli.sample_reference import View
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17
from pose3d_ros.train.error_fit import load_errors

FRAMES, FOCAL, STATURE = 12, 1000.0, 1.8
CAMERA = Camera(1000, 1000, FOCAL, FOCAL, 499.5, 499.5)


def views() -> list[View]:
    found = []
    for number, angle in enumerate((0.1, 1.7, 3.2, 4.8)):
        centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.0])
        forward = -np.array([np.cos(angle), np.sin(angle), 0.0])
        right = np.cross(forward, [0.0, 0.0, 1.0])
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        pose[:3, 3] = -pose[:3, :3] @ centre
        found.append(View(f'cam{number}', CAMERA, pose))
    return found


def landmarks() -> NDArray:
    """Return 33 points in space (FRAMES, 33, 3) m that move a little, the sides apart."""
    rng = np.random.default_rng(0)
    place = rng.uniform([-0.2, 0.05, 0.2], [0.2, 0.4, 1.7], (33, 3))
    place[:, 1] *= [-1 if BLAZEPOSE33.side(joint) == 'right' else 1 for joint in BLAZEPOSE33.joints]
    return place + 0.05 * np.sin(np.linspace(0, 2, FRAMES))[:, None, None] * np.array([1, 0.3, 0.1])


def seen(pixels: NDArray) -> Person2D:
    box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
    return Person2D(BLAZEPOSE33, pixels, CAMERA.undistort(pixels), np.full(33, 3.0), np.full(33, 0.9),
                    np.full(33, np.nan), box, 0.9)


def project(points: NDArray, view: View) -> NDArray:
    return view.camera.project(points @ view.camera_T_world[:3, :3].T + view.camera_T_world[:3, 3])


def test_an_error_comes_out_in_statures_and_only_where_it_was() -> None:
    cameras, points = views(), landmarks()
    pixels = [project(points, view) for view in cameras]
    truth = [[[seen(frame)] for frame in of_view] for of_view in pixels]
    wrist = BLAZEPOSE33.index('left_wrist')
    shifted = [of_view.copy() for of_view in pixels]
    shifted[2][5:, wrist] += [18.0, -9.0]
    tested = [[[seen(frame)] for frame in of_view] for of_view in shifted]
    tested[1][3] = []
    errors = detector_errors(cameras, tested, truth, STATURE)
    hips = (points[5:, BLAZEPOSE33.index('left_hip')] + points[5:, BLAZEPOSE33.index('right_hip')]) / 2
    depth = (hips @ cameras[2].camera_T_world[2, :3]) + cameras[2].camera_T_world[2, 3]
    found = errors[2, 5:, HUMAN17.index('left_wrist')]
    np.testing.assert_allclose(found, np.array([18.0, -9.0]) / (STATURE * FOCAL / depth[:, None]), rtol=0.01)
    assert np.isnan(errors[1, 3]).all()
    errors[2, 5:, HUMAN17.index('left_wrist')] = 0
    assert np.nanmax(np.abs(errors)) < 1e-3


def test_what_a_view_itself_says_is_not_part_of_its_reference() -> None:
    """An error that the trusted detections of the same view share is found in full."""
    cameras, points = views(), landmarks()
    pixels = [project(points, view) for view in cameras]
    pixels[0][:, BLAZEPOSE33.index('left_knee')] += [0.0, 12.0]
    both = [[[seen(frame)] for frame in of_view] for of_view in pixels]
    errors = detector_errors(cameras, both, both, STATURE)
    knee = errors[0, :, HUMAN17.index('left_knee')] * STATURE * FOCAL / 4
    np.testing.assert_allclose(knee.mean(axis=0), [0, 12], atol=1.5)


def test_every_joint_is_measured_or_has_a_stand_in() -> None:
    assert set(HUMAN17.joints) == {HUMAN17.joints[position] for position in MEASURED} | set(STAND_INS)


def test_autocorrelation_of_a_constant_is_1_and_of_noise_0() -> None:
    noise = np.random.default_rng(1).normal(size=(4, 500, 12, 2))
    assert autocorrelation(np.ones((1, 20, 3, 2)), 4) == pytest.approx(1)
    assert autocorrelation(noise, 1) == pytest.approx(0, abs=0.02)


def test_the_command_prints_fits_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    made_up = np.random.default_rng(2).normal(0, 0.01, (4, 60, 17, 2))
    monkeypatch.setattr(evaluate_errors, 'measure', lambda *_: made_up)
    assert main(['evaluate', 'errors', '--save', str(tmp_path / 'mine.json'), '--plot', str(tmp_path / 'figure.png'),
                 '--residuals', str(tmp_path / 'errors.npz'), '--json', str(tmp_path / 'figures.json')]) == 0
    assert 'right_wrist' in capsys.readouterr().out
    assert load_errors(tmp_path / 'mine.json').joints['left_knee'].sigma[0] == pytest.approx(0.01, rel=0.2)
    assert load_errors(tmp_path / 'mine_gaussian.json').joints['left_knee'].share == 1
    assert np.load(tmp_path / 'errors.npz')['errors'].shape == (240, 17, 2)
    assert (tmp_path / 'figure.png').stat().st_size > 1000 and (tmp_path / 'figures.json').exists()
    monkeypatch.setattr(evaluate_errors, 'measure', lambda *_: made_up[:1, :3])
    assert main(['evaluate', 'errors']) == 1
    assert 'more --frames' in capsys.readouterr().err


@pytest.mark.slow
def test_the_detector_is_off_by_about_what_the_shipped_model_says(sample_dir: Path, models_dir: Path,
                                                                   tmp_path: Path) -> None:
    if not (models_dir / 'pose_landmark_heavy.onnx').exists():
        pytest.skip('the reference needs the heavy model: `pose3d fetch` where npm is installed')
    assert main(['evaluate', 'errors', '--frames', '12', '--json', str(tmp_path / 'f.json')]) == 0
    values = json.loads((tmp_path / 'f.json').read_text())
    assert values['median_error'] == pytest.approx(0.012, rel=0.35)
    assert 0.003 < values['left_shoulder']['sigma_x'] < 0.02
