"""The filter of joints in the common frame: what stays true for as long as it runs."""

from __future__ import annotations

import numpy as np

from pose3d_ros.fuse.joint_filter import JointFilter


def test_the_covariance_stays_one_for_minutes() -> None:
    rng = np.random.default_rng(0)
    joints = 8
    tracked = JointFilter(np.arange(joints) % 2 == 0)
    tracked.add(1)
    root = rng.normal(0, 0.01, (joints, 3, 3))
    for step in range(2000):  # any rounding error that feeds on itself has grown out of bounds by then
        tracked.predict(0.05)
        noise = (1.0 + 0.5 * np.sin(0.3 * step)) * root @ np.swapaxes(root, -1, -2) + 1e-5 * np.eye(3)
        tracked.update(rng.normal(0, 0.01, (1, joints, 3)), noise[None])
        if step % 100 == 99:
            moving = tracked.velocity_covariance
            np.testing.assert_allclose(moving, np.swapaxes(moving, -1, -2), rtol=1e-9)
            assert np.linalg.eigvalsh(tracked.covariance).min() > 0
            assert np.linalg.eigvalsh(moving).min() > 0
            assert np.abs(tracked.velocity).max() < 3.0


def test_a_correction_from_elsewhere_leaves_a_covariance() -> None:
    rng = np.random.default_rng(1)
    tracked = JointFilter(np.ones(4, dtype=bool))
    tracked.add(1)
    for _ in range(300):
        tracked.predict(rng.uniform(0.02, 0.3))
        tracked.update(rng.normal(0, 0.02, (1, 4, 3)), np.tile(1e-3 * np.eye(3), (1, 4, 1, 1)))
        along = rng.normal(size=(4, 3))
        along /= np.linalg.norm(along, axis=-1, keepdims=True)
        pull = np.einsum('jik,jk->ji', tracked.covariance[0], along)   # what a bone of known length does
        share = np.einsum('ji,ji->j', pull, along) + 1e-4
        less = pull[:, :, None] * pull[:, None] / share[:, None, None]
        tracked.correct(tracked.position + 0.02 * pull / share[:, None], tracked.covariance - less)
        assert np.linalg.eigvalsh(tracked.covariance).min() > 0
        assert np.linalg.eigvalsh(tracked.velocity_covariance).min() > 0
        assert np.abs(tracked.velocity).max() < 10.0
