"""One step towards an engine: a network in one precision, compiled, loaded, and compared with the reference."""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pose3d_ros.runtime.backend import Backend, Progress, Stage, may_pass
from pose3d_ros.runtime.engine import Engine, EngineError

QUANTISED = 'int8'


class Verdict(Protocol):
    """What the self-check found. text: a phrase that tells it, e.g. 'heatmap 0.2 of its tolerance'."""

    @property
    def passed(self) -> bool:
        """Whether the engine may be used."""

    @property
    def text(self) -> str:
        """What was found, in words."""


def _convert(model: bytes, step: str) -> bytes:
    from pose3d_ros.runtime.half import convert
    return convert(model, step)


def _is_quantised(model: bytes) -> bool:
    from pose3d_ros.runtime.half import is_quantised
    return is_quantised(model)


def _self_check(engine: Engine, model: Path) -> Verdict:
    from pose3d_ros.runtime.check import self_check
    return self_check(engine, model)


@dataclass(frozen=True)
class Tools:
    """What a step is made with; functions of modules, since another process must find them by name.

    convert: an ONNX file's bytes and 'fp16', 'mixed' or 'fp32' -> its bytes in that precision. is_quantised: tells
    whether it holds integers already. self_check: compares an engine with the ONNX file on the CPU.
    """

    convert: Callable[[bytes, str], bytes] = _convert
    is_quantised: Callable[[bytes], bool] = _is_quantised
    self_check: Callable[[Engine, Path], Verdict] = _self_check


@dataclass(frozen=True)
class Order:
    """What is to be built. step: the precision; sha256: of the file at path; most, timing: see Backend.build."""

    path: Path
    sha256: str
    step: str
    most: int
    timing: bytes
    backend: Backend
    tools: Tools = field(default_factory=Tools)


@dataclass(frozen=True)
class StepResult:
    """What came of it. precision: the step, or 'int8'. plan: b'' unless it passed. build_s: of the compiler, s.

    final: it would end so again. hopeless: nothing safer is worth trying now.
    """

    precision: str
    passed: bool
    text: str
    plan: bytes = b''
    timing: bytes = b''
    build_s: float = 0.0
    final: bool = True
    hopeless: bool = False


def take_step(order: Order, stage: Stage, progress: Progress) -> StepResult:
    """Build one engine and check it. Never raises EngineError: that a step fails is a result."""
    name, backend, tools = order.path.stem, order.backend, order.tools
    precision, timing, build_s = order.step, order.timing, 0.0

    def failed(reason: object, *, final: bool, hopeless: bool = False) -> StepResult:
        return StepResult(precision, False, str(reason), b'', timing, build_s, final, hopeless)

    try:
        model = _read(order)
        if tools.is_quantised(model):
            precision = QUANTISED
        stage(f'building engine {name} {precision}')
        ready = model if precision == QUANTISED else tools.convert(model, precision)
    except EngineError as error:
        return failed(error, final=False)
    if unusable := backend.why_not():  # in this process, which may see less than the one that asks
        return failed(unusable, final=False, hopeless=True)
    started = time.monotonic()
    try:
        plan, timing = backend.build(ready, order.most, timing, progress)
    except (EngineError, MemoryError) as error:
        return failed(str(error) or 'out of memory', final=not may_pass(error), hopeless=may_pass(error))
    build_s = time.monotonic() - started
    stage(f'checking engine {name} {precision}')
    try:
        verdict = _checked(order, plan, precision)
    except (EngineError, MemoryError) as error:
        return failed(f'it cannot be checked: {str(error) or "out of memory"}', final=False, hopeless=may_pass(error))
    if not verdict.passed:
        return failed(f'failed the self-check: {verdict.text}', final=True)
    return StepResult(precision, True, f'passed the self-check: {verdict.text}', plan, timing, build_s)


def _read(order: Order) -> bytes:
    try:
        model = order.path.read_bytes()
    except OSError as error:
        raise EngineError(f'{order.path} cannot be read: {error.strerror}') from error
    if hashlib.sha256(model).hexdigest() != order.sha256:
        raise EngineError(f'{order.path} was changed while its engine was being built; start again')
    return model


def _checked(order: Order, plan: bytes, precision: str) -> Verdict:
    engine = order.backend.load(plan, order.path, precision)
    try:
        return order.tools.self_check(engine, order.path)
    finally:
        engine.close()


def name_of(thing: Any) -> str:
    """Return the name under which another process finds a function or class. Raises EngineError where it cannot."""
    name = f'{thing.__module__}:{thing.__qualname__}'
    if thing.__module__ == '__main__' or '<' in name or by_name(name) is not thing:
        raise EngineError(f'{name} is not a function or class of a module, so that no other process can use it')
    return name


def by_name(name: str) -> Any:
    """Return the function or class of a name that name_of() gave."""
    module, _, attribute = name.partition(':')
    return getattr(importlib.import_module(module), attribute)
