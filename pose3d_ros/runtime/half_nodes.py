"""Which operators of a network compute in half precision.

Half precision has 11 bits and ends at 65504, and below 6e-5 it loses digits. So these stay in float32:
- what normalises (norms, means, variances, powers, roots, quotients), exp, log, Softmax and their like, and the plain
  arithmetic that hangs together with them: a square overflows at 256, a variance of small values vanishes;
- arithmetic next to the outputs, and the last matrix product before each (SimCC heads, regressed coordinates);
- products of two computed matrices with such arithmetic on both sides (rotations, covariances), and small matrices;
- whatever has a constant that half precision cannot hold.
`mixed` is more careful: only convolutions and products with a weight matrix are in half precision, except the last
before each output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

LARGEST = 65504.0
_PRECISE = 2.0 ** -10    # of a constant's largest value: what rounding may cost
_LEAST_WEIGHTS = 4096    # values in a matrix; smaller products gain nothing from half precision

_CONVOLUTIONS = frozenset({'Conv', 'ConvTranspose'})
_PRODUCTS = frozenset({'Gemm', 'MatMul'})
# They hand values on, so their result needs no rounding and they compute in the type that arrives.
EXACT = frozenset({
    'Relu', 'Clip', 'Max', 'Min', 'Neg', 'Abs', 'MaxPool', 'GlobalMaxPool', 'Reshape', 'Transpose', 'Flatten',
    'Squeeze', 'Unsqueeze', 'Concat', 'Split', 'Slice', 'Gather', 'Pad', 'Identity', 'DepthToSpace', 'SpaceToDepth',
    'Expand', 'Tile'})
_SMOOTH = frozenset({
    'Add', 'Sub', 'Mul', 'Div', 'Sigmoid', 'Tanh', 'Erf', 'Gelu', 'LeakyRelu', 'PRelu', 'Elu', 'HardSigmoid',
    'HardSwish', 'AveragePool', 'GlobalAveragePool', 'Resize'})
# In float32 like everything else, but what is next to them need not be.
_NEUTRAL = frozenset({
    'Cast', 'Constant', 'ConstantOfShape', 'Shape', 'Size', 'Range', 'Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual',
    'Equal', 'And', 'Or', 'Not', 'Where', 'ArgMax', 'ArgMin', 'TopK', 'NonMaxSuppression', 'NonZero', 'Floor', 'Ceil',
    'Round', 'Sign', 'GatherND', 'GatherElements', 'ScatterND', 'IsNaN', 'IsInf', 'If', 'Loop', 'Scan', 'Dropout'})
# Limits beyond what half precision holds become infinite, which means the same to these.
_LIMITING = frozenset({'Clip', 'Max', 'Min', 'Pad'})


class Network:
    """A graph, and who makes and takes each of its float32 tensors. Nodes go by their position."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        import onnx

        self.graph = proto.graph
        _constants_to_initializers(self.graph)
        self.nodes = list(self.graph.node)
        self.ops = [node.op_type if node.domain in ('', 'ai.onnx') else '' for node in self.nodes]   # '': not ONNX's
        inferred = onnx.shape_inference.infer_shapes(proto).graph
        infos = [*inferred.value_info, *inferred.input, *inferred.output]
        self.floats = {info.name for info in infos if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
        self.sizes = {info.name: _size(info) for info in infos}
        self.constants: dict[str, NDArray[np.float32]] = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self.graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT}
        self.fixed = {tensor.name for tensor in self.graph.initializer}    # and what is computed from them alone
        for node in self.nodes:
            if all(name in self.fixed for name in node.input if name) and (node.input or node.op_type == 'Constant'):
                self.fixed.update(node.output)
        self.floats |= self.constants.keys()
        self.sizes.update((name, value.size) for name, value in self.constants.items())
        self.inputs = {info.name for info in self.graph.input}
        self.outputs = {info.name for info in self.graph.output}
        self.maker = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self.takers: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in self.taken(node):
                self.takers.setdefault(name, []).append(index)
        self.before, self.after = self._neighbours()

    def taken(self, node: onnx.NodeProto) -> list[str]:
        """Return the float32 tensors that a node takes and that would change their type with it."""
        names = node.input[:1] if node.op_type == 'Resize' else node.input    # its scales are float32 always
        return [name for name in names if name in self.floats]

    def computed(self, node: onnx.NodeProto) -> list[str]:
        """Return the float32 tensors that a node takes, without constants."""
        return [name for name in self.taken(node) if name not in self.fixed]

    def _neighbours(self) -> tuple[list[set[int]], list[set[int]]]:
        """Return the nodes before and after each node, looking through the exact ones; -1: an input, an output."""
        before: list[set[int]] = []
        for node in self.nodes:
            sources: set[int] = set()
            for name in self.computed(node):
                source = self.maker.get(name, -1)
                sources |= before[source] if source >= 0 and self.ops[source] in EXACT else {source}
            before.append(sources)
        after: list[set[int]] = [set() for _ in self.nodes]
        for index in reversed(range(len(self.nodes))):
            for name in self.nodes[index].output:
                if name in self.outputs:
                    after[index].add(-1)
                for taker in self.takers.get(name, []):
                    after[index] |= after[taker] if self.ops[taker] in EXACT else {taker}
        return before, after


