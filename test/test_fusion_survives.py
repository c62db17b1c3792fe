"""fusion_node when cameras fail: each fault is named, the others' people stay where they are, nobody is there twice."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from fusion_bench import CAMERAS, RATE, FusionBench, Sent, shifted  # noqa: E402

from pose3d_ros.ros.fields import stamp_ns  # noqa: E402
from pose3d_ros.ros.fusion_health import CameraHealth, missing_share  # noqa: E402
from pose3d_ros.ros.fusion_worker import MOST_WAITING  # noqa: E402

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
NEAR = 0.05  # m, mean distance of a person's joints from the truth
VICTIM = 'left'


@pytest.fixture
def bench(ros):
    with FusionBench() as bench:
        yield bench.ready().settle()


def unharmed(bench, came):
    """Say whether everybody is there, once, and near the truth; a machine that is busy may well delay some."""
    errors = bench.errors(came)
    return len(came) > 5 and np.median(errors) < NEAR and errors.mean() < 2 * NEAR


def only(change):
    """Return a change of what the victim sends alone. change(sent): what becomes of it, None: nothing is sent."""
    def changed(sent):
        if sent.camera != VICTIM:
            return [sent]
        result = change(sent)
        return [] if result is None else [result]

    return changed


def field(**values):
    """Return a change of fields of people_2d."""
    def change(sent):
        for name, value in values.items():
            setattr(sent.people_2d, name, value)
        return sent

    return change


def no_numbers(sent):
    for person in sent.people_2d.people:
        for joint in person.joints:
            joint.ray_x = joint.ray_y = float('nan')
    return sent


def few_joints(sent):
    for person in sent.people_2d.people:
        person.joints = person.joints[:10]
    return sent


def one_id(sent):
    for person in (*sent.people_2d.people, *sent.people.people):
        person.id = 7
    return sent


def stamps_off(seconds):
    return lambda sent: Sent(sent.camera, shifted(sent.people_2d, seconds), shifted(sent.people, seconds))


def dropping():
    rng = np.random.default_rng(0)
    return lambda sent: sent if rng.random() > 0.3 else None


@pytest.mark.parametrize('change, words, count', [
    (no_numbers, 'left: rays of joints it is sure of are no numbers', 'remarked.rays_not_finite'),
    (few_joints, 'left: people_2d cannot be read.*10 joints', 'dropped.bad_people_2d'),
    (field(fx=0.0), 'left: its focal length is 0', 'dropped.bad_focal_length'),
    (field(fy=float('nan')), 'left: its focal length is 900, nan', 'dropped.bad_focal_length'),
    (field(joint_names=['nose'] * 33), 'left: people_2d cannot be read', 'dropped.bad_people_2d'),
    (field(skeleton='mine', joint_names=[f'x{n}' for n in range(33)]), "left: skeleton 'mine' names none",
     'dropped.unknown_skeleton'),
    (one_id, 'left: id 7 is given to two people', 'remarked.duplicate_ids'),
    (stamps_off(1.0), 'left is left out: its stamps are .* s ahead', 'views.ahead'),
    (stamps_off(-1.0), 'left is left out: it is lagging', 'views.lagging'),
    (lambda sent: None, 'left: nothing on .*/left/people_2d for .*see the diagnostics of that node', ''),
], ids=lambda value: getattr(value, '__name__', None))
def test_a_camera_that_sends_nonsense_or_nothing_is_named_and_harms_nobody(bench, change, words, count):
    ids = {person.id for person in bench.people[-1].people}
    came = bench.play(1.2, only(change))
    assert unharmed(bench, came)
    assert {person.id for message in came for person in message.people} == ids
    told = bench.told(VICTIM)
    assert told.level in (WARN, ERROR)
    assert re.search(words, told.message), told.message
    assert not count or int(told.values[count]) > 5
    assert 'left' in bench.told('cameras').message
    for name in CAMERAS:
        assert name == VICTIM or not re.search(words.replace('left', name), bench.told(name).message)


def test_a_camera_that_loses_messages_is_named(bench):
    came = bench.play(4.0, only(dropping()))
    assert unharmed(bench, came)
    told = bench.told(VICTIM)
    assert told.level == WARN and re.search(r'left: [123]\d% of its images are missing', told.message), told.message


def test_two_publishers_on_one_topic_are_named():
    health = CameraHealth(topic='/left/people_2d')
    for number in range(30):
        health.arrived(number * 66_000_000, number * 0.066)
    assert health.report('left', 2.0, None, None).level == OK
    for number in range(30, 60):
        for _ in range(2):
            health.arrived(number * 66_000_000, number * 0.066)
    told = health.report('left', 4.0, None, None)
    assert told.level == WARN and 'two messages on /left/people_2d have one stamp' in told.message
    assert told.values['remarked.stamp_twice'] == '30'


def test_the_share_of_missing_images_needs_no_rate_and_forgives_jitter():
    rng = np.random.default_rng(0)
    even = np.cumsum(rng.normal(33e6, 4e6, 100)).astype(int)
    assert missing_share(even) < 0.05 and missing_share(even[:5]) == 0.0
    assert missing_share(even[rng.random(100) > 0.3]) == pytest.approx(0.3, abs=0.1)


def test_a_camera_started_again_gives_its_ids_to_other_people(ros):
    """As a mono node does that was killed: it counts from 1 again. Nobody may take over another's id for it."""
    with FusionBench(camera_timeout=0.3) as bench:
        bench.ready().settle()
        ids = {person.id for person in bench.people[-1].people}
        bench.play(0.6, only(lambda sent: None))

        def exchanged(sent):
            for people in (sent.people_2d.people, sent.people.people):
                first, second = people
                first.id, second.id = second.id, first.id
            return sent

        came = bench.play(0.8, only(exchanged))
        assert unharmed(bench, came)
        assert {person.id for message in came for person in message.people} == ids
        assert bench.node._loaded.maker.runs[VICTIM] >= 1


