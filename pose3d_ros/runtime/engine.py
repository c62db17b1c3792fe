"""What a network looks like from outside, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from numpy.typing import NDArray


class EngineError(RuntimeError):
    """A network cannot be opened or run; the message names the file, what is wrong with it and the cure."""


RUNTIMES = ('auto', 'cpu', 'cuda', 'tensorrt')
PRECISIONS = ('auto', 'fp16', 'mixed', 'fp32')


@dataclass(frozen=True)
class Wanted:
    """How networks are to be computed.

    runtime: 'tensorrt', 'cuda' or 'cpu', each an EngineError where it cannot be used; 'auto' takes the first of them
    that can. precision: of TensorRT; 'auto' begins with fp16 and takes mixed, then fp32, where the self-check fails.
    threads: on the CPU, per network; 0 for a sensible number. meanwhile: a network whose engine has to be built first
    (minutes) computes on ONNX Runtime until then, and goes on with it where building fails; False waits. Raises
    EngineError for what is not among the choices.
    """

    runtime: str = 'auto'
    precision: str = 'auto'
    threads: int = 0
    meanwhile: bool = False

    def __post_init__(self) -> None:
        for name, choices in (('runtime', RUNTIMES), ('precision', PRECISIONS)):
            if getattr(self, name) not in choices:
                raise EngineError(f'{name} {getattr(self, name)!r} is not known; choose one of {", ".join(choices)}')
        if self.threads < 0:
            raise EngineError(f'threads is {self.threads}; give 0 (automatic) or more')


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
        """'fp32', 'fp16', 'mixed' (fp16 with fp32 where that matters) or 'int8': the type the network computes in."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why it is not a better one, a sentence for each that was tried; () where nothing better was wanted."""

    @property
    def status(self) -> str:
        """What is still going on, e.g. 'building engine pose_landmark_full fp16, 43 s'; '' when nothing is."""

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
