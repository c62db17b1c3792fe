"""The buffer for TF without tf2, against transforms that are composed as matrices."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs')

import rclpy  # noqa: E402
from geometry_msgs.msg import TransformStamped  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.time import Time  # noqa: E402
from scipy.spatial.transform import Rotation, Slerp  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from pose3d_ros.ros.convert import to_stamp  # noqa: E402
from pose3d_ros.ros.transform_buffer import (  # noqa: E402
    Buffer,
    ConnectivityException,
    ExtrapolationException,
    LookupException,
    TransformException,
    TransformListener,
)

S = 10**9
T0 = 1000 * S


def pose(random: np.random.Generator) -> np.ndarray:
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = Rotation.from_rotvec(random.uniform(-3, 3, 3)).as_matrix(), random.uniform(-5, 5, 3)
    return made


def message(parent: str, child: str, parent_T_child: np.ndarray, stamp_ns: int = T0) -> TransformStamped:  # noqa: N803
    made = TransformStamped(child_frame_id=child)
    made.header.frame_id, made.header.stamp = parent, to_stamp(stamp_ns)
    turn, move = made.transform.rotation, made.transform.translation
    turn.x, turn.y, turn.z, turn.w = Rotation.from_matrix(parent_T_child[:3, :3]).as_quat().tolist()
    move.x, move.y, move.z = parent_T_child[:3, 3].tolist()
    return made


def put(buffer, parent, child, place, stamp_ns=T0, *, static=False, now_s=0.0):
    return buffer.put(message(parent, child, place, stamp_ns), static, now_s)


def matrix(buffer: Buffer, target: str, source: str, stamp_ns: int = T0) -> np.ndarray:
    found = buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
    assert (found.header.frame_id, found.child_frame_id, found.header.stamp) == (target, source, to_stamp(stamp_ns))
    turn, move = found.transform.rotation, found.transform.translation
    made = np.eye(4)
    made[:3, :3] = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
    made[:3, 3] = move.x, move.y, move.z
    return made


def test_every_pair_of_a_random_tree_is_composed():
    random = np.random.default_rng(0)
    buffer, world = Buffer(), {'f0': np.eye(4)}   # world_T_frame
    for number in range(1, 12):
        parent, place = f'f{random.integers(number)}', pose(random)
        assert put(buffer, parent, f'f{number}', place, static=bool(random.integers(2))) == ''
        world[f'f{number}'] = world[parent] @ place
    for target in world:
        for source in world:
            np.testing.assert_allclose(matrix(buffer, target, source), np.linalg.inv(world[target]) @ world[source],
                                       atol=1e-12)


def test_between_stamps_it_is_on_the_way():
    random = np.random.default_rng(1)
    for _ in range(20):
        buffer, first, second = Buffer(), pose(random), pose(random)
        put(buffer, 'map', 'robot', first)
        put(buffer, 'map', 'robot', second, T0 + S)
        fixed = pose(random)
        put(buffer, 'robot', 'eye', fixed, 5, static=True)
        for share in (0.0, 0.25, 0.5, 1.0):
            expected = np.eye(4)
            expected[:3, :3] = Slerp([0, 1], Rotation.from_matrix([first[:3, :3], second[:3, :3]]))(share).as_matrix()
            expected[:3, 3] = (1 - share) * first[:3, 3] + share * second[:3, 3]
            stamp_ns = T0 + round(share * S)
            np.testing.assert_allclose(matrix(buffer, 'map', 'robot', stamp_ns), expected, atol=1e-9)
            seen = matrix(buffer, 'eye', 'map', stamp_ns)
            np.testing.assert_allclose(seen, np.linalg.inv(expected @ fixed), atol=1e-9)


@pytest.mark.parametrize('angle', [0.0, 1e-9, 1e-5, np.pi - 1e-6])
def test_small_and_large_turns_between_stamps(angle):
    buffer, second = Buffer(), np.eye(4)
    second[:3, :3] = Rotation.from_rotvec([0, 0, angle]).as_matrix()
    put(buffer, 'map', 'robot', np.eye(4))
    turned = message('map', 'robot', second, T0 + S)
    turned.transform.rotation.z *= -1   # the other sign of the quaternion is the same rotation
    turned.transform.rotation.w *= -1
    buffer.put(turned, False, 0.0)
    half = Rotation.from_matrix(matrix(buffer, 'map', 'robot', T0 + S // 2)[:3, :3]).as_rotvec()
    np.testing.assert_allclose(half, [0, 0, angle / 2], atol=1e-12)


def test_nothing_is_extrapolated_and_static_holds_always():
    buffer, random = Buffer(), np.random.default_rng(2)
    fixed = pose(random)
    put(buffer, 'robot', 'eye', fixed, T0 + 500 * S, static=True)
    put(buffer, 'map', 'robot', pose(random))
    put(buffer, 'map', 'robot', pose(random), T0 + S)
    for stamp_ns in (1, T0, T0 + 1000 * S):
        np.testing.assert_allclose(matrix(buffer, 'robot', 'eye', stamp_ns), fixed, atol=1e-12)
    with pytest.raises(ExtrapolationException, match="'robot' in 'map' is known until 0.250 s before"):
        matrix(buffer, 'eye', 'map', T0 + S + S // 4)
    with pytest.raises(ExtrapolationException, match="'robot' in 'map' is known from 2.000 s after"):
        matrix(buffer, 'map', 'eye', T0 - 2 * S)


def test_a_gap_over_the_place_where_the_ways_meet_does_not_matter():
    buffer, random = Buffer(), np.random.default_rng(3)
    left, right = pose(random), pose(random)
    put(buffer, 'map', 'robot', pose(random), T0 - S)
    put(buffer, 'robot', 'left', left)
    put(buffer, 'robot', 'right', right)
    np.testing.assert_allclose(matrix(buffer, 'left', 'right'), np.linalg.inv(left) @ right, atol=1e-12)


def test_unknown_and_unconnected_frames_are_named():
    buffer = Buffer()
    put(buffer, 'map', 'robot', np.eye(4))
    put(buffer, 'house', 'room', np.eye(4))
    with pytest.raises(LookupException, match="nobody publishes a frame 'eye'"):
        matrix(buffer, 'map', 'eye')
    with pytest.raises(LookupException, match="nobody publishes a frame 'eye'"):
        matrix(buffer, 'eye', 'map')
    with pytest.raises(ConnectivityException, match="'robot' is under 'map', 'room' under 'house'"):
        matrix(buffer, 'robot', 'room')
    np.testing.assert_array_equal(matrix(buffer, 'eye', 'eye'), np.eye(4))


def test_a_loop_is_an_error_and_not_the_end():
    buffer = Buffer()
    for parent, child in (('a', 'b'), ('b', 'c'), ('c', 'a')):
        put(buffer, parent, child, np.eye(4))
    put(buffer, 'map', 'robot', np.eye(4))
    for target, source in (('map', 'a'), ('b', 'robot')):
        with pytest.raises(LookupException, match='loop'):
            matrix(buffer, target, source)


def test_a_frame_may_get_another_parent():
    buffer, random = Buffer(), np.random.default_rng(4)
    tables = {'left': pose(random), 'right': pose(random)}
    for name, place in tables.items():
        put(buffer, 'map', name, place, static=True)
    cup = pose(random)
    for stamp_ns, parent in ((T0, 'left'), (T0 + S, 'left'), (T0 + 2 * S, 'right'), (T0 + 3 * S, 'right')):
        put(buffer, parent, 'cup', cup, stamp_ns)
    for share, parent in ((0.5, 'left'), (1.5, 'left'), (2.0, 'right'), (2.5, 'right')):
        found = matrix(buffer, 'map', 'cup', T0 + round(share * S))
        np.testing.assert_allclose(found, tables[parent] @ cup, atol=1e-12)


def test_a_frame_may_change_between_static_and_moving():
    buffer = Buffer()
    put(buffer, 'map', 'eye', np.eye(4))
    put(buffer, 'map', 'eye', np.eye(4), static=True)
    matrix(buffer, 'map', 'eye', T0 + 99 * S)
    put(buffer, 'map', 'eye', np.eye(4), T0 + S)
    with pytest.raises(ExtrapolationException):
        matrix(buffer, 'map', 'eye', T0 + 99 * S)


def wrong(**change) -> TransformStamped:
    made = message('map', 'robot', np.eye(4))
    for path, value in change.items():
        part, _, name = path.rpartition('__')
        target = made
        for step in part.split('__') if part else ():
            target = getattr(target, step)
        setattr(target, name, value)
    return made


@pytest.mark.parametrize(('bad', 'cause', 'text'), [
    (wrong(transform__rotation__w=float('nan')), 'not_finite', "'robot' in 'map': not finite"),
    (wrong(transform__translation__y=float('inf')), 'not_finite', 'not finite'),
    (wrong(transform__rotation__w=0.0), 'no_rotation', 'quaternion of length 0'),
    (wrong(transform__rotation__w=0.9), 'no_rotation', 'quaternion of length 0.9'),
    (wrong(header__frame_id=''), 'no_name', 'without name'),
    (wrong(child_frame_id='/'), 'no_name', 'without name'),
    (wrong(child_frame_id='map'), 'own_parent', "'map' is its own parent"),
])
def test_what_is_no_transform_is_ignored_and_counted(bad, cause, text):
    buffer, place = Buffer(), pose(np.random.default_rng(5))
    put(buffer, 'map', 'robot', place)
    for number in (1, 2):
        assert text in buffer.put(bad, False, 0.0)
        assert buffer.ignored == {cause: number}
    np.testing.assert_allclose(matrix(buffer, 'map', 'robot'), place, atol=1e-12)


def test_quaternions_are_made_exactly_one_and_a_slash_is_no_part_of_a_name():
    buffer = Buffer()
    rough = wrong(transform__rotation__w=0.997, child_frame_id='/robot')
    assert buffer.put(rough, False, 0.0) == ''
    found = buffer.lookup_transform('map', 'robot', Time(nanoseconds=T0)).transform.rotation
    assert found.w == pytest.approx(1.0, abs=1e-15)


def test_order_of_arrival_does_not_matter_and_old_history_goes():
    buffer, random = Buffer(), np.random.default_rng(6)
    order = random.permutation(20)
    for number in order:
        place = np.eye(4)
        place[0, 3] = number
        put(buffer, 'map', 'robot', place, T0 + int(number) * S // 10)
    for number in (0.0, 3.5, 18.25):
        assert matrix(buffer, 'map', 'robot', T0 + round(number * S / 10))[0, 3] == pytest.approx(number)
    put(buffer, 'map', 'robot', np.eye(4), T0 + 11 * S)
    with pytest.raises(ExtrapolationException, match='known from'):
        matrix(buffer, 'map', 'robot', T0)
    matrix(buffer, 'map', 'robot', T0 + 2 * S)


def test_a_clock_that_was_set_back_starts_again_but_one_old_message_changes_nothing():
    buffer, random = Buffer(), np.random.default_rng(7)
    now, early = pose(random), pose(random)
    put(buffer, 'map', 'robot', now, now_s=100.0)
    assert 'older' in put(buffer, 'map', 'robot', early, T0 - 500 * S, now_s=100.5)
    assert buffer.ignored == {'old': 1}
    np.testing.assert_allclose(matrix(buffer, 'map', 'robot'), now, atol=1e-12)
    assert put(buffer, 'map', 'robot', early, T0 - 499 * S, now_s=101.5) == ''
    np.testing.assert_allclose(matrix(buffer, 'map', 'robot', T0 - 499 * S), early, atol=1e-12)
    with pytest.raises(ExtrapolationException):
        matrix(buffer, 'map', 'robot')


def test_clearing_keeps_what_is_static():
    buffer = Buffer()
    put(buffer, 'map', 'robot', np.eye(4))
    put(buffer, 'robot', 'eye', np.eye(4), static=True)
    buffer.clear()
    matrix(buffer, 'robot', 'eye')
    with pytest.raises(LookupException, match="'map'"):
        matrix(buffer, 'map', 'eye')


def test_frames_that_are_gone_are_forgotten():
    """People come and go, and their ids never return: what is kept must not grow with all that ever were."""
    buffer = Buffer()
    put(buffer, 'map', 'robot', np.eye(4), static=True)
    for number in range(300):
        put(buffer, 'map', f'body_{number}', np.eye(4), T0 + number * S, now_s=float(number))
    assert len(buffer._frames) < 130
    matrix(buffer, 'map', 'robot')
    matrix(buffer, 'map', 'body_299', T0 + 299 * S)


def test_a_lookup_is_fast():
    buffer, random = Buffer(), np.random.default_rng(8)
    for parent, child in (('map', 'odom'), ('odom', 'base'), ('base', 'mast'), ('mast', 'eye')):
        for number in range(1000):
            put(buffer, parent, child, pose(random), T0 + number * S // 100)
    times = []
    for number in range(200):
        when = Time(nanoseconds=T0 + number * S // 25 + 1234567)
        start = time.perf_counter()
        buffer.lookup_transform('eye', 'map', when)
        times.append(time.perf_counter() - start)
    assert np.median(times) < 2e-4   # s; 0.07 ms on an idle machine


def test_putting_and_asking_in_two_threads():
    buffer, failures, done = Buffer(), [], threading.Event()
    put(buffer, 'map', 'robot', np.eye(4), T0)
    put(buffer, 'map', 'robot', np.eye(4), T0 + 5 * S)

    def ask():
        while not done.is_set():
            try:
                matrix(buffer, 'map', 'robot', T0 + 4 * S)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test must show it
                failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    for number in range(3000):
        put(buffer, 'map', 'robot', np.eye(4), T0 + number * S // 250)
    done.set()
    thread.join()
    assert failures == []


def test_all_that_waits_on_tf_is_taken_in_at_once(ros):
    node, others = rclpy.create_node('listening'), rclpy.create_node('publishing')
    buffer = Buffer()
    listener = TransformListener(buffer, node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    publisher = others.create_publisher(TFMessage, '/tf', 100)
    end = time.monotonic() + 10
    while not publisher.get_subscription_count() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)  # the other direction of the match
    for number in range(50):
        publisher.publish(TFMessage(transforms=[message('map', f'camera{number}', np.eye(4))]))
    time.sleep(0.5)
    calls = 0
    while calls < 10 and not known(buffer, 'camera49'):
        executor.spin_once(timeout_sec=1.0)
        calls += 1
    assert all(known(buffer, f'camera{number}') for number in range(50))
    executor.shutdown()
    listener.unregister()
    node.destroy_node()
    others.destroy_node()


def known(buffer: Buffer, frame: str) -> bool:
    try:
        matrix(buffer, 'map', frame)
    except TransformException:
        return False
    return True
