"""The laboratory of the published tables: where people stand, how large they are, and that pixels fit the joints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from procedural import write_mocap

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.body import NO_VARIATION
from pose3d_ros.train.error_fit import load_errors
from pose3d_ros.train.laboratory import LABORATORY, MIXED_FOCAL, Shots, shoot
from pose3d_ros.train.mocap import Mocap, load_mocap


@pytest.fixture(scope='module')
def mocap(tmp_path_factory: pytest.TempPathFactory) -> Mocap:
    return load_mocap([write_mocap(Path(tmp_path_factory.mktemp('data')) / 'walk.npz')], 'train')


@pytest.fixture(scope='module')
def shots(mocap: Mocap) -> Shots:
    return shoot(mocap, 4000, np.random.default_rng(0))


def test_pixels_are_the_projection_of_the_joints(mocap: Mocap) -> None:
    for laboratory in (LABORATORY, MIXED_FOCAL):
        shots = shoot(mocap, 200, np.random.default_rng(1), laboratory)
        rays = (shots.pixels - shots.principal[:, None]) / shots.focal[:, None]
        np.testing.assert_allclose(rays, shots.points[..., :2] / shots.points[..., 2:], atol=1e-5)


def test_people_are_3_to_7_m_away_upright_and_mostly_inside_the_image(shots: Shots) -> None:
    assert 2.9 < shots.points[:, 0, 2].min() < 3.3 and 6.7 < shots.points[:, 0, 2].max() < 7.2
    assert (shots.focal == 1145).all()
    assert np.mean((shots.pixels < 0) | (shots.pixels > 1000)) < 0.02
    head, ankle = (shots.pixels[:, HUMAN17.index(joint), 1] for joint in ('head', 'left_ankle'))
    assert (head < ankle).all()
    np.testing.assert_allclose((ankle - head) / shots.size, 0.9, atol=0.15)


def test_people_are_seen_from_everywhere(shots: Shots) -> None:
    across = shots.points[:, HUMAN17.index('left_hip')] - shots.points[:, HUMAN17.index('right_hip')]
    direction = np.arctan2(across[:, 2], across[:, 0])
    assert np.histogram(direction, bins=8, range=(-np.pi, np.pi))[0].min() > 400


def test_the_cameras_stand_still(mocap: Mocap) -> None:
    """Nobody's place in the room depends on the camera, so the floor is the same plane for all of them."""
    shots = shoot(mocap, 500, np.random.default_rng(2), replace(LABORATORY, body=NO_VARIATION))
    ankles = shots.points[:, HUMAN17.indices(['left_ankle', 'right_ankle'])]
    lowest = np.take_along_axis(ankles, ankles[..., 1].argmax(axis=1)[:, None, None], axis=1)[:, 0]
    slope, height = np.polyfit(lowest[:, 2], lowest[:, 1], 1)
    assert slope == pytest.approx(-np.tan(np.arctan2(0.6, 5.0)), abs=0.01)
    assert np.abs(lowest[:, 1] - slope * lowest[:, 2] - height).max() < 0.1


def test_mixed_focal_lengths_change_the_pixels_and_nothing_else(mocap: Mocap) -> None:
    shots = shoot(mocap, 3000, np.random.default_rng(3), MIXED_FOCAL)
    assert shots.focal.min() < 720 and shots.focal.max() > 1950
    scale = shots.focal[:, 0] / 1145
    assert np.corrcoef(scale, shots.points[:, 0, 2])[0, 1] == pytest.approx(0, abs=0.06)
    assert np.corrcoef(scale, shots.size * shots.points[:, 0, 2])[0, 1] > 0.95
    assert np.median(shots.principal[:, 0] / scale) == pytest.approx(500, abs=2)


def test_errors_are_added_in_proportion_and_the_truth_stays(shots: Shots) -> None:
    noisy = shots.with_errors(load_errors('blazepose_full'), np.random.default_rng(4))
    off = np.linalg.norm(noisy.pixels - shots.pixels, axis=-1).mean(axis=1) / shots.size
    assert 0.005 < off.mean() < 0.05 and noisy.points is shots.points
    near = shots.points[:, 0, 2] < 5
    assert off[near].mean() == pytest.approx(off[~near].mean(), rel=0.1)


def test_a_flipped_person_is_what_the_camera_sees_of_the_mirror_image(shots: Shots) -> None:
    chosen = np.arange(len(shots)) % 3 == 0
    flipped = shots.flipped(chosen)
    seen = flipped.points[..., :2] / flipped.points[..., 2:] * shots.focal[:, None] + shots.principal[:, None]
    np.testing.assert_allclose(flipped.pixels, seen, atol=0.05)
    np.testing.assert_array_equal(flipped.points[~chosen], shots.points[~chosen])
    np.testing.assert_allclose(flipped.points[chosen, 0], shots.points[chosen, 0] * [-1, 1, 1])
    np.testing.assert_allclose(flipped.flipped(chosen).pixels, shots.pixels, atol=1e-3)


def test_the_same_seed_gives_the_same_people(mocap: Mocap) -> None:
    a, b = (shoot(mocap, 50, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a.pixels, b.pixels)
