"""How a node is doing: what came in, what became of it, how long it took, and what that means."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from pose3d_ros.runtime.engine import Engine

WINDOW = 300        # frames over which times are summarised
RECENT_S = 5.0      # over which rates and drops are judged
LATE_S, LOST_S = 1.0, 5.0  # without an image: WARN, ERROR
OVERWRITTEN = 'overwritten'  # a newer frame came before this one was begun: normal on a busy machine
BUILDING = 'building'        # the engines are not built yet, and the node was told to wait for them
# Drops that need no judgement of their own: the first, and those that other lines of the diagnostics tell already.
NOT_JUDGED = (OVERWRITTEN, BUILDING, 'no_camera_info', 'not_calibrated')

OK, WARN, ERROR, STALE = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE)


@dataclass(frozen=True)
class Status:
    """One line of diagnostics. level: OK, WARN, ERROR or STALE."""

    name: str
    level: bytes
    message: str
    values: dict[str, str]


@dataclass
class Facts:
    """What a node knows about itself and tells: its lifecycle state, and what it computes with."""

    state: str = 'unconfigured'
    problem: str = ''              # why it is not working, '' when nothing is wrong
    details: dict[str, str] = field(default_factory=dict)  # of the configuration
    engines: Mapping[str, Engine] = field(default_factory=dict)  # by what they do
    runtime: str = 'auto'          # that was asked for


@dataclass
class CameraFacts:
    """What is known about a camera: its topics and calibration. why_silent: returns why no images come, likely."""

    image_topic: str = ''
    info_topic: str = ''
    info_timeout_s: float = 5.0
    calibration_problem: str = ''  # why the last camera_info was refused
    calibrated: bool = False
    why_silent: Callable[[], str] = lambda: ''


class Health:
    """How the work on one camera is going: counts and times since the start.

    Methods may be called from any thread; now: seconds of a steady clock. facts: of the node.
    """

    def __init__(self, facts: Facts | None = None) -> None:
        self.facts = facts or Facts()
        self.camera = CameraFacts()
        self.received = 0
        self.done = 0
        self.drops: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._arrivals: deque[float] = deque(maxlen=1000)
        self._finished: deque[float] = deque(maxlen=1000)
        self._recent_drops: deque[tuple[float, str, str]] = deque(maxlen=1000)
        self._times: dict[str, deque[float]] = {}
        self._floorless: Counter[str] = Counter()
        self._recent_floorless: deque[tuple[float, str]] = deque(maxlen=1000)
        self._people = 0
        self._counters: dict[str, int] = {}
        self._first_image: float | None = None

    def started(self) -> None:
        """Begin a time of work: ages and rates start anew, counts go on."""
        with self._lock:
            for recent in (self._arrivals, self._finished, self._recent_drops, self._recent_floorless):
                recent.clear()
            self._first_image = None

    def arrived(self, now: float) -> None:
        """An image came."""
        with self._lock:
            self.received += 1
            self._arrivals.append(now)
            if self._first_image is None:
                self._first_image = now

    def finished(self, people: int, times_ms: Mapping[str, float], counters: Mapping[str, int], now: float) -> None:
        """A frame was published.

        times_ms: by stage, and 'latency' from the image's stamp to its publication. counters: of the pipeline.
        """
        with self._lock:
            self.done += 1
            self._people, self._counters = people, dict(counters)
            self._finished.append(now)
            for name, value in times_ms.items():
                self._times.setdefault(name, deque(maxlen=WINDOW)).append(value)

    def dropped(self, cause: str, text: str, now: float) -> None:
        """A frame was given up. text: what is wrong and what to do."""
        with self._lock:
            self.drops[cause] += 1
            if cause not in NOT_JUDGED:
                self._recent_drops.append((now, cause, text))

    def without_floor(self, cause: str, text: str, now: float) -> None:
        """A frame was worked on without the floor that was asked for. text: what is wrong."""
        with self._lock:
            self._floorless[cause] += 1
            self._recent_floorless.append((now, text))

    def happened(self, event: str) -> None:
        """Something worth counting that cost no frame."""
        with self._lock:
            self.events[event] += 1

    def report(self, now: float) -> list[Status]:
        """Return the state of the input, of the pipeline and of what computes its networks."""
        return [*self.report_camera(now), report_engines(self.facts)]

    def report_camera(self, now: float) -> list[Status]:
        """Return the state of the input and of the pipeline."""
        with self._lock:
            return [self._input(now), self._pipeline(now)]

    def _input(self, now: float) -> Status:
        camera = self.camera
        rate = rate_of(self._arrivals, now)
        age = now - self._arrivals[-1] if self._arrivals else float('nan')
        values = {'image_topic': camera.image_topic, 'camera_info_topic': camera.info_topic, 'rate_hz': f'{rate:.2f}',
                  'age_s': f'{age:.3f}', 'calibration': camera.calibration_problem or
                  ('ok' if camera.calibrated else 'none yet'), 'frames_received': str(self.received),
                  'frames_done': str(self.done), 'frames_dropped': str(sum(self.drops.values())),
                  **{f'dropped.{cause}': str(count) for cause, count in sorted(self.drops.items())},
                  **{event: str(count) for event, count in sorted(self.events.items())}}
        level, message = self._judge_input(now, age, rate)
        return Status('input', level, message, values)

    def _judge_input(self, now: float, age: float, rate: float) -> tuple[bytes, str]:
        camera = self.camera
        if self.facts.state != 'active':
            return OK, f'not listening ({self.facts.state})'
        if not self._arrivals:
            return STALE, f'no image yet on {camera.image_topic}: {camera.why_silent()}'.removesuffix(': ')
        if age > LATE_S:
            message = f'no image on {camera.image_topic} for {age:.1f} s: {camera.why_silent()}'.removesuffix(': ')
            return ERROR if age > LOST_S else WARN, message
        if camera.calibration_problem:
            return ERROR, camera.calibration_problem
        if not camera.calibrated:
            waited = now - (now if self._first_image is None else self._first_image)
            if waited >= camera.info_timeout_s:
                return WARN, no_camera_info(camera.image_topic, camera.info_topic)
            return OK, f'waiting for camera_info on {camera.info_topic}'
        recent = [(cause, text) for at, cause, text in self._recent_drops if now - at <= RECENT_S]
        if recent:
            all_lost = not self._finished or now - self._finished[-1] > RECENT_S
            message = f'{len(recent)} images dropped in {RECENT_S:g} s, last: {recent[-1][1]}'
            return (ERROR if all_lost else WARN), message
        return OK, f'{rate:.1f} images/s on {camera.image_topic}'

    def _pipeline(self, now: float) -> Status:
        facts = self.facts
        rate = rate_of(self._finished, now)
        computed = {name: ' '.join(sorted({getattr(engine, name) for engine in facts.engines.values()}))
                    for name in ('provider', 'precision')} if facts.engines else {}
        values = {'state': facts.state, **facts.details, **computed, 'people': str(self._people),
                  'rate_hz': f'{rate:.2f}',
                  **{name: str(count) for name, count in self._counters.items()},
                  **{f'without_floor.{cause}': str(count) for cause, count in sorted(self._floorless.items())}}
        for name, times in self._times.items():
            for percent in (50, 95, 99):
                values[f'{name}_p{percent}_ms'] = f'{np.percentile(list(times), percent):.2f}'
        if facts.problem:
            return Status('pipeline', ERROR, facts.problem, values)
        if facts.state != 'active':
            return Status('pipeline', OK, facts.state, values)
        recent = [text for at, text in self._recent_floorless if now - at <= RECENT_S]
        if recent:
            message = f'{len(recent)} frames without a floor in {RECENT_S:g} s, last: {recent[-1]}'
            return Status('pipeline', WARN, message, values)
        return Status('pipeline', OK, f'{self._people} people, {rate:.1f} frames/s', values)


class GroupHealth:
    """How the work on several cameras of one node is going: Health for each by name, and engines that they share."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.cameras: dict[str, Health] = {}

    def name_cameras(self, names: Sequence[str]) -> None:
        """Say which cameras there are; those that stay keep their counts."""
        self.cameras = {name: self.cameras.get(name) or Health(self.facts) for name in names}

    def report(self, now: float) -> list[Status]:
        """Return the state of input and pipeline of each camera, and of what computes their networks."""
        return [*(replace(status, name=f'{name} {status.name}', message=f'{name}: {status.message}')
                  for name, health in self.cameras.items() for status in health.report_camera(now)),
                report_engines(self.facts)]


