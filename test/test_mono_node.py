"""mono_node as a managed node: transitions, parameters, remapping, what it publishes when, and load."""

import logging
import time
from pathlib import Path

import drawn_people
import fakes
import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from bench import SMALL, Bench, encode_image, picture, wait_for  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from rcl_interfaces.msg import Log  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from pose3d_ros.lift import LIFTERS, Lifter  # noqa: E402
from pose3d_ros.pipeline import Pipeline  # noqa: E402
from pose3d_ros.refine import Refiner  # noqa: E402
from pose3d_ros.ros.output import Output  # noqa: E402
from pose3d_ros.ros.params import ParameterError  # noqa: E402
from pose3d_ros.runtime.engine import EngineError, Wanted  # noqa: E402
from pose3d_ros.runtime.store import ModelCorrupt, ModelMissing  # noqa: E402
from pose3d_ros.skeleton import BLAZEPOSE33, COCO17  # noqa: E402
from pose3d_ros.track import Tracker  # noqa: E402

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
CONFIG = Path(__file__).parents[1] / 'config' / 'mono.yaml'


@pytest.fixture
def bench(ros):
    with Bench() as bench:
        bench.ready().send_info()
        yield bench


def test_without_autostart_the_node_waits_for_its_transitions(ros):
    with Bench(autostart=False) as bench:
        time.sleep(0.2)
        assert bench.state == 'unconfigured' and bench.opened == []
        assert bench.node.trigger_configure() == SUCCESS and bench.state == 'inactive'
        assert len(bench.opened) == 1 and not bench.tester.count_subscribers(f'{bench.namespace}/image')
        assert bench.node.trigger_activate() == SUCCESS
        bench.ready().send_info()
        bench.expect_people()
        assert bench.node.trigger_deactivate() == SUCCESS and bench.state == 'inactive'
        wait_for(lambda: not bench.tester.count_subscribers(f'{bench.namespace}/image'))
        assert bench.node.trigger_cleanup() == SUCCESS and bench.state == 'unconfigured'
        wait_for(lambda: not bench.tester.count_publishers(f'{bench.namespace}/people'))


def test_a_lifecycle_manager_moves_the_node_by_its_services(ros):
    with Bench(autostart=False) as bench:
        change = bench.tester.create_client(ChangeState, f'{bench.namespace}/mono_node/change_state')
        assert change.wait_for_service(10)
        for transition, state in ((Transition.TRANSITION_CONFIGURE, 'inactive'),
                                  (Transition.TRANSITION_ACTIVATE, 'active'),
                                  (Transition.TRANSITION_ACTIVE_SHUTDOWN, 'finalized')):
            future = change.call_async(ChangeState.Request(transition=Transition(id=transition)))
            wait_for(future.done)
            assert future.result().success and bench.state == state
        assert bench.status('pipeline').message == 'finalized'


def test_after_deactivation_work_can_begin_again(bench):
    bench.expect_people()
    for _ in range(3):
        assert bench.node.trigger_deactivate() == bench.node.trigger_activate() == SUCCESS
        bench.ready().send_info()
        bench.expect_people()
    assert len(bench.opened) == 1 and bench.node.health.done == 4


@pytest.mark.parametrize('error', [
    ModelMissing('pose_landmark_full is not cached: run `pose3d fetch`'),
    ModelCorrupt('pose_landmark_full was altered: run `pose3d fetch`'),
    EngineError('no such runtime: run `pose3d fetch`'),
    ValueError('settings that do not fit: run `pose3d fetch`')], ids=lambda error: type(error).__name__)
def test_a_model_that_cannot_be_opened_fails_configure_and_the_node_can_try_again(ros, error):
    attempts = []

    def open_pipeline(**arguments):
        attempts.append(arguments)
        if len(attempts) == 1:
            raise error
        return fakes.FakePipeline()

    with Bench(open_pipeline=open_pipeline) as bench:
        wait_for(lambda: attempts and bench.node.health.facts.problem and bench.state == 'unconfigured')
        status = bench.status('pipeline')
        assert status.level == DiagnosticStatus.ERROR
        assert 'pose3d fetch' in status.message
        assert bench.node.trigger_configure() == SUCCESS and bench.node.trigger_activate() == SUCCESS
        bench.ready().send_info()
        bench.expect_people()
        assert bench.status('pipeline').level == DiagnosticStatus.OK


