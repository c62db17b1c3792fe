"""Judgement of a node's health on a clock of the test's own."""

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('diagnostic_msgs')

from fakes import FakeEngine  # noqa: E402

from pose3d_ros.ros.health import ERROR, OK, STALE, WARN, GroupHealth, Health  # noqa: E402


@pytest.fixture
def health():
    health = Health()
    health.facts.state, camera = 'active', health.camera
    camera.image_topic, camera.info_topic, camera.info_timeout_s = '/cam/image', '/cam/info', 5.0
    camera.calibrated, camera.why_silent = True, lambda: 'the cable is out'
    health.started()
    return health


def judged(health, now):
    status = health.report(now)[0]
    return status.level, status.message


def work(health, begin, end, rate=10.0, latency=20.0):
    for number in range(round((end - begin) * rate)):
        health.arrived(begin + number / rate)
        health.finished(1, {'detect': 5.0, 'latency': latency}, {'ids_made': 1}, begin + number / rate)


def test_before_the_first_image_it_is_stale_and_says_why(health):
    assert judged(health, 100.0) == (STALE, 'no image yet on /cam/image: the cable is out')


def test_frames_without_the_floor_are_counted_by_cause_and_a_warning_for_a_while(health):
    work(health, 0, 10)
    health.without_floor('tf_lookup', 'no transform from odom', 9.0)
    level, message = health.report(10.0)[1].level, health.report(10.0)[1].message
    assert level == WARN and 'without a floor' in message and 'no transform from odom' in message
    assert health.report(10.0)[1].values['without_floor.tf_lookup'] == '1'
    assert judged(health, 10.0)[0] == OK
    work(health, 10, 20)
    assert health.report(20.0)[1].level == OK and health.report(20.0)[1].values['without_floor.tf_lookup'] == '1'


def test_a_steady_stream_is_ok_with_its_rate(health):
    work(health, 0, 10)
    assert judged(health, 10.0) == (OK, '10.0 images/s on /cam/image')


def test_images_that_stop_are_first_a_warning_and_then_an_error(health):
    work(health, 0, 2)
    assert [judged(health, now)[0] for now in (2.5, 3.5, 8.0)] == [OK, WARN, ERROR]
    assert 'the cable is out' in judged(health, 8.0)[1] and '/cam/image' in judged(health, 8.0)[1]


def test_images_without_camera_info_are_a_warning_after_the_timeout(health):
    health.camera.calibrated = False
    levels = []
    for tenth in range(100):
        health.arrived(tenth / 10)
        health.dropped('no_camera_info', '', tenth / 10)
        levels.append(judged(health, tenth / 10)[0])
    assert levels[:50] == [OK] * 50 and levels[50:] == [WARN] * 50
    assert '/cam/info' in judged(health, 10.0)[1]


def test_a_refused_calibration_is_an_error_in_its_own_words(health):
    health.camera.calibrated, health.camera.calibration_problem = False, '/cam/info: K[0] is 0'
    health.arrived(1.0)
    assert judged(health, 1.0) == (ERROR, '/cam/info: K[0] is 0')


def test_some_bad_images_warn_and_only_bad_ones_are_an_error(health):
    work(health, 0, 10)
    health.dropped('truncated', 'half an image', 9.9)
    assert judged(health, 10.0) == (WARN, '1 images dropped in 5 s, last: half an image')
    for second in range(10, 20):
        health.arrived(float(second))
        health.dropped('truncated', 'half an image', float(second))
    assert judged(health, 19.5)[0] == ERROR
    work(health, 20, 30)
    assert judged(health, 30.0)[0] == OK  # it is over


def test_overwritten_frames_are_counted_and_nothing_to_worry_about(health):
    work(health, 0, 10)
    for tenth in range(50):
        health.dropped('overwritten', '', 5 + tenth / 10)
    status = health.report(10.0)[0]
    assert status.level == OK and status.values['dropped.overwritten'] == '50'


