"""Nodes at work for a recorder: they come up, the video nodes begin together, and all are watched until it has all."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.nodes import Processes
from pose3d_ros.cli.progress import progress

_START_S = 90.0  # for the nodes to come up: a GPU engine may have to be loaded
_STALL_S = 60.0  # without a frame: something is wrong

# Parameters of a video node that waits until the recorder, which hears everybody by then, sets its start.
HELD: dict[str, Any] = {'start_at': -1.0, 'wait_for_subscriber': _START_S}


def perform(processes: Processes, recorder: subprocess.Popen[str], workers: Sequence[str], players: Sequence[str],
            frames: int) -> None:
    """Show progress, and return when the recording is complete.

    workers, players: names of the processes that work on images, and of those that play videos and end by themselves;
    all run already. frames: expected; 0 when not known. Raises UserError when one dies or nothing goes on.
    """
    news = _Listener(recorder)
    _wait_until_ready(processes, news, workers, players)
    with progress(total=frames or None, unit='frame', desc='demo') as bar:
        heard, told = time.monotonic(), False
        while not processes.ended('recorder'):
            done = news.latest('frames', wait_s=0.1)
            if done is not None:
                bar.update(done - bar.n)
                heard = time.monotonic()
            _must_run(processes, *workers)
            if not told and all([processes.ended(name) for name in players]):  # a list: each is looked at
                told = True
                assert recorder.stdin is not None
                recorder.stdin.close()  # no more images will come
            if time.monotonic() - heard > _STALL_S:
                raise UserError(f'no people for {_STALL_S:.0f} s.\n{_last_words(processes, *workers, *players)}')
        done = news.latest('frames')
        bar.update((done or bar.n) - bar.n)


def _wait_until_ready(processes: Processes, news: _Listener, workers: Sequence[str], players: Sequence[str]) -> None:
    deadline = time.monotonic() + _START_S
    while news.latest('ready', wait_s=0.1) is None:
        _must_run(processes, *workers, *players, 'recorder')
        if time.monotonic() > deadline:
            raise UserError(f'the nodes did not come up within {_START_S:.0f} s.\n'
                            f'{_last_words(processes, *workers, *players)}')


def _must_run(processes: Processes, *names: str) -> None:
    for name in names:
        if processes.ended(name):
            raise UserError(f'{name} ended before its time. Its last words:\n{processes.last_words(name)}')


def _last_words(processes: Processes, *names: str) -> str:
    return '\n'.join(f'Last words of {name}:\n{processes.last_words(name)}' for name in names)


class _Listener:
    """Reads what a process says (lines of JSON) without ever keeping anybody waiting."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def latest(self, key: str, wait_s: float = 0.0) -> Any:
        """Return the newest value said for a key; None when nothing was said about it within wait_s."""
        value = None
        try:
            said = self._said.get(timeout=wait_s) if wait_s else self._said.get_nowait()
            while True:
                value = said.get(key, value)
                said = self._said.get_nowait()
        except queue.Empty:
            return value

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._said.put(json.loads(line))
