"""Which views are fused together: cameras that are not genlocked, late, silent or wrong about the time.

A set opens with the first view of a new moment and is closed when all have reported that can still be expected, when a
camera in it reports again, or at a deadline: nobody is waited for longer, and nothing queues up.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pose3d_ros.fuse.views import View

_RECENT = 30       # arrivals from which a camera's rate is taken
_USUAL = 9         # arrivals from which a camera's period and lag are taken, as medians
_RATE_OVER_S = 5.0


@dataclass(frozen=True)
class GatherSettings:
    """How long is waited for whom [s].

    max_wait_s: from the first view of a set to its deadline. max_age_s: how much older than the newest of its set a
    view may be, and how far a camera's lag may be from that of the others. camera_timeout_s: a camera from which
    nothing came for so long is not waited for. Raises ValueError for what is not positive.
    """

    max_wait_s: float = 0.05
    max_age_s: float = 0.25
    camera_timeout_s: float = 1.0

    def __post_init__(self) -> None:
        if not (self.max_wait_s >= 0 and self.max_age_s > 0 and self.camera_timeout_s > 0):
            raise ValueError(f'{self} has a time that is not positive')


@dataclass(frozen=True)
class CameraTiming:
    """How a camera keeps time. rate_hz: views lately; age_s: since the last; lag_s: how much later than those of the
    others its views come after their stamps (negative: earlier); state, in a word:

    ok; late or early: by more than max_wait_s, so that its views join a later set, or hold the others back; lagging or
    ahead: by more than max_age_s, left out; silent: longer than camera_timeout_s. counts of views: used, lagging,
    ahead, out_of_order (not newer than the one before), too_old (for their set), overwritten (a newer came first).
    """

    rate_hz: float
    lag_s: float
    age_s: float
    state: str
    counts: dict[str, int]


@dataclass
class _Camera:
    """What is known of a camera: when its views came [s], how their lag was off that of the others [s]."""

    came: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    offs: deque[float] = field(default_factory=lambda: deque(maxlen=_USUAL))
    lag_s: float = 0.0
    stamp_ns: int | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def expected_s(self) -> float:
        """Return when the next view should come; that of a camera seen once, at any time."""
        if len(self.came) < 2:
            return self.came[-1]
        return self.came[-1] + float(np.median(np.diff(list(self.came)[-_USUAL:])))


class Gatherer:
    """Sorts views into sets. State: the open set, a closed one that nobody has taken yet, and how cameras keep time.

    now_s, the same everywhere: seconds of a steady clock. Not for several threads at once.
    """

    def __init__(self, settings: GatherSettings | None = None, cameras: Sequence[str] = ()) -> None:
        """cameras: those that are to come, as far as known: waited for like others, until camera_timeout_s have passed
        since the first view."""
        self.settings = settings or GatherSettings()
        self._to_come = tuple(cameras)
        self.reset()

    def reset(self) -> None:
        """Forget everything, also how cameras keep time."""
        self._cameras: dict[str, _Camera] = {}
        self._begun_s: float | None = None
        self._forget_views()

    def _forget_views(self) -> None:
        """Begin anew with the next view, at any time."""
        self._views: dict[str, View] = {}        # waiting: of the open set, or of no new moment
        self._opened_s: float | None = None
        self._closed: dict[str, View] = {}
        self._stamp_ns: int | None = None        # of the last set that was closed
        for camera in self._cameras.values():
            camera.stamp_ns = None

    def put(self, view: View, now_s: float, clock_s: float | None = None) -> None:
        """Take in a view that came now; clock_s: the time by the clock of stamps (default: now_s).

        The time of all may jump (a bag that starts again): then sets begin anew, with earlier stamps.
        """
        clock_s = now_s if clock_s is None else clock_s
        self._begun_s = now_s if self._begun_s is None else self._begun_s
        camera = self._cameras.setdefault(view.camera, _Camera())
        camera.came.append(now_s)
        camera.lag_s = clock_s - view.stamp_ns * 1e-9
        usual = self._usual_lag(now_s)
        camera.offs.append(camera.lag_s - usual)
        if not self._in_time(view, usual):
            return
        if self._stamp_ns is not None and clock_s - usual < self._stamp_ns * 1e-9 - 2 * self.settings.max_age_s:
            self._forget_views()
        if camera.stamp_ns is not None and view.stamp_ns <= camera.stamp_ns:
            camera.counts['out_of_order'] += 1
            return
        camera.stamp_ns = view.stamp_ns
        waiting = self._views.get(view.camera)
        if waiting is not None:
            if self._of_new_moment(waiting):
                self._close(now_s)
            else:
                camera.counts['overwritten'] += 1
        self._views[view.camera] = view
        if self._opened_s is None and self._of_new_moment(view):
            self._opened_s = now_s

    def due(self, now_s: float) -> float | None:
        """Return in how many seconds the open set is closed: 0 when a set can be taken, None when there is none."""
        if self._closed:
            return 0.0
        if self._opened_s is None:
            return None
        deadline = self._opened_s + self.settings.max_wait_s
        return max(0.0, deadline - now_s) if self._awaited(now_s, deadline) else 0.0

    def take(self, now_s: float) -> tuple[list[View], int] | None:
        """Return the views of a set that is due and its time, the stamp of the newest [ns]; None while none is.

        Stamps grow from set to set, except after a jump of everybody's time.
        """
        if not self._closed and self.due(now_s) == 0.0:
            self._close(now_s)
        if not self._closed:
            return None
        views, self._closed = self._closed, {}
        for name in views:
            self._cameras[name].counts['used'] += 1
        return [views[name] for name in sorted(views)], max(view.stamp_ns for view in views.values())

    def timing(self, now_s: float) -> dict[str, CameraTiming]:
        """Return how every camera that ever reported keeps time."""
        return {name: CameraTiming(_rate(camera.came, now_s), float(np.median(camera.offs)), now_s - camera.came[-1],
                                   self._state(camera, now_s), dict(camera.counts))
                for name, camera in sorted(self._cameras.items())}

    def _state(self, camera: _Camera, now_s: float) -> str:
        settings, off = self.settings, float(np.median(camera.offs))
        if now_s - camera.came[-1] > settings.camera_timeout_s:
            return 'silent'
        if abs(off) > settings.max_age_s:
            return 'lagging' if off > 0 else 'ahead'
        if abs(off) > settings.max_wait_s:
            return 'late' if off > 0 else 'early'
        return 'ok'

    def _usual_lag(self, now_s: float) -> float:
        """Return the median lag of the cameras that report [s]: always that of one of them, and where two lie in the
        middle, the one nearer to the clock.
        """
        live = [camera for camera in self._cameras.values()
                if now_s - camera.came[-1] <= self.settings.camera_timeout_s]
        lags = sorted(camera.lag_s for camera in live or self._cameras.values())
        return min(lags[(len(lags) - 1) // 2], lags[len(lags) // 2], key=abs)

    def _in_time(self, view: View, usual: float) -> bool:
        """Say whether a camera's lag is near the usual one, and count a view for which it is not."""
        camera = self._cameras[view.camera]
        off = camera.lag_s - usual
        if abs(off) <= self.settings.max_age_s:
            return True
        camera.counts['lagging' if off > 0 else 'ahead'] += 1
        return False

    def _awaited(self, now_s: float, deadline_s: float) -> bool:
        """Say whether a camera can still be expected before the deadline of the open set.

        That may be one whose last view just missed the set before: taken as it is, all of its views would be one late.
        """
        beginning = self._begun_s is not None and now_s - self._begun_s <= self.settings.camera_timeout_s
        if beginning and any(name not in self._cameras for name in self._to_come):
            return True
        return any(self._missing(name) for name, camera in self._cameras.items()
                   if now_s - camera.came[-1] <= self.settings.camera_timeout_s
                   and abs(camera.offs[-1]) <= self.settings.max_age_s and camera.expected_s() <= deadline_s)

    def _missing(self, name: str) -> bool:
        """Say whether the open set lacks a camera, or has an old view of one whose views usually come in time."""
        view = self._views.get(name)
        usually = float(np.median(self._cameras[name].offs))
        return view is None or (not self._of_new_moment(view) and usually <= self.settings.max_wait_s)

    def _of_new_moment(self, view: View) -> bool:
        return self._stamp_ns is None or view.stamp_ns > self._stamp_ns

    def _close(self, now_s: float) -> None:
        """Close the open set; one that nobody took becomes part of it, as far as it is not too old."""
        usual = self._usual_lag(now_s)  # known better now than when the first of them came
        views = {name: view for name, view in self._views.items() if self._in_time(view, usual)}
        self._views, self._opened_s = {}, None
        if not views:
            return
        for name, view in self._closed.items():
            if name in views:
                self._cameras[name].counts['overwritten'] += 1
            views.setdefault(name, view)
        self._stamp_ns = max(view.stamp_ns for view in views.values())
        oldest_ns = self._stamp_ns - round(self.settings.max_age_s * 1e9)
        self._closed = {name: view for name, view in views.items() if view.stamp_ns >= oldest_ns}
        for name in views.keys() - self._closed.keys():
            self._cameras[name].counts['too_old'] += 1


def _rate(moments: deque[float], now_s: float) -> float:
    """Return how often per second something happened lately."""
    recent = [moment for moment in moments if now_s - moment <= _RATE_OVER_S]
    return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-6) if len(recent) > 1 else 0.0
