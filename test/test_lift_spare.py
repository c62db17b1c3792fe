"""Lifters of bodies and the spare one that they are opened with: whom it takes over, and that nobody jumps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from echo_lifter import write_echo
from numpy.typing import NDArray
from synthetic import CAMERA, body, placed, seen
from test_lift import KnownNetwork, random_people
from walkers import hide

from pose3d_ros.lift import DEFAULT_LIFTER, LIFTERS, Lifter, LiftModelError, lifter_file
from pose3d_ros.lift.handover import FADES_S, FORGET_S, Handover
from pose3d_ros.records import JointState, Person2D
from pose3d_ros.runtime import opening
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.skeleton import HUMAN17

S = 1_000_000_000
FRAME = S // 30
CPU = Wanted('cpu', threads=1)
PELVIS = HUMAN17.index('pelvis')


@pytest.fixture(name='echo', scope='module')
def _echo(tmp_path_factory: pytest.TempPathFactory) -> Lifter:
    return Lifter.open(write_echo(tmp_path_factory.mktemp('lifter') / 'echo.onnx'), CPU)


@pytest.fixture(name='lifter')
def _lifter(echo: Lifter) -> Lifter:
    """A lifter of bodies that needs the ears; its spare one is that which ships."""
    return echo.another()


def walker(number: int, id_: int = 1, ears: bool = True) -> Person2D:
    person = replace(seen(placed(body(number / 5), -1.5 + id_ + 0.02 * number, 4.0, 0.3)), id=id_)
    return person if ears else hide(person, 'ear')


def test_whom_the_first_cannot_place_the_spare_one_does_in_their_order(lifter: Lifter) -> None:
    nobody = hide(walker(0, 4), 'shoulder', 'hip')
    people = lifter([walker(0, 3, ears=False), walker(0, 1), nobody, walker(0, 2, ears=False)], CAMERA, 0)
    assert [person.id for person in people] == [3, 1, 2] and (lifter.spared, lifter.dropped) == (2, 1)
    assert [person.body is not None for person in people] == [False, True, False]
    for person in people:
        assert (person.height, person.height_sigma) == (lifter.stature, lifter.stature_sigma)
        assert np.isfinite(person.position).all() and (np.linalg.eigvalsh(person.covariance) > 0).all()
    assert all(abs(person.joint('pelvis')[2] / 4 - 1) < 0.1 for person in people if person.body is None)


def test_people_out_of_reach_of_both_are_left_out(lifter: Lifter) -> None:
    both = Lifter(lifter.engine, spare=KnownNetwork(np.full((2, 17, 3), np.nan)))
    people = both([walker(0, 1, ears=False), walker(0, 2)], CAMERA, 0)
    assert [person.id for person in people] == [2] and (both.spared, both.dropped) == (0, 1)


@pytest.mark.parametrize('stature', [None, 1.9])
def test_the_spare_one_says_what_it_says_alone_of_people_of_the_same_stature(
        lifter: Lifter, stature: float | None) -> None:
    spare = lifter.engines['lift_spare']
    alone, both = Lifter(spare, stature), Lifter(lifter.engine, stature, spare)
    for number in range(40):
        people = [walker(number, 1, ears=False), walker(number, 2, ears=number > 35)]
        expected, found = (one(people, CAMERA, number * FRAME, np.array([0.0, -1.0, 0.0])) for one in (alone, both))
        for one, other in zip(expected, found[:1 if number > 35 else 2]):
            np.testing.assert_allclose(other.position, one.position, atol=1e-6)
            np.testing.assert_allclose(other.covariance, one.covariance, atol=1e-6)
            np.testing.assert_array_equal(other.joint_state, one.joint_state)
            assert (other.height, other.height_sigma) == (one.height, one.height_sigma)


def test_the_spare_one_knows_the_past_of_whom_it_takes_over_until_a_reset(lifter: Lifter) -> None:
    spare = KnownNetwork(random_people(1, 1))
    both = Lifter(lifter.engine, spare=spare)
    for number in range(20):
        both([walker(number, ears=number < 19)], CAMERA, number * FRAME)
    assert (spare.asked[-1]['confidence'][0, :4].max(axis=1) > 0).all() and both.spared == 1
    both.reset()
    (person,) = both([walker(0, ears=False)], CAMERA, 0)
    assert (spare.asked[-1]['confidence'][0, 1:] == 0).all()
    np.testing.assert_allclose(person.position, spare.points[0], atol=1e-6)    # nothing is handed over


def test_keypoints_without_a_past_are_lifted_by_both(lifter: Lifter) -> None:
    people = [walker(0, 1), walker(0, 2, ears=False), hide(walker(0, 3), 'shoulder', 'hip')]
    lifted = lifter.lift(np.stack([person.pixels for person in people]),
                         np.stack([person.joint_confidence for person in people]), CAMERA)
    assert np.isfinite(lifted.position[:2]).all() and np.isnan(lifted.position[2]).all()
    assert [body is not None for body in lifted.body] == [True, False, False]
    assert (lifted.state[:2] != JointState.MISSING).all() and (lifted.stature == lifter.stature).all()
    (alone,) = lifter([walker(0, 2, ears=False)], CAMERA, 0)
    np.testing.assert_allclose(lifted.position[1], alone.position, atol=1e-6)


def test_another_lifter_shares_the_networks_and_nothing_else(lifter: Lifter) -> None:
    other = lifter.another()
    assert list(other.engines) == ['lift', 'lift_spare'] and other.engines == lifter.engines
    for number in range(20):
        lifter([walker(number, ears=False)], CAMERA, number * FRAME)
    fresh, (found,) = lifter.another(), other([walker(20, ears=False)], CAMERA, 20 * FRAME)
    np.testing.assert_array_equal(found.position, fresh([walker(20, ears=False)], CAMERA, 0)[0].position)
    assert (lifter.spared, other.spared) == (20, 1)
    assert lifter.body_model is not None and Lifter(lifter.engines['lift_spare']).body_model is None


@pytest.mark.parametrize('fails', [False, True])
def test_a_lifter_of_bodies_is_opened_and_closed_with_the_default_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    echo, really, opened, closed = write_echo(tmp_path / 'echo.onnx'), opening.open_engine, [], []

    def open_engine(path: Path, wanted: Wanted, **options: object) -> SimpleNamespace:
        engine = really(path, wanted, **options)
        opened.append(path.name)
        kept = {name: getattr(engine, name) for name in ('inputs', 'outputs', 'metadata', 'input_shapes', 'warm_up')}
        if fails and len(opened) == 2:
            kept['metadata'] = {}
        return SimpleNamespace(**kept, close=lambda: closed.append(path.name))

    monkeypatch.setattr(opening, 'open_engine', open_engine)
    if fails:
        with pytest.raises(LiftModelError):
            Lifter.open(echo, CPU)
    else:
        Lifter.open(echo, CPU).close()
    assert opened == closed == [echo.name, lifter_file(DEFAULT_LIFTER).name]
    opened.clear()
    assert list(Lifter.open('parts', CPU).engines) == ['lift'] and opened == [LIFTERS['parts']]


def steps_of(track: list[NDArray]) -> NDArray:
    return np.linalg.norm(np.diff(np.array(track), axis=0), axis=-1)


def answers(seed: int, count: int = 60) -> tuple[NDArray, NDArray]:
    """Return what two networks say of a walker (count, 17, 3) m: they disagree about pose and place."""
    rng = np.random.default_rng(seed)
    way = np.array([0.5, 0.1, 3.0]) + np.linspace(0, 1, count)[:, None, None] * rng.uniform(-1, 1, 3)
    first, spare = (way + rng.normal(0, 0.3, (17, 3)) for _ in range(2))
    return first, spare * rng.uniform(0.6, 1.6)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('shown', ['leaves', 'comes', 'now and then', 'trembles'])
def test_nobody_jumps_from_one_network_to_the_other(seed: int, shown: str) -> None:
    first, spare = answers(seed)
    number = np.arange(len(first))
    by_first = {'leaves': number < 20, 'comes': number >= 20, 'now and then': number // 7 % 2 == 0,
                'trembles': number % 2 == 0}[shown]
    hand, track, bare = Handover(), [], []
    for k, own in enumerate(by_first):
        taken = first[k] if own else spare[k]
        bare.append(taken)
        moved = hand([1], np.where(own, first[k], np.nan)[None], spare[None, k], k * FRAME)[0]
        track.append(taken + moved)
    moving = max(steps_of(list(first)).max(), steps_of(list(spare)).max())
    apart = np.linalg.norm(first - spare, axis=-1).max()
    assert steps_of(bare).max() > 0.3
    assert steps_of(track).max() < 2 * moving + 2 * apart * FRAME / S / FADES_S
    assert (np.array(track)[:, PELVIS, 2] > 0.5).all()
    if shown in ('leaves', 'comes'):
        left = np.linalg.norm(track[-1] - bare[-1], axis=-1).max()
        assert left < 2 * apart * np.exp(-(39 * FRAME / S) / FADES_S)


def test_only_who_is_the_same_person_and_was_just_seen_is_handed_over() -> None:
    first, spare = answers(9, 4)
    none = np.full_like(first, np.nan)
    for ids in ([0], [-1]):
        hand = Handover()
        assert (hand(ids, first[:1], spare[:1], 0) == 0).all() and (hand(ids, none[:1], spare[:1], FRAME) == 0).all()
    hand = Handover()
    assert (hand([1, 2], first[:2], spare[:2], 0) == 0).all()
    moved = hand([3, 2, 1], none[:3], np.concatenate([spare[:1], none[:1], spare[2:3]]), FRAME)
    assert (moved[:2] == 0).all() and np.abs(moved[2]).max() > 0.1
    late = hand([1], none[:1], spare[:1], round(FRAME + (FORGET_S + 0.1) * S))
    assert (late == 0).all()
    hand([1], first[:1], spare[:1], 2 * S)
    hand.reset()
    assert (hand([1], none[:1], spare[:1], 2 * S + FRAME) == 0).all()
    hand([1], first[:1], spare[:1], 1000 * S)
    assert (hand([1], none[:1], spare[:1], S) == 0).all()    # time went back


def test_a_body_goes_where_its_person_is_handed_over_to(lifter: Lifter) -> None:
    lifter([walker(0, ears=False)], CAMERA, 0)
    (known,) = lifter.another()([walker(1)], CAMERA, 0)
    (person,) = lifter([walker(1)], CAMERA, FRAME)
    assert person.body is not None and known.body is not None
    shift = person.joint('pelvis') - known.joint('pelvis')
    assert np.linalg.norm(shift) > 0.3
    np.testing.assert_allclose(person.body.root - known.body.root, shift, atol=1e-6)
    assert person.body.scale == known.body.scale