def test_times_are_summarised_over_the_last_frames(health):
    work(health, 0, 100, latency=500.0)
    work(health, 100, 130, latency=20.0)
    values = health.report(130.0)[1].values
    assert values['latency_p50_ms'] == values['latency_p99_ms'] == '20.00' and values['detect_p95_ms'] == '5.00'


def test_what_keeps_the_node_from_working_is_an_error(health):
    health.facts.state, health.facts.problem = 'unconfigured', 'cannot configure: no model'
    input_status, pipeline, _ = health.report(1.0)
    assert (pipeline.level, pipeline.message) == (ERROR, 'cannot configure: no model')
    assert input_status.level == OK and 'unconfigured' in input_status.message


def test_an_engine_that_is_being_built_is_told_with_its_time_until_it_serves(health):
    slow = FakeEngine(status='building engine landmarks fp16, 43 s', remarks=('not on CUDA: no driver',))
    health.facts.engines = {'search': FakeEngine('TensorRT', 'fp16'), 'landmarks': slow}
    status = health.report(1.0)[2]
    assert (status.name, status.level) == ('engines', WARN)
    assert status.message == 'building engine landmarks fp16, 43 s'
    assert status.values == {'search': 'TensorRT fp16', 'landmarks': 'CPUExecutionProvider fp32',
                             'landmarks.remark': 'not on CUDA: no driver'}
    slow.status, slow.provider, slow.precision = '', 'TensorRT', 'mixed'
    status = health.report(2.0)[2]
    assert (status.level, status.message) == (OK, 'TensorRT fp16, TensorRT mixed')
    assert health.report(2.0)[1].values['precision'] == 'fp16 mixed'


def test_tensorrt_that_was_asked_for_by_name_and_is_not_reached_is_an_error(health):
    health.facts.engines = {'search': FakeEngine('TensorRT', 'fp16'), 'landmarks': FakeEngine()}
    assert health.report(1.0)[2].level == OK
    health.facts.runtime = 'tensorrt'
    status = health.report(1.0)[2]
    assert (status.level, status.message) == (ERROR, 'not on TensorRT, which was asked for: landmarks')


def test_a_new_start_begins_with_a_clean_slate_but_goes_on_counting(health):
    work(health, 0, 10)
    health.started()
    assert judged(health, 20.0)[0] == STALE and health.received == 100


def test_silence_without_a_known_cause_is_a_whole_sentence():
    health = Health()
    health.facts.state, health.camera.image_topic = 'active', '/camera/image'
    assert health.report(0.0)[0].message == 'no image yet on /camera/image'
    health.arrived(0.0)
    assert health.report(2.0)[0].message == 'no image on /camera/image for 2.0 s'
    health.camera.why_silent = lambda: 'unplugged'
    assert health.report(2.0)[0].message.endswith('for 2.0 s: unplugged')


def test_the_health_of_a_group_is_that_of_each_camera_and_the_engines_once():
    group = GroupHealth()
    group.name_cameras(['front', 'left'])
    group.facts.state = 'active'
    for name, health in group.cameras.items():
        health.camera.image_topic, health.camera.calibrated = f'/{name}/image', True
    work(group.cameras['front'], 0, 10)
    statuses = {status.name: status for status in group.report(10.0)}
    assert list(statuses) == ['front input', 'front pipeline', 'left input', 'left pipeline', 'engines']
    assert statuses['front input'].level == OK and statuses['left input'].level == STALE
    assert statuses['left input'].message == 'left: no image yet on /left/image'
    group.name_cameras(['left', 'front', 'rear'])
    assert [group.cameras[name].received for name in ('left', 'front', 'rear')] == [0, 100, 0]
    group.facts.problem = 'cannot configure: no model'
    assert [status.level for status in group.report(10.0) if 'pipeline' in status.name] == [ERROR] * 3
