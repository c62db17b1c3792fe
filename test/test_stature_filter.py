"""How tall people are, learned over time through the refiner, and what that does to their motion."""

from dataclasses import replace

import numpy as np
import pytest
from floor import FRAME_NS, SIGMA, STATURE, Floor, lifted, walk
from scipy.spatial.transform import Rotation

from pose3d_ros.refine import Refiner
from pose3d_ros.skeleton import HUMAN17

PELVIS = HUMAN17.index('pelvis')
FLOOR = Floor.under(1.2, -15.0)
KNOWN_WELL = replace(FLOOR.plane, tilt_sigma=0.003, height_sigma=0.01)


def root_error(person, truth):
    return np.linalg.norm(person.position[PELVIS] - truth[PELVIS])


def tilted(plane, degrees):
    return replace(plane, up=Rotation.from_rotvec(np.radians([degrees, 0, 0])).apply(plane.up))


@pytest.mark.parametrize('stature', [1.45, 1.70, 1.95])
def test_the_stature_of_a_walker_is_learned_within_two_seconds_and_with_it_the_place(stature):
    learned, sigmas, before, after = [], [], [], []
    for seed in range(4):
        refine = Refiner()
        for truth, person, stamp in walk(FLOOR, stature, 3.0, np.random.default_rng(seed)):
            (got,) = refine([person], stamp, KNOWN_WELL)
            if stamp > 2e9:
                learned.append(got.height)
                sigmas.append(got.height_sigma)
                before.append(root_error(person, truth))
                after.append(root_error(got, truth))
    assert abs(np.mean(learned) / stature - 1) < 0.03
    assert np.abs(np.array(learned) - stature).mean() < 1.5 * np.mean(sigmas) < 1.5 * SIGMA
    assert np.mean(after) < 0.13
    if stature != STATURE:
        assert np.mean(after) < 0.3 * np.mean(before)


def test_what_is_published_after_seconds_is_as_sure_as_it_says():
    rng = np.random.default_rng(0)
    off, inside = [], []
    for _ in range(30):
        refine, stature = Refiner(), rng.normal(STATURE, SIGMA)
        turned = Rotation.from_rotvec(rng.normal(0, FLOOR.plane.tilt_sigma, 3)).apply(FLOOR.plane.up)
        believed = replace(FLOOR.plane, up=turned,
                           camera_height=FLOOR.plane.camera_height + rng.normal(0, FLOOR.plane.height_sigma))
        for truth, person, stamp in walk(FLOOR, stature, 3.0, rng, start=rng.uniform(3, 5), rate=10):
            (got,) = refine([person], stamp, believed)
            away = (got.position - truth)[PELVIS]
            inside.append(away @ np.linalg.solve(got.covariance[PELVIS], away) < 6.251)
        off.append((got.height - stature) / got.height_sigma)
    assert 0.5 < np.sqrt(np.mean(np.square(off))) < 1.3
    assert 0.85 < np.mean(inside) < 0.99


def test_sigma_does_not_fall_for_ever():
    refine = Refiner()
    for _, person, stamp in walk(FLOOR, 1.8, 40.0, np.random.default_rng(0), rate=10):
        (got,) = refine([person], stamp, FLOOR.plane)
    assert got.height_sigma > 0.014 * got.height


@pytest.mark.parametrize('rate', [5, 60])
def test_the_rate_of_the_camera_does_not_matter(rate):
    sigma = []
    for each in (30, rate):
        refine = Refiner()
        for _, person, stamp in walk(FLOOR, 1.8, 2.1, np.random.default_rng(1), rate=each):
            (got,) = refine([person], stamp, FLOOR.plane)
        sigma.append(got.height_sigma)
    assert 0.8 < sigma[1] / sigma[0] < 1.25


def test_jumping_does_not_ruin_it():
    refine, rng = Refiner(), np.random.default_rng(0)
    heights = []
    for frame in range(240):
        time = frame / 30
        lift = max(0.0, 0.45 * np.sin(2 * np.pi * time)) if time > 3 else 0.0   # in the air half of the time
        points = FLOOR.standing(1.80, 0.0, 4.0, phase=3 * time, lift=lift)
        (got,) = refine([lifted(points, 1.80, 0.0, rng)], frame * FRAME_NS, FLOOR.plane)
        heights.append(got.height)
    assert abs(heights[89] / 1.80 - 1) < 0.04
    assert np.abs(np.array(heights[90:]) / heights[89] - 1).max() < 0.03


