"""Groups and figures of lifted people: who counts where, and what covariances are worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from procedural import standing, write_mocap

from pose3d_ros.lift import INPUTS
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.assess import (
    SHOWN,
    Outcome,
    by_distance,
    by_view,
    calibration_curve,
    facing_angle,
    on_the_floor,
    per_distance,
    shown,
    single_frame,
    whole_body,
)
from pose3d_ros.train.mocap import load_mocap
from pose3d_ros.train.samples import EVALUATION, Samples, make_samples
from pose3d_ros.train.virtual_camera import optical_axes


@pytest.fixture(scope='module')
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    path: Path = write_mocap(tmp_path_factory.mktemp('mocap') / 'walk.npz')
    return make_samples(load_mocap([path], 'test'), 400, np.random.default_rng(0), EVALUATION)


def outcome(samples: Samples, along: float = 0.3, across: float = 0.03, seed: int = 1) -> Outcome:
    """Return people whose errors are as their covariances say: along m along each joint's ray, across m across."""
    truth = samples.points.astype(np.float64)
    ray = truth / np.linalg.norm(truth, axis=-1, keepdims=True)
    outer = ray[..., :, None] * ray[..., None, :]
    covariance = across ** 2 * np.eye(3) + (along ** 2 - across ** 2) * outer
    noise = np.random.default_rng(seed).standard_normal(truth.shape)
    error = across * noise + (along - across) * (noise * ray).sum(axis=-1, keepdims=True) * ray
    return Outcome(truth + error, covariance, truth)


def test_true_covariances_hold_what_they_promise(samples: Samples) -> None:
    result = outcome(samples)
    found = result.calibration()
    for share in (50, 90, 95):
        assert found[f'coverage_{share}'] == pytest.approx(share / 100, abs=0.02)
    assert found['nees'] == pytest.approx(1, abs=0.05)
    assert found['root_along_mm'] == pytest.approx(300, rel=0.05)
    assert found['root_across_mm'] == pytest.approx(30, rel=0.3)
    assert found['root_error_along_mm'] == pytest.approx(300, rel=0.15)
    promised, held = calibration_curve(result)
    np.testing.assert_allclose(held, promised, atol=0.03)
    boasting = replace(result, covariance=result.covariance / 9)
    assert boasting.calibration()['coverage_90'] < 0.5 and boasting.calibration()['nees'] > 5


def test_perfect_people_have_no_error_and_nobody_has_no_figures(samples: Samples) -> None:
    truth = samples.points.astype(np.float64)
    perfect = Outcome(truth, np.tile(np.eye(3), (*truth.shape[:2], 1, 1)), truth)
    figures = perfect.accuracy()
    assert figures['n'] == len(samples) and figures['pck_150'] == 1
    assert all(figures[name] == pytest.approx(0, abs=1e-6) for name in figures if name.endswith('_mm'))
    nobody = perfect.where(np.zeros(len(samples), dtype=np.bool_)).figures()
    assert nobody.pop('n') == 0 and all(np.isnan(value) for value in nobody.values())
    assert set(nobody) >= {'mpjpe_mm', 'mrpe_z_mm', 'coverage_90', 'nees', 'root_along_mm'}


def test_an_error_of_scale_is_an_error_of_the_root_along_its_ray(samples: Samples) -> None:
    truth = samples.points.astype(np.float64)
    larger = Outcome(1.05 * truth, np.tile(np.eye(3), (*truth.shape[:2], 1, 1)), truth)
    figures = larger.figures()
    assert figures['mrpe_mm'] == pytest.approx(50 * np.linalg.norm(truth[:, 0], axis=-1).mean())
    assert figures['root_error_across_mm'] == pytest.approx(0, abs=1e-3)
    assert figures['pa_mpjpe_mm'] == pytest.approx(0, abs=1e-6) and figures['mpjpe_mm'] > 10


def test_everybody_is_in_one_band_and_seen_from_one_side(samples: Samples) -> None:
    for groups in (by_distance, by_view):
        members = np.stack([chosen for _, chosen in groups(samples.points)])
        assert (members.sum(axis=0) == 1).all()
    names = [name for name, _ in by_distance(samples.points)]
    assert names[0] == 'under_1_m' and names[-1] == '9_to_10_m' and len(names) == 10
    x, pose, root = per_distance(outcome(samples), np.arange(0.0, 12.0))
    assert len(x) == len(pose) == len(root) > 5 and np.isfinite([*pose, *root]).all()


def test_the_view_is_where_the_chest_points() -> None:
    body = standing()[None]                                     # facing +y
    for heading, expected in ((90, 0), (0, 90), (180, 90), (-90, 180), (45, 45)):
        turn = np.radians(heading)
        rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        placed = body @ rotation.T + [3.0, 0.0, -1.0]           # before a camera at the origin that looks along +x
        level = optical_axes(np.zeros(1), np.zeros(1))[0]
        assert facing_angle(placed @ level.T)[0] == pytest.approx(expected, abs=6)


def test_what_is_shown_is_all_that_is_seen(samples: Samples) -> None:
    for part, joints in SHOWN.items():
        left = shown(samples, part).confidence > 0
        assert (left <= (samples.confidence > 0)).all()
        assert not left[..., [INPUTS.index(joint) for joint in INPUTS if joint not in joints]].any()
        kept = [INPUTS.index(joint) for joint in joints]
        np.testing.assert_array_equal(left[..., kept], samples.confidence[..., kept] > 0)
    np.testing.assert_array_equal(shown(samples, 'all').rays, samples.rays)
    assert not single_frame(samples).confidence[:, 1:].any()
    np.testing.assert_array_equal(single_frame(samples).confidence[:, 0], samples.confidence[:, 0])
    whole = whole_body(samples)
    assert 0 < whole.sum() < len(samples)
    assert (samples.confidence[whole, 0, :12] > 0).all()


def test_who_jumps_or_hides_a_foot_does_not_stand_on_the_floor(samples: Samples) -> None:
    stands = on_the_floor(samples)
    assert stands.any()                                          # the walker's lower ankle is 0.08 m above the floor
    ankles = [INPUTS.index('left_ankle'), INPUTS.index('right_ankle')]
    seen = (samples.confidence[:, 0, ankles] > 0).all(axis=1)
    assert stands[seen].all()
    assert not on_the_floor(replace(samples, points=samples.points + 0.2 * samples.up[:, None])).any()
    assert not on_the_floor(shown(samples, 'upper_half')).any()
    lowered = replace(samples, camera_height=samples.camera_height - 0.2)
    assert not on_the_floor(lowered).any()
    assert len(HUMAN17) == samples.points.shape[1]
