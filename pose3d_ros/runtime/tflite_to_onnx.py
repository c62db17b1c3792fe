"""Convert a TensorFlow Lite network of floats to ONNX, exact to float32 rounding.

Images are channels-first (NCHW) inside the ONNX graph and at its ends, channels-last (NHWC) in the source.
Half-precision and sparse weights become float32 constants. The batch dimension becomes dynamic. Only what leads to the
wanted outputs is converted, so that an unwanted branch costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from pose3d_ros.runtime.tflite_builder import GraphBuilder
from pose3d_ros.runtime.tflite_graph import ConversionError, Graph, Node, read_graph
from pose3d_ros.runtime.tflite_ops import OPERATORS

_FOLDED = ('DEQUANTIZE', 'DENSIFY')


def convert(content: bytes, *, inputs: Sequence[str], outputs: Mapping[str, str],
            metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """Return the ONNX form of a TensorFlow Lite file.

    content: the file's bytes. inputs: names to give to the inputs, in the file's order. outputs: file's name of each
    wanted output -> name to give to it; what serves only other outputs is left out. metadata: stored in the model.
    Rank-4 inputs and outputs are NCHW. The same arguments give the same bytes. Raises ConversionError, naming operator
    and node, for what it does not know.
    """
    graph = read_graph(content)
    wanted = _wanted_outputs(graph, outputs)
    if len(inputs) != len(graph.inputs):
        raise ConversionError(f'{len(graph.inputs)} inputs in the file, {len(inputs)} names given')
    builder = GraphBuilder(graph)
    for index, name in zip(graph.inputs, inputs):
        builder.values[index] = name
    builder.result_names = wanted
    for node in _needed_nodes(graph, wanted):
        if node.op in _FOLDED:
            builder.fold(node)
        elif node.op in OPERATORS:
            builder.values[node.outputs[0]] = OPERATORS[node.op](builder, node)
        else:
            raise ConversionError(f'{node} writing {graph.tensors[node.outputs[0]].name!r}: operator not known')
    for index, name in wanted.items():
        if builder.values.get(index) != name:
            raise ConversionError(f'output {name!r} is not computed by any operator')
    return builder.model(inputs, metadata or {})


def _wanted_outputs(graph: Graph, outputs: Mapping[str, str]) -> dict[int, str]:
    by_name = {graph.tensors[index].name: index for index in graph.outputs}
    missing = [name for name in outputs if name not in by_name]
    if missing:
        raise ConversionError(f'no output {missing[0]!r}; the file has {", ".join(by_name)}')
    return {by_name[name]: new_name for name, new_name in outputs.items()}


def _needed_nodes(graph: Graph, wanted: Mapping[int, str]) -> list[Node]:
    """Return the nodes that the wanted tensors depend on, in the order of execution."""
    needed_tensors = set(wanted)
    nodes = []
    for node in reversed(graph.nodes):
        if needed_tensors.intersection(node.outputs):
            needed_tensors.update(node.inputs)
            nodes.append(node)
    return nodes[::-1]
