"""TensorRT as a builder of engines; see Backend for the meaning of its members."""

from __future__ import annotations

from pathlib import Path

from pose3d_ros.runtime.backend import Progress, Target
from pose3d_ros.runtime.engine import Engine, EngineError
from pose3d_ros.runtime.onnx_header import header_of, read_header
from pose3d_ros.runtime.trt.api import TensorRT, find_tensorrt
from pose3d_ros.runtime.trt.engine import TensorRTEngine
from pose3d_ros.runtime.trt.found_memory import find_memory
from pose3d_ros.runtime.trt.gpu import find_gpu


class TensorRTBackend:
    """TensorRT on the first GPU that CUDA_VISIBLE_DEVICES leaves."""

    def why_not(self) -> str:
        """Return why it cannot be used here, with the cure; '' when it can.

        The driver is asked first, which takes no package: without a GPU, nothing is imported.
        """
        try:
            find_gpu()
            find_tensorrt()
            find_memory()
        except EngineError as error:
            return str(error)
        except Exception as error:  # this must never raise: whatever is broken, it is a reason
            return f'TensorRT cannot be used ({type(error).__name__}: {error}): install it again'
        return ''

    def target(self) -> Target:
        """Return what engines run on. Raises EngineError where it cannot be used."""
        gpu = find_gpu()
        return Target('TensorRT', find_tensorrt().version, gpu.name, gpu.capability)

    def build(self, model: bytes, most: int, timing: bytes, progress: Progress) -> tuple[bytes, bytes]:
        """Compile an ONNX file for 1..most people at once; other Python threads go on meanwhile.

        With TensorRT < 10, progress is called at the begin and the end only, so that such a build is cancelled by
        ending its process. Raises EngineError, and what `progress` raised.
        """
        if most < 1:
            raise EngineError(f'an engine for {most} people cannot be built; give 1 or more')
        try:
            header_of(model)
        except ValueError as error:
            raise EngineError(f'the network cannot be read: {error}') from error
        api = self._api()
        progress(0.0)
        return api.compile(api.parse(model), most, timing, progress)

    def load(self, plan: bytes, model: Path, precision: str) -> Engine:
        """Return a built engine. Raises EngineError where it is damaged, or of another TensorRT or GPU."""
        return TensorRTEngine(self._api(), find_memory(), plan, model.name, read_header(model), precision)

    @staticmethod
    def _api() -> TensorRT:
        find_gpu()
        return find_tensorrt()
