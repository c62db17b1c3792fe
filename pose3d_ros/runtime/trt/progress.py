"""How far TensorRT's builder is: its nested phases of counted steps as one share that only grows."""

from __future__ import annotations

import logging
import threading
from typing import Any

from pose3d_ros.runtime.backend import Progress

_LOG = logging.getLogger(__name__)


class Share:
    """The share done, from phases that begin, step and end; a phase may lie inside a step of another."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._phases: dict[str, list] = {}  # name: parent, steps, steps done
        self._best = 0.0

    def begin(self, name: str, parent: str | None, steps: int) -> None:
        """Note that a phase begins."""
        self._phases[name] = [parent, max(steps, 1), 0]

    def step(self, name: str, number: int) -> None:
        """Note that a step of a phase, counted from 0, is done."""
        if name in self._phases:
            self._phases[name][2] = min(number + 1, self._phases[name][1])

    def end(self, name: str) -> None:
        """Note that a phase is done; its parent counts the step itself."""
        self._phases.pop(name, None)

    def share(self) -> float:
        """Return the share of the outermost phase that is done, 0..1, never less than before."""
        done = max((self._done(name) for name, phase in self._phases.items() if phase[0] not in self._phases),
                   default=0.0)
        self._best = max(self._best, min(done, 1.0))
        return self._best

    def _done(self, name: str) -> float:
        _, steps, done = self._phases[name]
        inner = max((self._done(child) for child, phase in self._phases.items() if phase[0] == name), default=0.0)
        return min((done + inner) / steps, 1.0)


def monitor(trt: Any, progress: Progress) -> Any:
    """Return a monitor for TensorRT >= 10 that calls `progress` and stops the build when that raises.

    Its attribute `error` then holds what was raised: an exception must not pass through TensorRT itself.
    """
    share, lock = Share(), threading.Lock()

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.error: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with lock:
                share.begin(phase_name, parent_phase or None, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            with lock:
                share.end(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with lock:
                if self.error is None:
                    share.step(phase_name, step)
                    try:
                        progress(share.share())
                    except BaseException as error:  # Ctrl-C too: it is raised again when the builder has returned
                        self.error = error
                        _LOG.debug('build stopped: %r', error)
                return self.error is None

    return Monitor()
