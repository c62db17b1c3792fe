"""`pose3d evaluate attributes`: on synthetic people whose attributes are known, and on made-up measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from procedural import motion, write_mocap

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, KIND_OF, KINDS, UNKNOWN, attributes, labels, relative_distances
from pose3d_ros.camera import Camera
from pose3d_ros.cli import evaluate_attributes
from pose3d_ros.cli.main import main
from pose3d_ros.cli.sample_attributes import agreement, detected_distances, reliability, true_distances
from pose3d_ros.cli.sample_reference import View
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17
from pose3d_ros.train.attribute_errors import load_attribute_errors

CAMERA = Camera(1000, 1000, 1000.0, 1000.0, 499.5, 499.5)
FRAMES = 12


def views() -> list[View]:
    found = []
    for number, angle in enumerate((0.1, 1.7, 3.2, 4.8)):
        forward = -np.array([np.cos(angle), np.sin(angle), 0.0])
        right = np.cross(forward, [0.0, 0.0, 1.0])
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        pose[:3, 3] = -pose[:3, :3] @ (np.array([0.0, 0.0, 1.0]) - 4 * forward)
        found.append(View(f'cam{number}', CAMERA, pose))
    return found


def landmarks(joints: NDArray) -> NDArray:
    """Return BlazePose's landmarks (T, 33, 3) of joints (T, 17, 3), ears beside the head, the rest about the pelvis."""
    points = np.repeat(joints[:, :1], len(BLAZEPOSE33), axis=1)
    for position, joint in enumerate(BLAZEPOSE33.joints):
        if joint in HUMAN17.joints:
            points[:, position] = joints[:, HUMAN17.index(joint)]
        elif joint.endswith('ear'):
            points[:, position] = joints[:, HUMAN17.index('head')] + [-0.08 if 'left' in joint else 0.08, 0, 0]
    return points


def seen(points: NDArray, view: View) -> Person2D:
    local = points @ view.camera_T_world[:3, :3].T + view.camera_T_world[:3, 3]
    pixels = CAMERA.project(local)
    hips = local[BLAZEPOSE33.indices(['left_hip', 'right_hip'])].mean(axis=0)
    depth = (local[:, 2] / hips[2] - 1) * CAMERA.fx
    return Person2D(BLAZEPOSE33, pixels, CAMERA.undistort(pixels), np.full(33, 3.0), np.full(33, 0.9), depth,
                    np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]), 0.9)


def test_cameras_together_and_a_perfect_detector_see_the_true_distances() -> None:
    cameras, joints = views(), motion(FRAMES)
    points = landmarks(joints)
    people = [[[seen(frame, view)] for frame in points] for view in cameras]
    expected = relative_distances(joints)
    np.testing.assert_allclose(true_distances(cameras, people), expected, atol=0.002)
    people[1][3], people[2][4] = [], [replace(people[2][4][0], depth=np.full(33, np.nan))]
    found = detected_distances(people)
    assert np.isnan(found[1, 3]).all() and np.isnan(found[2, 4]).all()
    assert np.nanmax(np.abs(found - expected)) < 0.1
    assert (labels(found[0]) == attributes(joints)).mean() > 0.9


def test_agreement_counts_what_is_known() -> None:
    truth = np.full((4, 9), 1)
    truth[0] = 2
    said = np.zeros((4, 9, 3))
    said[..., 1] = 1.0
    found = agreement(said, truth)
    np.testing.assert_allclose(found.accuracy, 0.75)
    np.testing.assert_allclose(found.majority, 0.75)
    np.testing.assert_allclose(found.brier, 0.5)  # one in four is off by 1 in two classes
    said[0] = 0.0
    truth[1, 0] = UNKNOWN
    found = agreement(said, truth)
    np.testing.assert_allclose(found.accuracy, 1.0)
    np.testing.assert_allclose(found.log_loss, 0.0, atol=1e-9)
    assert list(found.known) == [2, 6, 6, 6, 6]
    assert found.figures('accuracy') == {**dict.fromkeys(KINDS, 1.0), 'mean': 1.0}
    assert np.isnan(agreement(0 * said, truth).accuracy).all()


def test_reliability_compares_what_was_said_with_what_came() -> None:
    rng = np.random.default_rng(0)
    said = rng.dirichlet([1, 1, 1], (3000, 9))
    came = (said.cumsum(axis=-1) < rng.random((3000, 9, 1))).sum(axis=-1)
    for chance, often, count in reliability(said, came):
        assert often == pytest.approx(chance, abs=0.02) and count > 1000
    assert any(abs(chance - often) > 0.2 for chance, often, _ in reliability(said, np.zeros((3000, 9), int)))


def measured(seed: int = 0, frames: int = 60) -> tuple[NDArray, dict[str, NDArray], list[str]]:
    """Return what evaluate_attributes.measure does, of people who move as usual, with the errors that ship."""
    errors, rng = load_attribute_errors(), np.random.default_rng(seed)
    true = errors.usual[KIND_OF, rng.integers(0, errors.usual.shape[1], (frames, 9))]
    full, heavy = (np.stack([errors.sample(true, rng) for _ in range(2)]) for _ in range(2))
    full[1, 3] = np.nan
    return true, {'full': full, 'heavy': heavy}, ['left', 'right']


def test_the_command_reports_and_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(evaluate_attributes, 'measure', lambda *_: measured())
    mocap = write_mocap(tmp_path / 'walk.npz')
    assert main(['evaluate', 'attributes', '--json', str(tmp_path / 'f.json')]) == 0
    figures = json.loads((tmp_path / 'f.json').read_text())
    assert figures['frames'] == 2 * 24
    for name in ('blazepose', 'blazepose_heavy'):
        assert 0.5 < figures['attribute_accuracy'][name]['mean'] < 0.95
        assert set(figures['attribute_left_out'][name]) == {*KINDS, 'mean'}
    accuracy, expected = (figures[f'attribute_{name}']['blazepose']['mean'] for name in ('accuracy', 'expected'))
    assert accuracy == pytest.approx(expected, abs=0.1)
    assert 'camera left out' in capsys.readouterr().out

    assert main(['evaluate', 'attributes', '--fit', str(tmp_path / 'mine.json'), '--mocap', str(mocap)]) == 0
    assert 'CALIBRATION = {' in capsys.readouterr().out
    mine = load_attribute_errors(tmp_path / 'mine.json')
    assert 'first 36 frames' in mine.source and len(mine.bias) == len(ATTRIBUTE_JOINTS)
    assert mine.gain == pytest.approx(load_attribute_errors().gain, abs=0.1)


def test_the_command_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(evaluate_attributes, 'measure', lambda *_: measured(frames=9))
    assert main(['evaluate', 'attributes', '--mocap', 'some.npz']) == 1
    assert '--fit' in capsys.readouterr().err
    assert main(['evaluate', 'attributes', '--fit', str(tmp_path / 'a.json')]) == 1
    assert 'more --frames' in capsys.readouterr().err
    assert main(['evaluate', 'attributes', '--fit', str(tmp_path / 'a.json'), '--mocap', str(tmp_path / 'no.npz')]) == 1
    assert 'no.npz' in capsys.readouterr().err
