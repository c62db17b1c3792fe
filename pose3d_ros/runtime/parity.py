"""Compare a converted network with the reference interpreter, where one is installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

_INTERPRETERS = ('ai_edge_litert.interpreter', 'tflite_runtime.interpreter')


def reference_outputs(content: bytes, inputs: list[NDArray[np.float32]]) -> dict[str, NDArray] | None:
    """Run a TensorFlow Lite file on inputs in its own layout (NHWC) and return its outputs by the file's names.

    None where no interpreter is installed.
    """
    module = _interpreter_module()
    if module is None:
        return None
    # Without the default delegates the interpreter's own kernels run: plain, and quiet on stderr.
    interpreter = module.Interpreter(
        model_content=content, num_threads=1,
        experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs):
        interpreter.set_tensor(detail['index'], value)
    interpreter.invoke()
    return {detail['name']: interpreter.get_tensor(detail['index']) for detail in interpreter.get_output_details()}


def _interpreter_module() -> Any | None:
    for name in _INTERPRETERS:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def largest_difference(content: bytes, converted: bytes, outputs: Mapping[str, str]) -> float | None:
    """Return how far a converted network with one image input is from the reference on a random image.

    The difference of each output is divided by its largest magnitude (at least 1); the largest such quotient counts.
    NaN when a value is not finite; None where no reference interpreter is installed.
    """
    session = onnxruntime.InferenceSession(converted, providers=['CPUExecutionProvider'])
    image_input = session.get_inputs()[0]
    image = np.random.default_rng(0).random((1, *image_input.shape[1:]), dtype=np.float32)
    reference = reference_outputs(content, [np.ascontiguousarray(image.transpose(0, 2, 3, 1))])
    if reference is None:
        return None
    found = dict(zip(outputs.values(), session.run(list(outputs.values()), {image_input.name: image})))
    quotients = []
    for source_name, name in outputs.items():
        expected = reference[source_name]
        if expected.ndim == 4:
            expected = expected.transpose(0, 3, 1, 2)
        quotients.append(np.abs(found[name] - expected).max() / max(1.0, np.abs(expected).max()))
    return float(np.max(quotients))
