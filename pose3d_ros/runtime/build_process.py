"""Build an engine in a process of its own: a crash or a kill of the compiler does not hurt the one that needs it.

The two talk in frames, a line of JSON and the bytes whose lengths it names: the order over the child's standard input,
stages, progress and the result over a pipe that nothing else writes to. The child's standard input stays open for as
long as its parent lives.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from pose3d_ros.runtime.backend import Progress, Stage
from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.steps import Order, StepResult, Tools, by_name, name_of, take_step

_LOG = logging.getLogger(__name__)
_BEAT_S = 0.1
_END_S = 5.0  # to be gone after it closed its pipe without a result
_NOISE = 4000  # characters of the child's other output that are kept
_NICENESS = 5  # the robot comes first
_PR_SET_PDEATHSIG = 1


def build_in_child(order: Order, stage: Stage, progress: Progress) -> StepResult:
    """Take a step in a child process, which dies with this one.

    progress is called ten times a second; when it raises, the child is killed. A crash is a result, not an error.
    Raises EngineError where no process can be started.
    """
    reading, writing = os.pipe()
    try:
        try:
            child = subprocess.Popen(
                [sys.executable, '-m', __name__, str(writing), str(os.getpid())], cwd='/', pass_fds=(writing,),
                env=_environment(), bufsize=0, start_new_session=True,  # Ctrl-C is the parent's to handle
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except OSError as error:
            raise EngineError(f'no process can be started to build the engine ({error}): check {sys.executable}, '
                              'memory and the limit of processes') from error
        finally:
            os.close(writing)
        try:
            return _Conversation(child, reading, order, stage, progress).result()
        finally:
            _end(child)
    finally:
        os.close(reading)


def _environment() -> dict[str, str]:
    # The child finds the same modules, whatever put them on this process's path.
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(os.path.abspath(path) for path in sys.path)}


def _end(child: subprocess.Popen) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


class _Conversation:
    """The parent's side. Reads, writes and waits at once, so that neither side ever blocks the other."""

    def __init__(self, child: subprocess.Popen, reading: int, order: Order, stage: Stage, progress: Progress) -> None:
        assert child.stdin is not None and child.stdout is not None
        self._child, self._order, self._stage, self._progress = child, order, stage, progress
        self._pipe, self._noise_pipe, self._stdin = reading, child.stdout.fileno(), child.stdin.fileno()
        for handle in (self._pipe, self._noise_pipe, self._stdin):
            os.set_blocking(handle, False)
        self._unsent = memoryview(_frame(_order_header(order), order.timing))
        self._received, self._noise = bytearray(), b''
        self._share = 0.0

    def result(self) -> StepResult:
        """Listen until the result is there or the child is gone."""
        with selectors.DefaultSelector() as selector:
            for handle in (self._pipe, self._noise_pipe):
                selector.register(handle, selectors.EVENT_READ)
            selector.register(self._stdin, selectors.EVENT_WRITE)
            while self._pipe in selector.get_map():
                self._progress(self._share)
                for key, _ in selector.select(_BEAT_S):
                    going_on = self._send() if key.fd == self._stdin else self._receive(key.fd)
                    if not going_on:
                        selector.unregister(key.fd)
                for header, blobs in _frames(self._received):
                    result = self._understand(header, blobs)
                    if result is not None:
                        self._tell_noise()
                        return result
        return self._crashed()

    def _send(self) -> bool:
        try:
            self._unsent = self._unsent[os.write(self._stdin, self._unsent):]
        except BrokenPipeError:  # it died; its end of the other pipe tells
            return False
        return bool(self._unsent)

    def _receive(self, handle: int) -> bool:
        content = os.read(handle, 1 << 20)
        if handle == self._pipe:
            self._received += content
        else:
            self._noise = (self._noise + content)[-_NOISE:]
        return bool(content)

    def _understand(self, header: dict[str, Any], blobs: list[bytes]) -> StepResult | None:
        if header['kind'] == 'result':
            return StepResult(**header['result'], plan=blobs[0], timing=blobs[1])
        if header['kind'] == 'stage':
            self._share = 0.0
            self._stage(header['text'])
        else:
            self._share = header['share']
            self._progress(self._share)
        return None

    def _crashed(self) -> StepResult:
        """Say how the child ended without a result."""
        deadline = time.monotonic() + _END_S
        while self._child.poll() is None and time.monotonic() < deadline:
            self._progress(self._share)
            time.sleep(_BEAT_S / 10)
        code, noise = self._child.returncode, self._tell_noise()
        last = f'; its last words: {noise.splitlines()[-1][:200]}' if noise else ''
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'
            killed = -code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
            reason = (f'the process that built it was killed ({name}), mostly a sign of too little memory: close other '
                      'programs, or add swap' if killed else f'the compiler crashed ({name}){last}')
        else:
            killed, reason = False, f'the process that built it ended with exit code {code} and no result{last}'
        crashed = code is not None and code < 0 and not killed
        return StepResult(self._order.step, False, reason, timing=self._order.timing, final=crashed, hopeless=killed)

    def _tell_noise(self) -> str:
        noise = self._noise.decode(errors='replace').strip()
        if noise:
            _LOG.debug('%s: the process that built its engine wrote: %s', self._order.path.stem, noise)
        return noise


