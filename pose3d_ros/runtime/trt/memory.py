"""Device memory, streams, copies and graphs of CUDA, seen from outside; found_memory.py finds what provides them.

Nothing is done on the legacy default stream, and every stream is independent of it, so that engines overlap with each
other and with what else uses the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass
class Buffer:
    """Memory of `size` bytes at address `pointer`.

    array: (size,) uint8, for memory of the host only. release: gives it back; owner: what holds it until then.
    """

    pointer: int
    size: int
    array: NDArray[np.uint8] | None
    release: Callable[[], object] | None = None
    owner: Any = None

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        release, self.release, self.array, self.owner = self.release, None, None, None
        if release is not None:
            release()


class Graph(Protocol):
    """Work that was captured once and is started with a single call."""

    def launch(self) -> None:
        """Queue it on the stream that it was captured on."""

    def close(self) -> None:
        """Release it."""


class Stream(Protocol):
    """A queue of work on the GPU. Raises EngineError for what CUDA refuses."""

    @property
    def handle(self) -> int:
        """CUDA's handle."""

    def upload(self, device: Buffer, host: Buffer, begin: int, size: int) -> None:
        """Queue a copy of bytes begin .. begin + size to the same place on the GPU."""

    def download(self, host: Buffer, device: Buffer, size: int) -> None:
        """Queue a copy of the first bytes from the GPU."""

    def take(self, device: Buffer, begin: int, pointer: int, size: int) -> None:
        """Queue a copy from other memory of the GPU to `begin`."""

    def after(self, handle: int) -> None:
        """Let what follows here wait for what another stream holds now."""

    def capture(self, work: Callable[[], None]) -> Graph:
        """Return what `work` queues, without running it. Raises EngineError where it cannot be captured."""

    def wait(self) -> None:
        """Wait until all is done; other Python threads go on meanwhile."""

    def close(self) -> None:
        """Release it; a second call does nothing."""


class Memory(Protocol):
    """The GPU's memory."""

    name: str

    def device(self, size: int) -> Buffer:
        """Return memory on the GPU, aligned to 256 bytes."""

    def host(self, size: int) -> Buffer:
        """Return memory of the host that the GPU copies from and to by itself (pinned)."""

    def stream(self) -> Stream:
        """Return a new stream."""
