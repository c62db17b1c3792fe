"""mono_node on real rclpy, with a stand-in for the pipeline: topics, bad input, time."""

import math
import time

import fakes
import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from bench import FRAME, SMALL, Bench, compressed, picture, wait_for  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402

from pose3d_ros.camera import Camera  # noqa: E402
from pose3d_ros.ros.convert import to_info  # noqa: E402
from pose3d_ros.ros.images import encode_image  # noqa: E402
from pose3d_ros.skeleton import HUMAN17  # noqa: E402


@pytest.fixture
def bench(ros):
    with Bench() as bench:
        bench.ready().send_info()
        yield bench


def test_an_image_becomes_people_with_its_stamp_and_frame(bench):
    message = bench.expect_people()
    assert message.header.frame_id == FRAME and len(message.people) == 1
    assert message.people[0].id == 1 and tuple(message.joint_names) == HUMAN17.joints
    wait_for(lambda: bench.people_2d)
    assert bench.people_2d[0].header == message.header and bench.people_2d[0].fx == 60.0
    np.testing.assert_array_equal(bench.pipeline.frames[0].image, picture())


def test_nobody_in_view_is_an_empty_message_for_every_frame(bench):
    bench.pipeline.people, bench.pipeline.people_2d = [], []
    for _ in range(5):
        assert len(bench.expect_people().people) == 0
    assert len(bench.people) == 5


def test_half_a_person_has_nan_joints(bench):
    bench.pipeline.people = [fakes.standing(missing=('left_wrist', 'left_elbow', 'left_hip'))]
    person = bench.expect_people().people[0]
    x = np.array([joint.position.x for joint in person.joints])
    assert np.isnan(x[HUMAN17.indices(['left_wrist', 'left_elbow', 'left_hip'])]).all() and np.isnan(x).sum() == 3


BAD_IMAGES = {
    'wrong step': ({'step': 3 * SMALL.width - 1}, 'wrong_step'),
    'step that overflows': ({'step': 2**32 - 1}, 'truncated'),
    'truncated': ({'data': b'\0' * 1000}, 'truncated'),
    'no data': ({'data': b''}, 'truncated'),
    'too much data': ({'data': b'\0' * (3 * SMALL.width * SMALL.height + 1)}, 'wrong_length'),
    'wrong size': ({'height': SMALL.height * 2}, 'truncated'),
    'unknown encoding': ({'encoding': 'sepia7'}, 'unknown_encoding'),
    'depth image': ({'encoding': '32FC1'}, 'depth_image'),
    'empty': ({'width': 0, 'height': 0, 'step': 0, 'data': b''}, 'too_small'),
    '1x1': ({'width': 1, 'height': 1, 'step': 3, 'data': b'\0\0\0'}, 'too_small'),
    'enormous': ({'width': 2**31, 'height': 2**31}, 'too_large'),
}


def test_each_bad_image_is_counted_and_the_next_good_one_gives_people(bench):
    for name, (fields, cause) in BAD_IMAGES.items():
        before = bench.drops.get(cause, 0)
        bench.send(bench.image(**fields))
        assert bench.drops.get(cause, 0) == before + 1, name
        assert len(bench.expect_people().people) == 1, name
    status = bench.status('input')
    assert status.level == DiagnosticStatus.WARN and 'dropped' in status.message
    values = {pair.key: pair.value for pair in status.values}
    assert values['dropped.wrong_step'] == '1' and values['frames_done'] == str(len(BAD_IMAGES))


def test_an_8k_image_is_worked_on_and_a_larger_one_refused(ros):
    eight_k = Camera(7680, 4320, 5000.0, 5000.0, 3840.0, 2160.0)
    with Bench(camera=eight_k) as bench:
        bench.ready().send_info()
        wide = Camera(8200, 4320, 5000.0, 5000.0, 4100.0, 2160.0)
        bench.send(encode_image(np.zeros((wide.height, wide.width, 3), np.uint8), bench.header()))
        assert bench.drops == {'too_large': 1}
        assert len(bench.expect_people().people) == 1
        assert bench.pipeline.frames[0].image.shape == (4320, 7680, 3)


def test_compressed_images_and_a_corrupt_one(ros):
    with Bench(image_transport='compressed') as bench:
        bench.publisher(CompressedImage, 'image/compressed')
        bench.publisher(CameraInfo, 'camera_info')
        wait_for(lambda: bench.state == 'active' and
                 all(p.get_subscription_count() for p in bench._publishers.values()))
        bench.send_info()
        whole = compressed(bench)
        bench.send(whole, 'image/compressed')
        bench.send(compressed(bench, bytes(whole.data)[:400]), 'image/compressed')
        bench.send(compressed(bench, b'\xff\xd8nonsense'), 'image/compressed')
        bench.send(compressed(bench, kind='png'), 'image/compressed')
        wait_for(lambda: len(bench.people) == 2)
        assert bench.node.health.done == 2 and sum(bench.drops.values()) == 2
        assert set(bench.drops) <= {'truncated', 'corrupt_jpeg'}
        np.testing.assert_array_equal(bench.pipeline.frames[1].image, picture())


