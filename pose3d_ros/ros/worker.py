"""The thread that takes the newest image from the executor to the topics."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rclpy.clock import Clock
from rclpy.impl.rcutils_logger import RcutilsLogger

from pose3d_ros.pipeline import Result
from pose3d_ros.records import Frame
from pose3d_ros.ros.convert import stamp_ns
from pose3d_ros.ros.health import OVERWRITTEN, Health
from pose3d_ros.ros.images import ImageError
from pose3d_ros.ros.latest import Latest
from pose3d_ros.runtime.engine import Engine
from pose3d_ros.skeleton import Skeleton


class PeoplePipeline(Protocol):
    """What is needed of a pipeline; pose3d_ros.pipeline.Pipeline is one."""

    @property
    def engines(self) -> Mapping[str, Engine]: ...

    @property
    def skeleton(self) -> Skeleton: ...

    @property
    def counters(self) -> Mapping[str, int]: ...

    def __call__(self, frame: Frame) -> Result: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Arrival:
    """An image message, and when it came [s of the steady clock]."""

    message: Any
    at: float


class Worker:
    """Works on one image at a time, always the newest; what came in between is counted as overwritten.

    State: the stamp of the last image. The pipeline is reset before the first image, when time goes back (a bag that
    starts again) and after forget().
    """

    def __init__(self, to_frame: Callable[[Any], Frame], pipeline: PeoplePipeline,
                 publish: Callable[[Frame, Result], None], health: Health, clock: Clock, logger: RcutilsLogger) -> None:
        """to_frame may raise ImageError; clock: the one that images are stamped by."""
        self._to_frame, self._pipeline, self._publish = to_frame, pipeline, publish
        self._health, self._clock, self._logger = health, clock, logger
        self._mailbox: Latest[Arrival] = Latest()
        self._last_stamp_ns: int | None = None
        self._forget = True
        self._thread = threading.Thread(target=self._work, name='pose3d_ros worker')
        self._thread.start()

    def put(self, message: Any) -> None:
        """Take in an image message; called by the executor, and quick."""
        now = time.monotonic()
        self._health.arrived(now)
        if self._mailbox.put(Arrival(message, now)):
            self._health.dropped(OVERWRITTEN, '', now)

    def forget(self) -> None:
        """The next image does not continue the ones before it."""
        self._forget = True

    def close(self) -> None:
        """Finish the image in hand and end the thread."""
        self._mailbox.close()
        self._thread.join()

    def _work(self) -> None:
        while (arrival := self._mailbox.take()) is not None:
            self._process(arrival)

    def _process(self, arrival: Arrival) -> None:
        """Take one image to the topics, or drop it and count why."""
        begun = time.monotonic()
        try:
            self._mind_the_past(stamp_ns(arrival.message.header.stamp))
            frame = self._to_frame(arrival.message)
            decoded = time.monotonic()
            result = self._pipeline(frame)
            found = time.monotonic()
            self._publish(frame, result)
        except ImageError as error:
            self._health.dropped(error.cause, str(error), begun)
        except Exception as error:
            # The only catch-all around frames: whatever one sets off in a stage, a driver or a network, the next one
            # gets its chance. Counted, reported and logged with its traceback, so that nothing is hidden.
            self._forget = True
            self._health.dropped('error', f'{type(error).__name__}: {error}', begun)
            self._logger.error(f'a frame failed\n{traceback.format_exc()}', throttle_duration_sec=5.0)
        else:
            published = time.monotonic()
            seconds = {'wait': begun - arrival.at, 'decode': decoded - begun, 'publish': published - found,
                       'latency': (self._clock.now().nanoseconds - frame.stamp_ns) / 1e9}
            times_ms = {name: 1e3 * value for name, value in seconds.items()} | result.stage_ms
            self._health.finished(len(result.people), times_ms, self._pipeline.counters, published)

    def _mind_the_past(self, now_ns: int) -> None:
        """Have the pipeline forget the past where this image does not follow it. Raises ImageError for a repetition."""
        last_ns, self._last_stamp_ns = self._last_stamp_ns, now_ns
        if now_ns == last_ns:
            raise ImageError('duplicate_stamp', f'two images have the stamp {now_ns / 1e9:.6f} s: the driver does not '
                                                'stamp each of them, or there are two publishers')
        backwards = last_ns is not None and now_ns < last_ns
        if backwards:
            self._health.happened('time_jumps')
        if backwards or self._forget:
            self._forget = False
            self._pipeline.reset()