def _order_header(order: Order) -> dict[str, Any]:
    tools = {name: name_of(getattr(order.tools, name)) for name in ('convert', 'is_quantised', 'self_check')}
    return {'path': str(order.path.absolute()), 'sha256': order.sha256, 'step': order.step, 'most': order.most,
            'backend': name_of(type(order.backend)), 'tools': tools}


def _frame(header: dict[str, Any], *blobs: bytes) -> bytes:
    return json.dumps(header | {'lengths': [len(blob) for blob in blobs]}).encode() + b'\n' + b''.join(blobs)


def _frames(received: bytearray) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    """Yield the complete frames at the beginning of what was received, and remove them from it."""
    while (line_end := received.find(b'\n')) >= 0:
        header = json.loads(received[:line_end])
        if len(received) < line_end + 1 + sum(header['lengths']):
            return
        position, blobs = line_end + 1, []
        for length in header['lengths']:
            blobs.append(bytes(received[position:position + length]))
            position += length
        del received[:position]
        yield header, blobs


# What follows runs in the child.

_SENDING = threading.Lock()  # compilers report their progress from threads of their own


def main() -> int:
    """Take one step, as the order on standard input says; the arguments are a pipe for the result and the parent."""
    output, parent = os.fdopen(int(sys.argv[1]), 'wb'), int(sys.argv[2])
    os.set_inheritable(output.fileno(), False)
    _die_with(parent)
    header = json.loads(sys.stdin.buffer.readline())
    timing = sys.stdin.buffer.read(header['lengths'][0])
    threading.Thread(target=_end_without_parent, daemon=True).start()
    os.nice(_NICENESS)
    tools = Tools(**{name: by_name(value) for name, value in header['tools'].items()})
    order = Order(Path(header['path']), header['sha256'], header['step'], header['most'], timing,
                  by_name(header['backend'])(), tools)
    result = take_step(order, lambda text: _send(output, {'kind': 'stage', 'text': text}), _throttled(output))
    values = {name: value for name, value in asdict(result).items() if name not in ('plan', 'timing')}
    _send(output, {'kind': 'result', 'result': values}, result.plan, result.timing)
    return 0


def _send(output: BinaryIO, header: dict[str, Any], *blobs: bytes) -> None:
    with _SENDING:
        output.write(_frame(header, *blobs))
        output.flush()


def _throttled(output: BinaryIO) -> Callable[[float], None]:
    told = [0.0]

    def progress(share: float) -> None:
        if share >= 1.0 or time.monotonic() - told[0] >= _BEAT_S:
            told[0] = time.monotonic()
            _send(output, {'kind': 'progress', 'share': share})

    return progress


def _die_with(parent: int) -> None:
    """Let the system kill this process with its parent, even while a compiler lets no Python thread run."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'prctl'):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before
        os._exit(1)


def _end_without_parent() -> None:
    os.read(0, 1)  # returns when the other end is closed
    os._exit(1)


if __name__ == '__main__':
    code = main()
    # Nothing is left to be tidied, and libraries that crash while they are would spoil a good engine.
    os._exit(code)