def report_engines(facts: Facts) -> Status:
    """Return the state of what computes the networks."""
    engines = facts.engines
    used = {name: f'{engine.provider} {engine.precision}' for name, engine in engines.items()}
    remarks = {f'{name}.remark': '; '.join(engine.remarks) for name, engine in engines.items() if engine.remarks}
    if busy := under_way(engines):
        return Status('engines', WARN, busy, {**used, **remarks})
    if facts.runtime == 'tensorrt' and (missed := [name for name, engine in engines.items()
                                                   if not engine.provider.startswith('TensorRT')]):
        message = f'not on TensorRT, which was asked for: {", ".join(missed)}'
        return Status('engines', ERROR, message, {**used, **remarks})
    return Status('engines', OK, ', '.join(sorted(set(used.values()))) or 'none', {**used, **remarks})


def under_way(engines: Mapping[str, Engine]) -> str:
    """Return which engines are still being built, and for how long; '' when all are what they will be."""
    return ', '.join(dict.fromkeys(engine.status for engine in engines.values() if engine.status))


def no_camera_info(image_topic: str, info_topic: str) -> str:
    """Return the sentence for images whose camera is not known."""
    return (f'images come on {image_topic}, but no camera_info on {info_topic}: have the camera driver publish it '
            'there, or remap camera_info')


def to_diagnostics(statuses: Sequence[Status], node_name: str, header: Header) -> DiagnosticArray:
    """Return the statuses as the message for /diagnostics."""
    return DiagnosticArray(header=header, status=[
        DiagnosticStatus(name=f'{node_name}: {status.name}', level=status.level, message=status.message,
                         hardware_id=node_name,
                         values=[KeyValue(key=key, value=value) for key, value in status.values.items()])
        for status in statuses])


def rate_of(moments: deque[float], now: float) -> float:
    """Return how often per second something happened lately."""
    recent = [moment for moment in moments if now - moment <= RECENT_S]
    if len(recent) < 2:
        return 0.0
    return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-6)
