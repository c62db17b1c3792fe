"""The demo: children that are watched and stopped, and (with ROS) the whole way from video to files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.nodes import Processes, interrupted_by_termination, private_domain

SLEEP = [sys.executable, '-c', 'import time; time.sleep(60)']
STUBBORN = [sys.executable, '-c', 'import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); '
            'print("up", flush=True); time.sleep(60)']


def alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_a_process_that_fails_is_reported_with_its_last_words() -> None:
    with Processes(os.environ) as processes:
        processes.start('poet', [sys.executable, '-c', 'import sys; print("once upon a time"); sys.exit("no ending")'])
        with pytest.raises(UserError, match=r'(?s)poet died \(exit status 1\).*once upon a time.*no ending'):
            wait_for(lambda: processes.ended('poet'))


def test_a_process_that_is_killed_is_reported_by_signal() -> None:
    with Processes(os.environ) as processes:
        process = processes.start('victim', SLEEP)
        assert processes.ended('victim') is False
        process.kill()
        with pytest.raises(UserError, match='SIGKILL'):
            wait_for(lambda: processes.ended('victim'))


def test_leaving_stops_every_process_even_stubborn_ones() -> None:
    with Processes(os.environ, grace_s=1.0) as processes:
        pids = [processes.start('sleeper', SLEEP).pid, processes.start('stubborn', STUBBORN).pid]
        wait_for(lambda: 'up' in processes.last_words('stubborn'))
    assert not any(alive(pid) for pid in pids)


def test_children_do_not_outlive_a_parent_that_is_killed() -> None:
    code = ('import os, sys, time; from pose3d_ros.cli.nodes import Processes\n'
            'with Processes(os.environ) as processes:\n'
            f'    print(processes.start("sleeper", {SLEEP!r}).pid, flush=True)\n'
            '    time.sleep(60)\n')
    parent = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_for(lambda: not alive(child))


def test_two_demos_have_two_domains_on_this_computer_only() -> None:
    with private_domain() as first, private_domain() as second:
        assert first['ROS_DOMAIN_ID'] != second['ROS_DOMAIN_ID']
        assert first.get('ROS_AUTOMATIC_DISCOVERY_RANGE') == 'LOCALHOST' or first.get('ROS_LOCALHOST_ONLY') == '1'


def test_termination_is_handled_like_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), interrupted_by_termination():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def wait_for(condition, seconds: float = 20.0) -> None:  # noqa: ANN001
    """Return as soon as condition() is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
