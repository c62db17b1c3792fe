"""Lifting around a known network: what goes in, where the root comes to lie, states, covariances."""

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
    Lifter,
    LiftModelError,
    Uncertainty,
    input_points,
    input_rays,
    joint_states,
    root_position,
)
from pose3d_ros.records import JointState, Person2D, PersonState
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, LIMBS12

INPUTS = (*LIMBS12.joints, 'ears')
LIMBS = HUMAN17.indices(LIMBS12.joints)
LOWER = ('left_knee', 'right_knee', 'left_ankle', 'right_ankle')
CONSTANTS = Uncertainty(np.linspace(0.3, 0.08, 14), np.linspace(1.5, 1.0, 14),
                        np.full((2, 17), 0.03), np.full((2, 17), 0.08))


class KnownNetwork:
    """An engine that gives fixed outputs, and keeps what it was asked."""

    provider, precision = 'CPUExecutionProvider', 'fp32'

    def __init__(self, relative: NDArray, depth: NDArray, **metadata: str) -> None:
        self.relative, self.depth = relative, depth
        self.metadata = {'input_joints': json.dumps(INPUTS), 'output_joints': json.dumps(HUMAN17.joints),
                         'uncertainty': CONSTANTS.to_json()} | metadata
        self.asked: list[Mapping[str, NDArray]] = []

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        self.asked.append(inputs)
        count = len(inputs['rays'])
        return {'relative': self.relative[:count].astype(np.float32), 'depth': self.depth[:count].astype(np.float32)}


def random_people(count: int, rng: np.random.Generator) -> NDArray:
    """Return joints (count, 17, 3) m in front of the camera; poses without meaning."""
    return rng.normal(0, 0.4, (count, 17, 3)) + rng.uniform([-2, -1, 3], [2, 1, 8], (count, 1, 3))


def rays_of(points: NDArray) -> NDArray:
    joints = np.einsum('jk,nkc->njc', input_points(INPUTS), points)
    return joints[..., :2] / joints[..., 2:]


def test_inputs_are_chosen_by_name_and_the_ears_give_one_point() -> None:
    person = seen(standing(4.0))
    rays, confidence = input_rays(BLAZEPOSE33, person.rays[None], person.joint_confidence[None], INPUTS)
    wrist, its_own = INPUTS.index('left_wrist'), person.rays[BLAZEPOSE33.index('left_wrist')]
    np.testing.assert_allclose(rays[0, wrist], its_own, rtol=1e-6)
    ears = person.rays[BLAZEPOSE33.indices(['left_ear', 'right_ear'])]
    np.testing.assert_allclose(rays[0, -1], ears.mean(axis=0), rtol=1e-6)
    assert (confidence > 0).all()

    one = hide(person, 'right_ear', 'left_wrist')
    rays, confidence = input_rays(BLAZEPOSE33, one.rays[None], one.joint_confidence[None], INPUTS)
    np.testing.assert_allclose(rays[0, -1], ears[0], rtol=1e-6)
    assert confidence[0, wrist] == 0 and (rays[0, wrist] == 0).all()


def test_a_skeleton_without_ears_will_do() -> None:
    rays, confidence = input_rays(LIMBS12, np.ones((2, 12, 2)), np.zeros((2, 12)), INPUTS)
    assert (confidence[:, :12] > 0).all() and (confidence[:, 12] == 0).all()  # confidence 0 is not "missing"


def test_the_root_is_exact_for_exact_rays_whatever_is_seen() -> None:
    rng = np.random.default_rng(0)
    points = random_people(200, rng)
    confidence = rng.uniform(0.3, 1, (200, 13)) * (rng.random((200, 13)) < 0.5)
    confidence[:, 0] = 0.9
    root = root_position(rays_of(points), confidence, points - points[:, :1], points[:, 0, 2], INPUTS)
    np.testing.assert_allclose(root, points[:, 0], atol=1e-9)


def test_one_wild_joint_hardly_moves_the_root() -> None:
    rng = np.random.default_rng(1)
    points = random_people(100, rng)
    rays = rays_of(points)
    rays[:, 3] += 0.3
    root = root_position(rays, np.ones((100, 13)), points - points[:, :1], points[:, 0, 2], INPUTS)
    plain = 0.3 * (points[:, LIMBS[3], 2]) / 13
    assert np.median(np.linalg.norm(root - points[:, 0], axis=1) / plain) < 0.35


def test_joints_are_observed_inferred_or_missing() -> None:
    confidence = np.full((1, 13), 0.8)
    confidence[0, [INPUTS.index(joint) for joint in LOWER]] = 0
    state, sure = joint_states(confidence, INPUTS)
    by_name = dict(zip(HUMAN17.joints, state[0]))
    assert all(by_name[joint] == JointState.MISSING for joint in LOWER)
    assert all(by_name[joint] == JointState.OBSERVED for joint in LIMBS12.joints if joint not in LOWER)
    assert all(by_name[joint] == JointState.INFERRED for joint in ('pelvis', 'spine', 'thorax', 'neck', 'head'))
    assert (sure[state == JointState.MISSING] == 0).all() and sure[0, 0] == pytest.approx(0.8)

    only_legs = np.array([[0.8 if 'hip' in joint or joint in LOWER else 0.0 for joint in INPUTS]])
    by_name = dict(zip(HUMAN17.joints, joint_states(only_legs, INPUTS)[0][0]))
    assert by_name['pelvis'] == JointState.INFERRED and by_name['head'] == by_name['thorax'] == JointState.MISSING


