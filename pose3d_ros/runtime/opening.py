"""Open a network file with the runtime that is wanted, or the best one that is there."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from pose3d_ros.runtime.engine import Engine, EngineError, Wanted, cure

_LOG = logging.getLogger(__name__)


def open_engine(path: str | Path, wanted: Wanted | None = None, *, most: int = 8, inputs: Collection[str] = (),
                outputs: Collection[str] = ()) -> Engine:
    """Open an ONNX file; the engine's provider and precision tell what was taken, its remarks why nothing better.

    wanted: by default the best that is there. most: people (or tiles, ...) that are usually computed at once, at most;
    more are computed in parts. inputs, outputs: names that the file has to have. Raises EngineError for a file that is
    missing, damaged, or another network than expected, and where a runtime that is asked for by name cannot be used.
    """
    path, wanted = Path(path), wanted or Wanted()
    if not path.is_file():
        raise EngineError(f'there is no model file {path}; {cure(path)}')
    engine = _open(path, wanted, most)
    for kind, names, present in (('input', inputs, engine.inputs), ('output', outputs, engine.outputs)):
        lacking = [name for name in names if name not in present]
        if lacking:
            engine.close()
            raise EngineError(f'{path} has no {kind} {lacking[0]!r} (it has {", ".join(present)}), so it is not the '
                              f'network that is needed here; {cure(path)}')
    return engine


def _open(path: Path, wanted: Wanted, most: int) -> Engine:
    try:
        from pose3d_ros.runtime.onnx_engine import OnnxEngine
    except ImportError as error:
        raise EngineError(f"running networks needs ONNX Runtime: run 'pip install onnxruntime' ({error})") from error
    if wanted.runtime == 'tensorrt':
        raise EngineError("runtime 'tensorrt' is not in this version; choose 'auto', 'cuda' or 'cpu'")
    remarks: tuple[str, ...] = ()
    if wanted.runtime != 'cpu':
        try:
            return OnnxEngine(path, cuda=True, threads=wanted.threads)
        except EngineError as error:
            if wanted.runtime == 'cuda':
                raise EngineError(f"{error}, or choose runtime 'cpu'") from error
            remarks = (f'not on CUDA: {error}',)
    return OnnxEngine(path, threads=wanted.threads, remarks=remarks)
