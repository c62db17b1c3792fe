"""An engine that serves at once, and becomes a better one when that is built."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from numpy.typing import NDArray

from pose3d_ros.runtime.backend import Progress, Stage
from pose3d_ros.runtime.engine import Engine, EngineError

_LOG = logging.getLogger(__name__)
_JOIN_S = 10.0


class _CancelledError(Exception):
    """Raised out of a progress report to end a build."""


@dataclass(frozen=True)
class _Doing:
    text: str
    since_s: float
    share: float = 0.0


class _Shown:
    """What an engine tells about itself, passed on; see Engine for the members."""

    _last: Engine

    @property
    def inputs(self) -> tuple[str, ...]:
        return self._last.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        return self._last.outputs

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        return self._last.input_shapes

    @property
    def provider(self) -> str:
        return self._last.provider

    @property
    def precision(self) -> str:
        return self._last.precision

    @property
    def metadata(self) -> dict[str, str]:
        return self._last.metadata


class EngineInWaiting(_Shown):
    """Computes on one engine while another is made ready, and on that one from then on; see Engine for its members.

    Every call of run() is computed by one engine from beginning to end, and none waits for the change. An engine is
    closed after its last call has ended.
    """

    def __init__(self, serving: Engine, prepare: Callable[[Stage, Progress], Engine], *, name: str,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """serving: computes until then; both engines are closed with this one. prepare: called in a thread.

        name: of the network, for the log. clock: s.
        """
        self._name, self._prepare, self._clock = name, prepare, clock
        self._lock = threading.Lock()  # held for moments only
        self._engine: Engine | None = serving
        self._last = serving
        self._calls: Counter[int] = Counter()  # running, by id() of the engine
        self._retired: dict[int, Engine] = {}
        self._doing: _Doing | None = _Doing(f'preparing engine {name}', clock())
        self._failure: tuple[str, ...] = ()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f'build {name}', daemon=True)
        atexit.register(self.close)  # a compiler must not be at work while the interpreter goes
        self._thread.start()

    @property
    def remarks(self) -> tuple[str, ...]:
        return (*self._failure, *self._last.remarks)

    @property
    def status(self) -> str:
        doing = self._doing
        if doing is None:
            return self._last.status
        share = f', {100 * doing.share:.0f} %' if doing.share > 0 else ''
        return f'{doing.text}{share}, {self._clock() - doing.since_s:.0f} s'

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Compute all outputs on the best engine there is."""
        with self._lease() as engine:
            return engine.run(inputs)

    def warm_up(self) -> None:
        """Warm up the engine that serves; the one in preparation is warmed up before it is used."""
        with self._lease() as engine:
            engine.warm_up()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the better engine serves or has failed; tells whether that is decided."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """End the build and release the memory, now or when the calls that are running have ended."""
        atexit.unregister(self.close)
        self._closing.set()
        self._retire(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_S)

    @contextlib.contextmanager
    def _lease(self) -> Iterator[Engine]:
        with self._lock:
            engine = self._engine
            if engine is None:
                raise EngineError(f'{self._name}: the engine is closed')
            self._calls[id(engine)] += 1
        try:
            yield engine
        finally:
            with self._lock:
                self._calls[id(engine)] -= 1
                unused = self._retired.pop(id(engine), None) if not self._calls[id(engine)] else None
            if unused is not None:
                unused.close()

    def _retire(self, successor: Engine | None) -> bool:
        """Let another engine (None: none) serve from now on, and close the present one when it is not used any more.

        False where everything was closed before: the successor then has no work.
        """
        with self._lock:
            if self._engine is None:
                return False
            retired: Engine | None = self._engine
            self._engine = successor
            self._last = successor or self._last
            if retired is not None and self._calls[id(retired)]:
                self._retired[id(retired)], retired = retired, None
        if retired is not None:
            retired.close()
        return True

    def _work(self) -> None:
        try:
            engine = self._prepare(self._on_stage, self._on_progress)
            try:
                self._take(engine)
            except BaseException:
                engine.close()
                raise
        except _CancelledError:
            _LOG.debug('%s: the build was cancelled', self._name)
        except Exception as error:  # whatever goes wrong here, the engine that serves goes on
            expected = isinstance(error, EngineError)
            self._failure = (str(error) if expected else f'{type(error).__name__}: {error}',)
            _LOG.warning('%s stays on %s: %s', self._name, self._last.provider, self._failure[0],
                         exc_info=None if expected else error)
        finally:
            self._doing = None
            atexit.unregister(self.close)

    def _take(self, engine: Engine) -> None:
        if set(engine.inputs) != set(self.inputs) or set(engine.outputs) != set(self.outputs):
            raise EngineError(f'the new engine has other inputs or outputs ({", ".join(engine.inputs)} to '
                              f'{", ".join(engine.outputs)}) than the network')
        self._on_stage(f'warming up engine {self._name} {engine.precision}')
        engine.warm_up()
        if not self._retire(engine):
            raise _CancelledError
        _LOG.info('%s runs on %s in %s now', self._name, engine.provider, engine.precision)

    def _on_stage(self, text: str) -> None:
        self._doing = _Doing(text, self._clock())
        self._on_progress(0.0)

    def _on_progress(self, share: float) -> None:
        if self._closing.is_set():
            raise _CancelledError
        if self._doing is not None and share != self._doing.share:
            self._doing = _Doing(self._doing.text, self._doing.since_s, share)


class RemarkedEngine(_Shown):
    """An engine with remarks beside its own; everything else is that engine's."""

    def __init__(self, engine: Engine, remarks: tuple[str, ...]) -> None:
        self._last, self._remarks = engine, remarks

    @property
    def remarks(self) -> tuple[str, ...]:
        return (*self._remarks, *self._last.remarks)

    @property
    def status(self) -> str:
        return self._last.status

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Compute all outputs."""
        return self._last.run(inputs)

    def warm_up(self) -> None:
        """Run on zeros."""
        self._last.warm_up()

    def close(self) -> None:
        """Release the network's memory."""
        self._last.close()
