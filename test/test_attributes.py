"""Pose attributes: the torso plane, which side is front, and what a detector's depth says of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from procedural import standing
from scipy.spatial.transform import Rotation

from pose3d_ros.attributes import (
    ATTRIBUTE_JOINTS,
    ATTRIBUTE_MIRROR,
    BACK,
    CALIBRATION,
    FRONT,
    ON_PLANE,
    THRESHOLD,
    UNKNOWN,
    Ordinal,
    attributes,
    from_people,
    from_person,
    labels,
    probabilities,
    relative_distances,
    seen_distances,
    signed_distances,
)
from pose3d_ros.camera import Camera
from pose3d_ros.pelvis import body_axes
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import BLAZEPOSE33, COCO17, DOF_GROUPS, HUMAN17, Skeleton

CAMERA = Camera(1280, 720, 600.0, 600.0, 640.0, 355.0)
TORSO = HUMAN17.indices(['left_shoulder', 'right_shoulder', 'left_hip', 'right_hip', 'pelvis'])


def people(count: int, seed: int = 0, bend: float = 0.08) -> NDArray:
    """Return bodies (count, 17, 3) m in random poses, turned any way; the pelvis in the middle of the hips."""
    rng = np.random.default_rng(seed)
    joints = np.stack([standing(phase) for phase in rng.uniform(0, 6, count)])
    limbs = HUMAN17.indices(ATTRIBUTE_JOINTS)
    joints = joints + rng.normal(0, bend, joints.shape)
    joints[:, limbs] += rng.normal(0, 0.2, (count, len(limbs), 3))
    joints[:, TORSO[4]] = joints[:, TORSO[2:4]].mean(axis=1)
    return np.einsum('nij,nkj->nki', Rotation.random(count, random_state=seed).as_matrix(), joints - joints[:, :1])


def of(joints: NDArray, **moved: tuple[float, float, float]) -> NDArray:
    """Return the joints with some moved by so much, m."""
    joints = joints.copy()
    for name, by in moved.items():
        joints[HUMAN17.index(name)] += by
    return joints


def seen(joints: NDArray, skeleton: Skeleton = BLAZEPOSE33) -> Person2D:
    """Return what a detector of perfect depth sees of joints (17, 3) m in the optical frame; ears about the head."""
    points = np.zeros((len(skeleton), 3)) + joints.mean(axis=0)
    for position, joint in enumerate(skeleton.joints):
        if joint in HUMAN17.joints:
            points[position] = joints[HUMAN17.index(joint)]
        elif joint.endswith('_ear'):
            aside = joints[HUMAN17.index('left_shoulder')] - joints[HUMAN17.index('right_shoulder')]
            points[position] = joints[HUMAN17.index('head')] + (0.2 if joint == 'left_ear' else -0.2) * aside
    pixels = CAMERA.project(points)
    middle = joints[0] / np.linalg.norm(joints[0])
    far = points @ middle
    # px about the middle of the hips, by which depth is counted: at its distance, across its ray.
    near = CAMERA.project(np.stack([joints[0], joints[0] + 1e-4 * np.cross(middle, [1.0, 0.0, 0.0])]))
    per_m = np.linalg.norm(near[1] - near[0]) / 1e-4
    depth = (far / (joints[0] @ middle) - 1) * per_m * (joints[0] @ middle)
    count = len(skeleton)
    return Person2D(skeleton, pixels, points[:, :2] / points[:, 2:], np.ones(count), np.ones(count), depth,
                    np.array([0.0, 0.0, 1.0, 1.0]), 0.9)


def test_groups_by_freedom_hold_every_joint_once_and_both_sides_alike() -> None:
    assert sorted(joint for group in DOF_GROUPS for joint in group) == sorted(HUMAN17.joints)
    for group in DOF_GROUPS:
        positions = HUMAN17.indices(group)
        assert set(HUMAN17.mirror[positions]) == set(positions)
    assert set(ATTRIBUTE_JOINTS) == {*DOF_GROUPS[1], *DOF_GROUPS[2]}


def test_front_is_where_the_chest_points_whichever_way_somebody_looks() -> None:
    ahead, behind = (0.0, 0.3, 0.0), (0.0, -0.3, 0.0)
    body = of(standing(), left_wrist=ahead, right_wrist=behind, left_knee=ahead, right_ankle=behind)
    for turn in Rotation.random(20, random_state=1).as_matrix():
        found = dict(zip(ATTRIBUTE_JOINTS, attributes(body @ turn.T)))
        assert found == {'head': ON_PLANE, 'left_elbow': ON_PLANE, 'right_elbow': ON_PLANE, 'left_wrist': FRONT,
                         'right_wrist': BACK, 'left_knee': FRONT, 'right_knee': ON_PLANE, 'left_ankle': ON_PLANE,
                         'right_ankle': BACK}
        chest = body_axes((body[TORSO[:2]].mean(axis=0) - body[0]) @ turn.T, (body[TORSO[2]] - body[TORSO[3]]) @ turn.T)
        assert signed_distances(of(body @ turn.T, head=tuple(0.2 * chest[:, 0])))[0] > 0.2


def test_distances_do_not_depend_on_the_frame_and_go_along_with_size() -> None:
    bodies = people(40)
    turn = Rotation.from_euler('xyz', [0.4, -2.0, 1.1]).as_matrix()
    np.testing.assert_allclose(signed_distances(bodies @ turn.T + [1.0, -3.0, 9.0]), signed_distances(bodies),
                               atol=1e-9)
    np.testing.assert_allclose(signed_distances(0.6 * bodies), 0.6 * signed_distances(bodies), atol=1e-12)
    np.testing.assert_allclose(relative_distances(1000 * bodies), relative_distances(bodies), atol=1e-9)
    assert np.array_equal(attributes(0.6 * bodies), attributes(bodies))


def test_a_mirror_image_has_the_same_front() -> None:
    bodies = people(40, seed=2)
    image = (bodies * [-1.0, 1.0, 1.0])[:, HUMAN17.mirror]
    np.testing.assert_allclose(relative_distances(image), relative_distances(bodies)[:, ATTRIBUTE_MIRROR], atol=1e-9)


def test_the_plane_is_the_one_of_least_squared_distances() -> None:
    """Orthogonal distance regression: no other plane lies nearer to the five points."""
    bodies = people(30, seed=3)
    torso = bodies[:, TORSO]
    middle = torso.mean(axis=1, keepdims=True)
    # The normal follows from the distances of the nine joints, which are linear in it.
    ends = bodies[:, HUMAN17.indices(ATTRIBUTE_JOINTS)] - middle
    for offset, end, own in zip(torso - middle, ends, signed_distances(bodies)):
        normal = np.linalg.lstsq(end, own, rcond=None)[0]
        assert np.linalg.norm(normal) == pytest.approx(1.0, abs=1e-6)
        others = Rotation.random(200, random_state=4).as_matrix()[:, 0]
        assert np.square(offset @ normal).sum() <= np.square(offset @ others.T).sum(axis=0).min() + 1e-12


def test_a_flat_torso_gives_exact_distances_and_noise_little_error() -> None:
    body = standing()
    body[TORSO, 1] = 0.0
    expected = body[HUMAN17.indices(ATTRIBUTE_JOINTS), 1]
    np.testing.assert_allclose(signed_distances(body), expected, atol=1e-9)
    noisy = np.repeat(body[None], 500, axis=0)
    noisy[:, TORSO] += np.random.default_rng(5).normal(0, 0.005, (500, 5, 3))
    off = signed_distances(noisy) - expected
    assert np.abs(off.mean(axis=0)).max() < 0.003 and off.std(axis=0).max() < 0.03


def test_what_cannot_be_told_is_unknown() -> None:
    body = standing()
    for joint in ('left_hip', 'pelvis'):
        gone = body.copy()
        gone[HUMAN17.index(joint), 1] = np.nan
        assert (attributes(gone) == UNKNOWN).all() and np.isnan(signed_distances(gone)).all()
    gone = body.copy()
    gone[HUMAN17.index('left_wrist')] = np.nan
    assert [joint for joint, found in zip(ATTRIBUTE_JOINTS, attributes(gone)) if found == UNKNOWN] == ['left_wrist']
    line = body.copy()
    line[TORSO, :2] = 0.0  # as thin as a pole
    twisted = body.copy()
    twisted[TORSO[2:4]] = twisted[TORSO[3:1:-1]] * [1.8, 1.0, 1.0]  # hips the other way round than the shoulders
    for bad in (line, np.zeros((17, 3)), np.full((17, 3), np.nan), twisted):
        assert (attributes(np.stack([bad, body]))[0] == UNKNOWN).all()
        assert (attributes(np.stack([bad, body]))[1] != UNKNOWN).all()


def test_the_threshold_is_a_share_of_the_trunk() -> None:
    assert list(labels(np.array([-0.2, -0.1, 0.0, 0.1, 0.2, np.nan]))) == [BACK, ON_PLANE, ON_PLANE, ON_PLANE, FRONT,
                                                                           UNKNOWN]
    body = standing()
    body[TORSO, 1] = 0.0
    body[HUMAN17.index('head'), 1] = 0.99 * THRESHOLD * 0.48  # the trunk is 0.48 m long
    assert attributes(body)[0] == ON_PLANE
    body[HUMAN17.index('head'), 1] *= 1.03
    assert attributes(body)[0] == FRONT
    assert attributes(body, threshold=0.3)[0] == ON_PLANE


def test_probabilities_add_up_and_follow_the_distance() -> None:
    steps = np.concatenate([[-1e6], np.linspace(-2, 2, 400), [1e6]])
    found = probabilities(np.repeat(steps[:, None], 9, axis=1))
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-12)
    assert (found >= -1e-12).all()
    assert (np.diff(found[..., FRONT], axis=0) >= 0).all() and (np.diff(found[..., BACK], axis=0) <= 0).all()
    assert (found[0, :, BACK] > 0.99).all() and (found[-1, :, FRONT] > 0.99).all()
    assert (probabilities(np.full(9, np.nan)) == 0).all()
    assert all(kind.back < kind.front and kind.slope > 0 for kind in CALIBRATION.values())
    sharp = probabilities(np.full(9, 0.1), dict.fromkeys(CALIBRATION, Ordinal(-0.2, 0.0, 1000.0)))
    np.testing.assert_allclose(sharp, np.tile([1.0, 0.0, 0.0], (9, 1)), atol=1e-9)


@pytest.mark.parametrize(('place', 'error'), [((0.0, 0.0, 2.0), 0.002), ((0.9, -0.3, 2.5), 0.1)])
def test_a_person_seen_with_true_depth_has_the_true_distances(place: tuple[float, float, float], error: float) -> None:
    """So near that perspective matters; beside the middle of the image, px are not alike in all directions."""
    bodies = people(20, seed=6, bend=0.02) + place
    found = seen_distances([seen(body) for body in bodies])
    np.testing.assert_allclose(found, relative_distances(bodies), atol=error, rtol=2 * error)
    sharp = dict.fromkeys(CALIBRATION, Ordinal(-THRESHOLD, THRESHOLD, 1e4))
    right = probabilities(found, sharp).argmax(axis=-1) == attributes(bodies)
    clear = np.abs(np.abs(relative_distances(bodies)) - THRESHOLD) > error
    assert right[clear].all() and clear.mean() > 0.5


def test_a_joint_nearer_to_the_camera_is_more_to_the_front_of_who_faces_it() -> None:
    body = standing() @ np.array([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]]).T + [0, 1, 4]  # facing the camera
    person = seen(body)
    wrist = ATTRIBUTE_JOINTS.index('left_wrist')
    last = -1.0
    for nearer in (-100.0, -30.0, 0.0, 30.0, 100.0):
        depth = person.depth.copy()
        depth[BLAZEPOSE33.index('left_wrist')] -= nearer
        found = from_person(replace(person, depth=depth))
        assert found[wrist, FRONT] > last
        last = float(found[wrist, FRONT])
    assert last > 0.8


def test_whoever_is_unknown_gets_zeros() -> None:
    person = seen(people(1)[0] + [0, 0, 3])
    assert (from_person(person).sum(axis=-1) == pytest.approx(1.0)) and from_person(person).dtype == np.float32
    assert (from_person(replace(person, depth=np.full(33, np.nan))) == 0).all()
    for joint, unknown in (('left_ear', ['head']), ('right_knee', ['right_knee']), ('left_hip', ATTRIBUTE_JOINTS)):
        rays = person.rays.copy()
        rays[BLAZEPOSE33.index(joint)] = np.nan
        sure = from_person(replace(person, rays=rays)).sum(axis=-1)
        assert [name for name, total in zip(ATTRIBUTE_JOINTS, sure) if total == 0] == list(unknown)
    coco = seen(people(1)[0] + [0, 0, 3], COCO17)
    assert (from_person(replace(coco, depth=np.full(17, np.nan))) == 0).all()
    same = replace(person, rays=np.zeros((33, 2)), pixels=np.zeros((33, 2)), depth=np.zeros(33))
    assert (from_person(same) == 0).all()
    assert (from_person(replace(person, depth=np.zeros(33)))[1:].sum(axis=-1) <= 1.0001).all()


def test_a_flipped_image_exchanges_the_probabilities_and_sides_put_right_later_leave_none() -> None:
    for body in people(10, seed=7) + [0.3, 0, 3]:
        person = seen(body)
        said = from_person(person)
        assert said.any() and not from_person(person.mirrored()).any()
        flip = [-1.0, 1.0]
        flipped = replace(person, rays=person.rays * flip, pixels=person.pixels * flip).mirrored()
        np.testing.assert_allclose(from_person(replace(flipped, swapped=False)), said[ATTRIBUTE_MIRROR], atol=1e-6)


def test_many_people_are_told_like_each_alone() -> None:
    group = [seen(body) for body in people(5, seed=8) + [0, 0, 4]]
    group[2] = group[2].mirrored()
    group[3] = replace(group[3], depth=np.full(33, np.nan))
    np.testing.assert_allclose(from_people(group), np.stack([from_person(person) for person in group]), atol=1e-6)
    assert from_people([]).shape == (0, 9, 3)
    with pytest.raises(ValueError, match='one skeleton'):
        from_people([group[0], seen(people(1)[0] + [0, 0, 3], COCO17)])
