"""video_node on real rclpy: what it publishes, at which pace, and how it ends."""

import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from bench import wait_for  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from test_footage import write_folder, write_video  # noqa: E402

from pose3d_ros.calibration import save_camera  # noqa: E402
from pose3d_ros.camera import Camera  # noqa: E402
from pose3d_ros.msg import People3D  # noqa: E402
from pose3d_ros.ros.convert import camera_from_info, stamp_ns, to_stamp  # noqa: E402
from pose3d_ros.ros.images import decode_compressed, decode_image  # noqa: E402
from pose3d_ros.ros.managed import spinner  # noqa: E402
from pose3d_ros.ros.params import ParameterError  # noqa: E402
from pose3d_ros.ros.video_node import VideoNode  # noqa: E402

CAMERA = Camera(64, 48, 60.0, 61.0, 31.5, 23.5, 'plumb_bob', (0.1, 0.0, 0.0, 0.0, 0.0))
_namespaces = (f'/video{number}' for number in itertools.count())


@pytest.fixture
def clip(tmp_path):
    save_camera(tmp_path / 'camera.yaml', CAMERA, 'cam')
    return {'video': str(write_video(tmp_path / 'clip.avi')), 'calibration': str(tmp_path / 'camera.yaml')}


class Screening:
    """A VideoNode and someone who watches."""

    def __init__(self, answer_after: float | None = None, kind: type = Image, topic: str = 'image', **parameters):
        namespace = next(_namespaces)
        self.node = VideoNode(namespace=namespace, parameter_overrides=[
            Parameter(name, value=value) for name, value in parameters.items()])
        self.watcher = Node('watcher', namespace=namespace)
        self.images, self.infos, self.times, self.stop = [], [], [], False
        self._answer_after = answer_after
        self._people = self.watcher.create_publisher(People3D, 'people', 5)
        self.watcher.create_subscription(kind, topic, self._see, QoSProfile(depth=50))
        self.watcher.create_subscription(CameraInfo, 'camera_info', self.infos.append, QoSProfile(depth=50))

    def _see(self, image):
        self.images.append(image)
        self.times.append(time.monotonic())
        if self._answer_after is not None:
            time.sleep(self._answer_after)
            self._people.publish(People3D(header=image.header))

    def __enter__(self):
        self.executors = [SingleThreadedExecutor(), SingleThreadedExecutor()]
        self.executors[0].add_node(self.node)
        self.executors[1].add_node(self.watcher)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._done.is_set():  # see Bench._spin
            self.executors[1].spin_once(timeout_sec=0.1)

    def play(self):
        return self.node.play(spinner(self.executors[0], lambda: self.stop))

    def __exit__(self, *error):
        self._done.set()
        self._thread.join()
        for executor in self.executors:
            executor.shutdown()
        self.node.destroy_node()
        self.watcher.destroy_node()


def test_a_video_is_published_whole_at_its_rate_with_its_calibration(ros, clip):
    before = time.time_ns()
    with Screening(**clip, frame_id='cam_optical') as show:
        assert show.play() == 0
        wait_for(lambda: len(show.images) == len(show.infos) == 5)
        np.testing.assert_allclose([decode_image(image).mean() for image in show.images], [0, 40, 80, 120, 160], atol=3)
        assert show.images[0].header.frame_id == 'cam_optical'
        stamps = [stamp_ns(image.header.stamp) for image in show.images]
        assert before < stamps[0] and [stamp_ns(info.header.stamp) for info in show.infos] == stamps
        assert np.median(np.diff(stamps)) / 1e9 == pytest.approx(1 / 25, abs=0.01)  # single ones waver when busy
        assert camera_from_info(show.infos[0], False, '/camera_info') == CAMERA


def test_a_rate_of_ones_own_and_compressed_images(ros, clip):
    with Screening(kind=CompressedImage, topic='image/compressed', **clip, rate=100.0,
                   image_transport='compressed') as show:
        show.play()
        wait_for(lambda: len(show.images) == 5)
        assert 'jpeg' in show.images[0].format
        np.testing.assert_allclose([decode_compressed(image).mean() for image in show.images], [0, 40, 80, 120, 160],
                                   atol=3)
        stamps = [stamp_ns(image.header.stamp) for image in show.images]
        assert np.median(np.diff(stamps)) / 1e9 < 0.025  # the video's own period is 0.04


def test_pace_consumed_waits_for_people_and_loses_nothing(ros, clip):
    with Screening(answer_after=0.1, **clip, pace='consumed') as show:
        assert show.play() == 0
        assert len(show.images) == 5 and show.node.unanswered == 0
        assert np.diff(show.times).min() > 0.1
        stamps = [stamp_ns(image.header.stamp) for image in show.images]
        np.testing.assert_allclose(np.diff(stamps), 1e9 / 25, atol=1)  # as filmed, however slow the answers


def test_pace_consumed_goes_on_without_an_answer(ros, clip):
    with Screening(**clip, pace='consumed', consume_timeout=0.1) as show:
        assert show.play() == 0
        wait_for(lambda: len(show.images) == 5)
        assert show.node.unanswered == 5


