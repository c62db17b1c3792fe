"""Which regions are the same person, in the joints of any skeleton, and how sure each joint of BlazePose is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_people import Drawn

from pose3d_ros.camera import Camera
from pose3d_ros.detect import blazepose, people
from pose3d_ros.detect.poses import Poses, no_attributes
from pose3d_ros.skeleton import BLAZEPOSE33, COCO17, LIMBS12, Skeleton

# A skeleton of somebody's own: no nose, a joint of one side only, one that nobody else has, and no bones.
OWN = Skeleton('own', ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip', 'left_hand', 'belly'), ())
ANY = pytest.mark.parametrize('skeleton', [BLAZEPOSE33, COCO17, LIMBS12, OWN], ids=lambda skeleton: skeleton.name)


def poses_of(drawn: list[Drawn], skeleton: Skeleton = BLAZEPOSE33, person: float = 0.9) -> Poses:
    stand_in = {'left_hand': 'left_wrist', 'belly': 'nose'}
    chosen = BLAZEPOSE33.indices([stand_in.get(joint, joint) for joint in skeleton.joints])
    pixels = np.array([one.joints[chosen] for one in drawn])
    ones = np.ones(pixels.shape[:2])
    return Poses(pixels, 0.9 * ones, 3.0 * ones, np.nan * ones, np.full(len(drawn), person),
                 middle=np.array([one.place(np.zeros(2)) for one in drawn]),
                 rim=np.array([one.place(np.array([0.0, -1.0])) for one in drawn]),
                 attributes=no_attributes(len(drawn)))


@ANY
def test_similarity_tells_the_same_person_from_another_and_does_not_mind_the_sides(skeleton):
    poses = poses_of([Drawn(300, 300), Drawn(306, 303, 153), Drawn(420, 300)], skeleton)
    turned = poses.pixels.copy()
    turned[1] = turned[1, skeleton.mirror]
    for pixels in (poses.pixels, turned):
        alike = people.similarity(replace(poses, pixels=pixels), skeleton)
        np.testing.assert_allclose(np.diag(alike), 1.0)
        np.testing.assert_allclose(alike, alike.T)
        assert alike[0, 1] > 0.9 and alike[0, 2] < 0.3


@ANY
def test_of_duplicates_the_known_or_much_better_one_stays(skeleton):
    poses = poses_of([Drawn(300, 300), Drawn(304, 300), Drawn(700, 300)], skeleton)
    known = np.array([False, True, False])
    assert people.without_duplicates(poses, skeleton, known, 0.5, 1280, 720).tolist() == [1, 2]
    better = replace(poses, person=np.array([1.0, 0.3, 1.0]))
    assert people.without_duplicates(better, skeleton, known, 0.5, 1280, 720).tolist() == [0, 2]


@pytest.mark.parametrize('skeleton', [BLAZEPOSE33, COCO17, LIMBS12], ids=lambda skeleton: skeleton.name)
def test_a_crooked_body_on_the_legs_of_another_is_no_newcomer(skeleton):
    poses = poses_of([Drawn(400, 300), Drawn(420, 415, 40, 0.2)], skeleton)
    limbs = skeleton.indices(LIMBS12.joints)
    poses.pixels[1, limbs] = poses.pixels[0, skeleton.index('left_knee')] + np.arange(12)[:, None]
    share = people.claimed(poses, poses, skeleton)
    assert share[1, 0] > 0.6 > share[0, 1]
    known = np.array([True, False])
    assert people.without_duplicates(poses, skeleton, known, 0.5, 1280, 720).tolist() == [0]
    assert people.without_duplicates(poses, skeleton, np.array([True, True]), 0.5, 1280, 720).tolist() == [0, 1]


@ANY
def test_a_person_takes_enough_sure_joints_in_the_image(skeleton):
    poses = poses_of([Drawn(300, 360), Drawn(600, 360), Drawn(-200, 360), Drawn(900, 360)], skeleton)
    poses.confidence[1] = 0.3
    poses.person[3] = 0.1
    assert people.are_people(poses, np.full(4, 0.5), np.full(4, 0.6), 1280, 720).tolist() == [True, False, False, False]


@ANY
def test_people_are_records_of_their_skeleton_most_certain_first(skeleton):
    poses = poses_of([Drawn(10, 360), Drawn(600, 360)], skeleton)
    poses.person[:] = 0.6, 0.8
    camera = Camera(1280, 720, 1280, 1280, 640, 360)
    found = people.to_people(poses, skeleton, camera)
    assert [person.confidence for person in found] == [0.8, 0.6] and found[0].skeleton is skeleton
    np.testing.assert_array_equal(found[0].pixels, poses.pixels[1])
    outside = poses.pixels[0, :, 0] < -0.5
    assert outside.any()
    for values in (found[1].pixels[:, 0], found[1].rays[:, 0], found[1].sigma, found[1].joint_confidence):
        np.testing.assert_array_equal(np.isnan(values), outside)
    assert found[1].box[0] >= -0.5 and np.isnan(found[0].depth).all()


def test_sigma_grows_and_confidence_falls_with_a_weak_or_wide_peak():
    scale = np.array([[1.0], [2.5]])
    plain = {'peak': np.full((2, 33), 0.9), 'spread': 3.5 * scale * np.ones(33)}
    seen, sigma = np.ones((2, 33)), blazepose.sigma(**plain, scale=scale)
    sure = blazepose.confidence(**plain, visibility=seen, scale=scale)
    for change in ({'peak': 0.3 * plain['peak']}, {'spread': 1.5 * plain['spread']}):
        worse = {**plain, **change, 'scale': scale}
        assert (blazepose.sigma(**worse) > 1.2 * sigma).all()
        assert (1.0 - blazepose.confidence(**worse, visibility=seen) > 2.0 * (1.0 - sure)).all()
    assert (sure <= 1.0).all() and (sure >= 0.0).all()
    np.testing.assert_allclose(sigma[1], 2.5 * sigma[0])
    assert (blazepose.confidence(**plain, visibility=0.5 * seen, scale=scale) < sure).all()


def test_poses_join_and_select():
    first, second = poses_of([Drawn(300, 300)]), poses_of([Drawn(500, 300), Drawn(700, 300)])
    both = Poses.join([first, second])
    assert len(both) == 3 and len(Poses.join([both, Poses.none(33)])) == 3
    np.testing.assert_array_equal(both[np.array([2])].pixels[0], second.pixels[1])
    np.testing.assert_allclose(both.circles()[:, 2], 150.0)
