"""Measures of 3D pose: what they must be blind to, and what they must see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose3d_ros.skeleton import HUMAN17, LIMBS12
from pose3d_ros.train.metrics import (
    auc,
    coverage,
    mblstd,
    mpjpe,
    mpjve,
    mrpe,
    mrpe_axes,
    n_mpjpe,
    nees,
    pa_mpjpe,
    pck,
    procrustes,
    squared_mahalanobis,
)


@pytest.fixture()
def poses() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.4, (20, 17, 3))


def test_mpjpe_is_the_mean_distance_after_root_alignment(poses: np.ndarray) -> None:
    moved = poses + np.array([1.0, -2.0, 3.0])
    assert mpjpe(moved, poses) == pytest.approx(0, abs=1e-12)
    moved[:, 5] += np.array([0, 0.3, 0.4])
    assert mpjpe(moved, poses) == pytest.approx(0.5 / 17)
    assert mpjpe(moved, poses, root=None) > 3.7


def test_several_roots_stand_for_their_mean(poses: np.ndarray) -> None:
    moved = poses.copy()
    moved[:, 1] += 0.1
    moved[:, 4] -= 0.1
    assert mpjpe(moved, poses, root=(1, 4)) == pytest.approx(2 * 0.1 * np.sqrt(3) / 17)


def test_a_missing_joint_is_left_out_and_not_counted_as_right(poses: np.ndarray) -> None:
    wrong = poses.copy()
    wrong[:, 1:9] += 0.1
    wrong[:, 9:] = np.nan
    assert mpjpe(wrong, poses) == pytest.approx(8 * 0.1 * np.sqrt(3) / 9)
    assert np.isnan(mpjpe(np.full_like(poses, np.nan), poses))


def test_every_pose_counts_alike_however_many_joints_it_has(poses: np.ndarray) -> None:
    wrong = poses[:2].copy()
    wrong[0, 1] += [0.3, 0, 0]
    wrong[0, 2:] = np.nan
    assert mpjpe(wrong, poses[:2]) == pytest.approx((0.15 + 0) / 2)


def test_n_mpjpe_is_blind_to_scale_only(poses: np.ndarray) -> None:
    assert n_mpjpe(poses * 1.3, poses) == pytest.approx(0, abs=1e-12)
    assert n_mpjpe(poses @ Rotation.from_euler('z', 20, degrees=True).as_matrix(), poses) > 0.01


def test_pa_mpjpe_is_blind_to_similarity_but_not_to_reflection(poses: np.ndarray) -> None:
    turned = 0.7 * poses @ Rotation.from_euler('xyz', [20, 50, -80], degrees=True).as_matrix().T + [1, 2, 3]
    assert pa_mpjpe(turned, poses) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(procrustes(turned, poses), poses, atol=1e-9)
    assert pa_mpjpe(poses * [-1, 1, 1], poses) > 0.1


def test_pa_mpjpe_aligns_on_the_joints_that_both_have(poses: np.ndarray) -> None:
    turned = 2 * poses @ Rotation.from_euler('y', 90, degrees=True).as_matrix().T + 5
    turned[:, 3] = np.nan
    truth = poses.copy()
    truth[:, 7] = np.nan
    assert pa_mpjpe(turned, truth) == pytest.approx(0, abs=1e-9)
    turned[:, 2:] = np.nan
    assert np.isnan(pa_mpjpe(turned, truth))


def test_alignment_never_makes_the_squared_error_larger(poses: np.ndarray) -> None:
    noisy = poses + np.random.default_rng(1).normal(0, 0.05, poses.shape)
    before, after = (((pose - poses) ** 2).sum(axis=(1, 2)) for pose in (noisy, procrustes(noisy, poses)))
    assert (after <= before).all() and after.sum() < 0.99 * before.sum()


def test_mrpe_is_in_the_unit_of_its_input() -> None:
    truth = np.zeros((4, 3))
    assert mrpe(truth + [0, 3, 4], truth) == pytest.approx(5)
    assert mrpe(1000 * (truth + [0, 3, 4]), truth) == pytest.approx(5000)


def test_mrpe_by_axis_tells_where_the_error_lies() -> None:
    truth = np.random.default_rng(3).normal(size=(6, 3))
    np.testing.assert_allclose(mrpe_axes(truth + [0.1, -0.2, 0.3], truth), [0.1, 0.2, 0.3])
    unknown = truth.copy()
    unknown[0] = np.nan
    np.testing.assert_allclose(mrpe_axes(unknown + [0.1, -0.2, 0.3], truth), [0.1, 0.2, 0.3])
    assert np.isnan(mrpe_axes(np.full((2, 3), np.nan), np.zeros((2, 3)))).all()


def test_pck_counts_joints_within_the_threshold_and_not_the_root(poses: np.ndarray) -> None:
    assert pck(poses + [1.0, 2.0, 3.0], poses) == auc(poses, poses, thresholds=[0.01]) == 1
    wrong = poses.copy()
    wrong[:, 1:5] += [0.0, 0.16, 0.0]     # 4 of the 16 joints that count
    wrong[:, 5:9] += [0.14, 0.0, 0.0]
    assert pck(wrong, poses) == pytest.approx(12 / 16)
    assert pck(wrong, poses, threshold=0.1) == pytest.approx(8 / 16)
    wrong[:, 1] = np.nan
    assert pck(wrong, poses) == pytest.approx(12 / 15)
    assert np.isnan(pck(np.full_like(poses, np.nan), poses))


def test_auc_is_the_mean_pck_and_falls_with_the_error(poses: np.ndarray) -> None:
    thresholds = [0.05, 0.1, 0.15]
    noisy = poses + np.random.default_rng(4).normal(0, 0.05, poses.shape)
    assert auc(noisy, poses, thresholds) == pytest.approx(np.mean([pck(noisy, poses, t) for t in thresholds]))
    assert auc(poses, poses) == pytest.approx(30 / 31)   # nothing is nearer than the first threshold, 0
    assert auc(poses, poses) > auc(noisy, poses) > auc(poses + 2 * (noisy - poses), poses) > 0


def test_mpjve_is_blind_to_constant_errors_only(poses: np.ndarray) -> None:
    constant = poses + np.random.default_rng(5).normal(0, 0.1, (1, 17, 3))
    assert mpjve(constant, poses) == pytest.approx(0, abs=1e-12)
    trembling = poses.copy()
    trembling[::2, 3] += [0.02, 0.0, 0.0]
    assert mpjve(trembling, poses) == pytest.approx(0.02 / 17)
    trembling[4, 3] = np.nan                 # two steps have no such joint; the other joints of those steps are right
    assert mpjve(trembling, poses) == pytest.approx(0.02 / 17 * 17 / 19)
    assert mpjve(trembling[None], poses[None]) == mpjve(trembling, poses)
    with pytest.raises(ValueError, match='frames'):
        mpjve(poses[0], poses[0])


def test_mblstd_sees_bones_that_change_and_not_bodies_that_move(poses: np.ndarray) -> None:
    turns = Rotation.random(20, np.random.default_rng(6)).as_matrix()
    rigid = poses[:1] @ np.swapaxes(turns, 1, 2) + np.arange(20)[:, None, None]
    assert mblstd(rigid, HUMAN17) == pytest.approx(0, abs=1e-12)
    growth = np.where(np.arange(20) % 2, 1.1, 0.9)[:, None, None]
    starts, ends = LIMBS12.bone_indices[[0, 1, 2, 3, 4, 5, 6, 7]].T
    body = np.random.default_rng(7).normal(size=(1, 12, 3))
    length = np.linalg.norm(body[0, ends] - body[0, starts], axis=-1)
    assert mblstd(growth * body) == pytest.approx(0.1 * length.mean())
    holed = growth * body
    holed[3:, LIMBS12.index('left_wrist')] = np.nan
    assert np.isfinite(mblstd(holed))
    assert np.isnan(mblstd(holed[:1]))
    with pytest.raises(ValueError, match='limbs12'):
        mblstd(poses)


def test_coverage_of_a_true_covariance_is_what_it_says() -> None:
    rng = np.random.default_rng(2)
    root = rng.normal(size=(3, 3))
    covariance = root @ root.T + 0.1 * np.eye(3)
    error = rng.multivariate_normal(np.zeros(3), covariance, size=20000)
    stack = np.broadcast_to(covariance, (20000, 3, 3))
    for share in (0.5, 0.9, 0.95):
        assert coverage(error, stack, share) == pytest.approx(share, abs=0.01)
    assert nees(error, stack) == pytest.approx(1, abs=0.03)
    assert nees(error, stack / 4) == pytest.approx(4 * nees(error, stack))
    assert squared_mahalanobis(error[:1], stack[:1]) == pytest.approx(error[0] @ np.linalg.inv(covariance) @ error[0])
    assert coverage(error, stack / 4, 0.9) < 0.6


def test_unknown_covariances_do_not_count() -> None:
    error = np.zeros((3, 3))
    covariance = np.stack([np.eye(3), np.full((3, 3), np.nan), np.eye(3)])
    error[2] = [10, 0, 0]
    assert coverage(error, covariance) == pytest.approx(0.5)
    assert nees(error, covariance) == pytest.approx(100 / 2 / 3)
    assert np.isnan(nees(error[1:2], covariance[1:2]))


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match=r'\(2, 17, 3\).*\(2, 16, 3\)'):
        mpjpe(np.zeros((2, 17, 3)), np.zeros((2, 16, 3)))
