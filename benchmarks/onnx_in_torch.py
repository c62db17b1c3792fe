"""A network of convolutions as a PyTorch module, made from its ONNX file: the same weights and operations, to compare
runtimes on. It knows the operators of the BlazePose networks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

Step = Callable[..., Tensor]


class OnnxInTorch(nn.Module):
    """Computes what the file does. Call it with the inputs in the file's order; outputs come in the file's order.

    Raises ValueError for an operator, or a use of one, that it does not know.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(str(path)).graph
        constants = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
                     for tensor in graph.initializer}
        self.inputs = [value.name for value in graph.input if value.name not in constants]
        self.outputs = [value.name for value in graph.output]
        self._steps: list[tuple[Step, list[str], str]] = []
        self.layers = nn.ModuleList()  # those of the steps that have weights or could have
        for node in graph.node:
            attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            if node.op_type not in _OPERATORS or node.input[0] in constants:
                raise ValueError(f'{path.name}: operator {node.op_type} ({node.name}) is not known here')
            step = _OPERATORS[node.op_type](attributes, [constants.get(name) for name in node.input])
            if isinstance(step, nn.Module):
                self.layers.append(step)
            given = [name for name in node.input if name and name not in constants]
            self._steps.append((step, given, node.output[0]))

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        values = dict(zip(self.inputs, inputs))
        for step, given, output in self._steps:
            values[output] = step(*[values[name] for name in given])
        return [values[name] for name in self.outputs]


def _conv(attributes: dict[str, Any], constants: list[Tensor | None]) -> nn.Module:
    weight, bias = constants[1], constants[2] if len(constants) > 2 else None
    if weight is None or weight.ndim != 4:
        raise ValueError('Conv: only with constant weights over images')
    top, left, bottom, right = attributes.get('pads', [0, 0, 0, 0])
    groups, strides = attributes.get('group', 1), tuple(attributes.get('strides', [1, 1]))
    even = (top, left) == (bottom, right)
    layer = nn.Conv2d(weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]), strides,
                      (top, left) if even else 0, tuple(attributes.get('dilations', [1, 1])), groups, bias is not None)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer if even else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), layer)


def _clip(attributes: dict[str, Any], constants: list[Tensor | None]) -> Step:
    low, high = (None if value is None else float(value) for value in (*constants, None, None)[1:3])
    if (low, high) == (0.0, 6.0):
        return nn.ReLU6()
    return nn.ReLU() if (low, high) == (0.0, None) else lambda x: x.clamp(low, high)


def _pad(attributes: dict[str, Any], constants: list[Tensor | None]) -> Step:
    if attributes.get('mode', b'constant') != b'constant' or constants[1] is None:
        raise ValueError('Pad: only by constant amounts with zeros')
    amounts = constants[1].tolist()
    axes = len(amounts) // 2
    pairs = [pair for axis in reversed(range(axes)) for pair in (amounts[axis], amounts[axis + axes])]
    return lambda x: functional.pad(x, pairs)


def _resize(attributes: dict[str, Any], constants: list[Tensor | None]) -> Step:
    scales = constants[2]
    if (attributes.get('mode') != b'linear' or scales is None
            or attributes.get('coordinate_transformation_mode') != b'half_pixel'):
        raise ValueError('Resize: only linear, half_pixel, by constant scales')
    factors = scales.tolist()[2:]
    return lambda x: functional.interpolate(x, scale_factor=factors, mode='bilinear', align_corners=False)


def _max_pool(attributes: dict[str, Any], constants: list[Tensor | None]) -> Step:
    if any(attributes.get('pads', [])):
        raise ValueError('MaxPool: only without padding')
    return nn.MaxPool2d(tuple(attributes['kernel_shape']), tuple(attributes['strides']))


def _add(attributes: dict[str, Any], constants: list[Tensor | None]) -> Step:
    if constants != [None, None]:
        raise ValueError('Add: only of two results')
    return torch.add


def _depth_to_space(attributes: dict[str, Any], constants: list[Tensor | None]) -> Step:
    if attributes.get('mode', b'DCR') != b'DCR':
        raise ValueError('DepthToSpace: only DCR')
    size = attributes['blocksize']

    def step(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, size, size, channels // size ** 2, height, width).permute(0, 3, 4, 1, 5, 2)
        return blocks.reshape(batch, channels // size ** 2, height * size, width * size)

    return step


def _reshape(attributes: dict[str, Any], constants: list[Tensor | None]) -> Step:
    if constants[1] is None:
        raise ValueError('Reshape: only to a constant shape')
    sizes = constants[1].tolist()
    return lambda x: x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)])


_OPERATORS: dict[str, Callable[[dict[str, Any], list[Tensor | None]], Step]] = {
    'Conv': _conv, 'Clip': _clip, 'Pad': _pad, 'Resize': _resize, 'MaxPool': _max_pool, 'Reshape': _reshape,
    'DepthToSpace': _depth_to_space,
    'Add': _add,
    'Relu': lambda attributes, constants: nn.ReLU(),
    'Sigmoid': lambda attributes, constants: nn.Sigmoid(),
    'Concat': lambda attributes, constants: lambda *parts: torch.cat(parts, dim=attributes['axis']),
    'Transpose': lambda attributes, constants: lambda x: x.permute(attributes['perm']),
}
