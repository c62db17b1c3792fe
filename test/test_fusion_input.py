"""Reports of cameras: 2D with the 3D of the same image, as far as it comes, and never a queue. Time is an argument."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from pose3d_ros.ros.fusion_input import JOIN_S, KEPT, Reports  # noqa: E402


def message(stamp_ms):
    seconds, rest = divmod(stamp_ms, 1000)
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=rest * 1_000_000)))


def joined(reports, now):
    return [(report.camera, report.people_2d, report.people) for report in reports.take(now)]


def test_both_messages_of_an_image_come_together_in_either_order():
    reports, people, rays = Reports(), [message(t) for t in (100, 133)], [message(t) for t in (100, 133)]
    reports.put_3d('a', people[0], 1.0)
    reports.put_2d('a', rays[0], 1.001)
    assert joined(reports, 1.001) == [('a', rays[0], people[0])]
    reports.put_2d('a', rays[1], 1.033)
    assert joined(reports, 1.034) == [] and reports.due(1.034) == pytest.approx(JOIN_S - 0.001)
    reports.put_3d('a', people[1], 1.035)
    assert joined(reports, 1.035) == [('a', rays[1], people[1])] and reports.due(1.035) is None


def test_3d_that_does_not_come_is_waited_for_a_moment_only():
    reports, rays = Reports(), [message(t) for t in (133, 166, 5000)]
    reports.put_3d('a', message(100), 1.0)
    reports.put_2d('a', rays[0], 1.033)
    assert joined(reports, 1.033 + 0.9 * JOIN_S) == []
    assert joined(reports, 1.033 + JOIN_S) == [('a', rays[0], None)]
    reports.put_3d('a', message(200), 1.066)   # of a later image: that of this one is lost
    reports.put_2d('a', rays[1], 1.067)
    assert joined(reports, 1.067) == [('a', rays[1], None)]
    reports.put_2d('a', rays[2], 6.0)          # none came for long
    assert joined(reports, 6.0) == [('a', rays[2], None)]


def test_a_camera_without_3d_is_not_waited_for_and_keeps_nobody_waiting():
    reports, first, second = Reports(), message(100), message(100)
    reports.put_3d('b', message(67), 0.99)
    reports.put_2d('b', second, 1.0)
    reports.put_2d('a', first, 1.0)
    assert joined(reports, 1.0) == [('a', first, None)]


def test_the_newest_takes_the_place_of_what_nobody_took():
    reports, newest = Reports(), message(1000)
    assert [reports.put_2d('a', message(t), t / 1000) for t in range(0, 1000, 100)] == [False] + [True] * 9
    assert reports.put_2d('a', newest, 1.0)
    for t in range(0, 1000, 10):
        reports.put_3d('a', message(t), 1.0)
    assert joined(reports, 1.5) == [('a', newest, None)]
    assert len(reports._people['a']) == KEPT


def test_a_camera_faster_than_the_wait_for_3d_is_heard_where_the_3d_has_other_stamps():
    reports, came = Reports(), 0
    for t in range(0, 1000, 10):  # ms
        now = t / 1000
        reports.put_3d('a', message(t - 5), now)
        reports.put_2d('a', message(t), now)
        came += sum(1 for at in (now, now + 0.005) for _ in joined(reports, at))
    assert came > 20


def test_whoever_waits_wakes_up_when_something_comes_and_goes_home_when_closed():
    reports, woken = Reports(), []
    thread = threading.Thread(target=lambda: woken.extend([reports.wait(10.0), reports.wait(10.0)]))
    thread.start()
    reports.put_2d('a', message(100), 1.0)
    reports.close()
    thread.join(5.0)
    assert not thread.is_alive() and woken[-1] is False
    assert not reports.wait(10.0)
