"""mono_node as a process: how it ends, and how it refuses to start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import fakes
from pose3d_ros.ros import mono_node
from pose3d_ros.ros.managed import run, spin_until_signal

def work(node, spin):
    if {state!r} != 'unconfigured':
        node.trigger_configure()
    if {state!r} == 'active':
        node.trigger_activate()
    if {state!r} == 'finalized':
        node.trigger_shutdown()
    print('ready', flush=True)
    return spin_until_signal(node, spin)

make_node = lambda: mono_node.MonoNode(lambda **_: fakes.FakePipeline())
sys.exit(run(make_node, work, ['--ros-args', '-p', 'autostart:=false']))
"""


@pytest.mark.parametrize('state, number', [
    ('unconfigured', signal.SIGINT), ('inactive', signal.SIGINT), ('active', signal.SIGINT),
    ('finalized', signal.SIGINT), ('unconfigured', signal.SIGTERM), ('active', signal.SIGTERM)])
def test_a_signal_ends_the_process_cleanly_in_every_state(ros, state, number):
    script = SCRIPT.format(tests=str(Path(__file__).parent), state=state)
    process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=os.environ)
    assert process.stdout.readline() == 'ready\n'
    time.sleep(0.3)
    process.send_signal(number)
    begin = time.monotonic()
    _, errors = process.communicate(timeout=10)
    assert time.monotonic() - begin < 2.0
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors


@pytest.mark.parametrize('arguments, words', [
    (['-p', 'serch_period:=3'], 'did you mean search_period'), (['-p', 'threads:=-1'], '0 .. 64'),
    (['--params-file', '/nowhere.yaml'], '/nowhere.yaml'), (['--nonsense'], '--nonsense')])
def test_a_start_that_cannot_be_is_one_line_and_exit_code_1(ros, arguments, words):
    done = subprocess.run([sys.executable, '-c', 'from pose3d_ros.ros.mono_node import main; raise SystemExit(main())',
                           '--ros-args', *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and words in done.stderr and 'Traceback' not in done.stderr
