"""Who is who across views, and the parts of fusion that have no past: sightings, bodies, the filter of joints."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import Scene, Trouble, Walker, crowd, human17, ring
from scipy.spatial.transform import Rotation

from pose3d_ros.fuse import match
from pose3d_ros.fuse.body import MIDDLE, BoneLengths, middle_joints, plausible
from pose3d_ros.fuse.joint_filter import JointFilter
from pose3d_ros.fuse.observations import LIMB, Observations, observe, usable
from pose3d_ros.fuse.views import View
from pose3d_ros.skeleton import HUMAN17

NOBODY_MEANT = np.full(100, -1)  # by cameras' own trackers


def sightings(scene: Scene, frame: int = 0) -> Observations:
    return observe(scene.views(frame), scene.stamp_ns(frame), Counter())


def who(seen: Observations) -> NDArray:
    """Return which walker each sighting is of, from the ids that scenes give."""
    return np.array([id_ % 100 for _, id_ in seen.key])


@pytest.mark.parametrize('mono', [True, False])
@pytest.mark.parametrize('cameras', [3, 6])
def test_groups_are_the_people(cameras: int, mono: bool) -> None:
    wrong = total = 0
    for seed in range(5):
        trouble = Trouble(outliers=0.1, hidden_joints=0.1, swaps=0.1, jitter_s=0.04, mono=mono)
        seen = sightings(Scene(crowd(5, seed), ring(cameras), trouble, seed))
        groups = match.grouped(seen, np.arange(len(seen)))
        assert sorted(n for group in groups for n in group) == list(range(len(seen)))
        for group in groups:
            assert len(set(seen.view[group])) == len(group)
            wrong += len(set(who(seen)[group])) > 1
        total += len(groups)
    assert wrong <= (0 if mono else 1)  # rays alone may meet by chance
    assert total <= 5 * 5 * 1.12  # hardly anybody is split


def test_two_people_whose_rays_meet_are_told_apart_by_their_mono_3d() -> None:
    walkers = [Walker((0.0, 0.0), heading=0.3), Walker((0.0, 0.9), heading=0.3)]
    seen = sightings(Scene(walkers, ring(2), Trouble(noise=2.0)))
    first, second = np.nonzero(seen.view[:, None] < seen.view)
    cost = match.pair_costs(seen, first, second)
    same = who(seen)[first] == who(seen)[second]
    assert cost[same].max() < match.GATE < cost[~same].min()


def test_a_cost_does_not_depend_on_who_is_first() -> None:
    seen = sightings(Scene(crowd(3), ring(3), Trouble(jitter_s=0.04)))
    first, second = np.nonzero(seen.view[:, None] < seen.view)
    np.testing.assert_allclose(match.pair_costs(seen, first, second), match.pair_costs(seen, second, first), rtol=1e-9)


def test_sightings_go_to_the_people_who_are_followed_and_exchanged_sides_are_named() -> None:
    scene = Scene(crowd(6, 2), ring(4), Trouble(outliers=0.1, swaps=0.3), 2)
    seen, truth = sightings(scene), scene.truth(0)[:, LIMB]
    small = np.broadcast_to(0.02**2 * np.eye(3), (6, 12, 3, 3))
    compared = match.compare(seen, truth, np.zeros_like(truth), small, small)
    row = match.assign(seen, compared.cost, NOBODY_MEANT[:len(seen)])
    np.testing.assert_array_equal(row, who(seen))
    flipped = compared.exchanged[:, row, np.arange(len(seen))].all(axis=0)
    assert 0.1 < flipped.mean() < 0.6
    straight = sightings(Scene(crowd(6, 2), ring(4), Trouble(outliers=0.1), 2))
    exchanged = match.compare(straight, truth, np.zeros_like(truth), small, small).exchanged
    assert not exchanged[:, who(straight), np.arange(len(straight))].any()


def test_what_a_camera_remembers_decides_only_between_people_who_fit() -> None:
    seen = sightings(Scene([Walker((0.0, 0.0))], ring(1)))
    second = np.array([1])
    assert match.assign(seen, np.array([[1.0], [1.5]]), second).tolist() == [1]
    assert match.assign(seen, np.array([[1.0], [1.5]]), NOBODY_MEANT[:1]).tolist() == [0]
    assert match.assign(seen, np.array([[1.0], [8.0]]), second).tolist() == [0]
    assert match.assign(seen, np.array([[8.0], [8.0]]), second).tolist() == [-1]


@pytest.mark.parametrize('dear', [0.0, 1e9, np.inf])
def test_a_sighting_of_somebody_else_is_evicted(dear: float) -> None:
    seen = sightings(Scene([Walker((0.0, 0.0)), Walker((1.2, 0.7))], ring(4)))
    row = who(seen).copy()
    intruder = int(np.flatnonzero(who(seen) == 1)[0])
    row[(seen.view == seen.view[intruder])] = -1
    row[intruder] = 0
    cost = np.zeros((2, len(seen)))
    cost[1] = dear  # of sightings that nothing speaks against
    assert match.evict(seen, row, cost) == [intruder]
    assert row[intruder] == -1
    assert (np.delete(row, intruder) == np.where(seen.view == seen.view[intruder], -1, who(seen))[
        np.arange(len(seen)) != intruder]).all()


def test_nan_rays_low_confidence_and_ids_given_twice() -> None:
    view = Scene(crowd(3), ring(1), Trouble(noise=1.0)).views(0)[0]
    a, b, c = view.people_2d
    blind = replace(a, rays=np.full_like(a.rays, np.nan))
    unsure = replace(b, joint_confidence=np.full_like(b.joint_confidence, 0.01))
    sure = replace(c, confidence=0.95)
    counters: Counter[str] = Counter()
    people = [blind, unsure, sure, replace(b, id=c.id, confidence=0.5), replace(c, id=9)]  # the last: twice the same
    seen = observe([replace(view, people_2d=people)], view.stamp_ns, counters)
    assert seen.key == [('camera0', sure.id), ('camera0', 0)]
    assert counters['duplicate_ids'] == 1
    assert counters['too_little_seen'] == 2
    assert counters['duplicates'] == 1
    assert np.isnan(seen.mono[1]).all()


def test_late_views_are_left_out_and_the_newest_of_a_camera_counts() -> None:
    a, b = Scene(crowd(1), ring(2)).views(0)
    old, counters = replace(a, stamp_ns=a.stamp_ns - 100_000_000), Counter[str]()
    late = replace(b, stamp_ns=b.stamp_ns - 1_000_000_000)
    assert usable([old, a, late], a.stamp_ns, 0.25, counters) == [a]
    assert counters['views_late'] == 1


def test_a_view_needs_a_rigid_place_and_a_focal_length() -> None:
    with pytest.raises(ValueError, match='north: camera_T_world is no rigid'):
        View('north', np.diag([2.0, 2, 2, 1]), 0, [], 900.0, 1280, 720)
    for mirrored in (np.diag([-1.0, 1, 1, 1]), np.eye(4)[:3], np.eye(4) + np.eye(4)[[3]].T @ np.eye(4)[[0]]):
        with pytest.raises(ValueError, match='no rigid'):
            View('north', mirrored, 0, [], 900.0, 1280, 720)
    with pytest.raises(ValueError, match='focal length is 0'):
        View('north', np.eye(4), 0, [], 0.0, 1280, 720)


def test_bodies_have_bones_of_lengths_that_people_have() -> None:
    body = human17(Walker((0.0, 0.0)).joints(0.3))
    scattered = body + np.random.default_rng(0).normal(0, 0.5, body.shape)
    few = np.full_like(body, np.nan)
    few[:3] = body[:3] * 5
    assert plausible(np.stack([body, 0.7 * body, 2.5 * body, 0.2 * body, scattered, few])).tolist() == [
        True, True, False, False, False, True]


def test_bones_draw_what_is_uncertain() -> None:
    body = human17(Walker((0.0, 0.0)).joints(0.0))[None]
    sharp = np.broadcast_to(1e-4 * np.eye(3), (1, 17, 3, 3)).copy()
    bones = BoneLengths()
    bones.add(1)
    for _ in range(20):
        bones.learn(body, sharp)
    wrist, elbow = HUMAN17.index('left_wrist'), HUMAN17.index('left_elbow')
    off, doubt = body.copy(), sharp.copy()
    direction = (body[0, wrist] - body[0, elbow]) / np.linalg.norm(body[0, wrist] - body[0, elbow])
    off[0, wrist] += 0.2 * direction
    doubt[0, wrist] = 0.3**2 * np.eye(3)
    pulled, surer = bones.pulled(off, doubt)
    assert np.linalg.norm(pulled[0, wrist] - body[0, wrist]) < 0.01
    assert np.linalg.norm(pulled[0] - body[0], axis=-1)[np.arange(17) != wrist].max() < 0.01
    assert np.sqrt(direction @ surer[0, wrist] @ direction) < 0.05   # the length says how far the wrist is
    across = np.cross(direction, (0.0, 0.0, 1.0)) / np.linalg.norm(np.cross(direction, (0.0, 0.0, 1.0)))
    assert np.sqrt(across @ surer[0, wrist] @ across) == pytest.approx(0.3)
    assert (np.linalg.eigvalsh(surer) > 0).all()
    assert BoneLengths().pulled(off[:0], doubt[:0])[0].shape == (0, 17, 3)


def test_the_middle_of_the_body_comes_from_mono_3d_wherever_that_stands() -> None:
    truth = human17(Walker((1.0, 2.0)).joints(0.4))
    turn = Rotation.from_rotvec([0.3, -0.8, 1.0])
    mono = turn.apply(truth) + (3.0, -1.0, 2.0)
    limbs = np.where(np.isin(np.arange(17), LIMB)[:, None], truth, np.nan)[None]
    covariance = np.broadcast_to(1e-4 * np.eye(3), (1, 17, 3, 3))
    found, spread = middle_joints(limbs, covariance, mono[None], np.array([0]))
    np.testing.assert_allclose(found[0], truth[MIDDLE], atol=1e-9)
    assert (np.linalg.eigvalsh(spread) > 0).all()
    alone, _ = middle_joints(limbs, covariance, mono[:0].reshape(0, 17, 3), np.array([], dtype=np.intp))
    names = [HUMAN17.joints[j] for j in MIDDLE]
    np.testing.assert_allclose(alone[0, names.index('thorax')], truth[HUMAN17.index('thorax')], atol=1e-9)
    assert np.isnan(alone[0, names.index('head')]).all()


def test_the_filter_learns_speed_and_its_covariance_is_honest() -> None:
    rng = np.random.default_rng(3)
    people, step, sigma = 300, 0.04, np.array([0.02, 0.02, 0.2])
    joints = JointFilter(np.array([False]))
    joints.add(people)
    start, speed = rng.normal(0, 1, (people, 1, 3)), rng.normal(0, 1, (people, 1, 3))
    noise = np.broadcast_to(np.diag(sigma**2), (people, 1, 3, 3))
    for frame in range(40):
        joints.predict(step if frame else 0.0)
        truth = start + frame * step * speed
        joints.update(truth + rng.normal(0, sigma, truth.shape), noise)
    off = (joints.position - truth)[:, 0]
    inside = np.einsum('ni,ni->n', off, np.linalg.solve(joints.covariance[:, 0], off[..., None])[..., 0]) < 6.251
    assert inside.mean() > 0.88
    assert np.abs(off[:, 0]).mean() < 0.02 * 0.8
    assert np.abs(joints.velocity - speed)[..., :2].mean() < 0.25
    assert (np.linalg.eigvalsh(joints.covariance) > 0).all()


def test_the_filter_doubts_a_jump_and_believes_it_in_the_end() -> None:
    joints = JointFilter(np.array([True]))
    joints.add(1)
    noise = 0.01**2 * np.eye(3)[None, None]
    for _ in range(20):
        joints.predict(0.04)
        joints.update(np.zeros((1, 1, 3)), noise)
    joints.predict(0.04)
    assert joints.update(np.ones((1, 1, 3)), noise).all()
    assert np.abs(joints.position).max() < 0.5
    for _ in range(40):
        joints.predict(0.04)
        joints.update(np.ones((1, 1, 3)), noise)
    assert np.abs(joints.position - 1).max() < 0.05
