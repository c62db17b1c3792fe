"""fusion_node on real rclpy: what it publishes when, and its life; faults are in test_fusion_survives.py."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from bench import wait_for  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from fusion_bench import CAMERAS, FusionBench, Sent  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from pose3d_ros.calibration import save_places  # noqa: E402
from pose3d_ros.ros.fields import stamp_ns  # noqa: E402
from pose3d_ros.ros.params import ParameterError  # noqa: E402

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
OK, WARN, ERROR, STALE = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE)
NEAR = 0.05  # m, mean distance of a person's joints from the truth


@pytest.fixture
def bench(ros):
    with FusionBench() as bench:
        yield bench.ready()


def test_people_are_where_they_are_in_the_common_frame(bench):
    bench.settle()
    came = bench.play(1.0)
    assert len(came) > 7
    stamps = np.array([stamp_ns(message.header.stamp) for message in came])
    assert (np.diff(stamps) > 0).all() and {message.header.frame_id for message in came} == {'map'}
    assert np.median(bench.errors(came)) < NEAR
    assert len({tuple(sorted(person.id for person in message.people)) for message in came}) == 1
    told = bench.told('fusion')
    assert told.level == OK and told.message.startswith('2 people')
    assert told.values['places'] == 'TF, frame map'
    assert float(told.values['views_per_set']) > 1.5 and float(told.values['latency_p95_ms']) > 0
    assert set(bench.values('cameras')) == set(CAMERAS)
    assert float(bench.values('left')['residual_px']) < 5
    assert bench.status('camera left').hardware_id == f'{bench.namespace[1:]}/fusion_node'


def test_nobody_there_is_an_empty_message_and_no_camera_is_none(ros):
    with FusionBench(walkers=()) as bench:
        bench.ready()
        time.sleep(0.3)
        assert bench.people == [] and bench.told('fusion').level == STALE
        came = bench.play(0.8)
        assert len(came) >= 5 and all(message.people == [] for message in came)
        assert came[-1].skeleton == 'human17' and len(came[-1].joint_names) == 17
        assert bench.told('fusion').level == OK


def test_rays_alone_do_where_no_3d_comes(bench):
    came = bench.play(1.0, lambda sent: [Sent(sent.camera, sent.people_2d, None)])
    assert len(came) > 7
    assert np.mean([len(message.people) for message in came[-4:]]) == 2
    shoulder = came[-1].joint_names.index('left_shoulder')
    assert np.isfinite(came[-1].people[0].joints[shoulder].position.z)


def test_markers_go_when_nothing_comes_any_more_and_when_the_node_stops(ros):
    with FusionBench(camera_timeout=0.3) as bench:
        markers = []
        bench.listen(MarkerArray, 'markers', markers.append)
        bench.ready()

        def last_are(action):
            return markers and {marker.action for marker in markers[-1].markers} == {action}

        def shown():
            markers.clear()
            bench.play(0.6)
            return any(marker.action == Marker.ADD for array in markers for marker in array.markers)

        assert shown()
        wait_for(lambda: last_are(Marker.DELETE))
        assert shown()
        assert bench.node.trigger_deactivate() == SUCCESS
        wait_for(lambda: last_are(Marker.DELETE))


def test_the_life_of_the_node(ros):
    with FusionBench(autostart=False) as bench:
        assert bench.state == 'unconfigured'
        assert bench.node.trigger_configure() == SUCCESS and bench.state == 'inactive'
        assert not bench.tester.count_subscribers(f'{bench.namespace}/front/people_2d')
        assert bench.told('cameras').message == 'not listening (inactive)'
        ids = set()
        for _ in range(2):
            assert bench.node.trigger_activate() == SUCCESS
            came = bench.ready().play(0.7)
            born = {person.id for message in came for person in message.people}
            assert len(came) > 4 and len(born) >= 2 and not born & ids
            ids |= born
            assert bench.node.trigger_deactivate() == SUCCESS
            wait_for(lambda: not bench.tester.count_subscribers(f'{bench.namespace}/front/people_2d'))
        assert bench.node.trigger_cleanup() == SUCCESS and bench.transforms.closed == 1
        wait_for(lambda: not bench.tester.count_publishers(f'{bench.namespace}/people'))


def test_the_process_ends_cleanly_on_a_signal_while_it_works(ros, tmp_path):
    places, tester = tmp_path / 'places.yaml', Node('tester_of_processes')
    save_places(places, {'front': np.eye(4)})
    process = subprocess.Popen(
        [sys.executable, '-c', 'from pose3d_ros.ros.fusion_node import main; raise SystemExit(main())', '--ros-args',
         '-r', '__ns:=/to_be_ended', '-p', 'cameras:=[front]', '-p', 'extrinsics_source:=file',
         '-p', f'calibration:={places}'], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: tester.count_subscribers('/to_be_ended/front/people_2d'), 60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        tester.destroy_node()
    assert process.returncode == 0 and 'Traceback' not in errors, errors


@pytest.mark.parametrize('parameters, complaint', [
    ({'cameras': ['front', 'front']}, 'front is there twice'),
    ({'cameras': 'front'}, 'list of names'),
    ({'camera': ['front']}, 'did you mean cameras'),
    ({'max_wait': -1.0}, 'max_wait'),
    ({'extrinsics_source': 'guess'}, 'tf | file'),
])
def test_a_bad_parameter_stops_the_start(ros, parameters, complaint):
    with pytest.raises(ParameterError) as error:
        FusionBench(**parameters)
    assert complaint in str(error.value)


def test_a_calibration_that_is_missing_is_told_and_can_be_named_later(ros, tmp_path):
    with FusionBench(extrinsics_source='file', calibration=str(tmp_path / 'none.yaml')) as bench:
        wait_for(lambda: bench.node.health.facts.problem and bench.state == 'unconfigured')
        assert bench.told('fusion').level == ERROR and 'none.yaml' in bench.told('fusion').message
        save_places(tmp_path / 'places.yaml', bench.poses)
        assert bench.node.set_parameters([Parameter('calibration', value=str(tmp_path / 'places.yaml'))])[0].successful
        assert bench.node.trigger_configure() == bench.node.trigger_activate() == SUCCESS
        assert np.median(bench.errors(bench.ready().settle().play(0.4))) < NEAR


def test_the_calibration_is_read_again_while_running(ros, tmp_path):
    path = tmp_path / 'places.yaml'
    with FusionBench(path=path) as bench:
        client = bench.tester.create_client(Trigger, f'{bench.namespace}/fusion_node/reload_calibration')

        def reload():
            future = client.call_async(Trigger.Request())
            wait_for(future.done)
            return future.result()

        assert np.median(bench.errors(bench.ready().settle().play(0.4))) < NEAR
        assert bench.values('fusion')['places'] == f'file {path}'
        path.write_text('cameras: {front: 3}')
        refused = reload()
        assert not refused.success and 'front' in refused.message
        up = np.eye(4)
        up[2, 3] = -1.0  # the common frame lies 1 m lower
        save_places(path, {name: pose @ up for name, pose in bench.poses.items()})
        assert reload().success
        came = bench.play(1.6)
        heights = [person.pelvis.pose.position.z for person in came[-1].people]
        assert len(heights) == 2 and np.allclose(heights, 1.9, atol=0.15)
        assert 'place_jumps' not in ''.join(bench.values('front'))


def test_reading_again_is_refused_where_tf_tells_the_places(bench):
    response = bench.node._reload(Trigger.Request(), Trigger.Response())
    assert not response.success and 'extrinsics_source' in response.message


def test_a_transform_that_is_a_little_late_is_waited_for(ros):
    with FusionBench(tf_tolerance=1.0) as bench:
        asked = {}

        def late(frame_id, stamp):
            return time.monotonic() - asked.setdefault((frame_id, stamp), time.monotonic()) < 0.05

        bench.transforms.missing = late
        came = bench.ready().settle().play(0.6)
        assert len(came) > 3 and np.median(bench.errors(came)) < 2 * NEAR
        assert all('dropped.tf_lookup' not in bench.values(camera) for camera in CAMERAS)
