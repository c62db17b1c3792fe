"""Lifters that want the past at even steps and give bodies: what they are shown, and what becomes of their answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from echo_lifter import FRAMES, SHA256, SHOWN, STEP_S, TURNS, write_echo
from numpy.typing import NDArray
from synthetic import CAMERA, body, placed, seen
from walkers import hide

from pose3d_ros.lift import INPUTS, Lifter, LiftModelError
from pose3d_ros.lift.bodies import orthonormal
from pose3d_ros.records import JointState, Person2D, Person3D
from pose3d_ros.runtime.check import self_check
from pose3d_ros.runtime.check_inputs import inputs_for
from pose3d_ros.runtime.engine import EngineError, Wanted
from pose3d_ros.runtime.onnx_engine import OnnxEngine
from pose3d_ros.skeleton import BLAZEPOSE33

S = 1_000_000_000
SPEED = 0.6    # m/s, sideways at 4 m
CPU = Wanted('cpu', threads=1)


@pytest.fixture(name='lifter')
def _lifter(tmp_path: Path) -> Lifter:
    """The lifter without its spare one, which test_lift_spare.py is about."""
    return Lifter(Lifter.open(write_echo(tmp_path / 'echo.onnx'), CPU).engine)


def walker(stamp_s: float, id_: int = 1) -> Person2D:
    return replace(seen(placed(body(), SPEED * stamp_s, 4.0)), id=id_)


def shown(person: Person3D) -> NDArray:
    """Return x, y, confidence (9, 3) that the network was shown of one joint."""
    return person.position[:FRAMES] - person.position[FRAMES]


def rays_of(stamp_s: NDArray) -> NDArray:
    at = BLAZEPOSE33.index(SHOWN)
    return np.array([walker(stamp).rays[at] for stamp in stamp_s])


@pytest.mark.parametrize('rate', [5, 12, 30, 60, 120])
def test_the_network_is_shown_even_steps_of_any_camera(lifter: Lifter, rate: int) -> None:
    stamps = np.arange(rate) / rate
    for stamp in stamps:
        (person,) = lifter([walker(stamp)], CAMERA, round(stamp * S))
    wanted = stamps[-1] - STEP_S * np.arange(FRAMES)
    np.testing.assert_allclose(shown(person)[:, :2], rays_of(wanted), atol=1e-5)
    np.testing.assert_allclose(shown(person)[:, 2], 0.9, atol=1e-6)


def test_the_first_image_of_a_person_is_repeated_and_so_it_is_without_a_past(lifter: Lifter) -> None:
    person = walker(0.0)
    now = np.tile([*rays_of(np.zeros(1))[0], 0.9], (FRAMES, 1))
    np.testing.assert_allclose(shown(lifter([person], CAMERA, 0)[0]), now, atol=1e-6)
    lifter([walker(0.2)], CAMERA, S // 5)
    lifter.reset()
    np.testing.assert_allclose(shown(lifter([person], CAMERA, S)[0]), now, atol=1e-6)
    lifted = lifter.lift(person.pixels[None], person.joint_confidence[None], CAMERA)
    np.testing.assert_allclose(lifted.position[0, :FRAMES] - lifted.position[0, FRAMES], now, atol=1e-6)
    assert lifted.body[0] is not None


def test_windows_of_other_ages_are_shown_at_the_even_steps(lifter: Lifter) -> None:
    ages = np.array([[0, 0.1, 0.25, 0.5, 1.0], [0, 0.1, 0.25, 0, 0]], np.float32)
    sure = np.ones((2, 5, 13), np.float32)
    sure[1, 3:] = 0                                                        # frames that there are not
    rays = np.broadcast_to((1 - ages)[..., None, None], (2, 5, 13, 2)).astype(np.float32) * (sure > 0)[..., None]
    position, covariance = lifter.run(rays, sure, ages)
    expected = 1 - STEP_S * np.arange(FRAMES)
    np.testing.assert_allclose(position[0, :FRAMES, 0], expected, atol=1e-6)
    np.testing.assert_allclose(position[1, :FRAMES, 0], np.maximum(expected, 0.75), atol=1e-6)
    assert covariance.shape == (2, 17, 3, 3)
    even = np.broadcast_to(expected[None, :, None, None], (1, FRAMES, 13, 2)).astype(np.float32)
    position, _ = lifter.run(even, np.ones((1, FRAMES, 13), np.float32),
                             (STEP_S * np.arange(FRAMES, dtype=np.float32))[None])
    np.testing.assert_allclose(position[0, :FRAMES, 0], expected, atol=1e-6)


def test_people_come_with_their_bodies(lifter: Lifter) -> None:
    assert lifter.body_model == ('mannequin', SHA256)
    for person in lifter([walker(0.0, 1), walker(1.0, 2)], CAMERA, 0):
        assert person.body is not None
        np.testing.assert_allclose(person.body.root, [0.1, 0, 3], atol=1e-6)
        assert person.body.scale == pytest.approx(1.7) and person.body.shape.shape == (10,)
        np.testing.assert_allclose(person.body.rotations, TURNS, atol=1e-3)
        np.testing.assert_allclose(person.body.rotations @ person.body.rotations.swapaxes(1, 2),
                                   np.tile(np.eye(3), (24, 1, 1)), atol=1e-12)
        assert {array.dtype for array in vars(person.body).values() if isinstance(array, np.ndarray)} == {
            np.dtype(np.float64)}


def test_rotations_are_rotations_and_what_is_none_is_nan() -> None:
    rng = np.random.default_rng(2)
    off = TURNS + rng.normal(0, 1e-3, TURNS.shape)
    np.testing.assert_allclose(np.linalg.det(orthonormal(off)), 1, atol=1e-12)
    np.testing.assert_allclose(orthonormal(off), TURNS, atol=0.01)
    assert np.isnan(orthonormal(np.zeros((2, 3, 3)))).any(axis=(1, 2)).all()


def test_whom_the_network_cannot_place_is_left_out_and_counted(lifter: Lifter) -> None:
    people = [walker(0.0, 1), hide(walker(0.0, 2), 'ear'), walker(0.0, 3)]
    assert [person.id for person in lifter(people, CAMERA, 0)] == [1, 3] and lifter.dropped == 1
    assert lifter(people[1:2], CAMERA, S) == [] and lifter.dropped == 2
    lifted = lifter.lift(np.stack([person.pixels for person in people]),
                         np.stack([person.joint_confidence for person in people]), CAMERA)
    assert np.isnan(lifted.position[1]).all() and np.isnan(lifted.covariance[1]).all()
    assert (lifted.state[1] == JointState.MISSING).all() and (lifted.confidence[1] == 0).all()
    assert np.isfinite(lifted.position[[0, 2]]).all() and np.isfinite(lifted.covariance[[0, 2]]).all()
    assert [body is not None for body in lifted.body] == [True, False, True]


def test_lifters_of_one_engine_have_each_their_own_past(lifter: Lifter) -> None:
    other = Lifter(lifter.engine)
    for number in range(20):
        (one,) = lifter([walker(number / 30)], CAMERA, number * S // 30)
        (two,) = other([walker(2 - number / 30)], CAMERA, number * S // 30)
    steps = np.arange(FRAMES) / 30
    np.testing.assert_allclose(shown(one)[:, :2], rays_of(19 / 30 - steps), atol=1e-5)
    np.testing.assert_allclose(shown(two)[:, :2], rays_of(2 - 19 / 30 + steps), atol=1e-5)


def test_inputs_are_given_to_files_that_have_them(tmp_path: Path) -> None:
    every = ('rays', 'confidence', 'age', 'up', 'landmarks', 'stature')
    for inputs in (every, every[::-1], ('confidence', 'up', 'stature', 'rays')):
        lifter = Lifter.open(write_echo(tmp_path / 'echo.onnx', inputs), CPU)
        assert len(lifter([walker(0.0)], CAMERA, 0, np.array([0.0, -1.0, 0.0]))) == 1
    with pytest.raises(EngineError, match="no input 'stature'"):
        Lifter.open(write_echo(tmp_path / 'echo.onnx', ('rays', 'confidence')), CPU)


@pytest.mark.parametrize(('wrong', 'told'), [
    ({'frames': ''}, "no metadata 'frames'.*pose3d export"), ({'frames': '7'}, 'takes 9 frames.* 7; choose window'),
    ({'frames': 'nine'}, "frames .*'nine'.*1 to 1000.*choose window"), ({'step_s': '0'}, "step_s .*'0'.*choose window"),
    ({'step_s': 'nan'}, "step_s .*'nan'"), ({'step_s': ''}, "'step_s'.*'age'.*choose window"),
    ({'body_model': ''}, "'body_model'.*pose3d export")])
def test_metadata_that_do_not_fit_are_refused_with_what_to_do(tmp_path: Path, wrong: dict[str, str], told: str) -> None:
    with pytest.raises(LiftModelError, match=told):
        Lifter.open(write_echo(tmp_path / 'echo.onnx', **wrong), CPU)


def test_the_check_of_an_engine_shows_it_people_at_its_own_steps(tmp_path: Path) -> None:
    path = write_echo(tmp_path / 'echo.onnx', ('rays', 'confidence', 'age', 'stature'))
    engine = OnnxEngine(path)
    for batch in inputs_for(engine.metadata, engine.input_shapes, 8):
        count = len(batch['rays'])
        assert batch['rays'].shape == (count, FRAMES, len(INPUTS), 2)
        np.testing.assert_allclose(batch['age'], np.tile(STEP_S * np.arange(FRAMES), (count, 1)), atol=1e-6)
        assert (batch['confidence'].max(axis=2) > 0).all()                 # the past is repeated, never empty
        moved = np.abs(np.diff(batch['rays'], axis=1)).max(axis=(1, 2, 3))
        assert 0 < moved[0] < 0.02 and (count < 3 or moved[2] == 0)
    assert self_check(engine, path).passed
    with pytest.raises(EngineError, match="step_s 'often'"):
        inputs_for({**engine.metadata, 'step_s': 'often'}, engine.input_shapes, 3)
