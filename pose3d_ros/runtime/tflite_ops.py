"""The operators of the TensorFlow Lite converter: each writes the ONNX nodes for one source node.

Every function takes the builder and the source node and returns the name of the ONNX value it computed. Values of rank
4 are NCHW in ONNX while shapes, axes and constants of the source are NHWC; each function translates its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.runtime.tflite_builder import GraphBuilder
from pose3d_ros.runtime.tflite_graph import ConversionError, Node

_SAME, _VALID = 0, 1
_NONE, _RELU, _RELU_N1_TO_1, _RELU6 = 0, 1, 2, 3
_BOUNDS = {_RELU_N1_TO_1: (-1.0, 1.0), _RELU6: (0.0, 6.0)}


def _convolution(builder: GraphBuilder, node: Node, kernel: NDArray[np.float32], groups: int) -> str:
    """Write a convolution; kernel (out, in / groups, height, width)."""
    source = builder.input(node, 0)
    output = builder.output_name(node)
    inputs = [source, builder.constant(f'{output}_kernel', kernel)]
    if len(node.inputs) > 2 and node.inputs[2] >= 0:
        inputs.append(builder.constant(f'{output}_bias', builder.constant_of(node, 2)))
    dilations = (node.options['DilationHFactor'], node.options['DilationWFactor'])
    return _activated(builder, node, 'Conv', inputs, kernel_shape=kernel.shape[2:], group=groups, dilations=dilations,
                      strides=(node.options['StrideH'], node.options['StrideW']),
                      pads=_window_pads(builder, node, kernel.shape[2:], dilations))


def conv_2d(builder: GraphBuilder, node: Node) -> str:
    """Convolution; source kernel (out, height, width, in)."""
    kernel = builder.constant_of(node, 1).transpose(0, 3, 1, 2)
    channels = builder.shape(node.inputs[0])[3]
    return _convolution(builder, node, kernel, groups=channels // kernel.shape[1])


def depthwise_conv_2d(builder: GraphBuilder, node: Node) -> str:
    """Convolution of each channel on its own; source kernel (1, height, width, channels * multiplier)."""
    kernel = builder.constant_of(node, 1).transpose(3, 0, 1, 2)
    return _convolution(builder, node, kernel, groups=builder.shape(node.inputs[0])[3])


def max_pool_2d(builder: GraphBuilder, node: Node) -> str:
    """Maximum over a window."""
    # ONNX Runtime moves a border of zeros into the pooling operator (its "pad fusion"), where it means minus infinity.
    if builder.source_op(node.inputs[0]) == 'PAD':
        raise ConversionError(f'{node}: the maximum over a padded tensor, which ONNX Runtime would get wrong')
    window = (node.options['FilterHeight'], node.options['FilterWidth'])
    return _activated(builder, node, 'MaxPool', [builder.input(node, 0)], kernel_shape=window,
                      strides=(node.options['StrideH'], node.options['StrideW']),
                      pads=_window_pads(builder, node, window, (1, 1)))


def _window_pads(builder: GraphBuilder, node: Node, window: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Return ONNX pads (top, left, bottom, right). SAME padding puts the odd pixel at the bottom and the right."""
    if node.options['Padding'] == _VALID:
        return [0, 0, 0, 0]
    before, after = [], []
    strides = (node.options['StrideH'], node.options['StrideW'])
    for size, stride, extent, dilation in zip(builder.shape(node.inputs[0])[1:3], strides, window, dilations):
        steps = -(-size // stride)
        total = max((steps - 1) * stride + (extent - 1) * dilation + 1 - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return before + after


def _activated(builder: GraphBuilder, node: Node, op_type: str, inputs: Sequence[str], **attributes: object) -> str:
    """Write an ONNX node and behind it the activation that the source has fused into the operator."""
    output = builder.output_name(node)
    activation = node.options.get('FusedActivationFunction', _NONE)
    if activation == _NONE:
        return builder.add(op_type, inputs, output, **attributes)
    raw = builder.add(op_type, inputs, f'{output}_raw', **attributes)
    if activation == _RELU:
        return builder.add('Relu', [raw], output)
    if activation not in _BOUNDS:
        raise ConversionError(f'{node}: fused activation {activation} is not known')
    bounds = [builder.constant(f'limit_{limit:g}', np.float32(limit)) for limit in _BOUNDS[activation]]
    return builder.add('Clip', [raw, *bounds], output)


def add(builder: GraphBuilder, node: Node) -> str:
    """Sum of two tensors; the smaller one is repeated as in NumPy."""
    rank = len(builder.shape(node.outputs[0]))
    return _activated(builder, node, 'Add', [_summand(builder, node, position, rank) for position in (0, 1)])


def _summand(builder: GraphBuilder, node: Node, position: int, rank: int) -> str:
    index = node.inputs[position]
    if not builder.is_constant(index):
        if len(builder.shape(index)) != rank:
            raise ConversionError(f'{node}: sum of computed tensors of different rank')
        return builder.input(node, position)
    value = builder.constant_of(node, position)
    # Repetition aligns the last axes, which are others in NCHW: give the constant its full rank before turning it.
    value = value.reshape((1,) * (rank - value.ndim) + value.shape)
    return builder.constant(f't{index}_summand', value.transpose(0, 3, 1, 2) if rank == 4 else value)


def pad(builder: GraphBuilder, node: Node) -> str:
    """Border of zeros; source amounts (rank, 2): before and after each axis."""
    amounts = builder.constant_of(node, 1).astype(np.int64)
    if len(amounts) == 4:
        amounts = amounts[[0, 3, 1, 2]]
    if amounts[0].any():
        raise ConversionError(f'{node}: padding along the batch')
    output = builder.output_name(node)
    return builder.add('Pad', [builder.input(node, 0), builder.constant(f'{output}_amounts', amounts.T.ravel())],
                       output, mode='constant')


def resize_bilinear(builder: GraphBuilder, node: Node) -> str:
    """Bilinear interpolation to a fixed size."""
    size = builder.shape(node.inputs[0])[1:3]
    new_size = builder.shape(node.outputs[0])[1:3]
    if node.options['AlignCorners']:
        rule = 'align_corners'
    else:
        rule = 'half_pixel' if node.options['HalfPixelCenters'] else 'asymmetric'
    scales = np.array([1, 1, *(_scale(old, new) for old, new in zip(size, new_size))], dtype=np.float32)
    output = builder.output_name(node)
    return builder.add('Resize', [builder.input(node, 0), '', builder.constant(f'{output}_scales', scales)], output,
                       mode='linear', coordinate_transformation_mode=rule)


def _scale(size: int, new_size: int) -> np.float32:
    """Return the float32 next to new_size / size for which a runtime, which rounds size * scale down, gets new_size.

    (Sizes instead of scales would fix the batch as well.)
    """
    scale = np.float32(new_size / size)
    while np.floor(size * float(scale)) < new_size:
        scale = np.nextafter(scale, np.float32(np.inf))
    return scale


def reshape(builder: GraphBuilder, node: Node) -> str:
    """New shape per image. The order of the values is that of NHWC, so that NCHW is turned back before and after."""
    source = builder.input(node, 0)
    shape, new_shape = builder.shape(node.inputs[0]), builder.shape(node.outputs[0])
    if shape[:1] != new_shape[:1]:
        raise ConversionError(f'{node}: {shape} to {new_shape} changes the batch')
    output = builder.output_name(node)
    if len(shape) == 4 and shape[1] * shape[2] > 1 and shape[3] > 1:
        source = builder.add('Transpose', [source], f'{output}_nhwc', perm=(0, 2, 3, 1))
    target = builder.constant(f'{output}_shape', np.array([-1, *new_shape[1:]], dtype=np.int64))
    if len(new_shape) != 4:
        return builder.add('Reshape', [source, target], output)
    return builder.add('Transpose', [builder.add('Reshape', [source, target], f'{output}_flat')], output,
                       perm=(0, 3, 1, 2))


def logistic(builder: GraphBuilder, node: Node) -> str:
    """Logistic function."""
    return builder.add('Sigmoid', [builder.input(node, 0)], builder.output_name(node))


def concatenation(builder: GraphBuilder, node: Node) -> str:
    """Tensors one after another along an axis."""
    rank = len(builder.shape(node.outputs[0]))
    axis = node.options['Axis'] % rank
    if axis == 0:
        raise ConversionError(f'{node}: concatenation along the batch')
    if rank == 4:
        axis = (0, 2, 3, 1)[axis]
    inputs = [builder.input(node, position) for position in range(len(node.inputs))]
    return _activated(builder, node, 'Concat', inputs, axis=axis)


def depth_to_space(builder: GraphBuilder, node: Node) -> str:
    """Channels to pixels; the channels of one output pixel lie together (depth, column, row)."""
    return builder.add('DepthToSpace', [builder.input(node, 0)], builder.output_name(node),
                       blocksize=node.options['BlockSize'], mode='DCR')


OPERATORS: dict[str, Callable[[GraphBuilder, Node], str]] = {
    'ADD': add,
    'CONCATENATION': concatenation,
    'CONV_2D': conv_2d,
    'DEPTHWISE_CONV_2D': depthwise_conv_2d,
    'DEPTH_TO_SPACE': depth_to_space,
    'LOGISTIC': logistic,
    'MAX_POOL_2D': max_pool_2d,
    'PAD': pad,
    'RESHAPE': reshape,
    'RESIZE_BILINEAR': resize_bilinear,
}
