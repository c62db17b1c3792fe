"""multi_node: for each of its cameras what a mono_node does, and nobody's trouble is the others'."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import fakes
import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from bench import SMALL, Bench, NodeBench, picture, wait_for  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from pose3d_ros.calibration import load_camera  # noqa: E402
from pose3d_ros.cli.video import VideoReader  # noqa: E402
from pose3d_ros.msg import People2D, People3D  # noqa: E402
from pose3d_ros.pipeline import Pipeline, detect_together  # noqa: E402
from pose3d_ros.ros import worker as worker_module  # noqa: E402
from pose3d_ros.ros.convert import to_info  # noqa: E402
from pose3d_ros.ros.images import encode_image  # noqa: E402
from pose3d_ros.ros.latest import Latest  # noqa: E402
from pose3d_ros.ros.multi_node import MultiNode  # noqa: E402
from pose3d_ros.ros.params import ParameterError  # noqa: E402
from pose3d_ros.ros.tf import Transforms  # noqa: E402
from pose3d_ros.ros.worker import each_alone  # noqa: E402
from pose3d_ros.runtime.engine import Wanted  # noqa: E402
from pose3d_ros.runtime.store import ModelMissing  # noqa: E402

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ROOT = Path(__file__).parents[1]
CAMERAS = ['front', 'left']


class MultiBench(NodeBench):
    """A MultiNode under test, with a stand-in for each camera's pipeline unless open_group is given.

    together: how many cameras were begun in common, for each time that several were. failing: raised then, while set.
    """

    def __init__(self, cameras=CAMERAS, open_group=None, begin=None, calibrations=None, cli_args=None, **parameters):
        self.pipelines = {name: fakes.FakePipeline(people=[fakes.standing(id=1 + number)])
                          for number, name in enumerate(cameras)}
        self.calibrations = calibrations or dict.fromkeys(cameras, SMALL)
        self.opened, self.together, self.failing = [], [], None
        self._begin_each = begin or each_alone

        def open_it(count, **arguments):
            self.opened.append((count, arguments))
            return list(self.pipelines.values())[:count]

        super().__init__(partial(MultiNode, open_group or open_it, self._begin), None, cli_args, cameras=cameras,
                         **parameters)
        self.people = {name: [] for name in cameras}
        self.people_2d = {name: [] for name in cameras}
        for name in cameras:
            self.listen(People3D, f'{name}/people', self.people[name].append)
            self.listen(People2D, f'{name}/people_2d', self.people_2d[name].append)

    def _begin(self, pipelines, frames):
        self.together.append(len(pipelines))
        if self.failing is not None:
            raise self.failing
        return self._begin_each(pipelines, frames)

    def health(self, camera):
        return self.node.health.cameras[camera]

    def drops(self, camera):
        return dict(self.health(camera).drops)

    def ready(self, *without_info):
        """Wait until the node works and knows the cameras, but for some."""
        for name in self.people:
            self.publisher(CameraInfo, f'{name}/camera_info')
            self.publisher(Image, f'{name}/image')
        wait_for(lambda: self.state == 'active'
                 and all(publisher.get_subscription_count() for publisher in self._publishers.values()))
        wait_for(lambda: all(self.tester.count_publishers(f'{self.namespace}/{name}/{topic}') == 1
                             for name in self.people for topic in ('people', 'people_2d')))
        time.sleep(0.1)  # the other direction of each match
        for name in self.people:
            if name not in without_info:
                self.publisher(CameraInfo, f'{name}/camera_info').publish(
                    to_info(self.calibrations[name], self.header(0)))
                wait_for(lambda name=name: self.health(name).camera.calibrated)
        return self

    def image(self, camera=CAMERAS[0], **fields):
        message = encode_image(picture(self.calibrations[camera]), self.header())
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def send(self, messages):
        """Publish images, by camera, and wait until they are worked off."""
        AtOnce.wanted = len(messages)
        before = {name: worked_off(self.health(name)) for name in messages}
        for name, message in messages.items():
            self.publisher(Image, f'{name}/image').publish(message)
        for name in messages:
            wait_for(lambda name=name: worked_off(self.health(name)) > before[name])

    def expect_people(self, *cameras):
        """Send a good image of each of some cameras (all), and return the people that came of it by camera."""
        messages = {name: self.image(name) for name in cameras or self.people}
        before = {name: len(self.people[name]) for name in messages}
        self.send(messages)
        for name, message in messages.items():
            wait_for(lambda name=name: len(self.people[name]) > before[name])
            assert self.people[name][-1].header == message.header
        return {name: self.people[name][-1] for name in messages}


class AtOnce(Latest):
    """A mailbox whose taker comes when so many cameras have an image, so that images sent together are taken so."""

    wanted = 1

    def take(self):
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) >= AtOnce.wanted)
        return super().take()


def worked_off(health):
    return health.done + sum(health.drops.values())


@pytest.fixture
def bench(ros):
    with MultiBench() as bench:
        yield bench.ready()


def test_each_camera_has_its_people_with_the_stamp_and_frame_of_its_images(bench):
    for _ in range(3):
        people = bench.expect_people()
        assert [message.people[0].id for message in people.values()] == [1, 2]
    people = bench.expect_people('left')
    assert list(people) == ['left'] and [len(bench.people[name]) for name in CAMERAS] == [3, 4]
    wait_for(lambda: len(bench.people_2d['left']) == 4)
    assert bench.people_2d['left'][-1].header == people['left'].header
    assert [len(pipeline.frames) for pipeline in bench.pipelines.values()] == [3, 4]


def test_images_that_are_there_at_once_are_worked_on_together(ros, monkeypatch):
    monkeypatch.setattr(worker_module, 'Latest', AtOnce)
    cameras = ['front', 'left', 'rear']
    with MultiBench(cameras) as bench:
        bench.ready()
        bench.expect_people()
        bench.expect_people('front', 'rear')
        bench.expect_people('left')
        assert bench.together == [3, 2]  # one alone has nothing in common with others
        bench.send({'front': bench.image(data=b''), 'left': bench.image(), 'rear': bench.image()})
        assert bench.together == [3, 2, 2] and bench.drops('front') == {'truncated': 1}


def test_real_networks_shared_give_the_people_of_a_node_for_each(ros, models_dir, sample_dir, monkeypatch):
    monkeypatch.setattr(worker_module, 'Latest', AtOnce)
    places = {'front': 'cam01', 'left': 'cam03'}
    calibrations = {name: load_camera(ROOT / 'config' / 'samples' / 'single_person.yaml', camera).camera
                    for name, camera in places.items()}
    images = {name: [frame.image for frame, _ in zip(VideoReader(sample_dir / f'{places[name]}.mp4').frames(camera),
                                                     range(6))] for name, camera in calibrations.items()}
    options = {'detector_model': 'lite', 'threads': 1}
    with MultiBench(open_group=Pipeline.open_group, begin=detect_together, calibrations=calibrations,
                    **options) as bench:
        bench.ready()
        sent = [{name: encode_image(images[name][step], bench.header()) for name in images} for step in range(6)]
        for messages in sent:
            bench.send(messages)
        wait_for(lambda: all(len(bench.people_2d[name]) == 6 for name in places))
        assert bench.together == [2] * 6
    AtOnce.wanted = 1
    for name, camera in calibrations.items():
        with Bench(open_pipeline=Pipeline.open, camera=camera, **options) as alone:
            alone.ready().send_info()
            for messages in sent:
                alone.send(messages[name])
            wait_for(lambda alone=alone: len(alone.people_2d) == 6)
            same(bench.people[name], alone.people)
            same(bench.people_2d[name], alone.people_2d)
            assert sum(len(message.people) for message in alone.people) >= 5


def same(messages, others):
    """Assert that two lists of people messages say the same, but for rounding."""
    assert len(messages) == len(others)
    for message, other in zip(messages, others):
        assert (message.header, message.skeleton) == (other.header, other.skeleton)
        assert [person.id for person in message.people] == [person.id for person in other.people]
        for person, twin in zip(message.people, other.people):
            np.testing.assert_allclose(numbers(person), numbers(twin), rtol=1e-5, atol=1e-4)


def numbers(person):
    """Return the joints of a person message: m in space, px and rays in the image."""
    if hasattr(person.joints[0], 'position'):
        return [(joint.position.x, joint.position.y, joint.position.z) for joint in person.joints]
    return [(joint.x, joint.y, joint.ray_x, joint.ray_y, joint.sigma) for joint in person.joints]


def test_a_camera_without_camera_info_holds_nobody_up(ros):
    with MultiBench(camera_info_timeout=0.2) as bench:
        bench.ready('front')
        for _ in range(3):
            bench.send({'front': bench.image('front'), 'left': bench.image('left')})
            time.sleep(0.1)
        wait_for(lambda: len(bench.people['left']) == 3)
        assert bench.drops('front') == {'no_camera_info': 3} and bench.drops('left') == {}
        front, left = bench.status('front input'), bench.status('left input')
        assert front.level == DiagnosticStatus.WARN and f'{bench.namespace}/front/camera_info' in front.message
        assert left.level == DiagnosticStatus.OK
        bench.ready()
        assert len(bench.expect_people()) == 2


@pytest.mark.parametrize('fields, cause', [({'data': b'\0' * 100}, 'truncated'), ({'encoding': '32FC1'}, 'depth_image'),
                                           ({'width': 0, 'height': 0, 'step': 0, 'data': b''}, 'too_small')])
def test_bad_images_of_one_camera_are_its_own_trouble(bench, fields, cause):
    for _ in range(4):
        bench.send({'front': bench.image('front', **fields), 'left': bench.image('left')})
    wait_for(lambda: len(bench.people['left']) == 4)
    assert bench.drops('front') == {cause: 4} and bench.drops('left') == {}
    assert bench.status('front input').level == DiagnosticStatus.ERROR
    assert bench.status('left input').level == DiagnosticStatus.OK
    assert len(bench.expect_people()) == 2


def test_time_that_goes_back_and_stamps_given_twice_concern_one_camera(bench):
    bench.expect_people()
    resets = {name: pipeline.resets for name, pipeline in bench.pipelines.items()}
    again = bench.image('front')
    bench.send({'front': again, 'left': bench.image('left')})
    bench.send({'front': again, 'left': bench.image('left')})
    assert bench.drops('front') == {'duplicate_stamp': 1}
    bench.send({'left': bench.image('left')})
    bench.stamp_ns -= 10_000_000_000
    bench.expect_people('front')
    assert bench.health('front').events == {'time_jumps': 1} and bench.health('left').events == {}
    assert bench.drops('left') == {} and len(bench.pipelines['left'].frames) == 4
    assert {name: pipeline.resets - resets[name] for name, pipeline in bench.pipelines.items()} == {
        'front': 1, 'left': 0}


def test_a_pipeline_that_fails_costs_its_own_cameras_frames(bench):
    bench.expect_people()
    bench.pipelines['front'].failing = RuntimeError('an odd person')
    resets = {name: pipeline.resets for name, pipeline in bench.pipelines.items()}
    for _ in range(3):
        bench.send({'front': bench.image('front'), 'left': bench.image('left')})
    wait_for(lambda: len(bench.people['left']) == 4)
    assert bench.drops('front') == {'error': 3} and bench.drops('left') == {}
    bench.pipelines['front'].failing = None
    bench.expect_people()
    assert bench.pipelines['left'].resets == resets['left']
    assert bench.pipelines['front'].resets == resets['front'] + 3  # half-done state is thrown away


def test_what_fails_for_all_together_is_done_for_each_alone(ros, monkeypatch):
    monkeypatch.setattr(worker_module, 'Latest', AtOnce)
    with MultiBench() as bench:
        bench.ready()
        bench.expect_people()
        bench.failing = MemoryError('no room for two')
        for _ in range(2):
            assert len(bench.expect_people()) == 2
        assert all(bench.drops(name) == {} for name in CAMERAS)
        assert all(bench.health(name).events == {'together_failed': 2} for name in CAMERAS)


def test_a_camera_that_fails_is_kept_from_the_others_until_it_does_well(ros, monkeypatch):
    monkeypatch.setattr(worker_module, 'Latest', AtOnce)

    def begin(pipelines, frames):
        for pipeline in pipelines:
            if pipeline.failing:
                raise pipeline.failing
        return each_alone(pipelines, frames)

    with MultiBench(['front', 'left', 'rear'], begin=begin) as bench:
        bench.ready()
        bench.pipelines['left'].failing = RuntimeError('an odd image')
        for count in range(1, 4):
            bench.send({name: bench.image(name) for name in bench.people})
            wait_for(lambda count=count: len(bench.people['front']) == len(bench.people['rear']) == count)
        assert bench.drops('left') == {'error': 3} and bench.drops('front') == bench.drops('rear') == {}
        assert bench.together == [3, 2, 2] and bench.health('front').events == {'together_failed': 1}
        bench.pipelines['left'].failing = None
        bench.expect_people()
        bench.expect_people()
        assert bench.together == [3, 2, 2, 2, 3]


def test_the_newest_frame_of_each_camera_wins_and_a_fast_one_does_not_push_out_a_slow_one(ros):
    with MultiBench() as bench:
        bench.ready()
        for pipeline in bench.pipelines.values():
            pipeline.delay_s = 0.06
        waits = {name: [] for name in CAMERAS}
        for name in CAMERAS:
            bench.health(name).finished = lambda people, times_ms, *rest, name=name: waits[name].append(
                times_ms['wait'])
        begin = time.monotonic()
        for number in range(60):  # front every 25 ms, left every 150 ms; both together take 120 ms
            time.sleep(max(0.0, begin + 0.025 * number - time.monotonic()))
            bench.publisher(Image, 'front/image').publish(bench.image('front'))
            if number % 6 == 0:
                bench.publisher(Image, 'left/image').publish(bench.image('left'))
        wait_for(lambda: all(len(waits[name]) + bench.drops(name).get('overwritten', 0)
                             == bench.health(name).received for name in CAMERAS))
        assert len(waits['left']) >= 8 and bench.drops('left').get('overwritten', 0) <= 1
        assert set(bench.drops('front')) == {'overwritten'} and len(waits['front']) >= 8
        assert np.percentile(waits['left'], 95) <= 200  # while the images before are in hand, and nothing builds up
        stamps = [frame.stamp_ns for frame in bench.pipelines['front'].frames]
        assert (np.diff(stamps) > 0).all()


def test_a_camera_that_dies_is_told_and_the_other_goes_on(bench):
    bench.expect_people()
    for _ in range(14):
        bench.expect_people('left')
        time.sleep(0.1)
    front, left = bench.status('front input'), bench.status('left input')
    assert front.level == DiagnosticStatus.WARN and front.message.startswith('front: no image on')
    assert left.level == DiagnosticStatus.OK


def test_diagnostics_have_two_lines_for_each_camera_and_one_for_the_engines(bench):
    bench.expect_people()
    bench._reports.clear()
    bench.node.report()
    wait_for(lambda: len(bench._reports) >= 5)
    node = f'{bench.namespace[1:]}/multi_node'
    assert [status.name for status in bench._reports[:5]] == [
        f'{node}: {line}' for line in ('front input', 'front pipeline', 'left input', 'left pipeline', 'engines')]
    values = {pair.key: pair.value for pair in bench.status('left pipeline').values}
    assert values['state'] == 'active' and values['people'] == '1' and 'latency_p95_ms' in values


def test_markers_of_each_camera_go_when_the_node_stops(bench):
    arrays = {name: [] for name in CAMERAS}
    for name in CAMERAS:
        bench.listen(MarkerArray, f'{name}/markers', arrays[name].append)
    wait_for(lambda: all(bench.node.count_subscribers(f'{bench.namespace}/{name}/markers') for name in CAMERAS))
    time.sleep(0.1)
    bench.expect_people()
    wait_for(lambda: all(arrays.values()))
    assert bench.node.trigger_deactivate() == SUCCESS
    wait_for(lambda: all(len(those) == 2 for those in arrays.values()))
    for number, name in enumerate(CAMERAS):
        assert [{(marker.id, marker.action) for marker in array.markers} for array in arrays[name]] == [
            {(1 + number, Marker.ADD)}, {(1 + number, Marker.DELETE)}]


def test_transitions_and_the_cameras_named_while_unconfigured(ros):
    with MultiBench(autostart=False) as bench:
        assert bench.node.trigger_configure() == SUCCESS and bench.opened[0][0] == 2
        assert bench.node.trigger_activate() == SUCCESS
        bench.ready().expect_people()
        assert bench.node.trigger_deactivate() == SUCCESS and bench.node.trigger_activate() == SUCCESS
        bench.ready().expect_people()
        assert bench.node.trigger_deactivate() == SUCCESS and bench.node.trigger_cleanup() == SUCCESS
        assert all(pipeline.closed for pipeline in bench.pipelines.values())
        assert bench.node.set_parameters([Parameter('cameras', value=['left'])])[0].successful
        assert bench.node.trigger_configure() == SUCCESS and bench.opened[1][0] == 1
        assert list(bench.node.health.cameras) == ['left'] and bench.health('left').done == 2
        wait_for(lambda: not bench.tester.count_publishers(f'{bench.namespace}/front/people'))


def test_models_that_cannot_be_opened_leave_the_node_to_try_again(ros):
    def open_group(count, **arguments):
        raise ModelMissing('pose_landmark_full is not cached: run `pose3d fetch`')

    with MultiBench(open_group=open_group) as bench:
        wait_for(lambda: bench.node.health.facts.problem and bench.state == 'unconfigured')
        status = bench.status('left pipeline')
        assert status.level == DiagnosticStatus.ERROR and 'pose3d fetch' in status.message
        assert bench.node.trigger_configure() == FAILURE


def test_parameters_reach_the_group(ros):
    with MultiBench(detector_model='lite', runtime='cpu', threads=2, search_period=7,
                    cli_args=['--ros-args', '--params-file', str(ROOT / 'config' / 'multi.yaml')]) as bench:
        wait_for(lambda: bench.state == 'active')
        count, arguments = bench.opened[0]
        assert count == 2 and arguments['engines'] == Wanted('cpu', 'auto', 2, meanwhile=True)
        assert arguments['detector_model'] == 'lite' and arguments['detect'].search_period == 7


@pytest.mark.parametrize('cameras', [['front', 'front'], ['a b'], []])
def test_cameras_that_cannot_be_named_so_stop_the_start(ros, cameras):
    with pytest.raises(ParameterError, match='cameras'):
        MultiNode(lambda count, **arguments: [], each_alone, Transforms.listen,
                  parameter_overrides=[Parameter('cameras', Parameter.Type.STRING_ARRAY, cameras)])


def test_remapping_a_cameras_image_takes_its_camera_info_along(ros):
    remaps = ['-r', 'front/image:=/front_camera/image_rect', '-r', 'left/camera_info:=/calib/left']
    with MultiBench(cli_args=['--ros-args', *remaps]) as bench:
        wait_for(lambda: bench.state == 'active')
        front, left = (bench.health(name).camera for name in CAMERAS)
        assert (front.image_topic, front.info_topic) == ('/front_camera/image_rect', '/front_camera/camera_info')
        assert (left.image_topic, left.info_topic) == (f'{bench.namespace}/left/image', '/calib/left')
        assert 'remap `left/image`' in bench.status('left input').message


def test_the_process_ends_cleanly_on_a_signal_and_refuses_a_bad_start_in_one_line(ros):
    start = [sys.executable, '-c', 'from pose3d_ros.ros.multi_node import main; raise SystemExit(main())', '--ros-args']
    process = subprocess.Popen([*start, '-p', 'autostart:=false', '-r', '__node:=to_be_ended'], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=os.environ)
    tester = Node('tester_of_processes')
    try:
        refused = subprocess.run([*start, '-p', 'camera:=[front]'], capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and 'did you mean cameras' in refused.stderr
        wait_for(lambda: 'to_be_ended' in tester.get_node_names(), 60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        tester.destroy_node()
    assert process.returncode == 0 and 'Traceback' not in errors, errors
