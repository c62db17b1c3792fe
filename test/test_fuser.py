"""Fusion over time: one set of people, whatever the cameras do. Truth comes from scenes.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import HARD, Scene, Trouble, Walker, crowd, error_of, looking, naive_errors, ring, told
from scipy.spatial.transform import Rotation

from pose3d_ros.fuse.fuser import Fuser, FuseSettings
from pose3d_ros.fuse.observations import LIMB
from pose3d_ros.fuse.views import View
from pose3d_ros.records import JointState, PersonState
from pose3d_ros.skeleton import HUMAN17


@pytest.mark.parametrize(('cameras', 'people', 'most'), [(2, 2, 0.075), (4, 4, 0.045), (8, 8, 0.03)])
def test_people_are_where_they_are_in_spite_of_everything(cameras: int, people: int, most: float) -> None:
    result = told(Scene(crowd(people, 1), ring(cameras), HARD, 1))
    assert result.error < most
    assert result.switches == 0
    assert result.twice == 0
    assert result.ghosts <= 0.01 * people * 30
    assert result.missed <= 0.02 * people * 30
    assert 0.85 < np.concatenate(result.inside).mean() < 0.98  # of 90 % ellipsoids


def test_better_than_averaging_mono_3d_and_than_plain_least_squares() -> None:
    limbs = []
    scene, fuser = Scene(crowd(4, 3), ring(4), HARD, 3), Fuser()
    for frame in range(50):
        people = fuser(scene.views(frame), scene.stamp_ns(frame))
        truth = scene.truth(frame)
        limbs += [np.nanmean(np.linalg.norm(p.position - truth[error_of(p, truth)[0]], axis=-1)[LIMB]) for p in people]
    averaged, plain = naive_errors(Scene(crowd(4, 3), ring(4), HARD, 3), 50)
    assert np.mean(limbs) < 0.5 * averaged
    assert np.mean(limbs) < 0.5 * plain


@pytest.mark.parametrize('gap', [0.0, 0.3])
def test_ids_stay_when_people_pass_each_other(gap: float) -> None:
    walkers = [Walker((-1.5, -gap), (1.2, 0.0)), Walker((1.5, gap), (-1.2, 0.0), size=0.95)]
    result = told(Scene(walkers, ring(3), replace(HARD, noise=4.0)), 60, near=0.3)
    assert result.switches == 0
    assert result.ghosts == 0
    assert len({ids[0] for ids in result.ids.values()}) == 2


def test_a_camera_that_dies_and_comes_back_changes_nobody() -> None:
    fuser = Fuser()
    result = told(Scene(crowd(3, 4), ring(3), HARD, 4), 70, fuser,
                  lambda frame, views: views if not 25 <= frame < 45 else views[:1] + views[2:])
    assert result.switches == 0
    assert result.missed <= 2
    assert result.twice == result.ghosts == 0
    spread = [np.mean([np.trace(person.covariance[LIMB], axis1=-2, axis2=-1).mean() for person in people])
              for people in result.people]
    assert np.mean(spread[35:45]) > 1.3 * np.mean(spread[15:25])
    assert np.mean(spread[60:]) < 1.2 * np.mean(spread[15:25])
    assert set(fuser.drift) == {'camera0', 'camera1', 'camera2'}


def test_nobody_seen_is_predicted_for_a_while_and_known_again() -> None:
    scene, fuser = Scene(crowd(2, 5, 0.6), ring(3), Trouble(), 5), Fuser()
    before = [fuser(scene.views(frame), scene.stamp_ns(frame)) for frame in range(20)][-1]
    blind = [fuser([], scene.stamp_ns(frame)) for frame in range(20, 45)]
    assert {person.state for person in before} == {PersonState.TRACKED}
    assert {person.state for person in blind[5]} == {PersonState.PREDICTED}
    assert not any((person.joint_state == JointState.OBSERVED).any() for person in blind[5])
    assert blind[-1] == []
    after = fuser(scene.views(45), scene.stamp_ns(45))
    assert [person.id for person in after] == [person.id for person in before]
    who = [error_of(person, scene.truth(45))[0] for person in after]
    assert who == [error_of(person, scene.truth(19))[0] for person in before]


def test_somebody_handed_over_from_camera_to_camera_keeps_the_id() -> None:
    walker = Walker((-1.5, 0.0), (0.8, 0.0))
    visible = {0: range(0, 60), 1: range(40, 100)}  # one camera, both, the other
    fuser = Fuser()
    result = told(Scene([walker], ring(2), Trouble()), 100, fuser,
                  lambda frame, views: [view for n, view in enumerate(views) if frame in visible[n]], near=0.6)
    assert result.switches == result.ghosts == result.missed == 0
    assert fuser.counters['born'] == 1


def test_one_camera_is_enough_for_who_has_mono_3d() -> None:
    scene, fuser = Scene([Walker((0.0, 0.0))], ring(1), Trouble()), Fuser()
    for frame in range(20):
        views = scene.views(frame)
        people = fuser(views, scene.stamp_ns(frame))
    assert len(people) == 1
    ray = views[0].camera_T_world[2, :3]
    along = np.sqrt(ray @ people[0].covariance[LIMB[0]] @ ray)
    across = np.sqrt(views[0].camera_T_world[0, :3] @ people[0].covariance[LIMB[0]] @ views[0].camera_T_world[0, :3])
    assert along > 4 * across
    assert error_of(people[0], scene.truth(19))[1] < 0.8
    assert Fuser()([replace(views[0], people=[])], views[0].stamp_ns) == []  # a ray alone is no place


def test_the_order_of_views_and_people_does_not_matter() -> None:
    one, other = (Scene(crowd(4, 6), ring(4), HARD, 6) for _ in range(2))
    a, b = Fuser(), Fuser()
    for frame in range(15):
        mixed = [replace(view, people_2d=view.people_2d[::-1]) for view in other.views(frame)[::-1]]
        straight, turned = a(one.views(frame), one.stamp_ns(frame)), b(mixed, one.stamp_ns(frame))
    assert len(straight) == len(turned) == 4
    for person in straight:
        distance = [np.nanmax(np.abs(other.position - person.position)) for other in turned]
        assert min(distance) < 1e-6


def test_a_turned_world_gives_turned_people() -> None:
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = Rotation.from_rotvec([0.5, 1.0, -2.0]).as_matrix(), (10.0, -3.0, 2.0)
    one, other = (Scene(crowd(3, 7), ring(3), HARD, 7) for _ in range(2))
    a, b = Fuser(), Fuser()
    for frame in range(15):
        straight = a(one.views(frame), one.stamp_ns(frame))
        turned = b([replace(view, camera_T_world=view.camera_T_world @ np.linalg.inv(move))
                    for view in other.views(frame)], one.stamp_ns(frame))
    for person, same in zip(straight, turned, strict=True):
        assert person.id == same.id
        np.testing.assert_allclose(person.position @ move[:3, :3].T + move[:3, 3], same.position, atol=1e-6)
        np.testing.assert_allclose(move[:3, :3] @ person.covariance @ move[:3, :3].T, same.covariance, atol=1e-6)


def test_stamps_that_differ_do_not_smear_who_walks() -> None:
    """Somebody at 1.5 m/s goes 6 cm in 40 ms."""
    walker = Walker((-1.5, 0.2), (1.5, 0.0))
    errors = {}
    for name, change in (('known', None), ('ignored', lambda frame, views: [
            replace(view, stamp_ns=round(5e9 + frame / 25 * 1e9)) for view in views])):
        result = told(Scene([walker], ring(4), Trouble(noise=1.0, jitter_s=0.04)), 50, change=change)
        errors[name] = result.error
    assert errors['known'] < 0.02
    assert errors['known'] < 0.7 * errors['ignored']


def test_a_camera_that_moves_is_where_it_says() -> None:
    def riding(seconds: float) -> NDArray:
        return looking(np.array([4.0 - 0.3 * seconds, -3.0 + 1.0 * seconds, 1.2]), np.array([0.0, 0.0, 1.0]))

    still = told(Scene(crowd(3, 8), ring(3), HARD, 8))
    moving = told(Scene(crowd(3, 8), [*ring(3)[:2], riding], HARD, 8))
    assert moving.switches == moving.ghosts == 0
    assert moving.error < 1.3 * still.error


def test_nothing_that_comes_in_does_harm() -> None:
    rng = np.random.default_rng(9)

    def broken(frame: int, views: list[View]) -> list[View]:
        result = []
        for view in views:
            people = [replace(p, id=7) if rng.random() < 0.3 else p for p in view.people_2d]
            people = [replace(p, rays=np.full_like(p.rays, np.nan)) if rng.random() < 0.1 else p for p in people]
            people = [replace(p, sigma=np.where(rng.random(33) < 0.1, rng.choice([0, np.inf, -1, np.nan]), p.sigma))
                      for p in people]
            mono = [replace(p, position=np.full_like(p.position, np.nan)) if rng.random() < 0.1 else p
                    for p in view.people]
            result.append(replace(view, people_2d=[*people, *people[:1]], people=mono))
        return [*result, *result[:1], replace(result[1], stamp_ns=result[1].stamp_ns - 1_000_000_000)]

    fuser = Fuser()
    result = told(Scene(crowd(3, 9), ring(4), HARD, 9), 50, fuser, broken)
    assert result.switches == result.twice == result.ghosts == 0
    assert result.error < 0.06
    assert fuser.counters['views_late'] == 50
    assert fuser.counters['duplicate_ids'] > 0


def test_a_camera_knocked_out_of_place_is_seen_in_the_residuals_and_makes_no_second_people() -> None:
    def knocked(frame: int, views: list[View]) -> list[View]:
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_rotvec([0.0, 0.03, 0.0]).as_matrix()
        return [views[0], replace(views[1], camera_T_world=turn @ views[1].camera_T_world), *views[2:]]

    fuser = Fuser()
    result = told(Scene(crowd(3, 10), ring(4), Trouble(), 10), 50, fuser, knocked)
    assert result.twice == result.switches == 0
    assert result.error < 0.06
    assert fuser.drift['camera1'].residual_px > 2 * max(fuser.drift[f'camera{n}'].residual_px for n in (0, 2, 3))


def test_time_does_not_go_back_and_ids_are_not_given_again() -> None:
    scene, fuser = Scene(crowd(2), ring(2), Trouble()), Fuser(FuseSettings(confirm=1))
    first = {person.id for person in fuser(scene.views(5), scene.stamp_ns(5))}
    with pytest.raises(ValueError, match=r'went back by 0\.200 s: call reset'):
        fuser(scene.views(0), scene.stamp_ns(0))
    fuser.reset()
    again = fuser(scene.views(0), scene.stamp_ns(0))
    assert first and again and not first & {person.id for person in again}
    assert all(person.skeleton == HUMAN17 and person.state == PersonState.TRACKED for person in again)


@pytest.mark.parametrize('cameras', [2, 3])
def test_sides_exchanged_in_a_single_view_are_put_right(cameras: int) -> None:
    """One view names left what is right from the tenth frame on; the others, and the past, know better."""
    def wrong(frame: int, views: list[View]) -> list[View]:
        return [replace(view, people_2d=[person.mirrored() for person in view.people_2d])
                if view.camera == 'camera1' and frame >= 10 else view for view in views]

    fuser = Fuser()
    result = told(Scene([Walker((0.0, 0.0), heading=1.0), Walker((1.0, -0.8), (-0.3, 0.4))], ring(cameras), Trouble()),
                  40, fuser, wrong)
    assert result.error < 0.06
    assert fuser.counters['sides_exchanged'] == pytest.approx(2 * 30, abs=4)


@pytest.mark.parametrize('metres', [0.5, 2.0])
def test_a_camera_whose_place_jumps_moves_nobody_and_makes_nobody(metres: float) -> None:
    def jumping(frame: int, views: list[View]) -> list[View]:
        move = np.eye(4)
        move[0, 3] = metres if 15 <= frame < 30 else 0.0
        return [views[0], replace(views[1], camera_T_world=views[1].camera_T_world @ move), *views[2:]]

    steady, shaken = (told(Scene(crowd(3, 11), ring(4), Trouble(), 11), change=change) for change in (None, jumping))
    assert shaken.switches == shaken.twice == shaken.ghosts == shaken.missed == 0
    for before, after in zip(steady.people, shaken.people, strict=True):
        for a, b in zip(before, after, strict=True):
            assert a.id == b.id
            assert np.nanmax(np.linalg.norm((a.position - b.position)[LIMB], axis=-1)) < 0.15
            assert np.nanmean(np.linalg.norm(a.position - b.position, axis=-1)) < 0.05
