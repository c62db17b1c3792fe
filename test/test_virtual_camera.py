"""Virtual cameras: axes, left and right, borders; and the samples made with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from procedural import motion, standing

from pose3d_ros.past import AGES
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import stature
from pose3d_ros.train.body import BodyVariation, shift_marks, vary
from pose3d_ros.train.errors import NO_ERRORS, ErrorModel
from pose3d_ros.train.mocap import Mocap
from pose3d_ros.train.samples import EVALUATION, INPUTS, NO_MASKS, SampleSettings, make_samples
from pose3d_ros.train.virtual_camera import LIMBS, ROBOT, TORSO, look, optical_axes
from pose3d_ros.train.window_random import WindowRandom

LEVEL = replace(ROBOT, pitch_deg=(0.0, 0.0), roll_sd_deg=0.0, height_m=(1.0, 1.0), distance_m=(4.0, 4.0))
LEFT, RIGHT = (HUMAN17.index(f'{side}_shoulder') for side in ('left', 'right'))


def mocap() -> Mocap:
    return Mocap(motion(60).astype(np.float32), np.zeros(60, dtype=np.intp), ('walk',), ('a',))


def test_the_optical_axes_are_a_rotation_with_x_right_y_down_z_ahead() -> None:
    level = optical_axes(np.zeros(1), np.zeros(1))[0]
    np.testing.assert_allclose(level @ [1, 0, 0], [0, 0, 1], atol=1e-12)   # ahead
    np.testing.assert_allclose(level @ [0, 1, 0], [-1, 0, 0], atol=1e-12)  # the world's left
    np.testing.assert_allclose(level @ [0, 0, 1], [0, -1, 0], atol=1e-12)  # up
    rng = np.random.default_rng(0)
    axes = optical_axes(rng.uniform(-1, 1, 50), rng.uniform(-1, 1, 50))
    np.testing.assert_allclose(axes @ np.swapaxes(axes, 1, 2), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(axes), 1)
    looking_up = optical_axes(np.array([0.5]), np.zeros(1))[0]
    assert (looking_up @ [1, 0, 0])[1] > 0   # what is straight ahead moves down in the image


def test_the_floor_lies_below_a_level_camera_at_its_height() -> None:
    views = look(np.repeat(standing()[None], 300, axis=0), np.random.default_rng(0), LEVEL)
    ankles = HUMAN17.indices(['left_ankle', 'right_ankle'])
    np.testing.assert_allclose(views.points[:, ankles, 1], 1.0 - 0.08, atol=1e-5)
    np.testing.assert_allclose(np.hypot(views.points[:, 0, 0], views.points[:, 0, 2]), 4.0, atol=1e-5)
    assert (views.points[:, HUMAN17.index('head'), 1] < views.points[:, 0, 1]).all()


def test_whoever_faces_the_camera_has_the_left_shoulder_at_larger_x() -> None:
    views = look(np.repeat(standing()[None], 500, axis=0), np.random.default_rng(1), LEVEL)
    # The neck is ahead of the spine: nearer to the camera for those who face it.
    floor = views.points[..., [0, 2]]
    ahead = floor[:, HUMAN17.index('neck')] - floor[:, HUMAN17.index('spine')]
    toward = -(ahead * floor[:, 0]).sum(axis=1) / np.linalg.norm(floor[:, 0], axis=1)
    left_is_right = views.rays[:, LEFT, 0] > views.rays[:, RIGHT, 0]
    facing, away = toward > 0.03, toward < -0.03
    assert facing.sum() > 50 and away.sum() > 50
    assert left_is_right[facing].all() and not left_is_right[away].any()


def test_rays_are_projections_and_visible_means_inside_the_image() -> None:
    views = look(motion(400), np.random.default_rng(2))
    seen = views.visible
    np.testing.assert_allclose(views.rays[seen], views.points[seen][:, :2] / views.points[seen][:, 2:], rtol=1e-5)
    assert (views.points[seen][:, 2] > 0.2).all()
    assert np.abs(views.rays[seen][:, 0]).max() <= np.tan(np.radians(ROBOT.horizontal_view_deg[1] / 2)) + 1e-6


def test_every_view_shows_enough_and_the_border_cuts_some() -> None:
    views = look(motion(2000), np.random.default_rng(3))
    limbs = views.visible[:, LIMBS].sum(axis=1)
    enough = (limbs >= ROBOT.min_limbs) & (views.visible[:, TORSO].sum(axis=1) >= ROBOT.min_torso)
    assert enough.mean() > 0.999
    assert 0.2 < (limbs < 12).mean() < 0.8
    depth = views.points[:, 0, 2]
    assert np.quantile(depth, 0.02) < 2 and np.quantile(depth, 0.98) > 8


def test_people_are_seen_from_all_sides() -> None:
    views = look(np.repeat(standing()[None], 2000, axis=0), np.random.default_rng(4), LEVEL)
    across = views.points[:, LEFT] - views.points[:, RIGHT]
    sides = np.histogram(np.arctan2(across[:, 2], across[:, 0]), bins=8, range=(-np.pi, np.pi))[0]
    assert sides.min() > 2000 / 8 / 2


def test_other_poses_are_seen_by_the_same_camera() -> None:
    poses = np.repeat(standing()[None], 50, axis=0)
    views = look(poses, np.random.default_rng(5))
    points, rays, visible = views.see(np.stack([poses, poses + [0.3, 0.1, 0.2]], axis=1).astype(np.float32))
    np.testing.assert_allclose(points[:, 0], views.points, atol=1e-5)
    np.testing.assert_array_equal(visible[:, 0], views.visible)
    np.testing.assert_allclose(points[:, 1] - points[:, 0], np.broadcast_to(
        (views.rotation @ np.array([0.3, 0.1, 0.2]))[:, None], (50, 17, 3)), atol=1e-5)
    np.testing.assert_allclose(rays[visible], points[visible][:, :2] / points[visible][:, 2:], rtol=1e-5)


def test_up_and_camera_height_give_the_height_above_the_floor() -> None:
    poses = motion(200)
    views = look(poses, np.random.default_rng(6))
    height = np.einsum('bkc,bc->bk', views.points, views.up) + views.camera_height[:, None]
    np.testing.assert_allclose(height, poses[..., 2], atol=1e-4)
    np.testing.assert_allclose((views.position ** 2).sum(axis=1), (views.translation ** 2).sum(axis=1), rtol=1e-4)
    assert (views.camera_height >= ROBOT.height_m[0] - 1e-5).all()


def test_errors_grow_with_doubt_and_some_are_wild() -> None:
    model = ErrorModel(outliers=0.0, doubt_outliers=0.0, unsure=1.0, tremble=0.0, joint_factor=())
    error, confidence = model.sample(np.zeros((20000, 1)), INPUTS, np.random.default_rng(5))
    for low, high in ((0.1, 0.2), (0.9, 1.0)):
        chosen = (confidence > low) & (confidence <= high)
        expected = model.sigma * (1 + model.doubt_sigma * (1 - confidence[chosen].mean()))
        assert error[chosen].std() == pytest.approx(expected, rel=0.05)
    wild = ErrorModel(sigma=0.0, outliers=0.2, doubt_outliers=0.0, tremble=0.0)
    error, _ = wild.sample(np.zeros((4000, 1)), INPUTS, np.random.default_rng(6))
    assert (error != 0).any(axis=-1).mean() == pytest.approx(0.2, abs=0.01)
    assert np.abs(error).max() <= ErrorModel.outlier_range


def test_errors_stay_for_a_while_and_then_are_others() -> None:
    age = np.tile(np.float32([0.0, 0.1, 1.0]), (5000, 1))
    error, _ = ErrorModel(outliers=0.0, doubt_outliers=0.0, unsure=0.0).sample(age, INPUTS, np.random.default_rng(7))
    soon, late = (np.corrcoef(error[:, 0].ravel(), error[:, k].ravel())[0, 1] for k in (1, 2))
    assert 0.45 < soon < 0.75 and late < 0.1


def test_clean_samples_are_exact_projections_in_input_order() -> None:
    settings = replace(EVALUATION, errors=NO_ERRORS, masks=NO_MASKS)
    samples = make_samples(mocap(), 500, np.random.default_rng(6), settings)
    joint = INPUTS.index('left_elbow')
    truth = samples.points[:, HUMAN17.index('left_elbow')]
    seen = samples.confidence[:, 0, joint] > 0
    np.testing.assert_allclose(samples.rays[seen, 0, joint], truth[seen, :2] / truth[seen, 2:], rtol=1e-5, atol=1e-6)
    assert (samples.relative[:, 0] == 0).all()
    np.testing.assert_array_equal(samples.root, samples.points[:, 0])
    np.testing.assert_allclose(samples.age, np.tile(np.float32([0, *AGES]), (500, 1)))


def test_the_past_is_the_same_person_a_little_earlier() -> None:
    settings = replace(EVALUATION, errors=NO_ERRORS, masks=NO_MASKS)
    samples = make_samples(mocap(), 500, np.random.default_rng(9), settings)
    both = (samples.confidence > 0).all(axis=(1, 2))
    moved = np.linalg.norm(samples.rays[both] - samples.rays[both, :1], axis=-1).mean(axis=2)
    size = (samples.stature / samples.points[:, 0, 2])[both, None]
    assert both.sum() > 50
    assert (moved[:, 1] / size[:, 0]).mean() < 0.05 and 0.01 < (moved[:, 3] / size[:, 0]).mean() < 0.3
    still = replace(settings, window=replace(settings.window, moving=1.0, turn_rate=0.5))
    turned = make_samples(mocap(), 500, np.random.default_rng(9), still)
    assert np.abs(turned.rays[both, 4] - turned.rays[both, 0]).mean() > 2 * np.abs(
        samples.rays[both, 4] - samples.rays[both, 0]).mean()


def test_hidden_joints_are_zero_and_enough_is_left() -> None:
    samples = make_samples(mocap(), 3000, np.random.default_rng(7), SampleSettings())
    hidden = samples.confidence == 0
    assert (samples.rays[hidden] == 0).all() and np.isfinite(samples.rays).all()
    assert 0.05 < hidden[:, 0].mean() < 0.4
    assert (~hidden[:, 0]).sum(axis=1).min() >= 4
    assert samples.confidence.max() <= 1


def test_a_body_stays_itself_over_a_window() -> None:
    rng = np.random.default_rng(10)
    poses = np.repeat(motion(40), 5, axis=0)
    changed = vary(poses, poses[::-1].copy(), rng, BodyVariation(crouch=1.0, lie=0.3), frames=5).reshape(-1, 5, 17, 3)
    np.testing.assert_allclose(changed, np.repeat(changed[:, :1], 5, axis=1), atol=1e-5)
    assert np.abs(changed[1:, 0] - changed[:-1, 0]).max() > 0.3


def test_marks_shift_joints_but_not_the_stature_they_belong_to() -> None:
    poses = motion(200)
    height = stature(poses)
    shifted, marked = shift_marks(poses, WindowRandom(np.random.default_rng(11), 1), BodyVariation(marks=0.5), height)
    untouched = (shifted == poses).all(axis=(1, 2))
    assert 0.3 < untouched.mean() < 0.7 and (marked == ~untouched).all()
    hips = HUMAN17.indices(['left_hip', 'right_hip'])
    np.testing.assert_allclose(shifted[~untouched, 0], shifted[~untouched][:, hips].mean(axis=1), atol=1e-6)
    moved = np.linalg.norm(shifted - poses, axis=-1)[~untouched]
    assert 0.01 < moved[:, hips].mean() < 0.06 and moved.max() < 0.07
    assert (moved[:, HUMAN17.indices(['left_elbow', 'right_wrist', 'head'])] == 0).all()


def test_the_same_seed_gives_the_same_samples() -> None:
    first, second = (make_samples(mocap(), 50, np.random.default_rng(8), SampleSettings()) for _ in range(2))
    np.testing.assert_array_equal(first.rays, second.rays)
    np.testing.assert_array_equal(first.points, second.points)
