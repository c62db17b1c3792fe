from dataclasses import replace

import fakes
import numpy as np
import pytest
import synthetic

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from sensor_msgs.msg import CameraInfo  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from pose3d_ros.camera import CalibrationError  # noqa: E402
from pose3d_ros.msg import Joint3D, People3D, Person3D  # noqa: E402
from pose3d_ros.records import JointState, Person2D, PersonState  # noqa: E402
from pose3d_ros.ros import convert  # noqa: E402
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17, Skeleton  # noqa: E402

HEADER = Header(stamp=convert.to_stamp(12_345_678_901), frame_id='camera_optical_frame')


def same(a, b, fields):
    for name in fields:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-6, err_msg=name)


def test_stamps_keep_every_nanosecond():
    for value in (0, 1, 999_999_999, 1_753_000_000_123_456_789):
        assert convert.stamp_ns(convert.to_stamp(value)) == value


def test_3d_people_come_back_as_they_went():
    people = [fakes.standing(0.3, 2.5, 0.4, id=7, state=PersonState.PREDICTED),
              fakes.standing(-1.0, 5.0, 2.0, id=9, missing=('left_wrist', 'right_ankle'))]
    message = convert.to_people(people, HEADER)
    assert message.header == HEADER and message.skeleton == 'human17'
    assert tuple(message.joint_names) == HUMAN17.joints
    for before, after in zip(people, convert.from_people(message)):
        same(before, after, ('position', 'velocity', 'covariance', 'joint_confidence', 'joint_state', 'confidence',
                             'height', 'height_sigma'))
        assert (after.id, after.state, after.skeleton) == (before.id, before.state, before.skeleton)


def test_a_missing_joint_is_nan_and_says_so():
    message = convert.to_people([fakes.standing(missing=('left_wrist',))], HEADER)
    joint = message.people[0].joints[HUMAN17.index('left_wrist')]
    assert joint.state == Joint3D.MISSING == JointState.MISSING
    assert np.isnan([joint.position.x, joint.position.y, joint.position.z, joint.velocity.x]).all()
    assert np.isnan(joint.covariance).all() and joint.confidence == 0


def test_nobody_is_an_empty_list_with_names_and_header():
    for message in (convert.to_people([], HEADER), convert.to_people_2d([], synthetic.CAMERA, HEADER)):
        assert len(message.people) == 0 and message.header == HEADER
    assert tuple(convert.to_people([], HEADER).joint_names) == HUMAN17.joints
    assert tuple(convert.to_people_2d([], synthetic.CAMERA, HEADER).joint_names) == BLAZEPOSE33.joints


def test_the_pelvis_is_the_body_frame_and_carries_the_velocity():
    person = convert.to_people([fakes.standing(0.4, 3.0)], HEADER).people[0]
    pose = person.pelvis.pose
    np.testing.assert_allclose([pose.position.x, pose.position.z], (0.4, 3.0), atol=1e-9)
    assert np.isclose(np.linalg.norm([pose.orientation.x, pose.orientation.y, pose.orientation.z,
                                      pose.orientation.w]), 1)
    np.testing.assert_allclose(np.asarray(person.pelvis.covariance).reshape(6, 6)[:3, :3],
                               fakes.standing().covariance[0])
    assert (person.velocity.twist.linear.x, person.velocity.twist.linear.z) == (0.5, -0.25)
    assert np.isnan(person.velocity.twist.angular.z)


def test_a_pelvis_without_a_rotation_has_a_nan_quaternion():
    person = convert.to_people([fakes.standing(missing=('left_hip',))], HEADER).people[0]
    assert np.isfinite(person.pelvis.pose.position.x) and np.isnan(person.pelvis.pose.orientation.w)


def test_2d_people_come_back_as_they_went():
    half = fakes.seen(x=1.9, z=3.0, id=3)  # at the right border: some joints are out of view
    assert np.isnan(half.pixels).any() and not np.isnan(half.pixels).all()
    people = [fakes.seen(id=2), replace(half, swapped=True)]
    message = convert.to_people_2d(people, synthetic.CAMERA, HEADER)
    assert (message.width, message.height, message.fx) == (1280, 720, 900.0)
    for before, after in zip(people, convert.from_people_2d(message)):
        same(before, after, ('pixels', 'rays', 'sigma', 'box', 'confidence'))
        np.testing.assert_allclose(after.joint_confidence, np.nan_to_num(before.joint_confidence), rtol=1e-6)
        assert (after.id, after.state, after.swapped) == (before.id, before.state, before.swapped)


def test_a_message_that_does_not_fit_its_skeleton_is_refused():
    message = convert.to_people([fakes.standing()], HEADER)
    message.people[0].joints.pop()
    with pytest.raises(ValueError, match='16 joints'):
        convert.from_people(message)
    with pytest.raises(ValueError, match='joint names'):
        convert.from_people(People3D(skeleton='human17', joint_names=['pelvis']))


def test_people_of_somebody_elses_skeleton_are_read_by_their_joint_names():
    own = Skeleton('trunk', ('left_shoulder', 'right_shoulder', 'crown'), ())
    seen = fakes.seen()
    order = seen.skeleton.indices(['left_shoulder', 'right_shoulder', 'nose'])
    person = Person2D(own, seen.pixels[order], seen.rays[order], seen.sigma[order], seen.joint_confidence[order],
                      seen.depth[order], seen.box, seen.confidence)
    again = convert.from_people_2d(convert.to_people_2d([person], synthetic.CAMERA, HEADER))[0]
    assert (again.skeleton.name, again.skeleton.joints) == ('trunk', own.joints)
    np.testing.assert_allclose(again.pixels, person.pixels, atol=1e-4)
    with pytest.raises(ValueError, match='joint names repeat'):
        convert.from_people(People3D(skeleton='octopus', joint_names=['arm', 'arm']))
    with pytest.raises(ValueError, match='position'):
        convert.from_people(People3D(skeleton='ghost', people=[Person3D()]))


def test_a_camera_survives_its_camera_info():
    camera = convert.camera_from_info(convert.to_info(synthetic.CAMERA, HEADER), False, '/camera_info')
    np.testing.assert_allclose(camera.K, synthetic.CAMERA.K)
    assert (camera.width, camera.height) == (1280, 720)


def test_an_uncalibrated_camera_names_its_topic():
    with pytest.raises(CalibrationError, match='/cam/camera_info'):
        convert.camera_from_info(CameraInfo(width=640, height=480), False, '/cam/camera_info')
