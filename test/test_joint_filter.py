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
