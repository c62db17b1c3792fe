"""What a network cannot be faster than: its bytes over the GPU's bandwidth, its operations over the GPU's peak.

Both peaks are measured on the GPU itself, with PyTorch: a copy of a gigabyte, and a product of large matrices.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import shape_inference

_COPIED = 1 << 30  # bytes
_SIDE = 8192
_REPEATS = 20
_BATCH = 'N'


@dataclass(frozen=True)
class Work:
    """What a network does for some people: multiply-adds count as two operations.

    weights, inputs_outputs, activations: numbers of values. activations: of what convolutions and products give, which
    other layers can be computed together with.
    """

    operations: float
    weights: float
    inputs_outputs: float
    activations: float

    def floor_ms(self, gpu: Peaks, value_bytes: int, *, activations: bool) -> float:
        """Return the least time in ms. activations: written and read once each, or kept on the chip (False)."""
        moved = self.weights + self.inputs_outputs + (2 * self.activations if activations else 0.0)
        return 1e3 * max(moved * value_bytes / gpu.bandwidth, self.operations / gpu.peak(value_bytes))


@dataclass(frozen=True)
class Peaks:
    """Of a GPU. bandwidth: bytes/s, reading and writing together; half, full: operations/s in float16 and float32."""

    bandwidth: float
    half: float
    full: float

    def peak(self, value_bytes: int) -> float:
        """Return operations/s for values of 2 or 4 bytes."""
        return self.half if value_bytes == 2 else self.full


def work_of(path: Path, count: int) -> Work:
    """Return what a network does for `count` people. Raises ValueError where a size cannot be inferred."""
    model = onnx.load(str(path))
    for value in [*model.graph.input, *model.graph.output]:
        for axis in value.type.tensor_type.shape.dim[:1]:
            if not axis.dim_value:
                axis.dim_value = count
    del model.graph.value_info[:]
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
              for value in [*graph.input, *graph.value_info, *graph.output]}
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    operations = activations = 0.0
    for node in graph.node:
        if node.op_type not in ('Conv', 'Gemm', 'MatMul'):
            continue
        output = shapes.get(node.output[0], [])
        if 0 in output or (not output and node.op_type != 'MatMul'):
            raise ValueError(f'{path.name}: the size of what {node.op_type} {node.name!r} gives is not known')
        operations += 2.0 * math.prod(output) * _summed(node, shapes | weights)
        activations += math.prod(output)
    ends = [shapes[value.name] for value in [*graph.input, *graph.output] if value.name not in weights]
    return Work(operations, float(sum(map(math.prod, weights.values()))),
                float(sum(math.prod(shape) for shape in ends)), activations)


def _summed(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Return how many products each value of a node's output is the sum of."""
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    first, second = shapes[node.input[0]], shapes[node.input[1]]
    if node.op_type == 'Conv':
        return math.prod(second[1:])
    return first[0] if attributes.get('transA') else first[-1]


def measure_peaks(torch: Any) -> Peaks:
    """Return the GPU's peaks. torch: the module, with CUDA."""
    source = torch.empty(_COPIED, dtype=torch.uint8, device='cuda')
    target = torch.empty_like(source)
    copied = 2 * _COPIED / _seconds(torch, lambda: target.copy_(source))
    rates = []
    for kind in (torch.float16, torch.float32):
        a, b = (torch.randn(_SIDE, _SIDE, device='cuda', dtype=kind) for _ in range(2))
        rates.append(2 * _SIDE ** 3 / _seconds(torch, lambda a=a, b=b: a @ b))
    return Peaks(copied, *rates)


def _seconds(torch: Any, work: Callable[[], object]) -> float:
    """Return the seconds that a piece of work takes on the GPU, the best of several blocks."""
    best = math.inf
    for _ in range(3):
        work()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(_REPEATS):
            work()
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - start) / _REPEATS)
    return best
