"""Soundness of the lifting weights that come with the package: no flipped axes, plausible depth, feet on the floor."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic import CAMERA, body, placed, seen
from walkers import hide, standing

from pose3d_ros.camera import Camera
from pose3d_ros.lift import LIFTERS, Lifter, lifter_file
from pose3d_ros.records import JointState, Person2D
from pose3d_ros.refine import Refiner
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.skeleton import BLAZEPOSE33, COCO17, HUMAN17, LIMBS12

LIMBS = HUMAN17.indices(LIMBS12.joints)
HEADINGS = np.arange(8) * np.pi / 4


@dataclass(frozen=True)
class Bounds:
    """What is asked of a lifter.

    Before a level camera: depth, farthest, errors of the distance, median and greatest, as shares of it; floor: feet
    off the floor, per metre of distance; across: of the pelvis [m], pose: of joints against the pelvis, mean [m]. half,
    half_farthest: error of the pelvis of half a body, median and greatest [m]. surer: variance of the distance, in
    units of statures, where the stature is known over where it is not. inside: share of joints inside their 90 %
    ellipsoids. leaves, leaves_speed: how far the thorax of somebody who leaves the image jumps [m], and how fast it is
    said to be [m/s].
    """

    depth: float = 0.15
    farthest: float = 0.25
    floor: float = 0.04
    across: float = 0.1
    pose: float = 0.12
    half: float = 0.6
    half_farthest: float = 1.2
    surer: float = 0.4
    inside: float = 0.8
    leaves: float = 0.1
    leaves_speed: float = 3.0


BOUNDS = {'window': Bounds(), 'parts': Bounds(), 'posenet3d': Bounds(surer=0.6)}


@pytest.fixture(name='name', scope='module', params=LIFTERS)
def _name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope='module')
def bounds(name: str) -> Bounds:
    return BOUNDS[name]


@pytest.fixture(scope='module')
def lifter(name: str) -> Lifter:
    return Lifter.open(name, Wanted('cpu', threads=1))


def limbs_of(points: NDArray) -> NDArray:
    return points[BLAZEPOSE33.indices(LIMBS12.joints)]


def hips(points: NDArray) -> NDArray:
    return points[BLAZEPOSE33.indices(['left_hip', 'right_hip'])].mean(axis=0)


def test_the_shipped_model_names_its_joints_data_and_licence(lifter: Lifter) -> None:
    metadata = lifter.engine.metadata
    assert json.loads(metadata['input_joints']) == [*LIMBS12.joints, 'ears']
    assert 'mocap.cs.cmu.edu' in metadata['notice'] and metadata['training_command'].startswith('pose3d train ')
    assert metadata['licence'] == 'Apache-2.0' and metadata['version']
    assert all(lifter_file(name).stat().st_size < 20e6 for name in LIFTERS)


def at_joint_centres(person: Person2D) -> Person2D:
    """Return the person without BlazePose's name on it: these figures have joints where bodies have them."""
    chosen = BLAZEPOSE33.indices(COCO17.joints)
    return Person2D(COCO17, person.pixels[chosen], person.rays[chosen], person.sigma[chosen],
                    person.joint_confidence[chosen], person.depth[chosen], person.box, person.confidence)


def test_people_on_the_floor_before_a_level_camera_are_where_they_are(lifter: Lifter, bounds: Bounds) -> None:
    """Near their distance, feet on the floor, head up, whatever way people face."""
    depth_errors, floor_errors, pose_errors = [], [], []
    for z in (2.5, 4.0, 7.0):
        for heading in HEADINGS:
            points = standing(z, heading, x=0.3)
            person = lifter([at_joint_centres(seen(points))], CAMERA, 0)[0]
            depth_errors.append(abs(person.joint('pelvis')[2] / hips(points)[2] - 1))
            ankles = [person.joint('left_ankle')[1], person.joint('right_ankle')[1]]
            floor_errors.append((np.nanmean(ankles) - (1.2 - 0.09)) / z if np.isfinite(ankles).any() else 0.0)
            assert person.joint('head')[1] < person.joint('thorax')[1] < person.joint('pelvis')[1]
            assert np.linalg.norm(person.joint('pelvis')[:2] - hips(points)[:2]) < bounds.across
            own = person.position - person.joint('pelvis')
            pose_errors.append(np.linalg.norm(own[LIMBS] - (limbs_of(points) - hips(points)), axis=1))
    assert np.median(depth_errors) < bounds.depth and max(depth_errors) < bounds.farthest
    assert np.abs(floor_errors).max() < bounds.floor
    assert np.nanmean(pose_errors) < bounds.pose