def test_an_unforeseen_failure_to_configure_is_reported_and_recovered_from(ros):
    def open_pipeline(**arguments):
        raise KeyError('surprise')

    with Bench(open_pipeline=open_pipeline) as bench:
        wait_for(lambda: bench.node.health.facts.problem and bench.state == 'unconfigured')
        assert 'surprise' in bench.status('pipeline').message


def test_parameters_reach_the_pipeline(ros):
    with Bench(detector_model='lite', search_model='persons.yaml', lifter='site.onnx', runtime='cpu',
               precision='fp32', threads=2,
               search_period=7, swap_guard=False, acceleration=3.0) as bench:
        wait_for(lambda: bench.state == 'active')
        opened = bench.opened[0]
        assert (opened['detector_model'], opened['search']) == ('lite', 'persons.yaml')
        assert opened['lifter'] == 'site.onnx'
        assert opened['engines'] == Wanted('cpu', 'fp32', 2, meanwhile=True)
        assert opened['detect'].search_period == 7 and not opened['track'].swap_guard
        assert opened['refine'].acceleration == 3.0


@pytest.mark.parametrize('name', LIFTERS)
def test_a_lifter_that_ships_is_taken_by_its_name_and_diagnostics_say_which(ros, name):
    def open_pipeline(**arguments):
        lifter = Lifter.open(arguments['lifter'], Wanted('cpu', threads=1))
        return Pipeline(drawn_people.detector(), Tracker(), lifter, Refiner())

    frame = drawn_people.draw([drawn_people.Drawn(640, 360)])
    with Bench(camera=frame.camera, open_pipeline=open_pipeline, lifter=name) as bench:
        bench.ready().send_info()
        for _ in range(3):
            bench.send(encode_image(frame.image, bench.header()))
        wait_for(lambda: bench.people and bench.people[-1].people)
        person = bench.people[-1].people[0]
        assert len(person.joints) == 17 and 1 < person.pelvis.pose.position.z < 12
        values = {pair.key: pair.value for pair in bench.status('pipeline').values}
        assert values['lifter'] == name and set(values) >= {'detector_model', 'search_model'}


def test_a_lifter_that_cannot_be_is_refused_with_what_is_possible(ros):
    with Bench(autostart=False) as bench:
        for wrong in ('legs', ''):
            refused = bench.node.set_parameters([Parameter('lifter', value=wrong)])[0]
            assert not refused.successful and f'{" | ".join(LIFTERS)} | *.onnx' in refused.reason


def test_parameters_can_be_changed_while_unconfigured_only(ros):
    with Bench(autostart=False) as bench:
        set_one = lambda name, value: bench.node.set_parameters([Parameter(name, value=value)])[0]  # noqa: E731
        assert set_one('detector_model', 'heavy').successful
        refused = set_one('detector_model', 'fat')
        assert not refused.successful and 'lite | full | heavy | *.yaml' in refused.reason
        assert set_one('detector_model', 'own/hrnet.yaml').successful
        assert set_one('detector_model', 'heavy').successful
        assert not set_one('search_period', 0).successful and not set_one('autostart', True).successful
        bench.node.trigger_configure()
        assert bench.opened[0]['detector_model'] == 'heavy'
        refused = set_one('detector_model', 'lite')
        assert not refused.successful and 'unconfigured' in refused.reason
        assert set_one('use_sim_time', False).successful


def test_a_misspelt_parameter_stops_the_start(ros):
    with pytest.raises(ParameterError, match='did you mean search_period'):
        Bench(serch_period=3)


