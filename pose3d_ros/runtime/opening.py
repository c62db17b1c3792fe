"""Open a network file with the runtime that is wanted, or the best one that is there."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.runtime.engine import Engine, EngineError, Wanted, cure

if TYPE_CHECKING:  # what builds engines is imported only where one may be built
    from pose3d_ros.runtime.backend import Backend, Progress, Stage
    from pose3d_ros.runtime.cache import EngineCache
    from pose3d_ros.runtime.download import Say
    from pose3d_ros.runtime.steps import Tools

_LOG = logging.getLogger(__name__)
_GPU_SIGNS = ('/dev/nvidiactl', '/dev/nvgpu', '/dev/nvhost-gpu')  # the driver of desktops, of Jetsons, of older Jetsons


@dataclass(frozen=True)
class Building:
    """What builds engines, and how. backend: None for TensorRT; cache: None for the user's own; tools: None for ours.

    say: takes what is announced (None: the log). in_process: see manager.prepare().
    """

    backend: Backend | None = None
    cache: EngineCache | None = None
    say: Say | None = None
    tools: Tools | None = None
    in_process: bool = False


def open_engine(path: str | Path, wanted: Wanted | None = None, *, most: int = 8, inputs: Collection[str] = (),
                outputs: Collection[str] = (), building: Building | None = None) -> Engine:
    """Open an ONNX file; the engine's provider and precision tell what was taken, its remarks why nothing better.

    wanted: by default the best that is there. most: people (or tiles, ...) that are usually computed at once, at most;
    more are computed in parts. inputs, outputs: names that the file has to have. building: where and by what engines
    are built; by default by TensorRT, in the user's cache. An engine that has to be built first takes minutes, which is
    logged as a warning, unless wanted.meanwhile. Raises EngineError for a file that is missing, damaged, or another
    network than expected, and where a runtime that is asked for by name cannot be used.
    """
    path, wanted = Path(path), wanted or Wanted()
    if not path.is_file():
        raise EngineError(f'there is no model file {path}; {cure(path)}')
    engine = _open(path, wanted, most, building or Building())
    for kind, names, present in (('input', inputs, engine.inputs), ('output', outputs, engine.outputs)):
        lacking = [name for name in names if name not in present]
        if lacking:
            engine.close()
            raise EngineError(f'{path} has no {kind} {lacking[0]!r} (it has {", ".join(present)}), so it is not the '
                              f'network that is needed here; {cure(path)}')
    _tell(path, engine)
    return engine


def _open(path: Path, wanted: Wanted, most: int, building: Building) -> Engine:
    """Go down the ladder: TensorRT, ONNX Runtime on CUDA, ONNX Runtime on the CPU."""
    remarks: tuple[str, ...] = ()
    if wanted.runtime in ('auto', 'tensorrt'):
        try:
            return _open_tensorrt(path, wanted, most, building)
        except EngineError as error:
            if wanted.runtime == 'tensorrt':
                raise EngineError(f"runtime 'tensorrt' cannot be used: {error}; or choose 'auto'") from error
            remarks = (f'not on TensorRT: {error}',)
    return _open_onnx(path, wanted, remarks)


def _open_tensorrt(path: Path, wanted: Wanted, most: int, building: Building) -> Engine:
    backend = building.backend or _tensorrt()
    if reason := backend.why_not():
        raise EngineError(reason)
    from pose3d_ros.runtime.cache import EngineCache
    from pose3d_ros.runtime.manager import Prepared, prepare, ready
    from pose3d_ros.runtime.waiting import EngineInWaiting, RemarkedEngine

    cache, say = building.cache or EngineCache(), building.say or _LOG.warning

    def with_remarks(prepared: Prepared) -> Engine:
        unkept = (f'not kept: {prepared.kept}',) if prepared.kept else ()
        return RemarkedEngine(prepared.engine, (*(f'not {line}' for line in prepared.record.check[:-1]), *unkept))

    def build(stage: Stage, progress: Progress) -> Engine:
        try:
            return with_remarks(prepare(
                path, backend, cache, precision=wanted.precision, most=most, say=say, stage=stage, progress=progress,
                tools=building.tools, in_process=building.in_process))
        except EngineError as error:
            raise EngineError(f'not on TensorRT: {error}') from error

    if not wanted.meanwhile:
        return with_remarks(prepare(path, backend, cache, precision=wanted.precision, most=most, say=say,
                                    tools=building.tools, in_process=building.in_process))
    found = ready(path, backend, cache, precision=wanted.precision, most=most, say=say)
    if found is not None:
        return with_remarks(found)
    return EngineInWaiting(_open_onnx(path, wanted, ()), build, name=path.stem)


def _tensorrt() -> Backend:
    from pose3d_ros.runtime.trt.backend import TensorRTBackend
    return TensorRTBackend()


def _open_onnx(path: Path, wanted: Wanted, remarks: tuple[str, ...]) -> Engine:
    try:
        from pose3d_ros.runtime.onnx_engine import OnnxEngine
    except ImportError as error:
        raise EngineError(f"running networks needs ONNX Runtime: run 'pip install onnxruntime' ({error})") from error
    if wanted.runtime != 'cpu':
        try:
            return OnnxEngine(path, cuda=True, threads=wanted.threads, remarks=remarks)
        except EngineError as error:
            if wanted.runtime == 'cuda':
                raise EngineError(f"{error}, or choose runtime 'cpu'") from error
            remarks = (*remarks, f'not on CUDA: {error}')
    return OnnxEngine(path, threads=wanted.threads, remarks=remarks)


def _tell(path: Path, engine: Engine) -> None:
    """Log what was taken and why nothing better: as a warning where there is a GPU that stays unused."""
    unused = engine.provider.startswith('CPU') and engine.remarks and any(map(os.path.exists, _GPU_SIGNS))
    doing = f'; {engine.status}' if engine.status else ''
    reasons = f' ({"; ".join(engine.remarks)})' if engine.remarks else ''
    _LOG.log(logging.WARNING if unused else logging.INFO, '%s runs on %s in %s%s%s', path.stem, engine.provider,
             engine.precision, doing, reasons)