def test_who_shows_too_little_is_left_out_and_counted() -> None:
    truth = random_people(4, np.random.default_rng(2))
    lifter = Lifter(KnownNetwork(truth - truth[:, :1], truth[:, 0, 2:]))
    person = seen(standing(4.0))
    people = [replace(hide(person, *hidden), id=id) for id, hidden in enumerate([
        (), ('shoulder', 'hip'), ('elbow', 'wrist', 'knee', 'ankle', 'ear', 'left_hip'), ('knee', 'ankle')], start=1)]
    assert [lifted.id for lifted in lifter(people, CAMERA)] == [1, 4]
    assert lifter.dropped == 2
    assert lifter([], CAMERA) == [] and lifter([people[1]], CAMERA) == []
    assert lifter.dropped == 3


def test_two_skeletons_in_one_image_are_refused() -> None:
    lifter = Lifter(KnownNetwork(np.zeros((2, 17, 3)), np.full((2, 1), 3.0)))
    person = seen(standing(4.0))
    chosen = BLAZEPOSE33.indices(LIMBS12.joints)
    other = Person2D(LIMBS12, person.pixels[chosen], person.rays[chosen], person.sigma[chosen],
                     person.joint_confidence[chosen], person.depth[chosen], person.box, 0.9)
    assert len(lifter([other], CAMERA)) == 1
    with pytest.raises(ValueError, match='one skeleton'):
        lifter([person, other], CAMERA)


def test_what_is_known_of_a_person_is_passed_on_and_missing_means_nan() -> None:
    truth = random_people(1, np.random.default_rng(3))
    lifter = Lifter(KnownNetwork(truth - truth[:, :1], truth[:, 0, 2:]))
    person = replace(hide(seen(standing(4.0)), 'knee', 'ankle'), id=7, state=PersonState.TRACKED, confidence=0.6)
    lifted = lifter([person], CAMERA)[0]
    assert (lifted.id, lifted.state, lifted.confidence) == (7, PersonState.TRACKED, 0.6)
    missing = lifted.joint_state == JointState.MISSING
    assert missing.sum() == 4 and np.isnan(lifted.height)
    for values in (lifted.position, lifted.velocity, lifted.covariance.reshape(17, 9)):
        assert np.isnan(values[missing]).all() and np.isfinite(values[~missing]).all()


def test_covariances_are_long_along_the_ray_and_grow_with_what_is_hidden() -> None:
    truth = random_people(1, np.random.default_rng(4)) * [0.1, 0.1, 1]
    lifter = Lifter(KnownNetwork(truth - truth[:, :1], truth[:, 0, 2:]))
    person = seen(standing(4.0))
    sizes = []
    for hidden in ((), ('knee', 'ankle'), ('knee', 'ankle', 'wrist', 'ear')):
        lifted = lifter([hide(person, *hidden)], CAMERA)[0]
        known = lifted.covariance[lifted.joint_state != JointState.MISSING]
        np.testing.assert_allclose(known, np.swapaxes(known, 1, 2), atol=1e-12)
        values, axes = np.linalg.eigh(known)
        assert values.min() > 1e-4
        ray = lifted.position[0] / np.linalg.norm(lifted.position[0])
        assert abs(axes[0, :, 2] @ ray) > 0.99 and values[0, 2] > 20 * values[0, 1]
        sizes.append(values[0, 2])
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_blurred_joint_is_less_certain_across_its_ray() -> None:
    truth = random_people(1, np.random.default_rng(5))
    lifter = Lifter(KnownNetwork(truth - truth[:, :1], truth[:, 0, 2:]))
    person = seen(standing(4.0))
    blurred = replace(person, sigma=np.where(np.arange(33) == BLAZEPOSE33.index('left_wrist'), 50.0, person.sigma))
    sharp_covariance, covariance = (lifter([p], CAMERA)[0].covariance for p in (person, blurred))
    wrist = HUMAN17.index('left_wrist')
    assert covariance[wrist, 0, 0] > 2 * sharp_covariance[wrist, 0, 0]
    np.testing.assert_allclose(np.delete(covariance, wrist, 0), np.delete(sharp_covariance, wrist, 0))


def test_uncertainty_survives_the_way_through_the_model_file() -> None:
    again = Uncertainty.from_json(CONSTANTS.to_json())
    np.testing.assert_allclose(again.root_depth, CONSTANTS.root_depth, atol=1e-5)
    np.testing.assert_allclose(again.along, CONSTANTS.along, atol=1e-5)


def test_a_model_that_does_not_say_what_it_is_is_refused() -> None:
    network = KnownNetwork(np.zeros((1, 17, 3)), np.ones((1, 1)), output_joints='["pelvis"]')
    with pytest.raises(LiftModelError, match='human17'):
        Lifter(network)
    del network.metadata['uncertainty']
    with pytest.raises(LiftModelError, match='uncertainty'):
        Lifter(network)
