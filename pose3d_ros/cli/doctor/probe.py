"""Ask a question in a process of its own: what crashes, hangs or writes junk there harms nobody here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from pose3d_ros.cli.doctor.findings import Finding, problem

# The child sees the same packages as this process, whatever put them on the path.
_CHILD = ('import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pose3d_ros.cli.doctor.probed import answer; '
          'answer(sys.argv[2], json.loads(sys.argv[3]))')
_LINES_KEPT = 40
_running: set[subprocess.Popen] = set()


@dataclass(frozen=True)
class Reply:
    """What came back. answers: in order; failed: why no more came, '' at a regular end; noise: its last messages."""

    answers: tuple[Any, ...]
    failed: str
    noise: tuple[str, ...]


def ask(question: str, argument: object = None, *, limit_s: float = 15.0) -> Reply:
    """Put a question of cli/probed.py to a new Python process. Raises OSError where none can be started."""
    return _reply([sys.executable, '-c', _CHILD, json.dumps(sys.path), question, json.dumps(argument)], limit_s)


def imports(modules: Sequence[str], *, limit_s: float = 15.0) -> dict[str, dict[str, str]]:
    """Import modules and return for each {'version', 'file'} or {'error'}; a crash or a hang counts as an error."""
    found: dict[str, dict[str, str]] = {}
    left = list(modules)
    while left:
        reply = ask('imports', left, limit_s=limit_s)
        for said in reply.answers:
            found[said.pop('module')] = said
        if reply.failed:  # begun, but not finished: the last one named
            begun = [module for module in left if module in found] or left[:1]
            found[begun[-1]] = {'error': f'its import {reply.failed}'}
        elif not any(module in found for module in left):
            break
        left = [module for module in left if module not in found]
    return found


def relayed(question: str, argument: object = None, *, limit_s: float = 15.0) -> Iterator[Finding]:
    """Yield the findings of a question that is answered with findings, and a problem where it broke off."""
    reply = ask(question, argument, limit_s=limit_s)
    for said in reply.answers:
        yield Finding(**said)
    if reply.failed:
        yield problem(question, f'looking at it {reply.failed}', 'put right what it names and the problems above first')


def output_of(command: Sequence[str], *, limit_s: float) -> tuple[str, str]:
    """Return what a program prints, and why it failed ('' when it did not)."""
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace',
                                timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return '', f'no answer within {limit_s:g} s'
    except OSError as error:
        return '', error.strerror or str(error)
    said = ' '.join((result.stderr or result.stdout).split())
    return result.stdout.strip(), '' if result.returncode == 0 else said[:300] or f'exit status {result.returncode}'


def end_all() -> None:
    """End the processes that still run, as after Ctrl-C."""
    for process in list(_running):
        _kill(process)


def _reply(command: list[str], limit_s: float) -> Reply:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    _running.add(process)
    answers: deque[bytes] = deque()
    noise: deque[bytes] = deque(maxlen=_LINES_KEPT)
    readers = [threading.Thread(target=_read, args=source, daemon=True)
               for source in ((process.stdout, answers), (process.stderr, noise))]
    for reader in readers:
        reader.start()
    try:
        failed = ''
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            failed = f'gave no answer within {limit_s:g} s'
        _kill(process)
        status = process.wait(5)
    finally:
        _running.discard(process)
    for reader in readers:
        reader.join(1.0)
    said = [line.decode(errors='replace').strip() for line in list(noise)]
    said = [line for line in said if line]
    if not failed and status < 0:
        failed = f'crashed ({signal.Signals(-status).name})'
    elif not failed and status > 0:
        failed = f'ended with status {status}' + (f': {said[-1][:300]}' if said else '')
    return Reply(tuple(json.loads(line) for line in list(answers) if line.endswith(b'\n')), failed, tuple(said))


def _read(stream: IO[bytes], lines: deque[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError), stream:  # a child of the child may hold it open
        lines.extend(stream)


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, with all its children
        os.killpg(process.pid, signal.SIGKILL)