def test_left_is_left_seen_from_the_front_and_from_behind(lifter: Lifter) -> None:
    for heading, sign in ((0.0, 1), (np.pi, -1), (0.5, 1), (np.pi - 0.5, -1)):
        person = lifter([seen(standing(4.0, heading))], CAMERA, 0)[0]
        for joint in ('shoulder', 'hip'):
            assert sign * (person.joint(f'left_{joint}')[0] - person.joint(f'right_{joint}')[0]) > 0.05


def test_turning_the_person_turns_the_result(lifter: Lifter) -> None:
    for heading in HEADINGS:
        points = standing(4.0, heading)
        person = lifter([seen(points)], CAMERA, 0)[0]
        across = person.joint('left_shoulder') - person.joint('right_shoulder')
        truth = np.diff(points[BLAZEPOSE33.indices(['right_shoulder', 'left_shoulder'])], axis=0)[0]
        turned = np.arctan2(across[2], across[0]) - np.arctan2(truth[2], truth[0])
        assert abs((turned + np.pi) % (2 * np.pi) - np.pi) < np.radians(35)


def test_a_mirror_image_gives_nearly_the_mirror_image(lifter: Lifter) -> None:
    for heading in HEADINGS[::2]:
        points = standing(4.0, heading, x=0.5)
        image = points[BLAZEPOSE33.mirror] * [-1, 1, 1]
        person, reflected = lifter([seen(points), seen(image)], CAMERA, 0)
        back = reflected.position[HUMAN17.mirror] * [-1, 1, 1]
        assert np.nanmean(np.linalg.norm(back - person.position, axis=1)) < 0.1


def test_another_focal_length_gives_the_same_metres(lifter: Lifter) -> None:
    double = Camera(2 * CAMERA.width, 2 * CAMERA.height, 2 * CAMERA.fx, 2 * CAMERA.fy, 2 * CAMERA.cx, 2 * CAMERA.cy)
    points = standing(4.0, 0.4)
    np.testing.assert_allclose(lifter([seen(points, double)], double, 0)[0].position,
                               lifter([seen(points)], CAMERA, 0)[0].position, atol=1e-5)


@pytest.mark.parametrize('hidden', [('knee', 'ankle'), ('hip', 'knee', 'ankle'), ('left_',), ('right_',),
                                    ('wrist', 'elbow'), ('left_ear', 'right_ear')], ids='+'.join)
def test_half_a_body_has_a_place(lifter: Lifter, bounds: Bounds, hidden: tuple[str, ...]) -> None:
    errors = []
    for heading in HEADINGS:
        points = standing(3.0, heading, height=1.4)
        found = lifter([hide(seen(points), *hidden)], CAMERA, 0)
        assert len(found) == 1 and np.isfinite(found[0].joint('pelvis')).all()
        errors.append(np.linalg.norm(found[0].joint('pelvis') - hips(points)))
    assert np.median(errors) < bounds.half and max(errors) < bounds.half_farthest


@pytest.mark.parametrize('heading', [0.0, 0.6])
def test_who_leaves_the_image_below_does_not_jump(lifter: Lifter, bounds: Bounds, heading: float) -> None:
    """Somebody walks up to the camera until the hips are out of view, which not every lifter can do without."""
    own, refine, off, speed, bodies = lifter.another(), Refiner(), [], [], []
    shoulders = BLAZEPOSE33.indices(['left_shoulder', 'right_shoulder'])
    for k in range(40):
        points = placed(body(k / 5), 0.1, 2.6 - 0.04 * k, heading, 1.4)
        found = own([replace(seen(points), id=1)], CAMERA, k * 33_333_333)
        (person,) = refine(found, k * 33_333_333)
        off.append(person.joint('thorax') - points[shoulders].mean(axis=0))
        speed.append(np.linalg.norm(person.velocity[HUMAN17.index('thorax')]))
        bodies.append(person.body is not None)
        assert person.height == own.stature
    assert (own.dropped, own.spared) == (0, bodies.count(False) if own.body_model else 0)
    assert bodies == sorted(bodies, reverse=True) and not bodies[-1]
    assert np.linalg.norm(np.diff(off, axis=0), axis=1).max() < bounds.leaves
    assert max(speed[5:]) < bounds.leaves_speed


