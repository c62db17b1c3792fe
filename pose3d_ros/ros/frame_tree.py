"""A tree of frames with their history, free of ROS: for TF where tf2 is not installed, and for TF in bags.

Behaves as tf2: a frame has one parent at a time; positions between two stamps are interpolated (linearly, and along the
great circle of quaternions), nothing is extrapolated; static frames hold at all times.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import Counter
from typing import Any

from pose3d_ros.ros.rigid import IDENTITY, Rigid, between, inverse, product

HISTORY_S = 10.0     # that of tf2
_FORGOTTEN_S = 60.0  # a frame of /tf of which nothing came for so long: people come and go, and their ids never return
_RESTARTED_S = 1.0   # stamps far in the past, and none newer for so long: the clock of the publisher was set back
_UNIT = 0.01         # most that the square of a quaternion may be off 1


class TransformException(Exception):  # noqa: N818 (named as those of tf2)
    """A transform that cannot be given; the text says why."""


class LookupException(TransformException):
    """A frame is not known, or the frames form a loop."""


class ConnectivityException(TransformException):
    """Both frames are known, but nothing connects them."""


class ExtrapolationException(TransformException):
    """The frames are known, but not at this time."""


class _History:
    """What was said of one frame: parent_T_frame by stamp, in order; of a static one, only the last."""

    def __init__(self, static: bool, kept_ns: float) -> None:
        self.static, self._kept_ns = static, kept_ns
        self.stamps: list[int] = []
        self.entries: list[tuple[str, Rigid]] = []
        self.heard_s = -math.inf

    def put(self, stamp_ns: int, parent: str, pose: Rigid, now_s: float) -> bool:
        """Return whether it was taken: not, while there is much newer."""
        if self.static:
            self.clear()
        elif self.stamps and stamp_ns < self.stamps[-1] - self._kept_ns:
            if now_s - self.heard_s < _RESTARTED_S:
                return False
            self.clear()
        self.heard_s = now_s
        place = bisect_left(self.stamps, stamp_ns)
        if place < len(self.stamps) and self.stamps[place] == stamp_ns:
            self.entries[place] = (parent, pose)
            return True
        self.stamps.insert(place, stamp_ns)
        self.entries.insert(place, (parent, pose))
        too_old = bisect_left(self.stamps, self.stamps[-1] - self._kept_ns)
        del self.stamps[:too_old], self.entries[:too_old]
        return True

    def at(self, stamp_ns: int) -> tuple[str, Rigid] | None:
        """Return parent and parent_T_frame at a time; None before the first and after the last."""
        if self.static:
            return self.entries[0]
        place = bisect_left(self.stamps, stamp_ns)
        if place == len(self.stamps):
            return None
        if self.stamps[place] == stamp_ns:
            return self.entries[place]
        if place == 0:
            return None
        (parent, before), (next_parent, after) = self.entries[place - 1], self.entries[place]
        if parent != next_parent:  # it changed hands somewhere in between
            return parent, before
        since = stamp_ns - self.stamps[place - 1]
        return parent, between(before, after, since / (self.stamps[place] - self.stamps[place - 1]))

    def clear(self) -> None:
        self.stamps.clear()
        self.entries.clear()


class FrameTree:
    """Answers where a frame is in another. For several threads. State: what was put in; clear() forgets it.

    history_s: what is kept of frames that move. ignored: transforms that were none, by cause.
    """

    def __init__(self, history_s: float = HISTORY_S) -> None:
        self._kept_ns = history_s * 1e9
        self.ignored: Counter[str] = Counter()
        self._frames: dict[str, _History] = {}
        self._lock = threading.Lock()
        self._swept_s = -math.inf

    def put(self, transform: Any, static: bool, now_s: float) -> str:
        """Take parent_T_child in, the fields of a TransformStamped; returns what is wrong with it, '' for nothing.

        now_s: any clock that only goes on.
        """
        parent, child = transform.header.frame_id.lstrip('/'), transform.child_frame_id.lstrip('/')
        turn, move = transform.transform.rotation, transform.transform.translation
        square = turn.x * turn.x + turn.y * turn.y + turn.z * turn.z + turn.w * turn.w
        if not parent or not child:
            return self._ignore('no_name', f'{child!r} in {parent!r}: a frame without name')
        if parent == child:
            return self._ignore('own_parent', f'{child!r} is its own parent')
        if not math.isfinite(square + move.x + move.y + move.z):
            return self._ignore('not_finite', f'{child!r} in {parent!r}: not finite')
        if abs(square - 1.0) > _UNIT:
            return self._ignore('no_rotation', f'{child!r} in {parent!r}: quaternion of length {math.sqrt(square):.3g}')
        scale = 1.0 / math.sqrt(square)
        pose = ((turn.x * scale, turn.y * scale, turn.z * scale, turn.w * scale), (move.x, move.y, move.z))
        stamp = transform.header.stamp
        with self._lock:
            self._sweep(now_s)
            history = self._frames.get(child)
            if history is None or history.static != static:
                history = self._frames[child] = _History(static, self._kept_ns)
            taken = history.put(stamp.sec * 10**9 + stamp.nanosec, parent, pose, now_s)
        return '' if taken else self._ignore('old', f'{child!r} in {parent!r}: older than what is kept')

    def lookup(self, target: str, source: str, stamp_ns: int) -> Rigid:
        """Return target_T_source at a time. Raises TransformException."""
        with self._lock:
            return self._lookup(target.lstrip('/'), source.lstrip('/'), stamp_ns)

    def clear(self) -> None:
        """Forget all but what is static."""
        with self._lock:
            self._frames = {name: history for name, history in self._frames.items() if history.static}

    def _lookup(self, target: str, source: str, stamp_ns: int) -> Rigid:
        """Go up from the source, then from the target until both ways meet."""
        above: dict[str, Rigid] = {}  # frame_T_source of the source and the frames over it
        frame, pose = source, IDENTITY
        while frame not in above:
            above[frame] = pose
            if frame == target or not (step := self._parent(frame, stamp_ns)):
                break
            frame, pose = step[0], product(step[1], pose)
        else:
            raise LookupException(f'the frames over {source!r} form a loop: {" -> ".join([*above, frame])}')
        passed: list[str] = []
        frame, pose = target, IDENTITY  # frame_T_target
        while frame not in above:
            if frame in passed:
                raise LookupException(f'the frames over {target!r} form a loop: {" -> ".join([*passed, frame])}')
            passed.append(frame)
            if not (step := self._parent(frame, stamp_ns)):
                raise self._reason(target, source, list(above)[-1], frame, stamp_ns)
            frame, pose = step[0], product(step[1], pose)
        return product(inverse(pose), above[frame])

    def _parent(self, frame: str, stamp_ns: int) -> tuple[str, Rigid] | None:
        history = self._frames.get(frame)
        return history.at(stamp_ns) if history is not None else None

    def _reason(self, target: str, source: str, over_source: str, over_target: str,
                stamp_ns: int) -> TransformException:
        """Say why the ways up end, at over_source and over_target, without meeting."""
        known = set(self._frames).union(history.entries[-1][0] for history in self._frames.values())
        for frame in (target, source):
            if frame not in known:
                return LookupException(f'nobody publishes a frame {frame!r}')
        for frame in (over_source, over_target):
            if (history := self._frames.get(frame)) is not None:
                after, before = stamp_ns - history.stamps[-1], history.stamps[0] - stamp_ns
                return ExtrapolationException(
                    f'{frame!r} in {history.entries[-1][0]!r} is known ' + (
                        f'until {after / 1e9:.3f} s before' if after > 0 else f'from {before / 1e9:.3f} s after') +
                    ' the time asked for')
        return ConnectivityException(f'nothing connects them: {target!r} is under {over_target!r}, {source!r} under '
                                     f'{over_source!r}')

    def _sweep(self, now_s: float) -> None:
        """Forget frames of /tf that nobody publishes any more."""
        if now_s - self._swept_s < _FORGOTTEN_S:
            return
        self._swept_s = now_s
        self._frames = {name: history for name, history in self._frames.items()
                        if history.static or now_s - history.heard_s < _FORGOTTEN_S}

    def _ignore(self, cause: str, text: str) -> str:
        self.ignored[cause] += 1
        return text
