"""Run a network file: one small interface, whatever runs behind it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from numpy.typing import NDArray

RUNTIMES = ('auto', 'cpu', 'cuda', 'tensorrt')


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


def open_engine(path: str | Path, *, runtime: str = 'auto', threads: int = 0, inputs: Collection[str] = (),
                outputs: Collection[str] = ()) -> Engine:
    """Open an ONNX file.

    runtime: 'cpu'; 'cuda' (EngineError where the GPU cannot be used); 'auto' (the GPU where it can be used, else the
    CPU; Engine.provider tells). threads: on the CPU, 0 for a sensible number. inputs, outputs: names that the file has
    to have. Raises EngineError for a file that is missing, damaged, or another network than expected.
    """
    if runtime not in RUNTIMES:
        raise EngineError(f'runtime {runtime!r} is not known; choose one of {", ".join(RUNTIMES)}')
    if runtime == 'tensorrt':
        raise EngineError("runtime 'tensorrt' is not in this version; choose 'auto', 'cuda' or 'cpu'")
    if threads < 0:
        raise EngineError(f'threads is {threads}; give 0 (automatic) or more')
    path = Path(path)
    if not path.is_file():
        raise EngineError(f'there is no model file {path}; {cure(path)}')
    try:
        from pose3d_ros.runtime.onnx_engine import OnnxEngine
    except ImportError as error:
        raise EngineError(f"running networks needs ONNX Runtime: run 'pip install onnxruntime' ({error})") from error
    engine = OnnxEngine(path, runtime=runtime, threads=threads)
    for kind, wanted, present in (('input', inputs, engine.inputs), ('output', outputs, engine.outputs)):
        lacking = [name for name in wanted if name not in present]
        if lacking:
            engine.close()
            raise EngineError(f'{path} has no {kind} {lacking[0]!r} (it has {", ".join(present)}), so it is not the '
                              f'network that is needed here; {cure(path)}')
    return engine


def cure(path: Path) -> str:
    """Return what to do about an unusable model file."""
    from pose3d_ros.runtime.catalogue import CATALOGUE
    if path.stem in CATALOGUE:
        return f"run 'pose3d fetch --force {path.stem}'"
    return 'give the path of a valid ONNX file'
