"""Small networks for tests of precision, written down as text, and the careless way into half precision."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

IMAGE, BINS = 'float[N,3,32,24] image', 'float[N,5,64] simcc_x'


def network(body: str, weights: Mapping[str, np.ndarray], inputs: str, outputs: str,
            metadata: Mapping[str, str] | None = None, opset: int = 17) -> bytes:
    """Return an ONNX file. body: nodes in ONNX's text form."""
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> net ({inputs}) => ({outputs}) {{ {body} }}')
    for name, value in weights.items():
        value = value if value.dtype == np.int64 else value.astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def convolutions(scale: float = 1.0) -> bytes:
    """Return an image network with a residual; scale multiplies what the first convolution gives."""
    rng = np.random.default_rng(1)
    return network("""
        a = Conv<pads=[1,1,1,1]>(image, w1, b1)
        b = Relu(a)
        c = Conv<pads=[1,1,1,1]>(b, w2)
        d = Add(b, c)
        e = Clip(d, low, high)
        heat = Conv(e, w3)""", {
        'w1': scale * rng.normal(0, 0.3, (8, 3, 3, 3)), 'b1': scale * rng.normal(0, 0.1, 8),
        'w2': rng.normal(0, 0.1, (8, 8, 3, 3)), 'low': np.array(0.0), 'high': np.array(3.4e38),
        'w3': rng.normal(0, 0.3, (5, 8, 1, 1)) / scale}, IMAGE, 'float[N,5,32,24] heat')


def simcc(scale: float) -> bytes:
    """Return a SimCC-like network with a layer norm, spelt out, of values of about this size."""
    rng = np.random.default_rng(2)
    return network("""
        a = Conv<strides=[2,2], pads=[1,1,1,1]>(image, w1)
        b = Relu(a)
        maps = Conv(b, w2)
        flat = Reshape(maps, flat_shape)
        tokens = MatMul(flat, w3)
        middle = ReduceMean<axes=[-1]>(tokens)
        off = Sub(tokens, middle)
        square = Mul(off, off)
        variance = ReduceMean<axes=[-1]>(square)
        safe = Add(variance, tiny)
        deviation = Sqrt(safe)
        normal = Div(off, deviation)
        scaled = Mul(normal, gain)
        simcc_x = MatMul(scaled, w4)""", {
        'w1': rng.normal(0, 0.3, (8, 3, 3, 3)), 'w2': rng.normal(0, 0.3, (5, 8, 1, 1)),
        'flat_shape': np.array([0, 5, 192]), 'w3': scale * rng.normal(0, 0.1, (192, 64)),
        'tiny': np.array(1e-5 * min(1.0, scale) ** 2), 'gain': rng.uniform(0.5, 1.5, 64),
        'w4': rng.normal(0, 0.2, (64, 64))}, IMAGE, BINS)


def carelessly_halved(model: bytes) -> bytes:
    """Return a network with every float in half precision, inputs and outputs excepted."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            with np.errstate(over='ignore'):
                half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    ends = {info.name for info in [*graph.input, *graph.output]}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f'{name}_16' if name in ends else name for name in names]
    for info in reversed(graph.input):
        graph.node.insert(0, helper.make_node('Cast', [info.name], [f'{info.name}_16'], to=TensorProto.FLOAT16))
    for info in graph.output:
        graph.node.append(helper.make_node('Cast', [f'{info.name}_16'], [info.name], to=TensorProto.FLOAT))
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())
