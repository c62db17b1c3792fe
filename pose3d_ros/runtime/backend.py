"""What builds engines: a compiler of networks for one kind of processor, seen from outside."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pose3d_ros.runtime.engine import Engine, EngineError

# Precisions in which an engine is built, in the order in which they are tried.
STEPS = ('fp16', 'mixed', 'fp32')

_WANT_OF_MEMORY = re.compile(
    r'out[ _]?of[ _]?memory|bad_alloc|alloc_failed|could not be allocated|insufficient memory|memory ?allocation',
    re.IGNORECASE)

Progress = Callable[[float], None]  # takes the share done, 0..1; a build is cancelled when it raises
Stage = Callable[[str], None]  # takes what is being done now, e.g. 'building engine pose_landmark_full fp16'


class NotNowError(EngineError):
    """It failed for want of something that may be there at the next start (memory, above all): worth another try.

    What fails with any other EngineError is taken to fail again, and is not tried again.
    """


@dataclass(frozen=True)
class Target:
    """What an engine runs on, and nowhere else. runtime: 'TensorRT'; capability: of the GPU, such as '8.7'."""

    runtime: str
    version: str
    device: str
    capability: str


def may_pass(error: BaseException) -> bool:
    """Tell whether something failed for want of memory, by its type or by what a driver or compiler said."""
    return isinstance(error, NotNowError | MemoryError) or bool(_WANT_OF_MEMORY.search(str(error)))


class Backend(Protocol):
    """Builds engines for the processor it finds, and loads them.

    Its class takes no arguments: the process that builds makes an object of its own.
    """

    def why_not(self) -> str:
        """Return why it cannot be used here, with the cure; '' when it can."""

    def target(self) -> Target:
        """Return what its engines run on. Raises EngineError where it cannot be used."""

    def build(self, model: bytes, most: int, timing: bytes, progress: Progress) -> tuple[bytes, bytes]:
        """Compile an ONNX file for 1..most people (or tiles, ...) at once, in the types that its tensors have.

        timing: what an earlier build learned about this processor, b'' for nothing. Returns the engine and the timing
        anew. Raises EngineError quoting the node that cannot be compiled, NotNowError where memory did not suffice.
        """

    def load(self, plan: bytes, model: Path, precision: str) -> Engine:
        """Return a built engine. model: the ONNX file it was made from, for its metadata.

        Raises EngineError, or NotNowError where memory does not suffice.
        """
