"""Faults of single cameras move nobody and make nobody: what fusion does is compared with what it does without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import HARD, Change, Scene, Told, Trouble, Walker, crowd, ring, told

from pose3d_ros.fuse.fuser import Fuser
from pose3d_ros.fuse.observations import LIMB
from pose3d_ros.fuse.views import View

FRAMES = 40
FAULT = range(15, 32)   # frames in which something is wrong


def one_camera(change: Change) -> Change:
    """The change to the view of camera1 during FAULT."""
    def changed(frame: int, views: list[View]) -> list[View]:
        result = []
        for view in views:
            result += change(frame, [view]) if view.camera == 'camera1' and frame in FAULT else [view]
        return result
    return changed


def restarted(_: int, views: list[View]) -> list[View]:
    """Ids from 1 again, in another order."""
    return [replace(view, people_2d=[replace(p, id=1 + (p.id + 1) % 3) for p in view.people_2d],
                    people=[replace(p, id=1 + (p.id + 1) % 3) for p in view.people]) for view in views]


def permuted(_: int, views: list[View]) -> list[View]:
    """Everybody has the id of the next."""
    return [replace(view, people_2d=[replace(p, id=200 + (p.id + 1) % 3) for p in view.people_2d],
                    people=[replace(p, id=200 + (p.id + 1) % 3) for p in view.people]) for view in views]


def no_numbers(_: int, views: list[View]) -> list[View]:
    """Rays that are NaN."""
    return [replace(view, people_2d=[replace(p, rays=np.full_like(p.rays, np.nan)) for p in view.people_2d])
            for view in views]


def absurd(_: int, views: list[View]) -> list[View]:
    """Rays that are numbers, and nothing else."""
    return [replace(view, people_2d=[replace(p, rays=np.full_like(p.rays, 1e30)) for p in view.people_2d])
            for view in views]


def one_id(_: int, views: list[View]) -> list[View]:
    """Everybody has the same id."""
    return [replace(view, people_2d=[replace(p, id=201) for p in view.people_2d],
                    people=[replace(p, id=201) for p in view.people]) for view in views]


def far_away(frame: int, views: list[View]) -> list[View]:
    """A bad place for some frames, another every time."""
    if frame % 4:
        return views
    move = np.eye(4)
    move[:3, 3] = np.random.default_rng(frame).uniform(-1.5, 1.5, 3)
    return [replace(view, camera_T_world=view.camera_T_world @ move) for view in views]


def run(change: Change, trouble: Trouble = Trouble()) -> Told:  # noqa: B008 (frozen)
    return told(Scene(crowd(3, 12, 0.7), ring(4), trouble, 12), FRAMES, Fuser(), change)


@pytest.fixture(scope='module')
def steady() -> Told:
    return run(lambda _, views: views)


def moved(before: Told, after: Told) -> float:
    """Return the farthest that anybody is moved, in the mean of the limbs [m]; the same people must be there."""
    gaps = []
    for ours, theirs in zip(before.people, after.people, strict=True):
        assert [person.id for person in ours] == [person.id for person in theirs]
        gaps += [np.nanmean(np.linalg.norm((a.position - b.position)[LIMB], axis=-1))
                 for a, b in zip(ours, theirs, strict=True)]
    return float(max(gaps))


@pytest.mark.parametrize('fault', [restarted, permuted, no_numbers, absurd, one_id, far_away])
def test_what_one_camera_gets_wrong_moves_nobody_by_5_cm_and_makes_nobody(fault: Change, steady: Told) -> None:
    result = run(one_camera(fault))
    assert moved(steady, result) < 0.05
    assert result.switches == result.ghosts == result.twice == result.missed == 0


def test_a_third_of_the_views_dropped_moves_nobody_by_5_cm(steady: Told) -> None:
    rng = np.random.default_rng(3)
    result = run(lambda _, views: [view for view in views if rng.random() > 0.3])
    assert moved(steady, result) < 0.05
    assert result.switches == result.ghosts == result.twice == result.missed == 0


@pytest.mark.parametrize('max_age', ['within', 'beyond'])
def test_a_camera_that_is_300_ms_late_moves_nobody_by_5_cm(max_age: str, steady: Told) -> None:
    """Its views come with the stamps of when they were taken; those beyond max_age_s are left out and counted."""
    delay = 5 if max_age == 'within' else 8
    held: list[View] = []

    def late(frame: int, views: list[View]) -> list[View]:
        held.append(views[1])
        return [views[0], *(held[-1 - delay:-delay] if frame in FAULT else views[1:2]), *views[2:]]

    result = run(late)
    assert moved(steady, result) < 0.05
    assert result.switches == result.ghosts == result.twice == result.missed == 0


def test_an_id_given_anew_to_somebody_else_does_not_keep_him_out() -> None:
    """Somebody comes into the view of one camera only, which starts again with ids from 1 as he does."""
    first, second = Walker((0.0, 0.0)), Walker((1.3, 1.0))
    fuser = Fuser()
    scene = Scene([first, second], ring(3), Trouble(), 3)

    def alone(frame: int, views: list[View]) -> list[View]:
        result = []
        for n, view in enumerate(views):
            wanted = [p for p in view.people_2d if p.id % 100 == 0] if n != 1 or frame < 20 else [
                replace(p, id=1) for p in view.people_2d if p.id % 100 == 1]
            ids = {p.id for p in wanted}
            mono = view.people if n != 1 or frame < 20 else [
                replace(p, id=1) for p in view.people if p.id % 100 == 1]
            if n == 1 and frame < 20:   # the id that is given anew meant the other one before
                wanted, mono = [replace(p, id=1) for p in wanted], [replace(p, id=1) for p in mono if p.id % 100 == 0]
                ids = {1}
            result.append(replace(view, people_2d=wanted, people=[p for p in mono if p.id in ids]))
        return result

    result = told(scene, 110, fuser, alone, near=0.6)
    assert len(result.people[-1]) == 2
    assert result.switches == result.twice == 0


def test_faults_on_top_of_everything_else_make_no_second_people() -> None:
    result = run(one_camera(permuted), HARD)
    assert result.switches == result.twice == result.ghosts == 0
