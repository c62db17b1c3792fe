import numpy as np
import pytest

from pose3d_ros.records import GroundPlane
from pose3d_ros.stature import rescale


def people(count=20, joints=17, seed=0):
    """Return positions and covariances of people 1 to 10 m away, with a stature uncertain by 6 % in the covariance."""
    rng = np.random.default_rng(seed)
    place = rng.uniform([-2, -1, 1], [2, 1, 10], (count, 1, 3))
    position = place + rng.normal(0, 0.4, (count, joints, 3))
    root = rng.normal(0, 0.05, (count, joints, 3, 3))
    own = root @ np.swapaxes(root, -1, -2) + 1e-3 * np.eye(3)
    return position, own + 0.06 ** 2 * position[..., :, None] * position[..., None, :]


def test_there_and_back_is_the_identity():
    position, covariance = people()
    other = rescale(position, covariance, 1.7, 0.06 * 1.7, 1.5, 0.02)
    again = rescale(*other, 1.5, 0.02, 1.7, 0.06 * 1.7)
    np.testing.assert_allclose(again[0], position)
    np.testing.assert_allclose(again[1], covariance, atol=1e-9)


def test_nothing_changes_without_a_change():
    position, covariance = people()
    same = rescale(position, covariance, 1.7, 0.1, 1.7, 0.1)
    np.testing.assert_allclose(same[0], position)
    np.testing.assert_allclose(same[1], covariance)


def test_rays_stay_and_lengths_go_with_the_stature():
    position, covariance = people()
    stature = np.random.default_rng(1).uniform(1.4, 2.0, len(position))
    moved, _ = rescale(position, covariance, 1.7, 0.1, stature, 0.1)
    np.testing.assert_allclose(moved[..., :2] / moved[..., 2:], position[..., :2] / position[..., 2:])
    np.testing.assert_allclose(np.linalg.norm(moved[:, 3] - moved[:, 9], axis=-1),
                               np.linalg.norm(position[:, 3] - position[:, 9], axis=-1) * stature / 1.7)


def test_the_covariance_is_that_of_people_of_scattered_stature():
    rng = np.random.default_rng(2)
    truth, own = np.array([0.4, 0.2, 4.0]), np.diag([0.02, 0.02, 0.05]) ** 2
    _, made = rescale(truth[None], (own + 0.06 ** 2 * np.outer(truth, truth))[None], 1.7, 0.06 * 1.7, 1.7, 0.02 * 1.7)
    drawn = (1 + rng.normal(0, 0.02, (200_000, 1))) * truth + rng.multivariate_normal(np.zeros(3), own, 200_000)
    np.testing.assert_allclose(made[0], np.cov(drawn.T), rtol=0.05, atol=2e-5)


@pytest.mark.parametrize('sigma', [0.0, 0.1, 0.5, 5.0])
def test_more_is_never_taken_out_than_is_there(sigma):
    position, covariance = people()
    _, made = rescale(position, covariance, 1.7, sigma, 1.6, 0.01)
    np.testing.assert_allclose(made, np.swapaxes(made, -1, -2))
    assert np.linalg.eigvalsh(made).min() > 0
    ray = position / np.linalg.norm(position, axis=-1, keepdims=True)
    along = 1 / np.einsum('nji,njik,njk->nj', ray, np.linalg.inv(made), ray)
    assert (np.sqrt(along) > 0.01 / 1.6 * np.linalg.norm(position, axis=-1) * 0.9).all()


def test_missing_joints_stay_missing_and_leave_the_others_alone():
    position, covariance = people()
    whole = rescale(position, covariance, 1.7, 0.1, 1.8, 0.05)
    position[:, 4], covariance[:, 4] = np.nan, np.nan
    part = rescale(position, covariance, 1.7, 0.1, 1.8, 0.05)
    for before, after in zip(whole, part):
        assert np.isnan(after[:, 4]).all()
        np.testing.assert_allclose(np.delete(after, 4, axis=1), np.delete(before, 4, axis=1))


def test_a_ground_plane_gives_heights_and_refuses_nonsense():
    plane = GroundPlane(np.array([0.0, -1.0, 0.0]), 1.2)
    points = np.array([[0, 1.2, 3], [0, 0, 3], [0, -0.5, 1]])
    np.testing.assert_allclose(plane.height_of(points), [0, 1.2, 1.7], atol=1e-12)
    for wrong in (np.array([0.0, 0, 0]), np.array([0, -1.0]), np.full(3, np.nan)):
        with pytest.raises(ValueError, match='unit vector'):
            GroundPlane(wrong, 1.0)
    with pytest.raises(ValueError, match='camera_height'):
        GroundPlane(np.array([0.0, -1.0, 0.0]), float('nan'))
    with pytest.raises(ValueError, match='tilt_sigma'):
        GroundPlane(np.array([0.0, -1.0, 0.0]), 1.0, tilt_sigma=0.0)
