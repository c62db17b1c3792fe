"""How fusion is going: each camera, all of them, and the people; every fault in words, with its cure."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pose3d_ros.fuse.drift import Drift
from pose3d_ros.fuse.gather import CameraTiming
from pose3d_ros.ros.health import (
    ERROR,
    LATE_S,
    LOST_S,
    OK,
    OVERWRITTEN,
    RECENT_S,
    STALE,
    WARN,
    WINDOW,
    Facts,
    Status,
    rate_of,
)

MISSING_SHARE = 0.15  # of a camera's views; more is told
_STAMPS = 60          # from which that share is taken
_CLOCKS = 'synchronise the clocks of the computers (chrony, PTP)'


class Fused(Protocol):
    """What is told of a fuser; pose3d_ros.fuse.fuser.Fuser is one."""

    @property
    def counters(self) -> Mapping[str, int]: ...

    @property
    def drift(self) -> Mapping[str, Drift]: ...


@dataclass
class CameraHealth:
    """Counts of one camera since the start. Methods may be called from any thread; now: seconds of a steady clock.

    why_silent: returns why nothing comes on topic, likely.
    """

    topic: str = ''
    why_silent: Callable[[], str] = lambda: ''
    received: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    _stamps: deque[int] = field(default_factory=lambda: deque(maxlen=_STAMPS))
    _recent: deque[tuple[float, bool, str]] = field(default_factory=lambda: deque(maxlen=1000))

    def started(self) -> None:
        """Begin a time of work: ages and rates start anew, counts go on."""
        with self._lock:
            for recent in (self._arrivals, self._stamps, self._recent):
                recent.clear()

    def arrived(self, stamp_ns: int, now: float) -> None:
        """People of an image came."""
        with self._lock:
            self.received += 1
            if self._stamps and stamp_ns == self._stamps[-1]:
                self.remarks['stamp_twice'] += 1
                self._recent.append((now, False, f'two messages on {self.topic} have one stamp ({stamp_ns * 1e-9:.3f} '
                                                 's): two nodes publish it, or not every image is stamped'))
            if self._stamps and (stamp_ns < self._stamps[-1] or now - self._arrivals[-1] > LATE_S):
                self._stamps.clear()  # what went missing before, or in between, is told otherwise
            self._arrivals.append(now)
            self._stamps.append(stamp_ns)

    def dropped(self, cause: str, text: str, now: float) -> None:
        """People of an image were given up. text: what is wrong and what to do."""
        with self._lock:
            self.drops[cause] += 1
            if cause != OVERWRITTEN:
                self._recent.append((now, True, text))

    def failed(self, text: str, now: float) -> None:
        """People of an image were given up for a fault in this node."""
        self.dropped('error', text, now)

    def remarked(self, cause: str, text: str, now: float) -> None:
        """Something was wrong with what was used all the same."""
        with self._lock:
            self.remarks[cause] += 1
            self._recent.append((now, False, text))

    def report(self, name: str, now: float, timing: CameraTiming | None, drift: Drift | None) -> Status:
        """Return the state of the camera, which works; timing, drift: None where nothing is known yet."""
        with self._lock:
            missing = missing_share(self._stamps)
            counts = {'received': self.received, **{f'dropped.{cause}': count for cause, count in self.drops.items()},
                      **{f'remarked.{cause}': count for cause, count in self.remarks.items()}}
            values = {'topic': self.topic, 'rate_hz': f'{rate_of(self._arrivals, now):.2f}',
                      'missing': f'{missing:.2f}'}
            if self._arrivals:
                values['age_s'] = f'{now - self._arrivals[-1]:.3f}'
            if timing is not None:
                values |= {'timing': timing.state, 'lag_s': f'{timing.lag_s:.3f}'}
                counts |= {f'views.{cause}': count for cause, count in timing.counts.items()}
            if drift is not None:
                values |= {'residual_px': f'{drift.residual_px:.2f}', 'weight': f'{drift.weight:.2f}',
                           'disagreeing': f'{drift.disagreeing:.2f}'}
            level, message = self._judge(name, now, timing, drift, missing)
        return Status(f'camera {name}', level, message,
                      values | {key: str(count) for key, count in sorted(counts.items())})

    def _judge(self, name: str, now: float, timing: CameraTiming | None, drift: Drift | None, missing: float
               ) -> tuple[bytes, str]:
        if not self._arrivals:
            return STALE, f'{name}: nothing yet on {self.topic}: {self.why_silent()}'.removesuffix(': ')
        age = now - self._arrivals[-1]
        if age > LATE_S:
            message = f'{name}: nothing on {self.topic} for {age:.1f} s: {self.why_silent()}'.removesuffix(': ')
            return ERROR if age > LOST_S else WARN, message
        lost = [text for at, dropped, text in self._recent if dropped and now - at <= RECENT_S]
        if lost:
            all_lost = len(lost) >= sum(now - at <= RECENT_S for at in self._arrivals)
            return (ERROR if all_lost else WARN), f'{len(lost)} dropped in {RECENT_S:g} s, last: {lost[-1]}'
        if timing is not None and timing.state in ('lagging', 'ahead'):
            return ERROR, _wrong_time(name, timing)
        if drift is not None and drift.out_of_place:
            return WARN, (f'{name} is not where it says: its joints lie {drift.residual_px:.0f} px from those of the '
                          f'others, its weight is {drift.weight:.2f}: calibrate extrinsics, or correct its transform')
        odd = [text for at, _, text in self._recent if now - at <= RECENT_S]
        if odd:
            return WARN, f'{len(odd)} times in {RECENT_S:g} s, last: {odd[-1]}'
        if missing > MISSING_SHARE:
            return WARN, (f'{name}: {missing:.0%} of its images are missing: relieve its computer, the network, or '
                          'this computer')
        if timing is not None and timing.state in ('late', 'early'):
            order = 'later' if timing.lag_s > 0 else 'earlier'
            return WARN, (f'{name}: its people come {abs(timing.lag_s):.2f} s {order} than those of the others: raise '
                          f'max_wait, relieve computers and the network, or {_CLOCKS}')
        return OK, f'{name}: {rate_of(self._arrivals, now):.1f} images/s'


class FusionHealth:
    """How the work of the fusion node is going. Methods may be called from any thread; now: s of a steady clock.

    facts: of the node. source: where places are known from, in words. timing: returns how cameras keep time.
    """

    def __init__(self) -> None:
        self.facts = Facts()
        self.cameras: dict[str, CameraHealth] = {}
        self.timing: Callable[[float], Mapping[str, CameraTiming]] = lambda now: {}
        self.sets = 0
        self.events: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._finished: deque[float] = deque(maxlen=1000)
        self._failures: deque[tuple[float, str]] = deque(maxlen=100)
        self._views: deque[int] = deque(maxlen=WINDOW)
        self._times: dict[str, deque[float]] = {}
        self._people = 0
        self._counters: dict[str, int] = {}
        self._drift: dict[str, Drift] = {}

    def name_cameras(self, names: Sequence[str]) -> None:
        """Say which cameras there are; those that stay keep their counts."""
        self.cameras = {name: self.cameras.get(name) or CameraHealth() for name in names}

    def started(self) -> None:
        """Begin a time of work: ages and rates start anew, counts go on."""
        for camera in self.cameras.values():
            camera.started()
        with self._lock:
            self._finished.clear()
            self._failures.clear()
            self._drift = {}

    def finished(self, people: int, cameras: Sequence[str], times_ms: Mapping[str, float], fuser: Fused,
                 now: float) -> None:
        """A set of views of some cameras was fused and published.

        times_ms: by step, and 'latency' from the stamp of the set to its publication.
        """
        with self._lock:
            self.sets += 1
            self._people, self._counters, self._drift = people, dict(fuser.counters), dict(fuser.drift)
            self._finished.append(now)
            self._views.append(len(cameras))
            for name, value in times_ms.items():
                self._times.setdefault(name, deque(maxlen=WINDOW)).append(value)

    def failed(self, text: str, now: float) -> None:
        """A set of views was given up."""
        with self._lock:
            self.events['failed'] += 1
            self._failures.append((now, text))

    def happened(self, event: str) -> None:
        """Something worth counting."""
        with self._lock:
            self.events[event] += 1

    def report(self, now: float) -> list[Status]:
        """Return the state of fusion, of the cameras together, and of each."""
        if self.facts.state != 'active':
            idle = f'not listening ({self.facts.state})'
            return [self._fusion(now), Status('cameras', OK, idle, {})]
        timing = self.timing(now)
        each = [camera.report(name, now, timing.get(name), self._drift.get(name))
                for name, camera in self.cameras.items()]
        return [self._fusion(now), self._together(each), *each]

    def _together(self, each: Sequence[Status]) -> Status:
        """Return the state of the cameras together: which are not well, the worst first."""
        severity = {OK: 0, WARN: 1, STALE: 2, ERROR: 3}
        troubled = sorted((status for status in each if status.level != OK), key=lambda s: -severity[s.level])
        names = ', '.join(status.name.removeprefix('camera ') for status in troubled)
        message = f'{len(each) - len(troubled)} of {len(each)} cameras are well' + (f'; not: {names}' if names else '')
        values = {status.name.removeprefix('camera '): status.message for status in each}
        return Status('cameras', troubled[0].level if troubled else OK, message, values)

    def _fusion(self, now: float) -> Status:
        facts = self.facts
        with self._lock:
            rate = rate_of(self._finished, now)
            views = float(np.mean(self._views)) if self._views else 0.0
            values = {'state': facts.state, **facts.details, 'people': str(self._people), 'sets': str(self.sets),
                      'sets_per_s': f'{rate:.2f}', 'views_per_set': f'{views:.2f}',
                      **{name: str(count) for name, count in sorted({**self._counters, **self.events}.items())}}
            for name, times in self._times.items():
                for percent in (50, 95, 99):
                    values[f'{name}_p{percent}_ms'] = f'{np.percentile(list(times), percent):.2f}'
            level, message = self._judge(now, rate, views)
        return Status('fusion', level, message, values)

    def _judge(self, now: float, rate: float, views: float) -> tuple[bytes, str]:
        facts = self.facts
        if facts.problem:
            return ERROR, facts.problem
        if facts.state != 'active':
            return OK, facts.state
        failures = [text for at, text in self._failures if now - at <= RECENT_S]
        if failures:
            return ERROR, f'{len(failures)} sets failed in {RECENT_S:g} s, last: {failures[-1]}'
        if not self._finished:
            return STALE, 'nothing to fuse yet'
        if now - self._finished[-1] > LATE_S:
            away = now - self._finished[-1]
            return ERROR, f'nothing to fuse for {away:.1f} s: no camera gives views that can be used'
        return OK, f'{self._people} people, {rate:.1f} sets/s of {views:.1f} cameras'


def missing_share(stamps: Sequence[int]) -> float:
    """Return the share of the images between the first and the last stamp [ns] that are not there: 0 for an even rate.
    """
    steps = np.diff(np.array(stamps, dtype=np.int64))
    steps = steps[steps > 0]
    if len(steps) < 10:
        return 0.0
    return float(max(0.0, 1 - len(steps) * np.median(steps) / steps.sum()))


def _wrong_time(name: str, timing: CameraTiming) -> str:
    if timing.state == 'ahead':
        return f'{name} is left out: its stamps are {-timing.lag_s:.2f} s ahead of those of the others: {_CLOCKS}'
    return (f'{name} is left out: it is lagging, its people come {timing.lag_s:.2f} s later after their stamps than '
            f'those of the others: relieve its computer and the network, or {_CLOCKS}')