def test_no_nan_leaks_from_what_is_missing(lifter: Lifter) -> None:
    rng = np.random.default_rng(6)
    for frame in range(60):
        person = seen(standing(rng.uniform(1, 8), rng.uniform(0, 6), rng.uniform(-1, 1)), noise=3.0, rng=rng)
        person = hide(person, *rng.choice(BLAZEPOSE33.joints, rng.integers(0, 20), replace=False))
        for found in lifter([replace(person, id=1)], CAMERA, frame * 40_000_000):
            assert (found.joint_state != JointState.MISSING).all() and np.isfinite(found.position).all()
            assert (np.linalg.eigvalsh(found.covariance) > 0).all() and found.position[0, 2] > 0


def test_what_is_out_of_view_is_less_certain(lifter: Lifter) -> None:
    person = seen(standing(3.0, 0.3))
    cut = hide(person, 'knee', 'ankle', 'heel', 'foot')
    whole, half = (lifter([p], CAMERA, 0)[0] for p in (person, cut))
    for joint in ('left_knee', 'right_ankle'):
        number = HUMAN17.index(joint)
        assert half.joint_state[number] == JointState.INFERRED and half.joint_confidence[number] == 0
        assert half.covariance[number, 0, 0] > 3 * whole.covariance[number, 0, 0]  # across the view
    assert (half.joint_state[HUMAN17.indices(['left_wrist', 'right_shoulder'])] == JointState.OBSERVED).all()


def test_the_root_is_least_certain_along_its_ray(lifter: Lifter) -> None:
    for z in (2.0, 5.0, 8.0):
        found = lifter([seen(standing(z, 0.7, x=0.2 * z))], CAMERA, 0)[0]
        values, axes = np.linalg.eigh(found.covariance[0])
        assert values[2] > 10 * values[1]
        assert abs(axes[:, 2] @ found.position[0]) / np.linalg.norm(found.position[0]) > 0.99


def test_a_known_stature_makes_the_distance_certain_and_scales_it(lifter: Lifter, bounds: Bounds) -> None:
    tall = Lifter(lifter.engine, stature=1.87)
    usual, known = (one([seen(standing(4.0, 0.4))], CAMERA, 0)[0] for one in (lifter, tall))
    grow = 1.87 / lifter.stature
    np.testing.assert_allclose(known.position, usual.position * grow, rtol=1e-5, atol=1e-6)
    assert (known.height, usual.height) == (1.87, lifter.stature)
    assert known.covariance[0, 2, 2] / grow ** 2 < bounds.surer * usual.covariance[0, 2, 2]


def test_the_past_makes_a_trembling_person_steadier(lifter: Lifter) -> None:
    rng = np.random.default_rng(7)
    points = standing(4.0, 0.5)
    alone, together = [], []
    own = Lifter(lifter.engine)
    for frame in range(60):
        person = replace(seen(points, noise=6.0, rng=rng), id=1)
        alone.append(lifter([replace(person, id=0)], CAMERA, frame)[0].position[LIMBS])
        together.append(own([person], CAMERA, frame * 33_000_000)[0].position[LIMBS])
    tremble = [np.linalg.norm(np.std(np.stack(track[30:]), axis=0)) for track in (alone, together)]
    assert tremble[1] < tremble[0]


def test_people_are_lifted_alike_alone_and_together(lifter: Lifter) -> None:
    people = [seen(standing(2.0 + i, 0.8 * i, -1 + 0.3 * i, phase=i)) for i in range(8)]
    together = lifter(people, CAMERA, 0)
    assert len(together) == 8
    for person, found in zip(people, together):
        np.testing.assert_allclose(lifter([person], CAMERA, 0)[0].position, found.position, atol=1e-4)


def test_the_truth_lies_inside_the_covariances(lifter: Lifter, bounds: Bounds) -> None:
    inside = []
    for z in (2.5, 4.0, 6.0):
        for heading in HEADINGS:
            points = standing(z, heading)
            found = lifter([seen(points)], CAMERA, 0)[0]
            known = np.isfinite(found.position[LIMBS, 0])
            error = (limbs_of(points) - found.position[LIMBS])[known]
            distance = (error * np.linalg.solve(found.covariance[LIMBS][known], error[..., None])[..., 0]).sum(axis=1)
            inside.extend(distance < 6.25)
    assert np.mean(inside) > bounds.inside