def test_without_a_floor_nothing_changes():
    bare, floored = Refiner(), Refiner()
    for _, person, stamp in walk(FLOOR, 1.9, 1.0, np.random.default_rng(0)):
        (got,) = bare([person], stamp)
        assert got.height == STATURE and got.height_sigma == SIGMA
        np.testing.assert_array_equal(got.covariance, person.covariance)
        unseen = lifted(person.position, STATURE, hidden=('left_ankle', 'right_ankle'))
        (unseen_got,) = floored([unseen], stamp, FLOOR.plane)   # nor while the feet are out of view
        assert unseen_got.height == STATURE
        np.testing.assert_array_equal(unseen_got.covariance, unseen.covariance)


def test_what_was_learned_stays_while_floor_or_feet_are_out_of_view():
    refine, last, before, after = Refiner(), None, [], []
    for truth, person, stamp in walk(FLOOR, 1.9, 4.0, np.random.default_rng(0)):
        known = stamp < 2e9
        (got,) = refine([person], stamp, FLOOR.plane if known else None)
        if not known:
            assert abs(got.height - last) < 0.03 and got.height_sigma < 0.08
            before.append(root_error(person, truth))
            after.append(root_error(got, truth))
        last = got.height
    assert np.mean(after) < 0.6 * np.mean(before)


def test_another_id_is_another_person_and_reset_forgets():
    refine = Refiner()
    for _, person, stamp in walk(FLOOR, 1.9, 2.0, np.random.default_rng(0)):
        refine([person], stamp, FLOOR.plane)
    other = replace(person, id=2)
    first, second = refine([person, other], stamp + FRAME_NS, None)
    assert first.height > 1.78 and second.height == STATURE
    (late,) = refine([person], stamp + 100 * 10**9, None)
    assert late.height == STATURE
    refine([person], stamp + 101 * 10**9, FLOOR.plane)
    refine.reset()
    assert refine([person], 0, None)[0].height == STATURE


def test_people_do_not_mix():
    refine, alone = Refiner(), Refiner()
    tall = walk(FLOOR, 1.95, 2.0, np.random.default_rng(0), id=7)
    small = walk(FLOOR, 1.50, 2.0, np.random.default_rng(1), id=8)
    for (_, one, stamp), (_, two, _) in zip(tall, small):
        got = refine([one, two], stamp, FLOOR.plane)
        (only,) = alone([one], stamp, FLOOR.plane)
        assert [person.id for person in got] == [7, 8]
        np.testing.assert_allclose(got[0].position, only.position)
    assert got[0].height > 1.80 > 1.62 > got[1].height


def test_a_learned_size_is_no_motion():
    refine = Refiner()
    points = FLOOR.standing(1.90, 0.2, 4.0)
    for frame in range(60):
        feet = () if frame >= 10 else ('left_ankle', 'right_ankle')   # come into view only then
        (got,) = refine([lifted(points, 1.90, hidden=feet)], frame * FRAME_NS, FLOOR.plane)
        assert np.linalg.norm(got.velocity, axis=1).max() < 0.15      # m/s
    assert root_error(got, points) < 0.1 < root_error(lifted(points, 1.90), points)


def test_a_given_stature_stays_and_the_floor_corrects_the_distance():
    refine, before, after = Refiner(), [], []
    for truth, person, stamp in walk(FLOOR, 1.90, 3.0, np.random.default_rng(3), taken_for=1.90, sigma=0.01):
        (got,) = refine([person], stamp, FLOOR.plane)
        assert abs(got.height - 1.90) < 0.01 and got.height_sigma < 0.02
        before.append(root_error(person, truth))
        after.append(root_error(got, truth))
    assert np.mean(after) < 0.8 * np.mean(before)


@pytest.mark.parametrize('degrees', [-5, 5])
@pytest.mark.parametrize('distance', [2.5, 4.0, 6.0])
def test_a_floor_given_wrongly_leads_to_doubt_and_not_astray(degrees, distance):
    wrong, off, sure = tilted(FLOOR.plane, degrees), [], []
    for seed in range(3):
        refine = Refiner()
        for _, person, stamp in walk(FLOOR, STATURE, 2.5, np.random.default_rng(seed), start=distance, rate=15):
            (got,) = refine([person], stamp, wrong)
            if stamp > 1.5e9:
                off.append(abs(got.height - STATURE) / got.height_sigma)
                sure.append(got.height_sigma)
    assert np.mean(off) < 2.3
    assert np.mean(sure) > 0.09 or np.mean(off) < 0.5   # nothing learned, or known to be doubtful
