"""Half precision written into a network's file: which of its operators compute in float16, and the casts between.

Done in the ONNX file, so that every version of a compiler builds the same thing, and its rounding can be predicted
(see runtime/rounding.py). Inputs and outputs keep their types. A tensor t that a half-precision operator makes or
takes is called t__half; there is one cast per tensor and direction at most, so types never mix within an operator.
Which operators these are is decided in runtime/half_nodes.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pose3d_ros.runtime.backend import STEPS
from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.half_nodes import Network, half_nodes

if TYPE_CHECKING:
    import onnx

SUFFIX = '__half'
_SCALING = (b'QuantizeLinear', b'DequantizeLinear')


def convert(model: bytes, step: str) -> bytes:
    """Return an ONNX file in another precision: 'fp16', 'mixed' or 'fp32' (unchanged).

    A quantised file (see is_quantised) is returned as it is. Raises EngineError where the package onnx is missing, the
    file is not a network, or the step is not known.
    """
    if step not in STEPS:
        raise EngineError(f'precision {step!r} is not known; choose one of {", ".join(STEPS)}')
    if step == 'fp32':
        return model
    if is_quantised(model):
        return model
    proto = load(model)
    network = Network(proto)
    _rewrite(network, set(half_nodes(network, step)))
    said = {entry.key: entry.value for entry in proto.metadata_props} | {'precision': step}
    del proto.metadata_props[:]
    for key, value in said.items():
        proto.metadata_props.add(key=key, value=value)
    return bytes(proto.SerializeToString(deterministic=True))


def is_quantised(model: bytes) -> bool:
    """Tell whether a network is in 8 bits already: whether it holds QuantizeLinear or DequantizeLinear nodes.

    Needs no package: the operator of a node is looked for as it is written into a file, field 4 and its length first.
    """
    return any(b'\x22' + bytes([len(name)]) + name in model for name in _SCALING)


def load(model: bytes) -> onnx.ModelProto:
    """Return a network read from the bytes of an ONNX file. Raises EngineError."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise EngineError(f"changing a network's precision needs the package onnx: run 'pip install onnx', or choose "
                          f"precision 'fp32' ({error})") from error
    try:
        proto = onnx.load_model_from_string(model)
    except DecodeError as error:
        raise EngineError(f'not an ONNX file: {error}; give a valid one') from error
    if not proto.graph.node:
        raise EngineError('not an ONNX file, or a network without operators; give a valid one')
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        raise EngineError('the weights lie in another file: save the network as one file (onnx.save)')
    return proto


def _rewrite(network: Network, half: set[int]) -> None:
    """Put the nodes of `half` into half precision, in place, and cast what passes between them and the others."""
    import onnx

    halves: dict[str, Any] = {}            # constants in half precision
    present = set(network.inputs) | {tensor.name for tensor in network.graph.initializer}
    nodes: list[onnx.NodeProto] = []

    def need(name: str, made_as: str, to: int) -> None:
        if name not in present:
            nodes.append(onnx.helper.make_node('Cast', [made_as], [name], name=f'cast_to_{name}', to=to))
            present.add(name)

    captured = set(_captured(network.nodes))
    for index, node in enumerate(network.nodes):
        taken = dict.fromkeys(network.taken(node))  # in order: the same file every time
        if index in half:
            for name in taken:
                if name in network.constants:
                    with np.errstate(over='ignore'):   # limits; see _LIMITING
                        halves.setdefault(name + SUFFIX, onnx.numpy_helper.from_array(
                            network.constants[name].astype(np.float16), name + SUFFIX))
                else:
                    need(name + SUFFIX, name, onnx.TensorProto.FLOAT16)
        else:
            names = [*node.input, *_captured([node])]
            for name in (name for name in names if name in network.floats):
                need(name, name + SUFFIX, onnx.TensorProto.FLOAT)
        own = onnx.NodeProto()
        own.CopyFrom(node)
        if index in half:
            own.input[:] = [name + SUFFIX if name in taken else name for name in node.input]
            own.output[:] = [name + SUFFIX if name in network.floats else name for name in node.output]
        nodes.append(own)
        present.update(own.output)
        for name in node.output:
            if name in network.outputs | captured and name in network.floats:
                need(name, name + SUFFIX, onnx.TensorProto.FLOAT)

    used = {name for node in nodes for name in node.input} | network.outputs | captured
    kept = [tensor for tensor in network.graph.initializer if tensor.name in used]
    del network.graph.node[:], network.graph.initializer[:], network.graph.value_info[:]
    network.graph.node.extend(nodes)
    network.graph.initializer.extend([*kept, *halves.values()])


def _captured(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Yield the names that the bodies of If, Loop and Scan take, some of them from outside."""
    for node in nodes:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField('g') else []) + list(attribute.graphs):
                yield from (name for inside in inner.node for name in inside.input)
                yield from (info.name for info in inner.output)
                yield from _captured(inner.node)
