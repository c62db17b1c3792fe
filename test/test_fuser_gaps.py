"""Fusion of what really arrives: gaps, late views, moments that one camera saw alone; nobody may fly away."""

from __future__ import annotations

import numpy as np
import pytest
import scenes

from pose3d_ros.fuse.fuser import Fuser

WALKERS = [scenes.Walker((-0.6, 0.2), (0.5, 0.0)), scenes.Walker((0.7, -0.4), (0.0, 0.4))]
FRAMES, RATE = 60, 15.0


@pytest.mark.parametrize('seed', [14, 16, 21, 22])
def test_covariances_stay_covariances_whatever_is_missing(seed):
    rng, fuser = np.random.default_rng(seed), Fuser()
    scene = scenes.Scene(WALKERS, scenes.ring(3), scenes.Trouble(noise=1.5), rate=RATE, seed=seed)
    frame, before, late = 0, {}, -2
    while frame < FRAMES:
        views = {view.camera: view for view in scene.views(frame)}
        now = dict(views)
        if frame >= 15:
            del now['camera1']
        if late == frame - 1 and rng.random() < 0.3:
            now['camera2'] = before['camera2']
        if rng.random() < 0.15:
            now = {'camera0': now['camera0']}
        people = fuser(list(now.values()), scene.stamp_ns(frame))
        truth = scene.truth(frame)
        for person in people:
            assert scenes.error_of(person, truth)[1] < 1.0
            known = np.isfinite(person.position[:, 0])
            assert (np.linalg.eigvalsh(person.covariance[known]) > 0).all()
        before, late = views, frame
        frame += 1 if rng.random() > 0.12 else int(rng.integers(2, 10))
