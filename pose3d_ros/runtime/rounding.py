"""What half precision does to a network's results, computed where there is no GPU.

ONNX Runtime runs float16 operators on a CPU by computing them in float32, and drops the casts between two of them: such
results say nothing about a GPU's. Here the rounding is written out between float32 operators: a cast to float16, an
operator on it that changes nothing, and a cast back. (Without the one between, ONNX Runtime 1.16 drops both casts.)
This takes a GPU to accumulate sums in float32, as its matrix units do, and to round each operator's result once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pose3d_ros.runtime.half import load
from pose3d_ros.runtime.half_nodes import EXACT

if TYPE_CHECKING:
    import onnx


def rounded(model: bytes) -> bytes:
    """Return a network whose operators are all in float32, and whose tensors that were float16 are rounded to that.

    model: an ONNX file with float16 operators, as half.convert writes it; inputs and outputs are float32. Raises
    EngineError for what is no network.
    """
    import onnx

    proto = load(model)
    graph = proto.graph
    halves = _halves(proto)
    version = max(entry.version for entry in proto.opset_import if entry.domain in ('', 'ai.onnx'))
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float32),
                                                         tensor.name))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == 'Cast':
            to = next(attribute for attribute in node.attribute if attribute.name == 'to')
            if to.i == onnx.TensorProto.FLOAT16:
                nodes += _rounding(node.input[0], node.output[0], version)
                continue
            if to.i == onnx.TensorProto.FLOAT and node.input[0] in halves:
                nodes.append(onnx.helper.make_node('Identity', node.input, node.output))
                continue
        changing = [] if node.op_type in EXACT else [name for name in node.output if name in halves]
        for attribute in node.attribute:       # a Constant's, for one
            if attribute.t.data_type == onnx.TensorProto.FLOAT16:
                value = onnx.numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(value))
        nodes.append(node)
        renamed = [name + '__exact' if name in changing else name for name in node.output]
        del node.output[:]
        node.output.extend(renamed)
        for name in changing:
            nodes += _rounding(name + '__exact', name, version)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
    return bytes(proto.SerializeToString(deterministic=True))


def _rounding(source: str, target: str, version: int) -> list[onnx.NodeProto]:
    """Return nodes that round. version: of ONNX's operators; Max takes float16 from 12 on."""
    import onnx

    small, same, shape = (f'{target}__{part}' for part in ('small', 'same', 'shape'))
    between = [onnx.helper.make_node('Max', [small], [same])] if version >= 12 else [
        onnx.helper.make_node('Shape', [small], [shape]), onnx.helper.make_node('Reshape', [small, shape], [same])]
    return [onnx.helper.make_node('Cast', [source], [small], to=onnx.TensorProto.FLOAT16), *between,
            onnx.helper.make_node('Cast', [same], [target], to=onnx.TensorProto.FLOAT)]


def _halves(proto: onnx.ModelProto) -> set[str]:
    """Return the names of the float16 tensors that nodes make."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(proto).graph
    return {info.name for info in inferred.value_info if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
