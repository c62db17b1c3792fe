"""What single cameras think of a joint's place, as a prior: depth is news, the ray is not, and errors are shared."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pose3d_ros.fuse.depth import BROAD_M, mono_prior
from pose3d_ros.fuse.triangulate import triangulate

SIGMA = 0.005


def pose(angle: float, distance: float = 4.0) -> NDArray:
    """Return camera_T_world (4, 4) of a camera that looks at the origin from a direction in the plane y = 0."""
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = turn, [0, 0, distance]
    return result


POSES = np.stack([pose(0.0), pose(1.2)])


def in_cameras(points: NDArray, poses: NDArray) -> NDArray:
    return np.einsum('vij,nj->vni', poses[:, :3, :3], points) + poses[:, None, :3, 3]


def mono(points: NDArray, poses: NDArray, deep: float, across: float) -> tuple[NDArray, NDArray]:
    """Return points in the cameras (V, N, 3) and covariances (V, N, 3, 3) of those sigmas along rays and across."""
    local = in_cameras(points, poses)
    ray = local / np.linalg.norm(local, axis=-1, keepdims=True)
    outer = ray[..., :, None] * ray[..., None, :]
    return local, deep**2 * outer + across**2 * (np.eye(3) - outer)


def to_world(poses: NDArray, covariance: NDArray) -> NDArray:
    return np.swapaxes(poses[:, None, :3, :3], -1, -2) @ covariance @ poses[:, None, :3, :3]


POINTS = np.random.default_rng(0).uniform(-0.8, 0.8, (40, 3))
NONE, ALL = np.zeros((2, 40), dtype=bool), np.ones((2, 40), dtype=bool)


def test_a_joint_without_a_ray_keeps_the_whole_gaussian() -> None:
    local, covariance = mono(POINTS, POSES[1:], 0.3, 0.05)
    mean, spread = mono_prior(local, covariance, NONE[:1], POSES[1:])
    np.testing.assert_allclose(mean, POINTS, atol=1e-9)
    np.testing.assert_allclose(spread, to_world(POSES[1:], covariance)[0], atol=1e-9)


def test_a_joint_with_a_ray_brings_only_its_depth() -> None:
    local, covariance = mono(POINTS, POSES[1:], 0.3, 0.001)
    mean, spread = mono_prior(local, covariance, ALL[:1], POSES[1:])
    np.testing.assert_allclose(mean, POINTS, atol=1e-9)
    _, expected = mono(POINTS, POSES[1:], 0.3, BROAD_M)
    np.testing.assert_allclose(spread, to_world(POSES[1:], expected)[0], atol=1e-9)


def test_a_ray_is_not_counted_twice() -> None:
    poses = POSES[:1]
    local, covariance = mono(POINTS, poses, 0.3, 0.01)
    rays = local[..., :2] / local[..., 2:]
    aside = local + np.array([0.05, 0.0, 0.0])  # mono 3D smooths: it lies beside the ray, and is sure of it
    mean, spread = mono_prior(aside, covariance, ALL[:1], poses)
    result = triangulate(rays, poses, SIGMA, prior=mean, prior_covariance=spread)
    assert np.nanmax(result.residual) < 1e-4
    beside = triangulate(rays, poses, SIGMA, prior=POINTS, prior_covariance=to_world(poses, covariance)[0])
    across = np.linalg.eigvalsh(result.covariance)[:, 0]
    assert (across > 0.8 * (SIGMA * local[0, :, 2]) ** 2).all()
    assert (np.linalg.eigvalsh(beside.covariance)[:, 0] < 0.5 * across).all()  # what counting it twice would claim


def test_cameras_that_are_wrong_together_are_not_surer_than_one() -> None:
    twice = np.stack([POSES[0], POSES[0]])
    local, covariance = mono(POINTS, twice, 0.3, 0.05)
    off = local + np.array([0.0, 0.0, 0.4])  # the same error in both: a person taken to be too tall
    mean, spread = mono_prior(off, covariance, NONE, twice)
    np.testing.assert_allclose(mean, POINTS + [0.0, 0.0, 0.4], atol=1e-9)
    np.testing.assert_allclose(spread, covariance[0], atol=1e-9)
    crossed, crossed_spread = mono_prior(*mono(POINTS, POSES, 0.3, 0.05), NONE, POSES)
    np.testing.assert_allclose(crossed, POINTS, atol=1e-9)
    for each in to_world(POSES, mono(POINTS, POSES, 0.3, 0.05)[1]):
        assert (np.linalg.det(crossed_spread) < np.linalg.det(each)).all()  # each knows what the other does not


def test_what_is_not_known_and_the_order_of_cameras_change_nothing() -> None:
    local, covariance = mono(POINTS, POSES, 0.3, 0.05)
    local[0, :10], covariance[1, :5] = np.nan, np.nan
    mean, spread = mono_prior(local, covariance, NONE, POSES)
    assert np.isnan(mean[:5]).all()
    assert np.isnan(spread[:5]).all()
    alone, alone_spread = mono_prior(local[1:], covariance[1:], NONE[1:], POSES[1:])
    np.testing.assert_allclose(mean[5:10], alone[5:10], atol=1e-12)
    np.testing.assert_allclose(spread[5:10], alone_spread[5:10], atol=1e-12)
    other, other_spread = mono_prior(local[::-1], covariance[::-1], NONE, POSES[::-1])
    np.testing.assert_allclose(other, mean, atol=1e-12)
    np.testing.assert_allclose(other_spread, spread, atol=1e-12)


def test_shapes_that_disagree_are_refused() -> None:
    local, covariance = mono(POINTS, POSES, 0.3, 0.05)
    with pytest.raises(ValueError, match='camera_T_world'):
        mono_prior(local, covariance, NONE, POSES[:1])