def test_the_shipped_yaml_is_accepted_in_any_namespace(ros):
    with Bench(cli_args=['--ros-args', '--params-file', str(CONFIG), '-p', 'search_period:=21']) as bench:
        wait_for(lambda: bench.state == 'active')
        assert bench.opened[0]['detect'].search_period == 21
        assert 'detector_model' in bench.node._parameter_overrides  # the file's section did apply to this node


@pytest.mark.parametrize('rules, image, info', [
    ({'image': '/front/image_rect'}, '/front/image_rect', '/front/camera_info'),
    ({'image': '/front/image_raw', 'camera_info': '/calib/front'}, '/front/image_raw', '/calib/front')])
def test_remapping_image_takes_camera_info_along(ros, rules, image, info):
    remaps = [word for name, target in rules.items() for word in ('-r', f'{name}:={target}')]
    with Bench(cli_args=['--ros-args', *remaps]) as bench:
        bench.publisher(CameraInfo, info)
        bench.publisher(Image, image)
        wait_for(lambda: bench.state == 'active' and
                 all(p.get_subscription_count() for p in bench._publishers.values()))
        bench.send_info(topic=info)
        bench.send(topic=image)
        assert bench.node.health.done == 1
        values = {pair.key: pair.value for pair in bench.status('input').values}
        assert (values['image_topic'], values['camera_info_topic']) == (image, info)


def test_the_overlay_is_drawn_only_while_somebody_looks(bench, monkeypatch):
    drawn = []
    from pose3d_ros.ros import output
    real = output.draw_people
    bench.pipeline.people_2d = [fakes.seen(camera=SMALL)]
    monkeypatch.setattr(output, 'draw_people', lambda *args: drawn.append(1) or real(*args))
    bench.expect_people()
    assert not drawn
    images = []
    subscription = bench.listen(Image, 'image_annotated', images.append)
    wait_for(lambda: bench.node.count_subscribers(f'{bench.namespace}/image_annotated'))
    time.sleep(0.1)
    message = bench.send()
    wait_for(lambda: images)
    assert images[0].header == message.header and (images[0].width, images[0].height) == (SMALL.width, SMALL.height)
    assert not np.array_equal(np.asarray(images[0].data).reshape(picture().shape), picture())
    bench.tester.destroy_subscription(subscription)
    wait_for(lambda: not bench.node.count_subscribers(f'{bench.namespace}/image_annotated'))
    time.sleep(0.1)
    bench.expect_people()
    assert len(drawn) == 1


def test_markers_go_when_the_person_does_and_when_the_node_stops(bench):
    arrays = []
    bench.listen(MarkerArray, 'markers', arrays.append)
    wait_for(lambda: bench.node.count_subscribers(f'{bench.namespace}/markers'))
    time.sleep(0.1)

    def actions():
        bench.send()
        wait_for(lambda: arrays)
        return {(marker.ns, marker.id, marker.action) for marker in arrays.pop().markers}

    names = ('bones', 'joints', 'label')
    assert actions() == {(name, 1, Marker.ADD) for name in names}
    bench.pipeline.people = [fakes.standing(id=2)]
    assert actions() == {(name, id_, action) for name in names
                         for id_, action in ((1, Marker.DELETE), (2, Marker.ADD))}
    assert actions() == {(name, 2, Marker.ADD) for name in names}
    bench.node.trigger_deactivate()
    wait_for(lambda: arrays)
    assert {(marker.ns, marker.id, marker.action) for marker in arrays[-1].markers} == {
        (name, 2, Marker.DELETE) for name in names}


