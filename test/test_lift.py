"""Lifting around a known network: what goes in, states, what becomes of what comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic import CAMERA, seen
from walkers import hide, standing

from pose3d_ros.lift import (
    ENGINE_INPUTS,
    ENGINE_OUTPUTS,
    GIVEN_SIGMA,
    INPUTS,
    WINDOW,
    Lifter,
    LiftModelError,
    enough_seen,
    input_points,
    input_rays,
    joint_states,
)
from pose3d_ros.records import JointState, Person2D, PersonState
from pose3d_ros.skeleton import BLAZEPOSE33, COCO17, HUMAN17, LIMBS12

LIMBS = HUMAN17.indices(LIMBS12.joints)
LOWER = ('left_knee', 'right_knee', 'left_ankle', 'right_ankle')


class KnownNetwork:
    """An engine that gives fixed outputs, and keeps what it was asked."""

    provider, precision, inputs, outputs = 'CPUExecutionProvider', 'fp32', ENGINE_INPUTS, ENGINE_OUTPUTS
    input_shapes = {'rays': (None, WINDOW, len(INPUTS), 2)}  # noqa: RUF012 (as an engine has it)

    def __init__(self, points: NDArray, **metadata: str) -> None:
        self.points = points.astype(np.float32)
        self.metadata = {'input_joints': json.dumps(INPUTS), 'output_joints': json.dumps(HUMAN17.joints),
                         'stature': '[1.7, 0.1]'} | metadata
        self.asked: list[Mapping[str, NDArray]] = []

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        self.asked.append(inputs)
        points = self.points[:len(inputs['rays'])]
        covariance = np.broadcast_to(0.01 * np.eye(3, dtype=np.float32), (*points.shape, 3))
        return {'relative': points - points[:, :1], 'root': points[:, 0], 'covariance': covariance}


def random_people(count: int, seed: int) -> NDArray:
    """Return joints (count, 17, 3) m in front of the camera; poses without meaning."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.4, (count, 17, 3)) + rng.uniform([-2, -1, 3], [2, 1, 8], (count, 1, 3))


def test_inputs_are_chosen_by_name_and_the_ears_give_one_point() -> None:
    person = seen(standing(4.0))
    rays, confidence = input_rays(BLAZEPOSE33, person.rays[None], person.joint_confidence[None])
    wrist, its_own = INPUTS.index('left_wrist'), person.rays[BLAZEPOSE33.index('left_wrist')]
    np.testing.assert_allclose(rays[0, wrist], its_own, rtol=1e-6)
    ears = person.rays[BLAZEPOSE33.indices(['left_ear', 'right_ear'])]
    np.testing.assert_allclose(rays[0, -1], ears.mean(axis=0), rtol=1e-6)
    assert (confidence > 0).all()

    one = hide(person, 'right_ear', 'left_wrist')
    rays, confidence = input_rays(BLAZEPOSE33, one.rays[None], one.joint_confidence[None])
    np.testing.assert_allclose(rays[0, -1], ears[0], rtol=1e-6)
    assert confidence[0, wrist] == 0 and (rays[0, wrist] == 0).all()


def test_a_skeleton_without_ears_will_do() -> None:
    _, confidence = input_rays(LIMBS12, np.ones((2, 12, 2)), np.zeros((2, 12)))
    assert (confidence[:, :12] > 0).all() and (confidence[:, 12] == 0).all()  # confidence 0 is not "missing"


def test_keypoints_of_coco_serve_all_inputs() -> None:
    person = seen(standing(4.0))
    chosen = BLAZEPOSE33.indices(COCO17.joints)
    of_coco = input_rays(COCO17, person.rays[None, chosen], person.joint_confidence[None, chosen])
    for ours, theirs in zip(of_coco, input_rays(BLAZEPOSE33, person.rays[None], person.joint_confidence[None])):
        np.testing.assert_allclose(ours, theirs)


