import numpy as np
import pytest

from pose3d_ros.records import JointState, Person3D, PersonState
from pose3d_ros.refine import Refiner, RefineSettings
from pose3d_ros.skeleton import HUMAN17

FRAME_NS = 33_333_333


def person(position, id_=1):
    joints = len(HUMAN17)
    missing = np.isnan(position).any(axis=-1)
    return Person3D(HUMAN17, position, np.full((joints, 3), np.nan), np.tile(np.eye(3) * 0.01, (joints, 1, 1)),
                    np.full(joints, 0.9), np.where(missing, JointState.MISSING, JointState.OBSERVED).astype(np.uint8),
                    0.9, id_, PersonState.TRACKED)


def walk(velocity, frames, rng=None, noise=0.0):
    start = np.random.default_rng(5).uniform([-1, -1, 3], [1, 1, 4], size=(len(HUMAN17), 3))
    for frame in range(frames):
        jitter = 0 if rng is None else rng.normal(0, noise, start.shape)
        yield start + np.asarray(velocity) * frame * FRAME_NS * 1e-9, jitter, frame * FRAME_NS


def test_velocity_of_a_steady_walk_is_recovered():
    refine = Refiner()
    for truth, _, stamp in walk([1.2, 0.0, -0.5], 30):
        (got,) = refine([person(truth)], stamp)
    np.testing.assert_allclose(got.velocity, np.broadcast_to([1.2, 0.0, -0.5], got.velocity.shape), atol=0.02)
    np.testing.assert_allclose(got.position, truth, atol=0.005)


def test_smoothing_lowers_jitter_and_can_be_switched_off():
    rng = np.random.default_rng(1)
    smooth, raw = Refiner(), Refiner(RefineSettings(smoothing=False))
    errors, raw_errors = [], []
    for truth, jitter, stamp in walk([0.3, 0, 0], 60, rng, 0.015):
        measured = person(truth + jitter)
        errors.append(np.abs(smooth([measured], stamp)[0].position - truth).mean())
        raw_errors.append(np.abs(raw([measured], stamp)[0].position - truth).mean())
    assert np.mean(errors[15:]) < 0.8 * np.mean(raw_errors[15:])
    np.testing.assert_allclose(np.mean(raw_errors), 0.015 * np.sqrt(2 / np.pi), rtol=0.1)


def test_a_missing_joint_stays_missing_and_starts_afresh():
    refine = Refiner(RefineSettings(forget_s=0.2))
    joint = HUMAN17.index('left_wrist')
    for frame, (truth, _, stamp) in enumerate(walk([0, 0, 0], 40)):
        position = truth.copy()
        if 5 <= frame < 30:
            position[joint] = np.nan
        elif frame >= 30:
            position[joint] += 1.0  # far from where it was: no velocity may come of that
        (got,) = refine([person(position)], stamp)
        assert np.isnan(got.position[joint]).all() == (5 <= frame < 30)
        assert np.isfinite(np.delete(got.position, joint, axis=0)).all()
        if frame >= 30:
            np.testing.assert_allclose(got.position[joint], position[joint], atol=1e-9)
            np.testing.assert_allclose(got.velocity[joint], 0, atol=1e-9)


def test_people_do_not_mix_and_are_forgotten():
    refine = Refiner(RefineSettings(forget_s=0.5))
    here, there = np.zeros((17, 3)) + [0, 0, 3], np.zeros((17, 3)) + [1, 0, 5]
    for stamp in range(0, 10 * FRAME_NS, FRAME_NS):
        first, second = refine([person(here, 1), person(there, 2)], stamp)
        np.testing.assert_allclose(first.position, here)
        np.testing.assert_allclose(second.position, there)
    (moved,) = refine([person(there, 1)], stamp + 10**9)  # a second later under the same id: no trace of the past
    np.testing.assert_allclose(moved.position, there)
    np.testing.assert_allclose(moved.velocity, 0)


@pytest.mark.parametrize('rate_hz', [5, 30, 120])
def test_velocity_does_not_depend_on_the_frame_rate(rate_hz):
    refine = Refiner()
    for frame in range(3 * rate_hz):
        stamp = int(frame * 1e9 / rate_hz)
        (got,) = refine([person(np.zeros((17, 3)) + [0.8 * stamp * 1e-9, 0, 3])], stamp)
    np.testing.assert_allclose(got.velocity, np.broadcast_to([0.8, 0, 0], (17, 3)), atol=0.03)


def test_reset_forgets():
    refine = Refiner()
    for truth, _, stamp in walk([2, 0, 0], 10):
        refine([person(truth)], stamp)
    refine.reset()
    (got,) = refine([person(np.zeros((17, 3)) + [0, 0, 3])], 0)
    np.testing.assert_allclose(got.position, np.zeros((17, 3)) + [0, 0, 3])
