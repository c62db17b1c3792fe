"""The thread that takes reports of cameras to fused people."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.clock import Clock
from rclpy.impl.rcutils_logger import RcutilsLogger

from pose3d_ros.fuse.fuser import Fuser
from pose3d_ros.fuse.gather import CameraTiming, Gatherer
from pose3d_ros.fuse.views import View
from pose3d_ros.records import Person3D
from pose3d_ros.ros.fields import stamp_ns
from pose3d_ros.ros.fusion_health import OVERWRITTEN, FusionHealth
from pose3d_ros.ros.fusion_input import Report, Reports
from pose3d_ros.ros.fusion_views import ReportError, Sighted, ViewMaker
from pose3d_ros.ros.tf import NoTransformError

ASK_AGAIN_S = 0.005  # for a place that is not known yet
MOST_WAITING = 20    # sightings of one camera that wait for their place at most
IDLE_S = 0.5         # the thread looks at least so often whether there is nothing to show any more


class FusionWorker:
    """Joins, places, gathers and fuses what cameras report; messages come in from the executor, and go out from here.

    State: sightings that wait for their place, and whether people are on show.
    """

    def __init__(self, maker: ViewMaker, gatherer: Gatherer, fuser: Fuser, tolerance_s: float,
                 remember: Callable[[Sighted], None], publish: Callable[[list[Person3D], int], None],
                 clear: Callable[[], None], health: FusionHealth, clock: Clock, logger: RcutilsLogger) -> None:
        """tolerance_s: how long a place is asked for. remember: takes what is seen, wherever the camera stands.
        publish: people and their stamp [ns]; clear: take them off show when nothing comes any more. clock: the one that
        images are stamped by."""
        self._maker, self._gatherer, self._fuser, self._tolerance_s = maker, gatherer, fuser, tolerance_s
        self._remember, self._publish, self._clear, self._health = remember, publish, clear, health
        self._clock, self._logger = clock, logger
        self._gone_s = gatherer.settings.camera_timeout_s
        self._reports = Reports()
        self._gathering = threading.Lock()  # timing() is asked for by the executor
        self._unplaced: dict[str, deque[Sighted]] = {}
        self._stamp_ns = 0
        self._shown_at: float | None = None
        self._thread = threading.Thread(target=self._work, name='pose3d_ros fusion')
        self._thread.start()

    def put_2d(self, camera: str, message: Any) -> None:
        """Take in a People2D; called by the executor, and quick."""
        now, health = time.monotonic(), self._health.cameras[camera]
        health.arrived(stamp_ns(message.header.stamp), now)
        if self._reports.put_2d(camera, message, now):
            health.dropped(OVERWRITTEN, '', now)

    def put_3d(self, camera: str, message: Any) -> None:
        """Take in a People3D; called by the executor, and quick."""
        self._reports.put_3d(camera, message, time.monotonic())

    def timing(self, now: float) -> dict[str, CameraTiming]:
        """Return how the cameras keep time; from any thread."""
        with self._gathering:
            return self._gatherer.timing(now)

    def close(self) -> None:
        """Finish the set in hand and end the thread."""
        self._reports.close()
        self._thread.join()

    def _work(self) -> None:
        while self._reports.wait(self._patience(time.monotonic())):
            for report in self._reports.take(time.monotonic()):
                with self._going_on(self._health.cameras[report.camera].failed):
                    self._take(report)
            for camera in list(self._unplaced):
                with self._going_on(self._health.cameras[camera].failed):
                    self._place(camera)
            with self._going_on(self._failed):
                self._fuse_due()
                if self._shown_at is not None and time.monotonic() - self._shown_at > self._gone_s:
                    self._shown_at = None
                    self._clear()

    @contextmanager
    def _going_on(self, failed: Callable[[str, float], None]) -> Iterator[None]:
        """Tell of whatever fails in here, and go on.

        The only catch-all: whatever a report or a set brings about, the next one gets its chance. Counted, reported and
        logged with its traceback, so that nothing is hidden.
        """
        try:
            yield
        except Exception as error:
            failed(f'{type(error).__name__}: {error}', time.monotonic())
            self._logger.error(f'fusion failed\n{traceback.format_exc()}', throttle_duration_sec=5.0)

    def _patience(self, now: float) -> float:
        """Return in how many seconds there is something to do even if nothing comes."""
        with self._gathering:
            waits = [self._gatherer.due(now), self._reports.due(now), ASK_AGAIN_S if self._unplaced else None, IDLE_S]
        return min(wait for wait in waits if wait is not None)

    def _take(self, report: Report) -> None:
        """Have a report wait for its place, unless it cannot be used."""
        health = self._health.cameras[report.camera]
        try:
            seen = self._maker.sighted(report)
        except ReportError as error:
            return health.dropped(error.cause, str(error), report.at)
        for cause, text in seen.remarks.items():
            health.remarked(cause, text, report.at)
        self._remember(seen)
        self._unplaced.setdefault(seen.camera, deque()).append(seen)
        return None

    def _place(self, camera: str) -> None:
        """Gather what a camera saw, in its order, as far as places are known by now."""
        waiting, health = self._unplaced[camera], self._health.cameras[camera]
        while waiting:
            seen, now = waiting.popleft(), time.monotonic()
            try:
                view, remarks = self._maker.placed(seen)
            except NoTransformError as error:
                may_come = error.cause.startswith('tf_') and now - seen.at < self._tolerance_s
                if may_come and len(waiting) < MOST_WAITING:
                    return waiting.appendleft(seen)
                health.dropped(error.cause, f'{camera}: {error}', now)
                continue
            for cause, text in remarks.items():
                health.remarked(cause, text, now)
            self._gather(view, now)
        del self._unplaced[camera]
        return None

    def _gather(self, view: View, now: float) -> None:
        with self._gathering:
            self._gatherer.put(view, now, self._clock.now().nanoseconds * 1e-9)
        self._fuse_due()  # a camera that reports again has closed a set

    def _fuse_due(self) -> None:
        """Fuse and publish the set that is due, if there is one."""
        begun = time.monotonic()
        with self._gathering:
            taken = self._gatherer.take(begun)
        if taken is not None:
            with self._going_on(self._failed):
                self._fuse(*taken, begun)

    def _failed(self, text: str, now: float) -> None:
        self._fuser.reset()
        self._health.failed(text, now)

    def _fuse(self, views: list[View], stamp: int, begun: float) -> None:
        if stamp < self._stamp_ns:
            self._health.happened('time_jumps')
            self._fuser.reset()
        self._stamp_ns = stamp
        people = self._fuser(views, stamp)
        fused = time.monotonic()
        self._publish(people, stamp)
        self._shown_at = published = time.monotonic()
        latency = (self._clock.now().nanoseconds - stamp) * 1e-9
        times_ms = {name: 1e3 * seconds for name, seconds in
                    {'fuse': fused - begun, 'publish': published - fused, 'latency': latency}.items()}
        self._health.finished(len(people), [view.camera for view in views], times_ms, self._fuser, published)