def test_the_ears_lie_between_neck_and_head() -> None:
    points = random_people(5, 1)
    ears = np.einsum('k,nkc->nc', input_points()[INPUTS.index('ears')], points)
    neck, head = points[:, HUMAN17.index('neck')], points[:, HUMAN17.index('head')]
    np.testing.assert_allclose(ears, 0.75 * neck + 0.25 * head)
    np.testing.assert_allclose(input_points()[:12] @ points, points[:, LIMBS])


def test_joints_are_observed_or_inferred() -> None:
    confidence = np.full((1, 13), 0.8)
    confidence[0, [INPUTS.index(joint) for joint in LOWER]] = 0
    state, sure = joint_states(confidence)
    by_name, sure_by_name = (dict(zip(HUMAN17.joints, values[0])) for values in (state, sure))
    assert all(by_name[joint] == JointState.OBSERVED for joint in LIMBS12.joints if joint not in LOWER)
    for joint in (*LOWER, 'pelvis', 'spine', 'thorax', 'neck', 'head'):
        assert by_name[joint] == JointState.INFERRED
    assert all(sure_by_name[joint] == 0 for joint in LOWER) and sure_by_name['pelvis'] == pytest.approx(0.8)


def test_enough_are_four_joints_two_of_them_shoulders_or_hips() -> None:
    def shown(*joints: str) -> bool:
        return bool(enough_seen(np.array([[0.5 if joint in joints else 0.0 for joint in INPUTS]]))[0])

    assert shown('left_shoulder', 'right_shoulder', 'ears', 'left_elbow')
    assert shown('left_shoulder', 'left_hip', 'left_knee', 'left_elbow')
    assert not shown('left_shoulder', 'right_shoulder', 'ears')
    assert not shown('left_shoulder', 'left_elbow', 'left_wrist', 'ears', 'left_knee', 'right_knee')


def test_who_shows_too_little_is_left_out_and_counted() -> None:
    lifter = Lifter(KnownNetwork(random_people(4, 2)))
    person = seen(standing(4.0))
    people = [replace(hide(person, *hidden), id=id) for id, hidden in enumerate([
        (), ('shoulder', 'hip'), ('elbow', 'wrist', 'knee', 'ankle', 'ear', 'left_hip'), ('knee', 'ankle')], start=1)]
    assert [lifted.id for lifted in lifter(people, CAMERA, 1)] == [1, 4]
    assert lifter.dropped == 2
    assert lifter([], CAMERA, 2) == [] and lifter([people[1]], CAMERA, 3) == []
    assert lifter.dropped == 3


def test_two_skeletons_in_one_image_are_refused() -> None:
    lifter = Lifter(KnownNetwork(random_people(2, 3)))
    person = seen(standing(4.0))
    chosen = BLAZEPOSE33.indices(LIMBS12.joints)
    other = Person2D(LIMBS12, person.pixels[chosen], person.rays[chosen], person.sigma[chosen],
                     person.joint_confidence[chosen], person.depth[chosen], person.box, 0.9)
    assert len(lifter([other], CAMERA, 1)) == 1
    with pytest.raises(ValueError, match='one skeleton'):
        lifter([person, other], CAMERA, 2)


def test_what_is_known_of_a_person_is_passed_on() -> None:
    truth = random_people(1, 4)
    lifter = Lifter(KnownNetwork(truth))
    person = replace(hide(seen(standing(4.0)), 'knee', 'ankle'), id=7, state=PersonState.TRACKED, confidence=0.6)
    lifted = lifter([person], CAMERA, 1)[0]
    assert (lifted.id, lifted.state, lifted.confidence) == (7, PersonState.TRACKED, 0.6)
    assert (lifted.height, lifted.height_sigma) == (1.7, 0.1)
    np.testing.assert_allclose(lifted.position, truth[0], atol=1e-6)
    assert (lifted.joint_state != JointState.MISSING).all() and np.isfinite(lifted.covariance).all()


