"""What all tests share: cached models and footage, an isolated ROS 2 context, a time limit for each test."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

TIME_LIMIT_S = 180  # above it a test fails; pyproject's faulthandler_timeout prints every thread's stack shortly before
CLAIM_PORTS = 21000
ROS_MODULES = ('rclpy', 'pose3d_ros.msg')
sys.path.insert(0, str(Path(__file__).parents[1]))  # pytest 6, that of Ubuntu 22.04, has no option for it


def _claim_ros_domain() -> socket.socket:
    """Give this run (and the processes it starts) a ROS domain that no other run on this machine has.

    The bound port is the claim: it lasts as long as the returned socket.
    """
    for attempt in range(100):
        domain = 1 + (os.getpid() + attempt) % 100  # Linux keeps the ports of domains up to 101 free
        claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            claim.bind(('127.0.0.1', CLAIM_PORTS + domain))
        except OSError:
            claim.close()
            continue
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        return claim
    raise RuntimeError('all ROS domains are taken by other test runs')


_domain_claim = _claim_ros_domain()
_log_dir = tempfile.TemporaryDirectory(prefix='pose3d_ros_test_log_')
os.environ['ROS_LOG_DIR'] = _log_dir.name
# Humble knows only ROS_LOCALHOST_ONLY; later distributions only the range.
os.environ.update({'ROS_LOCALHOST_ONLY': '1'} if os.environ.get('ROS_DISTRO') == 'humble'
                  else {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'})


def _missing_ros() -> str:
    """Return why tests cannot use ROS here, '' when they can."""
    if not os.environ.get('AMENT_PREFIX_PATH'):
        return 'AMENT_PREFIX_PATH is not set: source a ROS 2 installation, or `. scripts/env.sh`'
    for module in ROS_MODULES:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f'{module} cannot be imported ({error}): `make build`, then `. scripts/env.sh`'
    return ''


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `ros` where ROS or the built messages are missing."""
    if any(item.get_closest_marker('ros') for item in items) and (reason := _missing_ros()):
        for item in items:
            if item.get_closest_marker('ros'):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    def stop(signum: int, stack: object) -> None:
        raise TimeoutError(f'the test took more than {TIME_LIMIT_S} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(TIME_LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _cached(name: str) -> Path:
    from pose3d_ros.runtime.store import ModelMissing, ModelStore

    try:
        return Path(ModelStore().path(name))
    except ModelMissing as error:
        pytest.skip(f'{name} is not cached; run `pose3d fetch` ({error})')


@pytest.fixture(scope='session')
def models_dir() -> Path:
    """Return the folder that holds the converted BlazePose models, detection and full at least."""
    _cached('pose_landmark_full')
    return _cached('pose_detection').parent


@pytest.fixture(scope='session')
def sample_dir() -> Path:
    """Return the folder of the sample footage, cam01.mp4 to cam04.mp4."""
    return _cached('sample')


@pytest.fixture(scope='session')
def ros() -> Iterator[None]:
    """Give a session-wide ROS context in a domain of its own; skips where ROS is missing."""
    if reason := _missing_ros():
        pytest.skip(reason)
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    # Without its signal handlers: a test that interrupts this process would end ROS for all that follow.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.try_shutdown()
