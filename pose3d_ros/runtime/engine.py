"""What a network looks like from outside, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from numpy.typing import NDArray


class EngineError(RuntimeError):
    """A network cannot be opened or run; the message names the file, what is wrong with it and the cure."""


class Engine(Protocol):
    """An opened network. Calls of run() from several threads are safe."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the file's order."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the file's order."""

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of each input; None for an axis of any size."""

    @property
    def provider(self) -> str:
        """What really computes, as the runtime says, e.g. 'CPUExecutionProvider'."""

    @property
    def precision(self) -> str:
        """'fp32' or 'fp16': the type the network computes in."""

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says about itself: joint names, input size, licence, ..."""

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Compute all outputs. Raises EngineError for a missing or unknown input, a wrong shape or type."""

    def warm_up(self) -> None:
        """Run on zeros, so that the first real call is as fast as the others."""

    def close(self) -> None:
        """Release the network's memory; run() raises EngineError from then on."""


def cure(path: Path) -> str:
    """Return what to do about an unusable model file."""
    from pose3d_ros.runtime.catalogue import CATALOGUE
    if path.stem in CATALOGUE:
        return f"run 'pose3d fetch --force {path.stem}'"
    return 'give the path of a valid ONNX file'
