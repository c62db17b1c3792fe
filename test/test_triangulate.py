"""Triangulation on synthetic truth: exact, robust to wrong and missing views, and able to put sides right."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

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


def noisy_scene(views: int, count: int, sigma: float = SIGMA, seed: int = 7) -> tuple[NDArray, NDArray, NDArray]:
    """Return truth (count, 3), rays (views, count, 2) with that noise, camera_T_world (views, 4, 4)."""
    rng = np.random.default_rng(seed)
    truth, world = rng.uniform([-1, -1, 0], [1, 1, 2], size=(count, 3)), cameras_around(views)
    return truth, rays_of(truth, world) + rng.normal(0, sigma, size=(views, count, 2)), world


def share_within_90(off: NDArray, covariance: NDArray) -> float:
    """Return the share of errors (N, 3) inside the ellipsoid that shall hold 90 % of them."""
    return float(np.mean(np.einsum('ni,nij,nj->n', off, np.linalg.inv(covariance), off) < 6.2514))  # chi2, 3 of freedom


@pytest.mark.parametrize('views', [2, 3, 4, 6])
def test_nine_in_ten_errors_lie_where_the_covariance_says(views: int) -> None:
    truth, rays, world = noisy_scene(views, 3000)
    result = triangulate(rays, world, SIGMA)
    assert share_within_90(result.points - truth, result.covariance) == pytest.approx(0.9, abs=0.02)


def test_errors_and_their_covariance_scale_with_sigma() -> None:
    fine, coarse = 0.5 * SIGMA, 2.0 * SIGMA
    results = []
    for sigma in (fine, coarse):
        truth, rays, world = noisy_scene(4, 1000, sigma)
        result = triangulate(rays, world, sigma)
        results.append((np.linalg.norm(result.points - truth, axis=-1).mean(), np.median(result.covariance[:, 0, 0])))
    assert results[1][0] / results[0][0] == pytest.approx(4.0, rel=0.05)
    assert results[1][1] / results[0][1] == pytest.approx(16.0, rel=0.05)


@pytest.mark.parametrize(('views', 'lost'), [(3, 0.035), (4, 0.01), (6, 0.002)])
def test_one_ray_in_ten_far_off_hardly_matters(views: int, lost: float) -> None:
    truth, rays, world = noisy_scene(views, 3000)
    rng = np.random.default_rng(8)
    clean = np.linalg.norm(triangulate(rays, world, SIGMA).points - truth, axis=-1)
    wrong = rng.random(rays.shape[:2]) < 0.1
    rays[wrong] += rng.choice([-1, 1], size=(wrong.sum(), 2)) * rng.uniform(0.03, 0.3, size=(wrong.sum(), 2))
    error = np.linalg.norm(triangulate(rays, world, SIGMA).points - truth, axis=-1)
    assert np.nanmedian(error) < 1.15 * np.median(clean)
    assert np.mean(~(error < 0.1)) < lost  # for want of two good views, most of them
    assert np.mean(~(np.linalg.norm(plain(rays, world) - truth, axis=-1) < 0.1)) > 7 * lost


def plain(rays: NDArray, camera_T_world: NDArray) -> NDArray:
    """Return what all views together say (N, 3), outliers and all: the linear solution of every textbook."""
    rows = rays[..., None] * camera_T_world[:, None, 2:3, :3] - camera_T_world[:, None, :2, :3]  # (V, N, 2, 3)
    right = camera_T_world[:, None, :2, 3] - rays * camera_T_world[:, None, 2:3, 3]
    count = rays.shape[1]
    return np.stack([np.linalg.lstsq(rows[:, n].reshape(-1, 3), right[:, n].reshape(-1), rcond=None)[0]
                     for n in range(count)])


def test_a_turned_and_shifted_scene_gives_turned_points_and_covariances() -> None:
    _, rays, world = noisy_scene(3, 200)
    turn = Rotation.from_rotvec([0.3, -1.2, 2.0]).as_matrix()
    moved_T_world = np.eye(4)
    moved_T_world[:3, :3], moved_T_world[:3, 3] = turn, [1200.0, -700.0, 40.0]  # as far off as a map's origin
    prior, spread = np.zeros((200, 3)), np.tile(np.diag([0.5, 1.0, 2.0]), (200, 1, 1))
    here = triangulate(rays, world, SIGMA, prior=prior, prior_covariance=spread)
    there = triangulate(rays, world @ np.linalg.inv(moved_T_world), SIGMA, prior=prior @ turn.T + moved_T_world[:3, 3],
                        prior_covariance=turn @ spread @ turn.T)
    np.testing.assert_allclose(there.points, here.points @ turn.T + moved_T_world[:3, 3], atol=1e-6)
    np.testing.assert_allclose(there.covariance, turn @ here.covariance @ turn.T, rtol=1e-4, atol=1e-9)


def test_the_order_of_the_views_and_the_company_of_other_points_change_nothing() -> None:
    rng = np.random.default_rng(9)
    _, rays, world = noisy_scene(5, 120)
    rays[rng.random(rays.shape[:2]) < 0.1] += 0.1
    rays[rng.random(rays.shape[:2]) < 0.1] = np.nan
    together, order = triangulate(rays, world, SIGMA), rng.permutation(5)
    other = triangulate(rays[order], world[order], SIGMA)
    np.testing.assert_allclose(other.points, together.points, atol=1e-7)
    np.testing.assert_array_equal(other.used, together.used[order])
    for point in range(0, 120, 10):
        alone = triangulate(rays[:, point], world, SIGMA)
        np.testing.assert_allclose(alone.points, together.points[point], atol=1e-7)
        np.testing.assert_allclose(alone.covariance, together.covariance[point], rtol=1e-5, atol=1e-12)


def test_more_points_than_are_worked_on_at_a_time() -> None:
    truth, world = np.random.default_rng(10).uniform([-1, -1, 0], [1, 1, 2], size=(9000, 3)), cameras_around(2)
    np.testing.assert_allclose(triangulate(rays_of(truth, world), world, SIGMA).points, truth, atol=1e-6)
    nobody = triangulate(np.zeros((2, 0, 17, 2)), world, SIGMA)
    assert nobody.points.shape == (0, 17, 3)
    assert nobody.used.shape == (2, 0, 17)


def test_one_more_camera_never_makes_a_point_less_sure() -> None:
    truth, world = np.random.default_rng(11).uniform([-1, -1, 0], [1, 1, 2], size=(60, 3)), cameras_around(6)
    rays = rays_of(truth, world)
    before = triangulate(rays[:2], world[:2], SIGMA).covariance
    for views in range(3, 7):
        now = triangulate(rays[:views], world[:views], SIGMA).covariance
        assert np.linalg.eigvalsh(before - now).min() > -1e-12
        before = now


def test_a_view_that_looks_the_other_way_or_has_no_place_has_no_say() -> None:
    _, rays, world = noisy_scene(4, 100)
    expected = triangulate(rays[:3], world[:3], SIGMA)
    about = world.copy()
    about[3] = np.diag([-1.0, 1.0, -1.0, 1.0]) @ world[3]  # turned round: all points lie behind it
    lost = world.copy()
    lost[3, 0, 3] = np.nan
    for poses in (about, lost):
        result = triangulate(rays, poses, SIGMA)
        np.testing.assert_allclose(result.points, expected.points, atol=1e-9)
        assert not result.used[3].any()
    assert np.isnan(triangulate(rays, lost, SIGMA).residual[3]).all()


def ball(sigma: float, count: int) -> NDArray:
    return np.tile(np.eye(3) * sigma**2, (count, 1, 1))


def test_a_prior_is_everything_without_views_and_nothing_beside_them_when_broad() -> None:
    truth, rays, world = noisy_scene(3, 50)
    prior = truth + 0.2
    unseen = triangulate(np.full_like(rays, np.nan), world, SIGMA, prior=prior, prior_covariance=ball(0.3, 50))
    np.testing.assert_allclose(unseen.points, prior, atol=1e-9)
    np.testing.assert_allclose(unseen.covariance, ball(0.3, 50), rtol=1e-6, atol=1e-9)
    assert not unseen.used.any()
    assert unseen.prior_share == pytest.approx(1.0)
    alone = triangulate(rays, world, SIGMA)
    beside = triangulate(rays, world, SIGMA, prior=prior, prior_covariance=ball(0.5, 50))
    assert np.linalg.norm(beside.points - alone.points, axis=-1).max() < 1e-3
    assert beside.prior_share.max() < 0.001
    assert (alone.prior_share == 0).all()
    tight = triangulate(rays, world, SIGMA, gate=1e6, prior=prior, prior_covariance=ball(1e-6, 50))
    np.testing.assert_allclose(tight.points, prior, atol=1e-4)
    assert tight.prior_share.min() > 0.99


@pytest.mark.parametrize('views', [1, 3])
def test_a_joint_that_one_view_sees_lies_on_its_ray_at_the_depth_of_the_prior(views: int) -> None:
    rng = np.random.default_rng(12)
    truth, rays, world = noisy_scene(views, 3000)
    rays[1:] = np.nan
    prior = truth + rng.normal(0, 0.2, size=truth.shape)
    result = triangulate(rays, world, SIGMA, prior=prior, prior_covariance=ball(0.2, 3000))
    assert np.nanmax(result.residual[0]) < 2.0 * SIGMA
    assert result.used.sum(axis=0).tolist() == [1] * 3000
    assert share_within_90(result.points - truth, result.covariance) == pytest.approx(0.9, abs=0.02)
    np.testing.assert_allclose(result.prior_share, 1 / 3, atol=0.02)  # depth: one of three


def test_a_prior_far_off_is_left_out_and_one_that_is_right_settles_a_quarrel() -> None:
    truth, rays, world = noisy_scene(2, 200)
    far = triangulate(rays, world, SIGMA, prior=truth + 3.0, prior_covariance=ball(0.1, 200))
    np.testing.assert_allclose(far.points, triangulate(rays, world, SIGMA).points, atol=1e-8)
    assert (far.prior_share == 0).all()
    for liar in (0, 1):
        quarrel = rays.copy()
        quarrel[liar] += 0.2  # 0.8 m off
        assert np.isnan(triangulate(quarrel, world, SIGMA).points).mean() > 0.9
        result = triangulate(quarrel, world, SIGMA, prior=truth + 0.05, prior_covariance=ball(0.1, 200))
        assert result.used[1 - liar].all()
        assert not result.used[liar].any()
        assert np.linalg.norm(result.points - truth, axis=-1).max() < 0.12


def test_the_point_is_where_the_sum_of_squares_of_rays_and_prior_is_least() -> None:
    sigma = 0.03  # coarse, so that rays and prior pull about equally
    truth, rays, world = noisy_scene(2, 12, sigma)
    spread = np.diag([0.02, 0.05, 0.4])
    prior = truth + [0.1, -0.3, 0.8]
    result = triangulate(rays, world, sigma, prior=prior, prior_covariance=np.tile(spread, (12, 1, 1)), gate=20.0)
    whiten = np.linalg.inv(np.linalg.cholesky(spread))

    def errors(point: NDArray, n: int) -> NDArray:
        return np.append((rays_of(point[None], world)[:, 0] - rays[:, n]).ravel() / sigma, whiten @ (point - prior[n]))

    for n in range(12):
        best = least_squares(errors, truth[n], args=(n,), xtol=1e-12, ftol=1e-12, gtol=1e-12)
        np.testing.assert_allclose(result.points[n], best.x, atol=1e-5)
        np.testing.assert_allclose(result.cost[n], 2 * best.cost, rtol=1e-6)
        np.testing.assert_allclose(result.covariance[n], np.linalg.inv(best.jac.T @ best.jac), rtol=1e-3, atol=1e-6)


def test_a_prior_that_is_none_is_ignored_and_half_a_prior_refused() -> None:
    truth, rays, world = noisy_scene(3, 4)
    prior, spread = truth.copy(), ball(0.1, 4)
    prior[0, 1], spread[1] = np.nan, np.nan
    spread[2] = np.diag([1.0, -1.0, 1.0])  # no covariance at all
    rays[:, 3] = np.nan
    prior[3] = np.nan
    expected = triangulate(rays, world, SIGMA)
    result = triangulate(rays, world, SIGMA, prior=prior, prior_covariance=spread)
    np.testing.assert_allclose(result.points, expected.points, atol=1e-9)
    assert np.isnan(result.points[3]).all()
    with pytest.raises(ValueError, match='both prior and prior_covariance'):
        triangulate(rays, world, SIGMA, prior=prior)
    with pytest.raises(ValueError, match=r'expected \(4, 3\)'):
        triangulate(rays, world, SIGMA, prior=prior[:3], prior_covariance=spread)


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
