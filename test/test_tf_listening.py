"""TF over real DDS: what one node publishes, another finds, with tf2_ros or without."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs')
pytest.importorskip('pose3d_ros.msg')

from ament_index_python.packages import get_package_share_directory  # noqa: E402
from bench import FRAME, Bench, wait_for  # noqa: E402
from geometry_msgs.msg import TransformStamped  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from pose3d_ros.ros.convert import to_stamp  # noqa: E402
from pose3d_ros.ros.places import Places  # noqa: E402
from pose3d_ros.ros.tf import TF_QOS, TF_STATIC_QOS, NoTransformError, Transforms  # noqa: E402

S = 10**9
T0 = 1000 * S
TYPE_HASH = 'RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087'   # of tf2_msgs in Jazzy, Kilted


def transform(parent: str, child: str, stamp_ns: int, x: float = 0.0, w: float = 1.0) -> TransformStamped:
    made = TransformStamped(child_frame_id=child)
    made.header.frame_id, made.header.stamp = parent, to_stamp(stamp_ns)
    made.transform.translation.x, made.transform.rotation.w = x, w
    return made


class Pair:
    """A node that publishes TF, and one that listens; static: published before anybody listens."""

    def __init__(self, *static: TransformStamped, sim_time: bool = False) -> None:
        self.talker = Node('talker')
        self.static = self.talker.create_publisher(TFMessage, '/tf_static', TF_STATIC_QOS)
        self.moving = self.talker.create_publisher(TFMessage, '/tf', TF_QOS)
        self.static.publish(TFMessage(transforms=list(static)))
        self.listener = Node('listener', parameter_overrides=[Parameter('use_sim_time', value=sim_time)])
        self.transforms = Transforms.listen(self.listener)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.listener)

    def __enter__(self) -> Pair:
        wait_for(lambda: self.moving.get_subscription_count() and self.static.get_subscription_count())
        return self

    def __exit__(self, *_: object) -> None:
        self.transforms.close()
        self.executor.shutdown()
        self.talker.destroy_node()
        self.listener.destroy_node()

    def publish(self, *moving: TransformStamped) -> None:
        self.moving.publish(TFMessage(transforms=list(moving)))

    def x_of(self, target: str, source: str, stamp_ns: int) -> float | str:
        """Return x of the transform, m, or the cause why there is none."""
        self.executor.spin_once(timeout_sec=0.02)
        try:
            return float(self.transforms.lookup(target, source, stamp_ns)[1][0])
        except NoTransformError as error:
            return error.cause

    def expect(self, target: str, source: str, stamp_ns: int, answer: float | str) -> None:
        wait_for(lambda: self.x_of(target, source, stamp_ns) == answer, 5.0)


def test_static_and_moving_frames_reach_a_listener_that_comes_later(ros):
    with Pair(transform('robot', 'eye', 5, 0.5)) as pair:
        pair.expect('robot', 'eye', T0, 0.5)
        pair.expect('map', 'eye', T0, 'tf_lookup')
        pair.publish(transform('map', 'robot', T0, 2.0), transform('map', 'robot', T0 + S, 4.0))
        pair.expect('map', 'eye', T0 + S // 2, 3.5)
        pair.expect('eye', 'map', T0, -2.5)
        pair.expect('map', 'eye', T0 + 2 * S, 'tf_extrapolation')
        pair.expect('map', 'eye', 0, 'no_stamp')


def test_a_camera_that_moves_is_where_it_was_at_the_stamp_of_its_image(ros):
    """A robot at 1 m/s that turns with 0.5 rad/s, TF at 50 Hz, images in between; its camera is fixed on a mast."""
    def robot(stamp_ns):
        seconds = (stamp_ns - T0) / S
        place = np.eye(4)
        place[:3, :3] = Rotation.from_euler('z', 0.5 * seconds).as_matrix()
        place[:3, 3] = 2 * np.sin(0.5 * seconds), 2 - 2 * np.cos(0.5 * seconds), 0.0   # on a circle of 2 m
        return place

    mast = transform('base', 'eye', 5, 0.3)
    robot_T_eye = np.eye(4)  # noqa: N806 (a_T_b: maps b to a)
    robot_T_eye[0, 3] = 0.3
    with Pair(mast) as pair:
        places = Places('map', pair.transforms)
        for number in range(60):
            stamp_ns = T0 + number * S // 50
            at, moved = robot(stamp_ns), transform('map', 'base', stamp_ns)
            move, turn = moved.transform.translation, moved.transform.rotation
            move.x, move.y, move.z = at[:3, 3].tolist()
            turn.x, turn.y, turn.z, turn.w = Rotation.from_matrix(at[:3, :3]).as_quat().tolist()
            pair.publish(moved)
            pair.executor.spin_once(timeout_sec=0.0)
        wait_for(lambda: isinstance(pair.x_of('map', 'eye', stamp_ns), float))
        for stamp_ns in (T0 + np.random.default_rng(0).integers(0, 59 * S // 50, 20)).tolist():
            expected = np.linalg.inv(robot(stamp_ns) @ robot_T_eye)
            np.testing.assert_allclose(places.lookup('front', 'eye', stamp_ns), expected, atol=1e-4)   # 0.1 mm


def test_a_bad_transform_is_warned_of_and_the_others_beside_it_are_taken(ros):
    with Pair() as pair:
        pair.publish(transform('map', 'ear', T0, w=0.2), transform('map', 'eye', T0, 1.0))
        pair.expect('map', 'eye', T0, 1.0)
        pair.expect('map', 'ear', T0, 'tf_lookup')


def test_a_simulation_that_starts_again_clears_what_moves(ros):
    with Pair(transform('robot', 'eye', 5, 0.5), sim_time=True) as pair:
        clock = pair.talker.create_publisher(Clock, '/clock', 10)
        wait_for(clock.get_subscription_count)

        def now(stamp_ns):
            def told():
                clock.publish(Clock(clock=to_stamp(stamp_ns)))
                pair.executor.spin_once(timeout_sec=0.02)
                return pair.listener.get_clock().now().nanoseconds == stamp_ns
            wait_for(told, 5.0)

        now(T0)
        pair.publish(transform('map', 'robot', T0, 2.0))
        pair.expect('map', 'eye', T0, 2.5)
        now(T0 + S)
        pair.expect('map', 'eye', T0, 2.5)
        now(T0 - 5 * S)
        pair.expect('map', 'eye', T0, 'tf_lookup')
        pair.expect('robot', 'eye', T0, 0.5)


def test_the_floor_from_tf_where_tf2_ros_is_missing(ros, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)   # as if it were not installed
    with Bench(ground_source='tf', ground_frame='floor') as bench:
        publisher = bench.tester.create_publisher(TFMessage, '/tf_static', TF_STATIC_QOS)
        camera = transform('floor', FRAME, 5)
        camera.transform.translation.z = 1.4
        turn = camera.transform.rotation   # from the axes of a body to those of the optical frame
        turn.x, turn.y, turn.z, turn.w = -0.5, 0.5, -0.5, 0.5
        publisher.publish(TFMessage(transforms=[camera]))
        bench.ready().send_info()
        wait_for(publisher.get_subscription_count)

        def stands_on_the_floor():
            bench.expect_people()
            return bench.pipeline.frames[-1].ground is not None

        wait_for(stands_on_the_floor, 5.0)
        plane = bench.pipeline.frames[-1].ground
        assert plane.camera_height == pytest.approx(1.4)
        np.testing.assert_allclose(plane.up, [0, -1, 0], atol=1e-9)


def test_the_message_is_that_of_tf2_to_the_network():
    assert TFMessage.get_fields_and_field_types() == {'transforms': 'sequence<geometry_msgs/TransformStamped>'}
    description = Path(get_package_share_directory('tf2_msgs')) / 'msg' / 'TFMessage.json'
    if not description.exists():
        pytest.skip('Humble has no type hashes')
    hashes = {entry['type_name']: entry['hash_string'] for entry in json.loads(description.read_text())['type_hashes']}
    assert hashes['tf2_msgs/msg/TFMessage'] == TYPE_HASH


def test_listening_may_end_in_another_thread_while_messages_wait(ros):
    with Pair() as pair:
        for number in range(20):
            pair.publish(transform('map', 'robot', T0 + number * S // 10, 2.0))
        pair.expect('map', 'robot', T0, 2.0)
        listener = pair.transforms._listeners[0]
        listener._node.destroy_subscription(listener._moving)
        listener._take_all(TFMessage(transforms=[transform('map', 'robot', T0 + 3 * S, 3.0)]))
        assert pair.x_of('map', 'robot', T0 + 3 * S) == 3.0
