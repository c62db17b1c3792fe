"""Candidates that take turns, and ratios within the same round: what else the computer does hits both sides alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Call = Callable[[], object]
_LEAST_CALLS = 3
_SETTLING_CALLS, _SETTLING_S = 3, 0.1  # at most; not counted: the other candidates have just used the caches


@dataclass
class Series:
    """Times of one candidate: ms of each call by round, and the processor time of a call in each round, ms."""

    rounds: list[list[float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        """Return the calls of all rounds."""
        return [value for values in self.rounds for value in values]

    def percentile(self, share: float) -> float:
        """Return a percentile of all calls in ms."""
        return float(np.percentile(self.all, share))


def paired(calls: Mapping[str, Call], seconds: float, rounds: int) -> dict[str, Series]:
    """Time every call for about so many seconds in all, in rounds of one block of each; another begins each round."""
    series = {name: Series() for name in calls}
    names = list(calls)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            times, cpu = block(calls[name], seconds / rounds)
            series[name].rounds.append(times)
            series[name].cpu.append(cpu)
    return series


def block(call: Call, seconds: float) -> tuple[list[float], float]:
    """Return the ms of each call, and the processor time (of all threads) per call in ms."""
    settled = time.perf_counter() + _SETTLING_S
    for _ in range(_SETTLING_CALLS):
        call()
        if time.perf_counter() > settled:
            break
    times: list[float] = []
    busy, end = time.process_time(), time.perf_counter() + seconds
    while len(times) < _LEAST_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times, 1e3 * (time.process_time() - busy) / len(times)


def ratio(above: Series, below: Series) -> float:
    """Return the time of one candidate over that of another: the median over rounds of the ratio of medians."""
    return statistics.median(statistics.median(a) / statistics.median(b) for a, b in zip(above.rounds, below.rounds))


def cpu_ratio(above: Series, below: Series) -> float:
    """Return the same for the processor time, which tells what is left for others."""
    return statistics.median(a / max(b, 1e-6) for a, b in zip(above.cpu, below.cpu))


def geometric_mean(values: Sequence[float]) -> float:
    """Return the mean of ratios."""
    return float(np.exp(np.mean(np.log(values))))