def half_nodes(network: Network, step: str) -> Iterator[int]:
    """Yield the nodes that compute in half precision."""
    bodies = {index for index in range(len(network.nodes)) if _is_body(network, index)}
    heads, behind = _behind_outputs(network, bodies)
    if step == 'mixed':
        chosen = {index for index in bodies - heads if _has_weights(network, network.nodes[index])}
    else:
        smooth = {index for index in range(len(network.nodes)) if _is_smooth(network, index)}
        sensitive = {index for index, node in enumerate(network.nodes) if network.taken(node)
                     and index not in bodies | smooth and network.ops[index] not in EXACT | _NEUTRAL}
        full = _spread(network, sensitive | (smooth & behind), smooth)
        chosen = (smooth - full) | {index for index in bodies if not (
            index in behind or (index in heads and network.ops[index] in _PRODUCTS)
            or _is_geometry(network, index, full))}
    chosen = {index for index in chosen if _constants_fit(network, network.nodes[index])}
    lonely = {index for index in chosen - bodies if not (network.before[index] | network.after[index]) & chosen}
    chosen -= lonely
    native: set[str] = set()     # tensors that come in half precision
    for index, node in enumerate(network.nodes):
        computed = network.computed(node)
        follows = (network.ops[index] in EXACT and computed and native.issuperset(computed)
                   and _constants_fit(network, node))
        if index in chosen or follows:
            native.update(node.output)
            yield index


def _is_body(network: Network, index: int) -> bool:
    """Tell whether a node is where the computing goes: a convolution, or a product of matrices that are not small."""
    if network.ops[index] in _PRODUCTS:
        return all(network.sizes.get(name, _LEAST_WEIGHTS) >= _LEAST_WEIGHTS
                   for name in network.nodes[index].input[:2] if name in network.fixed)
    return network.ops[index] in _CONVOLUTIONS


def _has_weights(network: Network, node: onnx.NodeProto) -> bool:
    return any(name in network.fixed for name in node.input[:2])


def _is_smooth(network: Network, index: int) -> bool:
    node = network.nodes[index]
    if network.ops[index] not in _SMOOTH or not network.computed(node):
        return False
    if node.op_type == 'Mul' and node.input[0] == node.input[1]:    # a square
        return False
    if node.op_type == 'Div' and node.input[1] not in network.constants:
        return False
    return _constants_fit(network, node)


def _behind_outputs(network: Network, bodies: set[int]) -> tuple[set[int], set[int]]:
    """Return the bodies with weights that are nearest to the outputs, and the nodes between these and the outputs."""
    heads: set[int] = set()
    behind: set[int] = set()
    waiting = [network.maker[name] for name in network.outputs if name in network.maker]
    while waiting:
        index = waiting.pop()
        if index in bodies and _has_weights(network, network.nodes[index]):
            heads.add(index)
        elif index not in behind:
            behind.add(index)
            waiting += [network.maker[name] for name in network.computed(network.nodes[index]) if name in network.maker]
    return heads, behind


def _spread(network: Network, start: set[int], through: set[int]) -> set[int]:
    """Return start and all nodes of `through` that hang together with it."""
    reached, waiting = set(start), list(start)
    while waiting:
        index = waiting.pop()
        fresh = ((network.before[index] | network.after[index]) & through) - reached
        reached |= fresh
        waiting += fresh
    return reached


def _is_geometry(network: Network, index: int, full: set[int]) -> bool:
    """Tell whether a node multiplies two computed matrices amid float32 arithmetic, inputs and outputs."""
    around = full | {-1}
    return not _has_weights(network, network.nodes[index]) and bool(
        network.before[index] & around and network.after[index] & around)


def _constants_fit(network: Network, node: onnx.NodeProto) -> bool:
    return all(_fits(network.constants[name], node.op_type in _LIMITING)
               for name in network.taken(node) if name in network.constants)


def _fits(constant: NDArray[np.float32], limiting: bool) -> bool:
    """Tell whether half precision holds a constant: nothing overflows, and its rounding is small beside its values."""
    if constant.size == 0:
        return True
    size = np.abs(constant)
    if limiting:
        size = size[size <= LARGEST]
    elif not size.max() <= LARGEST:
        return False
    # Compared with the largest value: that a few weights of thousands vanish beside the others changes nothing.
    error = np.abs(size - size.astype(np.float16).astype(np.float32))
    return bool(error.max(initial=0) <= _PRECISE * size.max(initial=0))


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes that hold a tensor into initializers, in place, and take these out of the inputs."""
    names = {tensor.name for tensor in graph.initializer}
    inputs = [info for info in graph.input if info.name not in names]    # files of before 2019 list them there too
    del graph.input[:]
    graph.input.extend(inputs)
    kept = []
    for node in graph.node:
        values = [attribute.t for attribute in node.attribute if attribute.name == 'value']
        if node.op_type == 'Constant' and values:
            values[0].name = node.output[0]
            graph.initializer.append(values[0])
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _size(info: onnx.ValueInfoProto) -> int:
    return int(np.prod([max(1, dim.dim_value) for dim in info.type.tensor_type.shape.dim]))