def test_missing_transforms_are_counted_and_named_and_come_back(bench):
    bench.transforms.missing = lambda frame_id, stamp: frame_id == 'left_frame'
    came = bench.play(1.0)
    assert unharmed(bench, came)
    told = bench.told(VICTIM)
    assert "left: no transform from 'map' to 'left_frame'" in told.message and int(told.values['dropped.tf_lookup']) > 5
    bench.transforms.missing = lambda frame_id, stamp: False
    used = int(bench.values(VICTIM)['views.used'])
    bench.play(0.5)
    assert int(bench.values(VICTIM)['views.used']) > used + 3


def test_missing_transforms_are_named_however_long_they_are_waited_for(ros):
    with FusionBench(tf_tolerance=10.0) as bench:
        bench.ready()
        bench.transforms.missing = lambda frame_id, stamp: frame_id == 'left_frame'
        for _ in range(5):  # on a busy machine not every message arrives
            came = bench.play(MOST_WAITING / RATE)
            told = bench.told(VICTIM)
            if 'dropped.tf_lookup' in told.values:
                break
        assert told.level in (WARN, ERROR) and "left: no transform from 'map' to 'left_frame'" in told.message
        assert len(came) > 5
        assert len(bench.node._working.worker._unplaced[VICTIM]) <= MOST_WAITING


def test_transforms_that_jump_are_named(bench):
    def off(frame_id, stamp):  # every 0.2 s to another place, and back
        return 0.8 if frame_id == 'left_frame' and (stamp // 200_000_000) % 2 else 0.0

    bench.transforms.off = off
    bench.play(1.2)
    told = bench.told(VICTIM)
    assert int(told.values['remarked.place_jumps']) >= 3
    assert told.level == WARN and re.search('left is not where it says|left: its place jumped', told.message)


def test_time_that_goes_back_for_all_begins_anew(bench):
    """As when a bag is played in a loop."""
    before = {person.id for person in bench.people[-1].people}
    came = bench.play(1.0, lambda sent: [Sent(sent.camera, shifted(sent.people_2d, -30.0),
                                              shifted(sent.people, -30.0))])
    stamps = np.array([stamp_ns(message.header.stamp) for message in bench.people])
    assert (np.diff(stamps) < 0).sum() == 1 and stamps[-1] < stamps[0]
    assert len(came[-1].people) == 2 and not before & {person.id for person in came[-1].people}
    assert bench.values('fusion')['time_jumps'] == '1'


def test_what_fails_unforeseen_is_reported_and_the_next_set_gets_its_chance(bench, monkeypatch):
    fuser = type(bench.node._loaded.fuser)

    def fail(self, views, stamp):
        raise KeyError('surprise')

    with monkeypatch.context() as patch:
        patch.setattr(fuser, '__call__', fail)
        bench.play(0.4)
        told = bench.told('fusion')
        assert told.level == ERROR and 'surprise' in told.message and int(told.values['failed']) >= 2
    assert len(bench.play(0.6)) > 3
