"""Open a network file with the runtime that is wanted, or the best one that is there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pose3d_ros.runtime.engine import Engine, EngineError, cure

RUNTIMES = ('auto', 'cpu', 'cuda', 'tensorrt')


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
