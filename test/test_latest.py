import threading
import time

import pytest

pytest.importorskip('rclpy')  # pose3d_ros.ros is for where ROS is

from pose3d_ros.ros.latest import Latest  # noqa: E402


def test_the_newest_item_wins():
    mailbox = Latest()
    assert [mailbox.put(number) for number in range(3)] == [False, True, True]
    assert mailbox.take() == 2
    assert not mailbox.put(3)


def test_the_taker_waits_for_an_item_and_goes_home_when_closed():
    mailbox, taken = Latest(), []

    def work():
        while (item := mailbox.take()) is not None:
            taken.append(item)

    thread = threading.Thread(target=work)
    thread.start()
    for item in ('a', 'b'):
        time.sleep(0.02)
        mailbox.put(item)
    time.sleep(0.02)
    mailbox.close()
    thread.join(timeout=2)
    assert not thread.is_alive() and taken == ['a', 'b']


def test_a_closed_mailbox_stays_empty():
    mailbox = Latest()
    mailbox.put(1)
    mailbox.close()
    assert mailbox.take() is None
    mailbox.put(2)
    assert mailbox.take() is None
