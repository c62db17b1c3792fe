"""From a network to a checked engine: out of the cache, or built once, in the fastest precision that is right.

Precisions are tried from the one that is wanted to the safer ones. What was decided is kept beside the engine; that
nothing could be used is kept too, so that the next start is quick.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from pose3d_ros.runtime.backend import STEPS, Backend, Progress, Stage, may_pass
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.download import Say
from pose3d_ros.runtime.engine import Engine, EngineError, cure
from pose3d_ros.runtime.engine_record import Key, Record
from pose3d_ros.runtime.steps import QUANTISED, Order, StepResult, Tools, take_step


class GivenUpError(EngineError):
    """No precision passed: the network has to be computed in another way."""


@dataclass(frozen=True)
class Prepared:
    """An engine that was checked, now or when it was built, and what is kept beside it. kept: '', or why it is not."""

    engine: Engine
    record: Record
    kept: str = ''


def prepare(model: Path, backend: Backend, cache: EngineCache, *, precision: str = 'auto', most: int = 8, say: Say,
            progress: Progress | None = None, stage: Stage | None = None, in_process: bool = False,
            tools: Tools | None = None) -> Prepared:
    """Return a checked engine of an ONNX file, built first where it is not in the cache yet (minutes).

    precision: 'auto' or the one to begin with. most: people (tiles, ...) computed at once. say: takes a line for every
    step. progress: takes the share of the present step that is done, ten times a second; raise in it to give up.
    stage: takes what is being done. in_process: build in this process instead of in a child.
    Raises EngineError where no engine can be built now, GivenUpError where none can be used at all.
    """
    beat, stage = progress or (lambda share: None), stage or (lambda text: None)
    key = key_of(model, backend, cache, precision, most)
    found = _found(key, model, backend, cache, say)
    if found is not None:
        return found
    stage(f'waiting to build engine {key.model}')
    with cache.lock(key, say, lambda: beat(0.0)):
        found = _found(key, model, backend, cache, say)  # another process may just have built it
        if found is not None:
            return found
        with cache.turn(key, say, lambda: beat(0.0)):
            building = _Building(key, model, backend, cache, say, beat, stage, in_process, tools or Tools())
            return building.prepared()


def ready(model: Path, backend: Backend, cache: EngineCache, *, precision: str = 'auto', most: int = 8,
          say: Say) -> Prepared | None:
    """Return the engine that is in the cache; None where prepare() would have to build it.

    Raises GivenUpError where it is known that none can be used, EngineError where the backend cannot be used.
    """
    return _found(key_of(model, backend, cache, precision, most), model, backend, cache, say)


def key_of(model: Path, backend: Backend, cache: EngineCache, precision: str = 'auto', most: int = 8) -> Key:
    """Return what the engine is found by. Raises EngineError for a file that cannot be read."""
    try:
        return cache.key(model, backend.target(), steps_from(precision)[0], most)
    except OSError as error:
        raise EngineError(f'{model} cannot be read ({error.strerror}); {cure(model)}') from error


def steps_from(precision: str) -> tuple[str, ...]:
    """Return the precisions to try for a wanted one, in order."""
    return STEPS if precision == 'auto' else STEPS[STEPS.index(precision):]


def _found(key: Key, model: Path, backend: Backend, cache: EngineCache, say: Say) -> Prepared | None:
    found = cache.find(key, say)
    if found is None:
        return None
    plan, record = found
    if record.given_up:
        raise GivenUpError(f'{record.given_up} (tried on {record.built[:10]}; to try again, remove '
                           f'{cache.record_file(key)})')
    try:
        return Prepared(backend.load(plan, model, record.precision), record)
    except EngineError as error:
        if may_pass(error):
            raise
        # Of another driver, say, which is not part of the key.
        say(f'{key.model}: the engine in {cache.plan_file(key)} is discarded: it cannot be loaded ({error})')
        cache.discard(key)
        return None


@dataclass(frozen=True)
class _Building:
    """The steps of one build, under the locks."""

    key: Key
    model: Path
    backend: Backend
    cache: EngineCache
    say: Say
    progress: Progress
    stage: Stage
    in_process: bool
    tools: Tools

    def prepared(self) -> Prepared:
        key, target = self.key, self.key.target
        steps, tried = steps_from(key.precision), []
        self.say(f'{key.model}: building an engine for {target.runtime} {target.version} on {target.device} in '
                 f'{steps[0]}, for up to {key.most} at once; this takes minutes, once')
        unkept = self.cache.why_not()
        if unkept:
            self.say(f'{key.model}: the engine will be used but not kept; the next start builds it again: {unkept}')
        timing = self.cache.timing(target)
        for number, step in enumerate(steps):
            result = self._taken(step, timing)
            tried.append(result)
            if result.timing and result.timing != timing:
                timing = result.timing
                self.cache.keep_timing(key, timing)
            if result.passed:
                return self._accepted(tried, unkept)
            last = result.hopeless or result.precision == QUANTISED or step == steps[-1]
            self.say(f'{key.model}: {result.precision}: {result.text}; '
                     + ('giving up' if last else f'building it in {steps[number + 1]} instead'))
            if last:
                break
        raise self._given_up(tried)

    def _taken(self, step: str, timing: bytes) -> StepResult:
        order = Order(self.model, self.key.model_sha256, step, self.key.most, timing, self.backend, self.tools)
        if self.in_process:
            return take_step(order, self.stage, self.progress)
        from pose3d_ros.runtime.build_process import build_in_child
        return build_in_child(order, self.stage, self.progress)

    def _accepted(self, tried: Sequence[StepResult], unkept: str) -> Prepared:
        name = self.key.model
        # What failed for a reason that may pass, such as a package that is missing, is not tried again by itself.
        again = f'; to try again, remove {self.cache.record_file(self.key)}'
        tried = [each if each.passed or each.final else replace(each, text=each.text + again) for each in tried]
        result, record = tried[-1], self._record(tried)
        problem = self.cache.keep(self.key, result.plan, record)
        if problem and not unkept:
            self.say(f'{name}: the engine is used but not kept; the next start builds it again: {problem}')
        self.say(f'{name}: {result.precision} built in {result.build_s:.0f} s and {result.text}')
        return Prepared(self.backend.load(result.plan, self.model, result.precision), record, unkept or problem)

    def _given_up(self, tried: Sequence[StepResult]) -> EngineError:
        target = self.key.target
        reasons = '; '.join(f'{result.precision}: {result.text}' for result in tried)
        text = f'{self.key.model}: no engine of {target.runtime} {target.version} on {target.device}: {reasons}'
        if not all(result.final for result in tried):
            return EngineError(f'{text}. The next start tries again')
        self.cache.keep(self.key, b'', self._record(tried, text))
        return GivenUpError(text)

    def _record(self, tried: Sequence[StepResult], given_up: str = '') -> Record:
        key, target, result = self.key, self.key.target, tried[-1]
        return Record(
            key.model, key.model_sha256, target.runtime, target.version, target.device, target.capability,
            wanted=key.precision, most=key.most, recipe=key.recipe, precision='' if given_up else result.precision,
            plan_sha256=hashlib.sha256(result.plan).hexdigest(), plan_bytes=len(result.plan),
            build_s=float(result.build_s), built=datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M:%S'),
            check=tuple(f'{each.precision}: {each.text}' for each in tried), given_up=given_up)
