"""What TensorRT says: kept, to be quoted where something fails, and passed on for debugging."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any

_LOG = logging.getLogger(__name__)
_LOGS: dict[str, Any] = {}
_LOGS_LOCK = threading.Lock()


def log_of(trt: Any) -> Any:
    """Return the logger of a TensorRT: one for the process, since the first that is given to it stays."""
    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self._errors.append(' '.join(msg.split()))
            if severity != trt.ILogger.Severity.VERBOSE:
                _LOG.debug('%s', msg)

        def take(self) -> list[str]:
            """Return the errors since the last call."""
            errors = list(self._errors)
            self._errors.clear()
            return errors

    key = f'{trt.__name__} {id(trt)}'
    with _LOGS_LOCK:
        if key not in _LOGS:
            _LOGS[key] = Log()
        return _LOGS[key]
