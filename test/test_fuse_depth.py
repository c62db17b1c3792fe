"""What single cameras think of a joint's place, as a prior: depth is news, the ray is not, and errors are shared."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import Scene, Walker, error_of, looking

from pose3d_ros.fuse.depth import BROAD_M, mono_prior
from pose3d_ros.fuse.fuser import Fuser
from pose3d_ros.fuse.triangulate import triangulate

SIGMA = 0.005


def pose(angle: float, distance: float = 4.0) -> NDArray:
    """Return camera_T_world (4, 4) of a camera that looks at the origin from a direction in the plane y = 0."""
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = turn, [0, 0, distance]
    return result


POSES = np.stack([pose(0.0), pose(1.2)])


def centres(poses: NDArray) -> NDArray:
    return -np.einsum('vji,vj->vi', poses[:, :3, :3], poses[:, :3, 3])


def rays_of(points: NDArray, poses: NDArray) -> NDArray:
    local = np.einsum('vij,nj->vni', poses[:, :3, :3], points) + poses[:, None, :3, 3]
    return local[..., :2] / local[..., 2:]


def mono(points: NDArray, poses: NDArray, deep: float, across: float) -> tuple[NDArray, NDArray]:
    """Return points for each camera (V, N, 3), covariances (V, N, 3, 3) of those sigmas along its rays and across."""
    ray = points - centres(poses)[:, None]
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    outer = ray[..., :, None] * ray[..., None, :]
    return (np.broadcast_to(points, (len(poses), *points.shape)).copy(),
            deep**2 * outer + across**2 * (np.eye(3) - outer))


POINTS = np.random.default_rng(0).uniform(-0.8, 0.8, (40, 3))
NONE, ALL = np.zeros((2, 40), dtype=bool), np.ones((2, 40), dtype=bool)


def test_a_joint_without_a_ray_keeps_the_whole_gaussian() -> None:
    place, covariance = mono(POINTS, POSES[1:], 0.3, 0.05)
    mean, spread = mono_prior(place, covariance, NONE[:1], centres(POSES[1:]))
    np.testing.assert_allclose(mean, POINTS, atol=1e-9)
    np.testing.assert_allclose(spread, covariance[0], atol=1e-9)


def test_a_joint_with_a_ray_brings_only_its_depth() -> None:
    place, covariance = mono(POINTS, POSES[1:], 0.3, 0.001)
    mean, spread = mono_prior(place, covariance, ALL[:1], centres(POSES[1:]))
    np.testing.assert_allclose(mean, POINTS, atol=1e-9)
    np.testing.assert_allclose(spread, mono(POINTS, POSES[1:], 0.3, BROAD_M)[1][0], atol=1e-9)


def test_a_ray_is_not_counted_twice() -> None:
    poses = POSES[:1]
    place, covariance = mono(POINTS, poses, 0.3, 0.01)
    rays = rays_of(POINTS, poses)
    aside = place + np.array([0.05, 0.0, 0.0])  # mono 3D smooths: it lies beside the ray, and is sure of it
    mean, spread = mono_prior(aside, covariance, ALL[:1], centres(poses))
    result = triangulate(rays, poses, SIGMA, prior=mean, prior_covariance=spread)
    assert np.nanmax(result.residual) < 1e-4
    across = np.linalg.eigvalsh(result.covariance)[:, 0]
    assert (across > 0.8 * (SIGMA * (POINTS[:, 2] + 4.0)) ** 2).all()
    twice = triangulate(rays, poses, SIGMA, prior=POINTS, prior_covariance=covariance[0])
    assert (np.linalg.eigvalsh(twice.covariance)[:, 0] < 0.5 * across).all()  # what counting it twice would claim


def test_cameras_side_by_side_take_depth_from_mono_and_cameras_apart_do_not() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(-0.8, 0.8, (2000, 3))
    for other, least, most in ((0.05, 0.15, 0.6), (1.2, 0.97, 1.01)):
        poses = np.stack([pose(0.0), pose(other)])
        rays = rays_of(truth, poses) + rng.normal(0, SIGMA, (2, 2000, 2))
        _, covariance = mono(truth, poses, 0.15, 0.02)
        wrong = truth + np.array([0.0, 0.0, 1.0]) * rng.normal(0, 0.15, (2000, 1))  # both by the same
        mean, spread = mono_prior(np.stack([wrong, wrong]), covariance, np.ones((2, 2000), dtype=bool), centres(poses))
        alone = triangulate(rays, poses, SIGMA)
        helped = triangulate(rays, poses, SIGMA, prior=mean, prior_covariance=spread)
        off, before = helped.points - truth, alone.points - truth
        gain = np.sqrt(np.mean(np.sum(off**2, axis=-1)) / np.nanmean(np.sum(before**2, axis=-1)))
        assert least < gain < most
        inside = np.einsum('ni,nij,nj->n', off, np.linalg.inv(helped.covariance), off) < 6.2514
        assert 0.86 < np.mean(inside) < 0.96  # covariance intersection errs on the safe side


def test_two_cameras_of_one_robot_find_their_person_with_the_help_of_mono_3d() -> None:
    places = [looking(np.array([5.0, side, 1.6]), np.array([0.0, 0.0, 1.0])) for side in (-0.1, 0.1)]  # 20 cm apart
    scene = Scene([Walker((0.5, -0.5), (0.0, 0.4))], [lambda _, place=place: place for place in places], seed=3)
    fuser, errors = Fuser(), []
    for frame in range(25):
        people = fuser(scene.views(frame), scene.stamp_ns(frame))
        if frame >= 10:
            assert len(people) == 1
            errors.append(error_of(people[0], scene.truth(frame))[1])
    assert np.mean(errors) < 0.3  # rays alone: 0.6 m along the line of sight from frame to frame


def test_cameras_that_are_wrong_together_are_not_surer_than_one() -> None:
    twice = np.stack([POSES[0], POSES[0]])
    place, covariance = mono(POINTS, twice, 0.3, 0.05)
    off = place + np.array([0.0, 0.0, 0.4])  # the same error in both: a person taken to be too tall
    mean, spread = mono_prior(off, covariance, NONE, centres(twice))
    np.testing.assert_allclose(mean, POINTS + [0.0, 0.0, 0.4], atol=1e-9)
    np.testing.assert_allclose(spread, covariance[0], atol=1e-9)
    place, covariance = mono(POINTS, POSES, 0.3, 0.05)
    crossed, crossed_spread = mono_prior(place, covariance, NONE, centres(POSES))
    np.testing.assert_allclose(crossed, POINTS, atol=1e-9)
    assert (np.linalg.det(crossed_spread) < np.linalg.det(covariance)).all()  # each knows what the other does not


def test_what_is_not_known_and_the_order_of_cameras_change_nothing() -> None:
    place, covariance = mono(POINTS, POSES, 0.3, 0.05)
    place[0, :10], covariance[1, :5] = np.nan, np.nan
    mean, spread = mono_prior(place, covariance, NONE, centres(POSES))
    assert np.isnan(mean[:5]).all()
    assert np.isnan(spread[:5]).all()
    alone, alone_spread = mono_prior(place[1:], covariance[1:], NONE[1:], centres(POSES[1:]))
    np.testing.assert_allclose(mean[5:10], alone[5:10], atol=1e-12)
    np.testing.assert_allclose(spread[5:10], alone_spread[5:10], atol=1e-12)
    other, other_spread = mono_prior(place[::-1], covariance[::-1], NONE, centres(POSES[::-1]))
    np.testing.assert_allclose(other, mean, atol=1e-12)
    np.testing.assert_allclose(other_spread, spread, atol=1e-12)


def test_shapes_that_disagree_are_refused() -> None:
    place, covariance = mono(POINTS, POSES, 0.3, 0.05)
    with pytest.raises(ValueError, match='centres'):
        mono_prior(place, covariance, NONE, centres(POSES[:1]))
