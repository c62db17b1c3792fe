"""The ONNX graph that the TensorFlow Lite converter writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pose3d_ros.runtime.catalogue import CONVERTER_VERSION
from pose3d_ros.runtime.tflite_graph import ConversionError, Graph, Node

_OPSET = 17      # known to ONNX Runtime from 1.12 on, TensorRT from 8.6 on
_IR_VERSION = 8  # belongs to that opset; newer ones are refused by older runtimes
_BATCH = 'N'


class GraphBuilder:
    """The ONNX graph under construction; the operators of tflite_ops write into it.

    values: source tensor number -> name of its ONNX value. result_names: names that final outputs must get.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[int, str] = {}
        self.result_names: dict[int, str] = {}
        self._source_ops = {output: node.op for node in graph.nodes for output in node.outputs}
        self._constants = {tensor.index: tensor.data for tensor in graph.tensors if tensor.data is not None}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def fold(self, node: Node) -> None:
        """Replace an unpacking operator by its result: a float32 constant."""
        packed = self._constants.get(node.inputs[0])
        if packed is None or packed.dtype.kind != 'f':
            tensor = self.graph.tensors[node.inputs[0]]
            raise ConversionError(f'{node}: its input {tensor.name!r} ({tensor.dtype}) is no constant of floats')
        self._constants[node.outputs[0]] = packed.astype(np.float32)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the shape of a tensor in the source's layout (rank 4: NHWC)."""
        return self.graph.tensors[tensor].shape

    def constant_of(self, node: Node, position: int) -> NDArray:
        """Return the value of a constant input, in the source's layout. Raises ConversionError when it is computed."""
        value = self._constants.get(node.inputs[position])
        if value is None:
            raise ConversionError(f'{node}: input {position} has to be a constant')
        return value

    def source_op(self, tensor: int) -> str | None:
        """Return the operator of the source that computes a tensor, None for an input or a constant."""
        return self._source_ops.get(tensor)

    def is_constant(self, tensor: int) -> bool:
        """Tell whether a tensor is known beforehand."""
        return tensor in self._constants

    def input(self, node: Node, position: int) -> str:
        """Return the ONNX name of a computed input. Raises ConversionError for what is not float32."""
        tensor = self.graph.tensors[node.inputs[position]]
        if tensor.dtype != 'FLOAT32' or tensor.index not in self.values:
            raise ConversionError(f'{node}: input {tensor.name!r} ({tensor.dtype}) is not a computed float32 tensor')
        return self.values[tensor.index]

    def constant(self, name: str, value: NDArray) -> str:
        """Store a constant, in ONNX layout, under a name (once) and return the name."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def add(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append an ONNX node and return the name of its output."""
        self._nodes.append(helper.make_node(op_type, list(inputs), [output], name=f'{op_type}_{output}', **attributes))
        return output

    def output_name(self, node: Node) -> str:
        """Return the ONNX name for the result of a node."""
        index = node.outputs[0]
        return self.result_names.get(index, f't{index}')

    def model(self, inputs: Sequence[str], metadata: Mapping[str, str]) -> onnx.ModelProto:
        """Return the finished and checked model."""
        graph = helper.make_graph(
            self._nodes, 'converted',
            [self._end(index, name) for index, name in zip(self.graph.inputs, inputs)],
            [self._end(index, name) for index, name in self.result_names.items()],
            initializer=list(self._initializers.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', _OPSET)], ir_version=_IR_VERSION,
                                  producer_name='pose3d_ros', producer_version=CONVERTER_VERSION)
        helper.set_model_props(model, {**metadata, 'converter_version': CONVERTER_VERSION})
        onnx.checker.check_model(model, full_check=True)
        return model

    def _end(self, index: int, name: str) -> onnx.ValueInfoProto:
        shape = channels_first_shape(self.shape(index))
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [_BATCH, *shape[1:]])


def channels_first_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return NCHW for NHWC, any other rank unchanged."""
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape
