import threading
import time

import pytest

pytest.importorskip('rclpy')  # pose3d_ros.ros is for where ROS is

from pose3d_ros.ros.latest import Latest  # noqa: E402


def test_the_newest_item_wins():
    mailbox = Latest()
    assert [mailbox.put('camera', number) for number in range(3)] == [False, True, True]
    assert mailbox.take() == {'camera': 2}
    assert not mailbox.put('camera', 3)


def test_the_newest_item_of_each_sender_is_there_and_overwrites_nobody_elses():
    mailbox = Latest()
    overwritten = [mailbox.put(sender, number) for number, sender in enumerate('abbac')]
    assert overwritten == [False, False, True, True, False]
    assert mailbox.take() == {'a': 3, 'b': 2, 'c': 4}
    mailbox.put('b', 5)
    assert mailbox.take() == {'b': 5}


def test_the_taker_waits_for_an_item_and_goes_home_when_closed():
    mailbox, taken = Latest(), []

    def work():
        while (items := mailbox.take()) is not None:
            taken.append(items)

    thread = threading.Thread(target=work)
    thread.start()
    for item in ('a', 'b'):
        time.sleep(0.02)
        mailbox.put('camera', item)
    time.sleep(0.02)
    mailbox.close()
    thread.join(timeout=2)
    assert not thread.is_alive() and taken == [{'camera': 'a'}, {'camera': 'b'}]


def test_a_closed_mailbox_stays_empty():
    mailbox = Latest()
    mailbox.put('camera', 1)
    mailbox.close()
    assert mailbox.take() is None
    mailbox.put('camera', 2)
    assert mailbox.take() is None
