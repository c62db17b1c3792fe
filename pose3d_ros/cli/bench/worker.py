"""A process of `pose3d bench`: it opens one network, or the whole pipeline, and times calls when it is told to.

    python -m pose3d_ros.cli.bench.worker JOB

Nothing has been opened in the process before, so that the first call and the memory are those of a node that starts.
It answers in lines of JSON: first what opening gave ({error} when it failed), then the times of a block of calls for
each line {size, seconds} that it reads. It ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from pose3d_ros.lift import DEFAULT_LIFTER
from pose3d_ros.runtime.check_inputs import inputs_for
from pose3d_ros.runtime.engine import Engine, EngineError, Wanted

if TYPE_CHECKING:
    from pose3d_ros.pipeline import Pipeline
    from pose3d_ros.records import Frame

PIPELINE = 'pipeline'
WHOLE, FOUND = 'total', 'found'  # values of a call: ms of all of it; people that the pipeline found
_LEAST_CALLS = 3     # of a block, however slow they are
_SETTLING_S = 0.3


@dataclass(frozen=True)
class Job:
    """What a process opens. name: of the network, or PIPELINE; file: of the network, or which 2D model the pipeline
    takes; sizes: batches, or numbers of people, that will be asked for; most: see open_engine(); dtype: of the
    network's inputs; search: what the pipeline finds people with; lifter: its
    lifter, by name or file.
    """

    name: str
    file: str
    wanted: Wanted
    sizes: tuple[int, ...]
    most: int = 8
    dtype: str = 'float32'
    search: str = 'blazepose'
    lifter: str = DEFAULT_LIFTER

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Job:
        """Return the job that dump() wrote."""
        fields = json.loads(text)
        return cls(**{**fields, 'wanted': Wanted(**fields['wanted']), 'sizes': tuple(fields['sizes'])})


class Subject(Protocol):
    """Something opened that can be called. sizes: those it can do; settling: calls at the beginning of a block, at
    most, that do not count, as another process has just used the caches.
    """

    sizes: tuple[int, ...]
    settling: int

    def engine(self) -> Engine:
        """Return the engine that matters most."""

    def prepare(self, size: int) -> Callable[[], Mapping[str, float]]:
        """Get ready for a block, and return the call: it gives values by name, of which WHOLE and stages are ms."""


Opener = Callable[[], Subject]


class Network:
    """One network on the inputs that engines are checked with. One whose batch is fixed has that one size."""

    settling = 2

    def __init__(self, engine: Engine, sizes: tuple[int, ...], dtype: str = 'float32') -> None:
        self._engine, self._dtype = engine, dtype
        fixed = {shape[0] for shape in engine.input_shapes.values() if shape and shape[0] is not None}
        self.sizes = (max(fixed),) if fixed else sizes

    @classmethod
    def opener(cls, job: Job) -> Opener:
        """Return what opens the network of a job."""
        from pose3d_ros.runtime.opening import open_engine
        return lambda: cls(open_engine(job.file, job.wanted, most=job.most), job.sizes, job.dtype)

    def engine(self) -> Engine:
        """Return it."""
        return self._engine

    def prepare(self, size: int) -> Callable[[], Mapping[str, float]]:
        """Return a call with a batch of this size."""
        inputs = {name: array.astype(self._dtype)
                  for name, array in inputs_for(self._engine.metadata, self._engine.input_shapes, size)[-1].items()}

        def call() -> dict[str, float]:
            start = time.perf_counter()
            self._engine.run(inputs)
            return {WHOLE: 1e3 * (time.perf_counter() - start)}

        return call


class Everything:
    """The pipeline on frames with as many people as the size says. scenes: frames by number of people."""

    settling = 8  # the first frame of a scene is searched all over

    def __init__(self, pipeline: Pipeline, scenes: Mapping[int, list[Frame]]) -> None:
        self.sizes = tuple(scenes)
        self._pipeline, self._scenes = pipeline, scenes
        self._stamps = count(0, 33_333_333)

    @classmethod
    def opener(cls, job: Job) -> Opener:
        """Return what opens the pipeline of a job; the frames are there already."""
        from pose3d_ros.cli.bench import crowd
        from pose3d_ros.pipeline import Pipeline
        scenes = {size: crowd.frames(size) for size in job.sizes}
        return lambda: cls(Pipeline.open(job.file, job.wanted, search=job.search, lifter=job.lifter), scenes)

    def engine(self) -> Engine:
        """Return that of the landmarks."""
        return self._pipeline.engines['landmarks']

    def prepare(self, size: int) -> Callable[[], Mapping[str, float]]:
        """Begin anew with the people of this scene, and return the call with its next frame."""
        scene, turn = self._scenes[size], count()
        self._pipeline.reset()

        def call() -> dict[str, float]:
            frame = replace(scene[next(turn) % len(scene)], stamp_ns=next(self._stamps))
            start = time.perf_counter()
            result = self._pipeline(frame)
            return {WHOLE: 1e3 * (time.perf_counter() - start), **result.stage_ms, FOUND: len(result.people)}

        return call


def block(subject: Subject, size: int, seconds: float) -> dict[str, list[float]]:
    """Call for so many seconds, and three times at least; return each call's values by name."""
    call = subject.prepare(size)
    settled = time.perf_counter() + _SETTLING_S
    for _ in range(subject.settling):
        call()
        if time.perf_counter() > settled:
            break
    times: list[Mapping[str, float]] = []
    end = time.perf_counter() + seconds
    while len(times) < _LEAST_CALLS or time.perf_counter() < end:
        times.append(call())
    return {name: [each[name] for each in times] for name in times[0]}