def test_a_loop_goes_on_with_rising_stamps_until_it_is_stopped(ros, clip):
    with Screening(**clip, loop=True, rate=200.0) as show:
        threading.Timer(1.0, lambda: setattr(show, 'stop', True)).start()
        assert show.play() == 0
        assert len(show.images) > 5
        assert (np.diff([stamp_ns(image.header.stamp) for image in show.images]) > 0).all()


def test_two_nodes_with_one_start_play_in_step(ros, clip):
    start, clip = time.time() + 1.0, {**clip, 'rate': 5.0}
    with Screening(**clip, start_at=start) as first, Screening(**clip, start_at=start) as second:
        playing = threading.Thread(target=first.play)
        playing.start()
        time.sleep(0.3)  # the other one comes later
        assert second.play() == 0
        playing.join()
        wait_for(lambda: len(first.images) == len(second.images) == 5)
        stamps = [[stamp_ns(image.header.stamp) for image in show.images] for show in (first, second)]
        assert stamps[0] == stamps[1] == [round(1e9 * start) + number * 200_000_000 for number in range(5)]
        assert np.abs(np.subtract(first.times, second.times)).max() < 0.2


def test_what_is_late_is_left_out_and_delays_nothing(ros, clip):
    start = time.time() - 0.1
    with Screening(**clip, rate=5.0, start_at=start) as show:
        assert show.play() == 0
        wait_for(lambda: len(show.images) == show.node.published)
        assert show.node.left_out >= 1 and show.node.published == 5 - show.node.left_out  # it waited for the watcher
        numbers = [(stamp_ns(image.header.stamp) - round(1e9 * start)) / 200_000_000 for image in show.images]
        assert set(numbers) <= set(range(1, 5)) and (np.diff(numbers) > 0).all()
        assert time.time() - start < 1.0 + 1.0  # as if none had been late; then the time of the last delivery


def test_in_step_at_the_pace_of_people_a_late_node_joins_where_the_others_are(ros, clip):
    start_ns = time.time_ns() // 1000 * 1000
    with Screening(answer_after=0.0, **clip, pace='consumed', start_at=1e-9 * start_ns) as show:
        show.node._take_people(People3D(header=Header(stamp=to_stamp(start_ns + 2 * 40_000_000 + 1000))))
        assert show.play() == 0
        stamps = [stamp_ns(image.header.stamp) - start_ns for image in show.images]
        np.testing.assert_allclose(stamps, [3 * 40_000_000, 4 * 40_000_000], atol=1000)
        assert show.node.left_out == 3


def test_a_start_that_is_set_later_is_waited_for(ros, clip):
    with Screening(**clip, rate=5.0, start_at=-1.0) as show:
        start = time.time() + 1.5
        threading.Timer(1.0, lambda: show.node.set_parameters([Parameter('start_at', value=start)])).start()
        assert show.play() == 0
        assert time.time() > start and show.node.published + show.node.left_out == 5
        wait_for(lambda: len(show.images) == show.node.published)
        assert stamp_ns(show.images[-1].header.stamp) == round(1e9 * start) + 4 * 200_000_000


def test_without_a_subscriber_it_starts_after_the_time_given(ros, clip):
    node = VideoNode(namespace=next(_namespaces), parameter_overrides=[
        Parameter(name, value=value) for name, value in {**clip, 'wait_for_subscriber': 0.5, 'rate': 200.0}.items()])
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    begin = time.monotonic()
    assert node.play(spinner(executor, lambda: False)) == 0
    assert node.published == 5 and 0.5 < time.monotonic() - begin < 3
    executor.shutdown()
    node.destroy_node()


@pytest.mark.parametrize('change, words', [
    ({'video': ''}, 'video: no footage given'), ({'video': '/nowhere.mp4'}, 'video: /nowhere.mp4: no such file'),
    ({'calibration': ''}, 'calibration: name the file'), ({'calibration': '/nowhere.yaml'}, '/nowhere.yaml'),
    ({'camera_name': 'cam9'}, 'cam9'), ({'pace': 'hasty'}, 'realtime | consumed'),
    ({'source': 'x.mp4'}, 'no parameter source')])
def test_a_start_that_cannot_be_says_why(ros, clip, change, words):
    with pytest.raises(ParameterError) as error:
        Screening(**{**clip, **change})
    assert words in str(error.value)


def test_a_calibration_of_another_size_is_refused(ros, clip, tmp_path):
    with pytest.raises(ParameterError, match='64 x 48 px, but .* has 40 x 30'):
        Screening(**{**clip, 'video': str(write_folder(tmp_path / 'images'))})


def test_the_process_ends_by_itself_with_the_video_and_fails_in_one_line(ros, clip):
    def play(**parameters):
        settings = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
        return subprocess.run(
            [sys.executable, '-c', 'from pose3d_ros.ros.video_node import main; raise SystemExit(main())', '--ros-args',
             *settings], capture_output=True, text=True, timeout=60)

    done = play(**clip, wait_for_subscriber=0.1, rate=100.0)
    assert done.returncode == 0 and 'published 5 frames' in done.stderr + done.stdout
    failed = play(**clip | {'video': '/nowhere.mp4'})
    assert failed.returncode == 1 and '/nowhere.mp4' in failed.stderr and 'Traceback' not in failed.stderr
