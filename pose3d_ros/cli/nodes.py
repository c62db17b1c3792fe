"""Start ROS nodes as processes of their own, watch them, and stop them again, without `launch`."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.places import config_file

_LOG_LINES = 12    # of a process that died, shown to the user
_PARENT_DEATH = 1  # prctl PR_SET_PDEATHSIG


class Processes:
    """Child processes by name, each writing to its own log. Leaving the context stops all of them.

    grace_s: how long each may take to leave by itself after an interrupt, and then after SIGTERM.
    """

    def __init__(self, environment: Mapping[str, str], grace_s: float = 5.0) -> None:
        self._grace_s = grace_s
        self._environment = dict(environment)
        self._logs = tempfile.TemporaryDirectory(prefix='pose3d_')
        self._running: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._logs.cleanup()

    def start(self, name: str, command: Sequence[str], *, talks: bool = False) -> subprocess.Popen[str]:
        """Start a process; its messages go to its log, and with `talks` its standard output is left to the caller."""
        with self._log(name).open('w') as log:
            process = subprocess.Popen(
                list(command), env=self._environment, stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else log, stderr=log, text=True, bufsize=1,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the others in order
                preexec_fn=_die_with_parent)
        self._running[name] = process
        return process

    def ended(self, name: str) -> bool:
        """Tell whether a process has ended well. Raises UserError, with the end of its log, when it has failed."""
        status = self._running[name].poll()
        if status is None:
            return False
        if status != 0:
            raise UserError(f'{name} died ({_reason(status)}). Its last words:\n{self.last_words(name)}')
        return True

    def last_words(self, name: str) -> str:
        """Return the end of a process's log."""
        lines = self._log(name).read_text(errors='replace').splitlines()
        return '\n'.join(f'  {line}' for line in lines[-_LOG_LINES:]) or '  (none)'

    def stop(self, *names: str) -> None:
        """Stop processes (all, when none is named): interrupt, then terminate, then kill."""
        chosen = [self._running[name] for name in names or self._running]
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            for process in chosen:
                if process.poll() is None:
                    _signal_group(process, signum)
            for process in chosen:
                try:
                    process.wait(timeout=self._grace_s)
                except subprocess.TimeoutExpired:
                    continue
        for process in chosen:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _log(self, name: str) -> Path:
        return Path(self._logs.name) / f'{name.replace("/", ".")}.log'


def node_command(node: str, params: Path, namespace: str = '/', remap: Mapping[str, str] | None = None,
                 **parameters: Any) -> list[str]:
    """Return the command that runs a node of this package with a parameter file and single parameters on top.

    remap: topics by the names that the node has for them.
    """
    program = f'import sys; from pose3d_ros.ros.{node} import main; sys.exit(main())'
    command = [sys.executable, '-c', program, '--ros-args', '--params-file', str(params), '-r', f'__ns:={namespace}']
    for ours, theirs in (remap or {}).items():
        command += ['-r', f'{ours}:={theirs}']
    for name, value in parameters.items():
        command += ['-p', f'{name}:={json.dumps(value)}']  # JSON, so that a folder called 007 stays a string
    return command


@contextmanager
def private_domain() -> Iterator[dict[str, str]]:
    """Yield the environment of a ROS domain that reaches this computer only and that no other demo uses meanwhile.

    Shared memory has room for whole images, unless the user has set up Fast DDS already.
    """
    names = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')  # of Fast DDS 3, and 2 (Humble, Jazzy)
    room = {} if any(name in os.environ for name in names) else dict.fromkeys(names, str(config_file('fastdds.xml')))
    with _claimed_domain() as domain:
        reach = ({'ROS_LOCALHOST_ONLY': '1'} if os.environ.get('ROS_DISTRO') == 'humble'
                 else {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'})
        yield {**os.environ, 'ROS_DOMAIN_ID': str(domain), 'PYTHONUNBUFFERED': '1', **reach, **room}


@contextmanager
def interrupted_by_termination() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that children are stopped and half-written files removed."""
    def interrupt(signum: int, stack: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def require_ros() -> None:
    """Raise UserError, with the cure, unless rclpy and the built messages can be imported."""
    for module in ('rclpy', 'pose3d_ros.msg'):
        done = subprocess.run([sys.executable, '-c', f'import {module}'], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ['no reason given'])[-1]
            raise UserError(f"{module} cannot be imported ({reason}): run 'make build' and '. scripts/env.sh' in a "
                            "checkout, or source the setup.bash of ROS 2 and of your workspace")


@contextmanager
def _claimed_domain(first: int = 1, last: int = 100) -> Iterator[int]:
    """Yield a domain that is free; a bound port, gone when this process ends, is the claim to it."""
    for attempt in range(last - first + 1):
        domain = first + (os.getpid() + attempt) % (last - first + 1)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as claim:
            try:
                claim.bind(('127.0.0.1', 21000 + domain))
            except OSError:
                continue
            yield domain
            return
    raise UserError(f'all ROS domains {first} to {last} are taken by other demos or tests on this computer')


def _die_with_parent() -> None:
    """Ask Linux to terminate this child when its parent is gone, even if that was killed outright."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGTERM)


def _signal_group(process: subprocess.Popen[str], signum: int) -> None:
    try:
        os.killpg(process.pid, signum)
    except ProcessLookupError:  # it has just ended by itself
        return


def _reason(status: int) -> str:
    return f'signal {signal.Signals(-status).name}' if status < 0 else f'exit status {status}'
