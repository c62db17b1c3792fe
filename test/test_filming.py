"""Motion capture filmed in a laboratory: what its cameras see, and what the body hides from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from laboratory_film import film, walk

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.error_fit import load_errors
from pose3d_ros.train.filming import Film, about_up, cameras_around
from pose3d_ros.train.mocap import Mocap


@pytest.fixture(scope='module')
def mocap(tmp_path_factory: pytest.TempPathFactory) -> Mocap:
    return walk(Path(tmp_path_factory.mktemp('data')))


def test_rays_are_the_projections_of_the_truth(mocap: Mocap) -> None:
    recording, truth = film(mocap)
    for view, pose in enumerate(recording.camera_T_world):
        local = truth @ pose[:3, :3].T + pose[:3, 3]
        np.testing.assert_allclose(recording.rays[:, view], local[..., :2] / local[..., 2:], atol=1e-5)


def test_cameras_stand_around_upright_and_look_inwards() -> None:
    setting = Film(cameras=5)
    poses = cameras_around(setting)
    rotation = poses[:, :3, :3]
    np.testing.assert_allclose(rotation @ np.swapaxes(rotation, 1, 2), np.tile(np.eye(3), (5, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1)
    centers = -np.einsum('vji,vj->vi', rotation, poses[:, :3, 3])
    np.testing.assert_allclose(np.linalg.norm(centers[:, :2], axis=1), setting.distance_m[0])
    np.testing.assert_allclose(centers[:, 2], setting.height_m[0])
    aim = rotation @ [0, 0, setting.look_at_m] + poses[:, :3, 3]
    np.testing.assert_allclose(aim[:, :2], 0, atol=1e-12)
    assert (aim[:, 2] > 0).all()
    assert (rotation[:, 1, 2] < 0).all()  # the image's y axis points down


def test_cameras_are_spread_over_the_heights_and_distances_asked_for() -> None:
    poses = cameras_around(Film(cameras=8, distance_m=(3.0, 7.0), height_m=(0.3, 2.8)))
    centers = -np.einsum('vji,vj->vi', poses[:, :3, :3], poses[:, :3, 3])
    for values, (low, high) in ((np.linalg.norm(centers[:, :2], axis=1), (3.0, 7.0)), (centers[:, 2], (0.3, 2.8))):
        assert low <= values.min() and values.max() <= high
        assert np.diff(np.sort(values)).max() < 0.3 * (high - low)
        assert values.min() < low + 0.25 * (high - low) and values.max() > high - 0.25 * (high - low)


def test_people_are_whole_bodies_on_the_floor_and_each_take_is_another(mocap: Mocap) -> None:
    recording, truth = film(mocap)
    assert len(recording) == len(truth) == 2 * len(mocap)
    assert set(recording.clip) == {0, 1}
    thighs = [np.linalg.norm(truth[recording.clip == clip][:, HUMAN17.index('left_hip')]
                             - truth[recording.clip == clip][:, HUMAN17.index('left_knee')], axis=1) for clip in (0, 1)]
    assert all(np.ptp(lengths) < 4e-3 for lengths in thighs)         # one body in a take
    assert abs(thighs[0].mean() - thighs[1].mean()) > 5e-3           # another in the next
    assert np.abs(truth[..., 2].min(axis=1) - 0.08).max() < 0.15


def test_the_near_shoulder_is_not_hidden_by_the_body(mocap: Mocap) -> None:
    recording, truth = film(mocap)
    hidden = recording.confidence < Film().hidden_confidence[1]
    assert 0.02 < hidden.mean() < 0.5
    near = HUMAN17.indices(['left_shoulder', 'right_shoulder'])
    for view, pose in enumerate(recording.camera_T_world):
        depth = (truth @ pose[:3, :3].T + pose[:3, 3])[..., 2]
        first = np.argmin(depth[:, near], axis=1)
        apart = np.abs(np.diff(depth[:, near], axis=1))[:, 0] > 0.2
        rows = np.flatnonzero(apart)
        assert not hidden[rows, view, np.asarray(near)[first[rows]]].any()


def test_hidden_joints_err_more_and_are_less_sure(mocap: Mocap) -> None:
    clean, _ = film(mocap)
    exact, noisy = (film(mocap, load_errors('blazepose_full'), occlusion=factor)[0] for factor in (0.0, 3.0))
    hidden = noisy.confidence < Film().hidden_confidence[1]
    np.testing.assert_array_equal(exact.rays[hidden], clean.rays[hidden])    # 0: hidden joints do not err at all
    assert np.abs(exact.rays - clean.rays)[~hidden].mean() > 0
    off = np.linalg.norm(noisy.rays - clean.rays, axis=-1)
    assert np.median(off[hidden]) > 2 * np.median(off[~hidden])
    assert noisy.confidence[hidden].max() < noisy.confidence[~hidden].min()


def test_errors_last_as_long_as_they_are_said_to_and_are_no_larger(mocap: Mocap) -> None:
    errors = load_errors('blazepose_full')
    brief, lasting = (film(mocap, errors, takes=6, occlusion=1.0, memory_s=memory)[0] for memory in (0.0, 0.25))
    still = film(mocap, takes=6)[0]
    # In units of the person in the image, which hardly changes from frame to frame.
    drawn = [recording.rays - still.rays for recording in (brief, lasting)]
    within = np.diff(still.clip) == 0
    same = [(np.abs(np.diff(each, axis=0)).max(axis=-1) < 1e-3 * np.abs(each).max())[within].mean() for each in drawn]
    assert same[0] < 0.05
    assert same[1] == pytest.approx(np.exp(-1 / (mocap.fps * 0.25)), abs=0.03)
    assert np.abs(drawn[1]).mean() == pytest.approx(np.abs(drawn[0]).mean(), rel=0.1)


def test_the_same_seed_gives_the_same_film(mocap: Mocap) -> None:
    (first, truth), (again, other) = film(mocap), film(mocap)
    np.testing.assert_array_equal(first.rays, again.rays)
    np.testing.assert_array_equal(truth, other)
    assert not np.array_equal(first.rays, film(mocap, seed=1)[0].rays)


def test_turning_about_up_leaves_heights() -> None:
    turned = about_up(np.array([np.pi / 2])) @ np.array([1.0, 0.0, 2.0])
    np.testing.assert_allclose(turned, [[0, 1, 2]], atol=1e-12)
