"""What feet on the floor say in a single image."""

from dataclasses import replace

import numpy as np
import pytest
from floor import SIGMA, STATURE, Floor, lifted
from scipy.spatial.transform import Rotation

from pose3d_ros.ground import Placed, place
from pose3d_ros.records import GroundPlane

PELVIS = 0


def placed(people, plane: GroundPlane) -> Placed:
    stacked = [np.stack([getattr(person, name) for person in people])
               for name in ('position', 'covariance', 'joint_state', 'joint_confidence')]
    return place(*stacked, STATURE, SIGMA, plane)


def crowd(floor: Floor, count: int, seed: int = 0, b_sigma: float = 0.04, **more):
    """Return truth (N, 17, 3) m, statures (N,) m and the lifted people: all sizes, 2 to 6 m away, all headings."""
    rng = np.random.default_rng(seed)
    statures = rng.normal(STATURE, SIGMA, count)
    truth = np.stack([floor.standing(stature, rng.uniform(-1, 1), rng.uniform(2, 6), rng.uniform(0, 6.28),
                                     rng.uniform(0, 6.28), **more) for stature in statures])
    truth += rng.normal(0, 0.02, (count, 1, 1)) * floor.plane.up   # no floor is flat, no step is like the other
    return truth, statures, [lifted(points, stature, rng.normal(0, b_sigma), rng)
                             for points, stature in zip(truth, statures)]


def root_error(position, truth):
    return np.linalg.norm(position[:, PELVIS] - truth[:, PELVIS], axis=-1).mean()


@pytest.mark.parametrize(('pitch', 'roll'), [(-15, 0), (-30, 25), (5, -90), (-60, 170)])
def test_people_on_the_floor_are_placed_where_they_stand_however_the_camera_is_held(pitch, roll):
    floor = Floor.under(1.2, pitch, roll)
    truth, statures, people = crowd(floor, 200)
    result = placed(people, floor.plane)
    before = np.stack([person.position for person in people])
    assert root_error(result.position, truth) < 0.6 * root_error(before, truth)
    assert np.abs(result.stature - statures).mean() < 0.75 * np.abs(STATURE - statures).mean()
    assert np.median(result.stature_sigma) < 0.8 * SIGMA


def test_a_camera_held_another_way_gives_the_same_people():
    level, rolled = Floor.under(1.2, -15), Floor.under(1.2, -40, 70)
    turn = rolled.rotation @ level.rotation.T
    points = level.standing(1.8, 0.3, 4.0)
    one, other = (placed([lifted(p, 1.8)], floor.plane) for p, floor in ((points, level), (points @ turn.T, rolled)))
    np.testing.assert_allclose(one.position @ turn.T, other.position, atol=1e-9)
    np.testing.assert_allclose(turn @ one.covariance @ turn.T, other.covariance, atol=1e-9)
    np.testing.assert_allclose(one.stature_sigma, other.stature_sigma)


def test_the_covariance_holds_what_it_says():
    rng = np.random.default_rng(1)
    floor = Floor.under(1.4, -20)
    inside, gain = [], []
    for seed in range(60):
        truth, _, people = crowd(floor, 10, seed)
        plane = floor.plane   # as the camera believes it to be
        turned = Rotation.from_rotvec(rng.normal(0, plane.tilt_sigma, 3)).apply(plane.up)
        result = placed(people, replace(plane, up=turned, camera_height=plane.camera_height
                                        + rng.normal(0, plane.height_sigma)))
        off = (result.position - truth)[:, PELVIS]
        inside.append(np.einsum('ni,nij,nj->n', off, np.linalg.inv(result.covariance[:, PELVIS]), off) < 6.251)
        before = np.stack([person.covariance[PELVIS] for person in people])
        gain.append(np.linalg.det(result.covariance[:, PELVIS]) / np.linalg.det(before))
    assert 0.86 < np.mean(inside) < 0.96    # of the 90 % ellipsoids
    assert np.median(gain) < 0.6