def opened(opener: Opener) -> tuple[Subject, dict[str, Any]]:
    """Open something and call it once in every size; return it, and what that took.

    open_ms: until it was open; first_call_ms: until, with the first call, a result was there. memory_mb: by how much
    the process grew at most, the inputs not counted; gpu_memory_mb: how much more of the first GPU was in use then, if
    that is known.
    """
    _forget_peak()
    before, gpu = status_mb('VmRSS'), gpu_memory_mb()
    start = time.perf_counter()
    subject = opener()
    open_ms = 1e3 * (time.perf_counter() - start)
    opening, held = status_mb('VmHWM') - before, status_mb('VmRSS') - before
    calls = [subject.prepare(size) for size in subject.sizes]
    _forget_peak()
    with_inputs = status_mb('VmRSS')
    start = time.perf_counter()
    calls[0]()
    first_ms = 1e3 * (time.perf_counter() - start)
    for call in calls:
        for _ in range(subject.settling):
            call()
    running = held + status_mb('VmHWM') - with_inputs
    engine = subject.engine()
    about = {'open_ms': open_ms, 'first_call_ms': open_ms + first_ms, 'sizes': list(subject.sizes),
             'provider': engine.provider, 'precision': engine.precision, 'remarks': list(engine.remarks),
             'memory_mb': max(opening, running)}
    if gpu is not None and (now := gpu_memory_mb()) is not None:
        about['gpu_memory_mb'] = now - gpu
    return subject, about


def serve(job: Job, kind: Callable[[Job], Opener], asked: Iterable[str], answers: TextIO) -> None:
    """Open, then answer every line; see the head of this file."""
    def answer(values: Mapping[str, Any]) -> None:
        answers.write(json.dumps(values) + '\n')
        answers.flush()

    try:
        subject, about = opened(kind(job))
        answer(about)
        for line in asked:
            question = json.loads(line)
            answer({'values': block(subject, question['size'], question['seconds'])})
    except (EngineError, OSError, ValueError) as error:  # of a model, its description or the store: all say the cure
        answer({'error': ' '.join(str(error).split())})


def gpu_memory_mb() -> float | None:
    """Return how much of the first NVIDIA GPU's memory is in use; None where that cannot be asked."""
    tool = shutil.which('nvidia-smi')
    if tool is None:
        return None
    done = subprocess.run([tool, '--query-gpu=memory.used', '--format=csv,noheader,nounits'], capture_output=True,
                          text=True, check=False)
    first = done.stdout.split('\n', 1)[0].strip()
    return float(first) if first.isdecimal() else None


def _forget_peak() -> None:
    with contextlib.suppress(OSError):  # else the peak counts from the start of the process
        Path('/proc/self/clear_refs').write_text('5')


def status_mb(field: str) -> float:
    """Return a size in this process's status, in MB (Linux; else NaN). The peak of getrusage is also the parent's."""
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return float('nan')
    return next((float(line.split()[1]) / 1e3 for line in lines if line.startswith(f'{field}:')), float('nan'))


def main() -> None:
    """Serve the job on the command line; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    logging.basicConfig(format='%(message)s')  # warnings, among them that an engine is being built
    job = Job.load(sys.argv[1])
    try:
        serve(job, Everything.opener if job.name == PIPELINE else Network.opener, sys.stdin, answers)
    except KeyboardInterrupt:  # of the whole command; the parent says so
        sys.exit(128 + signal.SIGINT)


if __name__ == '__main__':
    main()