@pytest.mark.parametrize('spoil, words', [
    ({'k': [0.0] * 9}, 'not calibrated'), ({'k': [math.nan] * 9}, 'not finite'),
    ({'d': [math.nan] * 5}, 'not finite'), ({'distortion_model': 'mirror'}, 'mirror')])
def test_a_calibration_that_cannot_be_right_is_an_error_until_a_right_one_comes(ros, spoil, words):
    with Bench() as bench:
        bench.ready()
        info = to_info(SMALL, bench.header())
        for name, value in spoil.items():
            setattr(info, name, value)
        bench.send_info(info)
        bench.send()
        assert bench.drops == {'not_calibrated': 1}
        status = bench.status('input')
        assert status.level == DiagnosticStatus.ERROR
        assert words in status.message and f'{bench.namespace}/camera_info' in status.message
        bench.send_info()
        assert len(bench.expect_people().people) == 1


def test_images_without_camera_info_are_reported_after_the_timeout_with_the_topic(ros):
    with Bench(camera_info_timeout=0.5) as bench:
        bench.ready().send()
        assert bench.drops == {'no_camera_info': 1}
        time.sleep(0.5)
        bench.send()
        status = bench.status('input')
        assert status.level == DiagnosticStatus.WARN and f'{bench.namespace}/camera_info' in status.message
        bench.send_info()
        assert len(bench.expect_people().people) == 1
        assert bench.status('input').level == DiagnosticStatus.OK


def test_no_image_at_all_is_stale_and_says_why(ros):
    with Bench() as bench:
        wait_for(lambda: bench.state == 'active')
        status = bench.status('input')
        assert status.level == DiagnosticStatus.STALE
        assert f'{bench.namespace}/image' in status.message and 'nobody publishes' in status.message


@pytest.mark.filterwarnings('ignore:Deprecated in favor:DeprecationWarning')  # rclpy's own, when QoS do not match
def test_a_best_effort_camera_and_a_reliable_subscription_are_found_out(ros):
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    with Bench(image_reliability='reliable', qos=best_effort) as bench:
        bench.publisher(Image, 'image')
        wait_for(lambda: bench.state == 'active' and bench.node.count_publishers(f'{bench.namespace}/image'))
        assert 'set image_reliability to best_effort' in bench.status('input').message


def test_camera_info_of_another_size_drops_images_until_it_fits(bench):
    bench.send_info(to_info(Camera(128, 96, 120.0, 120.0, 63.5, 47.5), bench.header()))
    bench.send()
    assert bench.drops == {'size_mismatch': 1}
    status = bench.status('input')
    assert '64 x 48' in status.message and '128 x 96' in status.message
    bench.send_info()
    assert len(bench.expect_people().people) == 1


def test_camera_info_that_changes_mid_stream_is_taken_over(bench):
    bench.expect_people()
    resets = bench.pipeline.resets
    bench.send_info(to_info(Camera(64, 48, 80.0, 80.0, 31.5, 23.5), bench.header()))
    bench.expect_people()
    assert [frame.camera.fx for frame in bench.pipeline.frames] == [60.0, 80.0]
    assert bench.pipeline.resets == resets  # a zoom does not end the tracks


def test_rectified_images_take_p_and_no_distortion(ros):
    with Bench(rectification='rectified') as bench:
        bench.ready()
        info = to_info(SMALL, bench.header())
        info.p[0], info.k[0], info.d = 77.0, 66.0, [0.1] * 5
        bench.send_info(info)
        bench.expect_people()
        assert (bench.pipeline.frames[0].camera.fx, bench.pipeline.frames[0].camera.model) == (77.0, 'pinhole')


def test_time_that_goes_back_resets_the_pipeline_and_goes_on(bench):
    bench.expect_people()
    resets = bench.pipeline.resets
    bench.stamp_ns -= 10_000_000_000
    bench.expect_people()
    bench.expect_people()
    assert bench.pipeline.resets == resets + 1 and bench.drops == {}
    assert bench.node.health.events == {'time_jumps': 1}


def test_the_same_stamp_twice_is_one_frame(bench):
    message = bench.send()
    bench.send(message)
    assert bench.drops == {'duplicate_stamp': 1} and len(bench.pipeline.frames) == 1
    assert len(bench.expect_people().people) == 1


def test_a_failing_pipeline_costs_the_frame_and_not_the_node(bench):
    bench.pipeline.failing = RuntimeError('out of memory')
    bench.send()
    assert bench.drops == {'error': 1}
    assert 'out of memory' in bench.status('input').message
    bench.pipeline.failing, resets = None, bench.pipeline.resets
    assert len(bench.expect_people().people) == 1
    assert bench.pipeline.resets == resets + 1  # half-done state is thrown away
