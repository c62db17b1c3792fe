"""The thread that takes the newest images from the executor to the topics."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

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

LOG_PERIOD_S = 5.0  # the same trouble is logged this often


class PeoplePipeline(Protocol):
    """What is needed of a pipeline; pose3d_ros.pipeline.Pipeline is one."""

    @property
    def engines(self) -> Mapping[str, Engine]: ...

    @property
    def skeleton(self) -> Skeleton: ...

    @property
    def body_model(self) -> tuple[str, str] | None: ...

    @property
    def counters(self) -> Mapping[str, int]: ...

    def __call__(self, frame: Frame) -> Result: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


P = TypeVar('P', bound=PeoplePipeline)
# Does what can be done in common for a frame of each of some pipelines, and returns the rest of each one's work.
Begin = Callable[[Sequence[P], Sequence[Frame]], Sequence[Callable[[], Result]]]


def each_alone(pipelines: Sequence[PeoplePipeline], frames: Sequence[Frame]) -> list[Callable[[], Result]]:
    """Do nothing in common."""
    return [partial(pipeline, frame) for pipeline, frame in zip(pipelines, frames)]


@dataclass(frozen=True)
class Arrival:
    """An image message, and when it came [s of the steady clock]."""

    message: Any
    at: float


class Stream:
    """One camera's way from image messages to topics.

    State: the stamp of the last image; failed: whether the work on the last one did. The pipeline is reset before the
    first image, when time goes back (a bag that starts again) and after forget().
    """

    def __init__(self, to_frame: Callable[[Any], Frame], pipeline: PeoplePipeline,
                 publish: Callable[[Frame, Result], None], health: Health) -> None:
        """to_frame may raise ImageError."""
        self.pipeline, self.publish, self.health = pipeline, publish, health
        self.failed = False
        self._to_frame = to_frame
        self._last_stamp_ns: int | None = None
        self._forget = True

    def forget(self) -> None:
        """The next image does not continue the ones before it."""
        self._forget = True

    def frame(self, message: Any) -> Frame:
        """Return the frame of an image message. Raises ImageError."""
        self._mind_the_past(stamp_ns(message.header.stamp))
        return self._to_frame(message)

    def _mind_the_past(self, now_ns: int) -> None:
        """Have the pipeline forget the past where this image does not follow it. Raises ImageError for a repetition."""
        last_ns, self._last_stamp_ns = self._last_stamp_ns, now_ns
        if now_ns == last_ns:
            raise ImageError('duplicate_stamp', f'two images have the stamp {now_ns / 1e9:.6f} s: the driver does not '
                                                'stamp each of them, or there are two publishers')
        backwards = last_ns is not None and now_ns < last_ns
        if backwards:
            self.health.happened('time_jumps')
        if backwards or self._forget:
            self._forget = False
            self.pipeline.reset()


@dataclass(frozen=True)
class _Taken:
    """An image in hand, as a frame, and how long it took to get there [s]."""

    stream: Stream
    frame: Frame
    seconds: dict[str, float]


class Worker:
    """Works on one image of each camera at a time, always the newest; what came in between is counted as overwritten.

    Whatever cameras have a new image are worked on together; nobody is waited for.
    """

    def __init__(self, begin: Begin[Any], clock: Clock, logger: RcutilsLogger) -> None:
        """begin: for the pipelines of two cameras or more; clock: the one that images are stamped by."""
        self._begin, self._clock, self._logger = begin, clock, logger
        self._mailbox: Latest[Stream, Arrival] = Latest()
        self._thread = threading.Thread(target=self._work, name='pose3d_ros worker')
        self._thread.start()

    def put(self, stream: Stream, message: Any) -> None:
        """Take in an image message; called by the executor, and quick."""
        now = time.monotonic()
        stream.health.arrived(now)
        if self._mailbox.put(stream, Arrival(message, now)):
            stream.health.dropped(OVERWRITTEN, '', now)

    def close(self) -> None:
        """Finish the images in hand and end the thread."""
        self._mailbox.close()
        self._thread.join()

    def _work(self) -> None:
        while (arrivals := self._mailbox.take()) is not None:
            taken: list[_Taken] = []
            for stream, arrival in arrivals.items():
                with self._dropping(stream):
                    taken.append(_take(stream, arrival))
            sound = [image for image in taken if not image.stream.failed]
            alone = [[image] for image in taken if image.stream.failed]  # until they have done well
            for images in (sound, *alone):
                for image, find in zip(images, self._begin_together(images)):
                    with self._dropping(image.stream):
                        self._finish(image, find)

    def _begin_together(self, taken: Sequence[_Taken]) -> Sequence[Callable[[], Result]]:
        """Begin the work on images of several cameras; what fails in common is tried for each camera by itself."""
        pipelines, frames = [image.stream.pipeline for image in taken], [image.frame for image in taken]
        if len(taken) > 1:
            try:
                return self._begin(pipelines, frames)
            except Exception as error:  # as in _dropping; whoever is the cause fails again, alone
                for image in taken:
                    image.stream.health.happened('together_failed')
                self._logger.error(f'{len(taken)} cameras together failed, each is tried alone: '
                                   f'{type(error).__name__}: {error}', throttle_duration_sec=LOG_PERIOD_S)
        return each_alone(pipelines, frames)

    def _finish(self, image: _Taken, find: Callable[[], Result]) -> None:
        """Find the people of an image and publish them."""
        stream, frame = image.stream, image.frame
        result = find()
        found = time.monotonic()
        stream.publish(frame, result)
        published = time.monotonic()
        seconds = {**image.seconds, 'publish': published - found,
                   'latency': (self._clock.now().nanoseconds - frame.stamp_ns) / 1e9}
        times_ms = {name: 1e3 * value for name, value in seconds.items()} | result.stage_ms
        stream.failed = False
        stream.health.finished(len(result.people), times_ms, stream.pipeline.counters, published)

    @contextmanager
    def _dropping(self, stream: Stream) -> Iterator[None]:
        """Drop the image of a camera that fails in here, and count why."""
        begun = time.monotonic()
        try:
            yield
        except ImageError as error:
            stream.health.dropped(error.cause, str(error), begun)
        except Exception as error:
            # The only catch-all around frames: whatever one sets off in a stage, a driver or a network, the next one
            # gets its chance. Counted, reported and logged with its traceback, so that nothing is hidden.
            stream.failed = True
            stream.forget()
            stream.health.dropped('error', f'{type(error).__name__}: {error}', begun)
            self._logger.error(f'a frame failed\n{traceback.format_exc()}', throttle_duration_sec=LOG_PERIOD_S)


def _take(stream: Stream, arrival: Arrival) -> _Taken:
    """Turn an image message into a frame. Raises ImageError."""
    begun = time.monotonic()
    frame = stream.frame(arrival.message)
    return _Taken(stream, frame, {'wait': begun - arrival.at, 'decode': time.monotonic() - begun})
