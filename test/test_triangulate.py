"""Triangulation on synthetic truth: exact, robust to wrong and missing views, and able to put sides right."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pose3d_ros.fuse.sides import LOWER, UPPER, exchanged_views, with_sides
from pose3d_ros.fuse.triangulate import triangulate
from pose3d_ros.skeleton import LIMBS12

SIGMA = 2.0 / 1000.0  # two pixels at a focal length of 1000 px


def cameras_around(views: int, distance: float = 4.0) -> NDArray:
    """Return camera_T_world (views, 4, 4) of cameras in a ring, 1.5 m high, that look at a person at the origin."""
    result = np.tile(np.eye(4), (views, 1, 1))
    for view, angle in enumerate(np.linspace(0.0, 1.6 * np.pi, views)):
        centre = np.array([distance * np.cos(angle), distance * np.sin(angle), 1.5])
        forward = np.array([0.0, 0.0, 1.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        result[view, :3, :3], result[view, :3, 3] = rotation, -rotation @ centre
    return result


def rays_of(points: NDArray, camera_T_world: NDArray) -> NDArray:
    local = np.einsum('vij,...j->v...i', camera_T_world[:, :3, :3], points) + camera_T_world[:, :3, 3].reshape(
        -1, *(1,) * (points.ndim - 1), 3)
    return local[..., :2] / local[..., 2:]


def walking_person(frames: int) -> NDArray:
    """Return joints (frames, 12, 3) m of a body that walks along x, left to its left, arms and legs swinging."""
    pair_height = {'shoulder': 1.45, 'elbow': 1.15, 'wrist': 0.9, 'hip': 0.95, 'knee': 0.5, 'ankle': 0.08}
    phase = np.linspace(0.0, 2.0 * np.pi, frames)
    joints = np.zeros((frames, 12, 3))
    for position, name in enumerate(LIMBS12.joints):
        side, part = name.split('_')
        sign = 1.0 if side == 'left' else -1.0
        swing = 0.0 if part in ('shoulder', 'hip') else 0.25 * sign * np.sin(phase)
        joints[:, position] = np.stack([
            np.linspace(-0.5, 0.5, frames) + swing,
            np.full(frames, sign * (0.2 if part in ('shoulder', 'elbow', 'wrist') else 0.12)),
            np.full(frames, pair_height[part])], axis=-1)
    return joints


@pytest.mark.parametrize('views', [2, 3, 4, 7])
def test_exact_rays_give_the_points_back(views: int) -> None:
    truth = np.random.default_rng(0).uniform([-1, -1, 0], [1, 1, 2], size=(6, 5, 3))
    world = cameras_around(views)
    result = triangulate(rays_of(truth, world), world, SIGMA)
    np.testing.assert_allclose(result.points, truth, atol=1e-6)
    assert result.used.all()
    assert result.used.shape == (views, 6, 5)
    assert np.nanmax(result.residual) < 1e-6


def test_one_view_in_ten_wrong_costs_nothing() -> None:
    rng = np.random.default_rng(1)
    truth, world = rng.uniform([-1, -1, 0], [1, 1, 2], size=(2000, 3)), cameras_around(4)
    rays = rays_of(truth, world)
    wrong = rng.random(rays.shape[:2]) < 0.1
    wrong &= wrong.sum(axis=0) <= 1  # with two of four views wrong there is no majority to side with
    rays[wrong] += rng.choice([-1, 1], size=(wrong.sum(), 2)) * rng.uniform(0.05, 0.3, size=(wrong.sum(), 2))
    result = triangulate(rays, world, SIGMA)
    error = np.linalg.norm(result.points - truth, axis=-1)
    assert np.mean(error < 1e-3) > 0.995  # an outlier along the epipolar lines of two others can pass for true
    assert np.mean(result.used[wrong]) < 0.005
    assert np.mean(result.used[~wrong]) > 0.995


def test_noise_is_no_larger_than_the_covariance_says() -> None:
    rng = np.random.default_rng(2)
    truth, world = rng.uniform([-1, -1, 0], [1, 1, 2], size=(3000, 3)), cameras_around(4)
    result = triangulate(rays_of(truth, world) + rng.normal(0, SIGMA, size=(4, 3000, 2)), world, SIGMA, gate=6.0)
    off = result.points - truth
    chi2 = np.einsum('ni,nij,nj->n', off, np.linalg.inv(result.covariance), off)
    assert np.mean(chi2) == pytest.approx(3.0, rel=0.1)
    assert np.linalg.norm(off, axis=-1).mean() < 0.015


def test_views_that_see_nothing_are_left_out_and_one_view_is_no_point() -> None:
    truth, world = np.random.default_rng(3).uniform([-1, -1, 0], [1, 1, 2], size=(4, 3)), cameras_around(3)
    rays = rays_of(truth, world)
    rays[0, 0] = np.nan
    rays[:2, 1, 0] = np.nan
    rays[:, 2] = np.nan
    result = triangulate(rays, world, SIGMA)
    np.testing.assert_allclose(result.points[[0, 3]], truth[[0, 3]], atol=1e-6)
    assert np.isnan(result.points[[1, 2]]).all()
    assert np.isnan(result.covariance[[1, 2]]).all()
    assert result.used.sum(axis=0).tolist() == [2, 0, 0, 3]
    assert np.isnan(result.residual[0, 0])


def test_a_view_of_no_confidence_has_no_say() -> None:
    truth, world = np.random.default_rng(4).uniform([-1, -1, 0], [1, 1, 2], size=(50, 3)), cameras_around(3)
    rays = rays_of(truth, world)
    rays[1] += 0.01
    confidence = np.ones((3, 50))
    confidence[1] = 0.0
    np.testing.assert_allclose(triangulate(rays, world, SIGMA, confidence).points, truth, atol=1e-6)


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match='camera_T_world'):
        triangulate(np.zeros((3, 5, 2)), cameras_around(2), SIGMA)
    with pytest.raises(ValueError, match='at least 2 views'):
        triangulate(np.zeros((1, 5, 2)), cameras_around(1), SIGMA)


def exchanged_at_random(rng: np.random.Generator, views: int, frames: int) -> NDArray:
    """Return (2, views, frames): runs of exchanged sides, fewer than half of all, often of arms and legs together."""
    wrong = np.zeros((2, views, frames), dtype=bool)
    for view in range(views):
        start = rng.integers(0, frames // 2)
        length = rng.integers(5, frames // 3)
        parts = [[UPPER, LOWER], [UPPER], [LOWER]][rng.integers(0, 3)]
        wrong[parts, view, start:start + length] = True
    return wrong


@pytest.mark.parametrize('views', [2, 4])
def test_exchanged_sides_are_found_in_every_view(views: int) -> None:
    rng = np.random.default_rng(5)
    truth, world = walking_person(40), cameras_around(views)
    rays = rays_of(truth, world)
    wrong = exchanged_at_random(rng, views, 40)
    measured = with_sides(rays, wrong, LIMBS12) + rng.normal(0, SIGMA, size=rays.shape)
    measured[rng.random(rays.shape[:3]) < 0.05] = np.nan
    found = exchanged_views(measured, world, SIGMA, LIMBS12)
    np.testing.assert_array_equal(found, wrong)
    repaired = triangulate(with_sides(measured, found, LIMBS12), world, SIGMA)
    assert np.nanmedian(np.linalg.norm(repaired.points - truth, axis=-1)) < 0.02


def test_the_majority_over_time_names_the_sides_when_all_views_agree() -> None:
    truth, world = walking_person(30), cameras_around(4)
    wrong = np.zeros((2, 4, 30), dtype=bool)
    wrong[:, :, 5:12] = True  # every view exchanged at once: no single frame can tell
    measured = with_sides(rays_of(truth, world), wrong, LIMBS12)
    np.testing.assert_array_equal(exchanged_views(measured, world, SIGMA, LIMBS12), wrong)


def test_putting_sides_right_twice_changes_nothing() -> None:
    rng = np.random.default_rng(6)
    values, wrong = rng.normal(size=(3, 7, 12, 2)), rng.random((2, 3, 7)) < 0.5
    np.testing.assert_array_equal(with_sides(with_sides(values, wrong, LIMBS12), wrong, LIMBS12), values)
    assert with_sides(values[..., 0], wrong, LIMBS12).shape == (3, 7, 12)


def test_too_many_views_are_refused() -> None:
    with pytest.raises(ValueError, match='at most 8'):
        exchanged_views(np.zeros((9, 1, 12, 2)), np.tile(np.eye(4), (9, 1, 1)), SIGMA, LIMBS12)