def test_the_covariance_is_positive_definite_and_rays_of_the_pelvis_stay():
    floor = Floor.under(1.2, -15)
    _, _, people = crowd(floor, 100)
    result = placed(people, floor.plane)
    assert np.linalg.eigvalsh(result.covariance).min() > 0
    for person, position in zip(people, result.position):
        before = person.position[PELVIS]
        np.testing.assert_allclose(position[PELVIS, :2] / position[PELVIS, 2], before[:2] / before[2], atol=1e-12)


def test_a_camera_near_the_floor_learns_little_and_does_no_harm():
    floor = Floor.under(0.2, 0.0)
    person = lifted(floor.standing(1.7, 0.0, 10.0), 1.7, rng=np.random.default_rng(0))
    result = placed([person], floor.plane)
    np.testing.assert_allclose(result.position[0], person.position, rtol=0.04)
    assert result.stature_sigma[0] > 0.95 * SIGMA
    truth, _, people = crowd(floor, 300)
    assert root_error(placed(people, floor.plane).position, truth) < root_error(
        np.stack([person.position for person in people]), truth)


@pytest.mark.parametrize('hidden', [('left_ankle', 'right_ankle'), ('left_ankle', 'right_ankle', 'left_knee')])
def test_feet_that_are_not_seen_say_nothing(hidden):
    floor = Floor.under(1.2, -15)
    person = lifted(floor.standing(1.9, 0.2, 3.0), 1.9, hidden=hidden)
    result = placed([person], floor.plane)
    np.testing.assert_allclose(result.position[0], person.position)
    np.testing.assert_allclose(result.covariance[0], person.covariance, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose((result.stature[0], result.stature_sigma[0]), (STATURE, SIGMA))


def test_the_lower_foot_counts_and_one_foot_alone_counts_less():
    floor = Floor.under(1.5, -20)
    points = floor.standing(1.8, 0.0, 3.5, phase=1.0)
    both, one = (placed([lifted(points, 1.8, hidden=hidden)], floor.plane) for hidden in ((), ('left_ankle',)))
    assert both.stature_sigma[0] < one.stature_sigma[0] < SIGMA
    raised = points.copy()
    raised[6] += 0.3 * floor.plane.up     # the left foot, on a step
    step = placed([lifted(raised, 1.8)], floor.plane)
    assert abs(step.stature[0] - both.stature[0]) < 0.02


@pytest.mark.parametrize('lift', [0.5, -0.8])
def test_feet_far_from_the_floor_do_not_move_a_person_far(lift):
    floor = Floor.under(1.2, -15)
    person = lifted(floor.standing(1.7, 0.0, 4.0, lift=lift), 1.7)
    result = placed([person], floor.plane)
    assert np.linalg.norm(result.position[0, PELVIS] - person.position[PELVIS]) < 0.03
    assert result.stature_sigma[0] > 0.95 * SIGMA


def test_a_stature_that_is_known_leaves_the_distance_to_the_floor():
    floor = Floor.under(1.4, -20)
    person = lifted(floor.standing(1.85, 0.0, 4.0), 1.85, b=0.06, taken_for=1.85, sigma=0.01)
    result = place(*(np.stack([getattr(person, name)]) for name in
                     ('position', 'covariance', 'joint_state', 'joint_confidence')), 1.85, 0.01, floor.plane)
    truth = floor.standing(1.85, 0.0, 4.0)
    assert abs(result.stature[0] - 1.85) < 0.01
    assert (np.linalg.norm(result.position[0, PELVIS] - truth[PELVIS])
            < 0.6 * np.linalg.norm(person.position[PELVIS] - truth[PELVIS]))


def test_nobody_and_people_without_a_pelvis_are_taken():
    plane = Floor.under().plane
    empty = place(np.zeros((0, 17, 3)), np.zeros((0, 17, 3, 3)), np.zeros((0, 17)), np.zeros((0, 17)), 1.7, 0.1, plane)
    assert empty.position.shape == (0, 17, 3)
    person = lifted(Floor.under().standing(1.7, 0.0, 3.0), 1.7)
    position, covariance = person.position.copy(), person.covariance.copy()
    position[PELVIS], covariance[PELVIS] = np.nan, np.nan
    result = placed([replace(person, position=position, covariance=covariance)], plane)
    np.testing.assert_allclose(result.position[0, 1:], position[1:])