def test_the_network_is_told_time_ground_and_stature() -> None:
    network = KnownNetwork(random_people(1, 5))
    lifter = Lifter(network, stature=1.85)
    person = replace(seen(standing(4.0)), id=3)
    for step in range(3):
        lifter([person], CAMERA, step * 100_000_000, np.array([0.0, -1.0, 0.0]))
    asked = network.asked[-1]
    assert set(asked) == set(ENGINE_INPUTS) and all(array.dtype == np.float32 for array in asked.values())
    np.testing.assert_allclose(asked['age'][0, :3], [0, 0.1, 0.2], atol=1e-6)
    assert (asked['confidence'][0, :3].max(axis=1) > 0).all() and (asked['confidence'][0, 3:] == 0).all()
    np.testing.assert_allclose(asked['up'], [[0, -1, 0]])
    np.testing.assert_allclose(asked['stature'], [[1.85, GIVEN_SIGMA]])
    assert asked['landmarks'] == 1   # BlazePose's skeleton
    lifter.reset()
    lifter([person], CAMERA, 400_000_000)
    assert (network.asked[-1]['confidence'][0, 1:] == 0).all() and (network.asked[-1]['up'] == 0).all()


def test_keypoints_are_lifted_without_a_pipeline() -> None:
    truth = random_people(2, 6)
    lifter = Lifter(KnownNetwork(truth))
    person = seen(standing(4.0))
    keypoints = np.stack([person.pixels, np.full_like(person.pixels, np.nan), person.pixels])
    lifted = lifter.lift(keypoints, np.ones((3, 33)), CAMERA)
    np.testing.assert_allclose(lifted.position[[0, 2]], truth, atol=1e-6)
    assert np.isnan(lifted.position[1]).all() and (lifted.state[1] == JointState.MISSING).all()
    assert lifted.joints == HUMAN17.joints and (lifted.stature == 1.7).all()
    limbs = person.pixels[None, BLAZEPOSE33.indices(LIMBS12.joints)]
    as_limbs = lifter.lift(limbs, np.ones((1, 12)), CAMERA, 'limbs12')
    assert as_limbs.position.shape == (1, 17, 3) and lifter.engine.asked[-1]['landmarks'] == 0
    assert lifter.lift(np.zeros((0, 33, 2)), np.zeros((0, 33)), CAMERA).position.shape == (0, 17, 3)


@pytest.mark.parametrize(('shape', 'skeleton', 'told'), [
    ((1, 17, 2), 'blazepose33', '33'), ((33, 2), 'blazepose33', '33'), ((1, 17, 2), 'openpose', 'openpose')])
def test_keypoints_of_another_shape_or_skeleton_are_refused(shape: tuple[int, ...], skeleton: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Lifter(KnownNetwork(random_people(1, 7))).lift(np.zeros(shape), np.zeros(shape[:-1]), CAMERA, skeleton)


@pytest.mark.parametrize(('name', 'joints'), [('output_joints', '["pelvis"]'), ('input_joints', '["nose"]')])
def test_a_model_for_other_joints_is_refused(name: str, joints: str) -> None:
    with pytest.raises(LiftModelError, match='pelvis|nose'):
        Lifter(KnownNetwork(random_people(1, 8), **{name: joints}))


def test_a_model_that_does_not_say_what_it_is_is_refused() -> None:
    network = KnownNetwork(random_people(1, 9))
    del network.metadata['stature']
    with pytest.raises(LiftModelError, match='stature'):
        Lifter(network)


@pytest.mark.parametrize(('name', 'value'), [
    ('stature', '[1.7]'), ('stature', '"tall"'), ('input_joints', 'nose, ears'), ('output_joints', '17'),
    ('output_joints', '[0, 1]')])
def test_metadata_that_cannot_be_read_is_refused_with_what_is_possible(name: str, value: str) -> None:
    with pytest.raises(LiftModelError, match='choose window'):
        Lifter(KnownNetwork(random_people(1, 10), **{name: value}))
