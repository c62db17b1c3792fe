"""The candidates of a benchmark take turns, so that what else happens on the computer hits them alike."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from pose3d_ros.cli.bench.worker import FOUND, WHOLE, Job

SHARES = (50, 95, 99)
_END_S = 20.0


class CandidateFailed(Exception):  # noqa: N818
    """A candidate cannot be measured (any more); the message says why."""


class Candidate(Protocol):
    """Something that can be timed in several sizes. about: what opening it gave."""

    about: dict[str, Any]

    def block(self, size: int, seconds: float) -> dict[str, list[float]]:
        """Return the values of each call of about so many seconds by name. Raises CandidateFailed."""

    def close(self) -> None:
        """Release it."""


class Worker:
    """A candidate in a process of its own (worker.py)."""

    def __init__(self, job: Job) -> None:
        """Open it there. Raises CandidateFailed."""
        self._process = subprocess.Popen([sys.executable, '-m', 'pose3d_ros.cli.bench.worker', job.dump()],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        try:
            self.about = self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def block(self, size: int, seconds: float) -> dict[str, list[float]]:
        """Time calls there."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({'size': size, 'seconds': seconds}) + '\n')
        except BrokenPipeError:
            raise CandidateFailed(self._ended()) from None
        return dict(self._answer()['values'])

    def close(self) -> None:
        """Let the process end; one that does not is killed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:  # it has ended by itself
            self._process.kill()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CandidateFailed(self._ended())
        answer = json.loads(line)
        if 'error' in answer:
            raise CandidateFailed(answer['error'])
        return dict(answer)

    def _ended(self) -> str:
        status = self._process.wait()
        return f'its process was killed by signal {-status}' if status < 0 else f'its process ended with {status}'


@dataclass
class Times:
    """What was measured of one candidate. values: by size, by name, of every call that counts; failure: '' or why there
    is no more.
    """

    about: dict[str, Any]
    values: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    failure: str = ''

    def figures(self) -> dict[int, dict[str, float]]:
        """Return figures by size: p50_ms, p95_ms and p99_ms of the whole call, the same of every stage under its name,
        and the mean number of people found.
        """
        result: dict[int, dict[str, float]] = {}
        for size, values in self.values.items():
            figures = result.setdefault(size, {})
            for name, numbers in values.items():
                if name == FOUND:
                    figures['people_found'] = float(np.mean(numbers))
                else:
                    prefix = '' if name == WHOLE else f'{name}_'
                    figures |= {f'{prefix}{share}': value for share, value in percentiles(numbers).items()}
        return result


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return {p50_ms, p95_ms, p99_ms}; NaN without values. Between two values it is interpolated."""
    if not milliseconds:
        return dict.fromkeys((f'p{share}_ms' for share in SHARES), math.nan)
    return {f'p{share}_ms': float(np.percentile(milliseconds, share)) for share in SHARES}


def take_turns(candidates: Mapping[str, Candidate], seconds: float, rounds: int = 5,
               step: Callable[[], object] = lambda: None) -> dict[str, Times]:
    """Time every candidate in every size, `seconds` of all together, in rounds that begin with another one each time.

    step: called after every block. A candidate that fails is left out from then on; what it gave before counts, and its
    failure is part of what comes back.
    """
    times = {name: Times(candidate.about) for name, candidate in candidates.items()}
    turns = [(name, size) for name, candidate in candidates.items() for size in candidate.about['sizes']]
    collected: dict[tuple[str, int], dict[str, list[float]]] = {turn: defaultdict(list) for turn in turns}
    for number in range(rounds):
        first = number * max(1, len(turns) // rounds) % max(1, len(turns))
        for name, size in turns[first:] + turns[:first]:
            if not times[name].failure:
                try:
                    for key, numbers in candidates[name].block(size, seconds / rounds / len(turns)).items():
                        collected[name, size][key] += numbers
                except CandidateFailed as error:
                    times[name].failure = str(error)
            step()
    for (name, size), values in collected.items():
        if values:
            times[name].values[size] = dict(values)
    return times
