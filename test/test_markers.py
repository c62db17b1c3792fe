from dataclasses import replace

import fakes
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('visualization_msgs')

from std_msgs.msg import Header  # noqa: E402
from visualization_msgs.msg import Marker  # noqa: E402

from pose3d_ros.palette import FAINT, GUESSED, LEFT, RIGHT  # noqa: E402
from pose3d_ros.records import JointState, PersonState  # noqa: E402
from pose3d_ros.ros.convert import to_stamp  # noqa: E402
from pose3d_ros.ros.markers import SkeletonMarkers  # noqa: E402
from pose3d_ros.skeleton import HUMAN17  # noqa: E402

HEADER = Header(stamp=to_stamp(5_000_000_000), frame_id='camera_optical_frame')


def by_name(array):
    return {(marker.ns, marker.id): marker for marker in array.markers}


def test_a_person_is_bones_joints_and_a_label_in_the_frame_of_the_image():
    person = fakes.standing(z=3.0, id=4)
    shown = by_name(SkeletonMarkers()([person], HEADER))
    assert set(shown) == {('bones', 4), ('joints', 4), ('label', 4)}
    assert all(marker.header == HEADER and marker.action == Marker.ADD for marker in shown.values())
    assert len(shown['bones', 4].points) == 2 * len(HUMAN17.bones) == len(shown['bones', 4].colors)
    points = np.array([(p.x, p.y, p.z) for p in shown['joints', 4].points])
    np.testing.assert_allclose(points, person.position)
    assert shown['label', 4].text.startswith('#4  3.0')
    assert shown['label', 4].pose.position.y < person.joint('head')[1]  # above the head; y points down here


def test_left_and_right_differ_and_what_was_not_seen_is_faint():
    joints = by_name(SkeletonMarkers()([fakes.standing()], HEADER))['joints', 1]
    colors = {name: joints.colors[HUMAN17.index(name)] for name in ('left_wrist', 'right_wrist', 'head')}
    for name, color in (('left_wrist', LEFT), ('right_wrist', RIGHT)):
        np.testing.assert_allclose([colors[name].r, colors[name].g, colors[name].b], np.array(color) / 255, atol=1e-6)
    assert colors['left_wrist'].a == 1 and colors['head'].a == pytest.approx(FAINT)


def test_joints_out_of_view_are_fainter_still_and_a_predicted_person_never_more_than_faint():
    person = fakes.standing()
    legs = HUMAN17.indices(['left_ankle', 'right_ankle'])
    person.joint_state[legs], person.joint_confidence[legs] = JointState.INFERRED, 0.0
    shown = by_name(SkeletonMarkers()([person], HEADER))['joints', 1]
    assert [shown.colors[joint].a for joint in legs] == pytest.approx([GUESSED] * 2)
    assert shown.colors[HUMAN17.index('left_knee')].a == 1
    shown = by_name(SkeletonMarkers()([replace(person, state=PersonState.PREDICTED)], HEADER))['joints', 1]
    assert max(color.a for color in shown.colors) == pytest.approx(FAINT)
    assert min(color.a for color in shown.colors) == pytest.approx(GUESSED)


def test_missing_joints_have_no_marker():
    shown = by_name(SkeletonMarkers()([fakes.standing(missing=('left_wrist',))], HEADER))
    assert len(shown['joints', 1].points) == 16 and len(shown['bones', 1].points) == 2 * (len(HUMAN17.bones) - 1)
    assert np.isfinite([p.x for marker in shown.values() for p in marker.points]).all()


def test_a_person_without_any_joint_is_not_shown():
    assert SkeletonMarkers()([fakes.standing(missing=HUMAN17.joints)], HEADER).markers == []


def test_whoever_leaves_is_removed_once_and_nobody_else():
    markers = SkeletonMarkers()
    markers([fakes.standing(id=1), fakes.standing(id=2)], HEADER)
    left = {name for name, marker in by_name(markers([fakes.standing(id=2)], HEADER)).items()
            if marker.action == Marker.DELETE}
    assert left == {('bones', 1), ('joints', 1), ('label', 1)}
    assert all(marker.action == Marker.ADD for marker in markers([fakes.standing(id=2)], HEADER).markers)
    assert {marker.action for marker in markers.clear(HEADER).markers} == {Marker.DELETE}
    assert markers.clear(HEADER).markers == []


def test_an_id_beyond_31_bits_still_fits_a_marker():
    assert SkeletonMarkers()([fakes.standing(id=2**32 - 1)], HEADER).markers[0].id == 2**31 - 1