def test_the_newest_frame_wins_and_latency_stays_bounded_under_three_times_the_load(ros):
    frame_time = 0.08
    with Bench(pipeline=fakes.FakePipeline(delay_s=3 * frame_time)) as bench:
        bench.ready().send_info()
        arrivals = []
        bench.node.health.finished = lambda people, times_ms, *rest: arrivals.append(times_ms)
        begin = time.monotonic()
        for number in range(45):
            time.sleep(max(0.0, begin + number * frame_time - time.monotonic()))
            bench.stamp_ns = time.time_ns()
            bench.publisher(Image, 'image').publish(bench.image())
        wait_for(lambda: len(arrivals) + bench.drops.get('overwritten', 0) == bench.node.health.received)
        assert bench.node.health.received >= 35  # DDS may lose some on a busy machine
        assert 10 <= len(arrivals) <= 20 and set(bench.drops) == {'overwritten'}
        waits = np.array([times['wait'] for times in arrivals])
        # An image waits for the one before at most, and only as long as until the next one comes.
        assert np.percentile(waits, 95) <= 1e3 * 2 * frame_time
        latency = np.array([times['latency'] for times in arrivals])
        assert np.percentile(latency, 95) <= 1e3 * 5 * frame_time
        assert latency[-5:].mean() < latency[2:7].mean() + 1e3 * frame_time  # nothing builds up


def test_diagnostics_tell_times_counts_and_what_computes(bench):
    for _ in range(3):
        bench.expect_people()
    status = bench.status('pipeline')
    values = {pair.key: pair.value for pair in status.values}
    assert status.level == DiagnosticStatus.OK and status.name == f'{bench.namespace[1:]}/mono_node: pipeline'
    assert values['state'] == 'active' and values['ids_made'] == '1' and values['detect_p50_ms'] == '5.00'
    assert {'wait_p95_ms', 'decode_p95_ms', 'publish_p95_ms', 'latency_p99_ms', 'provider', 'precision'} <= set(values)


def test_diagnostics_come_once_a_second_by_themselves(bench):
    bench._reports.clear()
    time.sleep(2.6)
    assert 6 <= len(bench._reports) <= 9  # three statuses each


def test_a_node_told_to_wait_for_its_engines_drops_images_until_they_are_built(ros):
    for keeps_running in (True, False):
        pipeline = fakes.FakePipeline()
        engine = pipeline.engines['landmarks']
        engine.status = 'building engine landmarks fp16, 43 s'
        with Bench(pipeline, build_while_running=keeps_running) as bench:
            bench.ready().send_info()
            bench.send()
            status = bench.status('engines')
            assert status.level == DiagnosticStatus.WARN and status.message == 'building engine landmarks fp16, 43 s'
            assert bench.drops == ({} if keeps_running else {'building': 1})
            engine.status = ''
            bench.expect_people()
            assert bench.status('engines').level == DiagnosticStatus.OK


def test_what_the_networks_say_is_in_the_log_of_the_node(ros):
    with Bench(autostart=False) as bench:
        lines = []
        bench.listen(Log, '/rosout', lambda message: lines.append((message.level, message.name, message.msg)))
        wait_for(lambda: bench.tester.count_publishers('/rosout') >= 2)
        time.sleep(0.2)
        logging.getLogger('pose3d_ros.runtime.manager').warning('engine %s: fp16 fails the check', 'landmarks')
        wanted = (30, bench.node.get_logger().name, 'engine landmarks: fp16 fails the check')
        wait_for(lambda: wanted in lines)
    logging.getLogger('pose3d_ros.runtime.manager').info('nobody listens any more')


def test_nobody_in_view_still_names_the_joints_of_the_model_in_use(ros):
    with Bench(fakes.FakePipeline(people=[], people_2d=[], skeleton=COCO17)) as bench:
        bench.ready().send_info()
        bench.expect_people()
        wait_for(lambda: bench.people_2d)
        assert bench.people_2d[0].skeleton == 'coco17' and tuple(bench.people_2d[0].joint_names) == COCO17.joints


def test_a_qos_override_is_for_its_topic_only(ros):
    node = Node('overridden', parameter_overrides=[
        Parameter('qos_overrides./people.publisher.reliability', value='best_effort')])
    output = Output(node, BLAZEPOSE33)
    chosen = [node.get_parameter(f'qos_overrides./{topic}.publisher.reliability').value
              for topic in ('people', 'people_2d', 'markers')]
    output.destroy()
    node.destroy_node()
    assert chosen == ['best_effort', 'reliable', 'reliable']
