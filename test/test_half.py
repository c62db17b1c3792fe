"""Half precision in ONNX files: what stays in float32, no more casts than needed, and what the rounding does."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_networks import IMAGE, carelessly_halved, convolutions, network, simcc

from pose3d_ros.runtime import half
from pose3d_ros.runtime.check import rehearse, self_check
from pose3d_ros.runtime.engine import EngineError
from pose3d_ros.runtime.onnx_engine import OnnxEngine
from pose3d_ros.runtime.rounding import rounded

LIFTER = Path(str(resources.files('pose3d_ros') / 'weights' / 'lifter.onnx'))
NETWORKS = {'convolutions': convolutions(), 'simcc': simcc(1.0), 'lifter': LIFTER.read_bytes()}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def run(model: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
    return session.run(None, {name: value.astype(np.float32) for name, value in inputs.items()})


def types_of(model: bytes) -> dict[str, int]:
    """Return the element type of every tensor."""
    proto = onnx.load_model_from_string(model)
    graph = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph
    types = {info.name: info.type.tensor_type.elem_type for info in [*graph.input, *graph.value_info, *graph.output]}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def halved(model: bytes) -> set[str]:
    """Return the operators that compute in half precision."""
    types, proto = types_of(model), onnx.load_model_from_string(model)
    return {node.op_type for node in proto.graph.node
            if node.op_type != 'Cast' and types[node.output[0]] == TensorProto.FLOAT16}


def casts(model: bytes) -> int:
    return sum(node.op_type == 'Cast' for node in onnx.load_model_from_string(model).graph.node)


@pytest.mark.parametrize('step', ['fp16', 'mixed'])
@pytest.mark.parametrize('name', NETWORKS)
def test_no_operator_mixes_types_and_the_ends_stay_float32(name: str, step: str) -> None:
    model = half.convert(NETWORKS[name], step)
    proto, types = onnx.load_model_from_string(model), types_of(model)
    onnx.checker.check_model(proto, full_check=True)
    for node in proto.graph.node:
        used = {types[tensor] for tensor in [*node.input, *node.output] if tensor} & {
            TensorProto.FLOAT, TensorProto.FLOAT16}
        assert len(used) <= 1 or node.op_type == 'Cast', node
    assert {info.type.tensor_type.elem_type for info in [*proto.graph.input, *proto.graph.output]} == {
        TensorProto.FLOAT}
    assert halved(model) & {'Conv', 'Gemm', 'MatMul'}
    before = {entry.key: entry.value for entry in onnx.load_model_from_string(NETWORKS[name]).metadata_props}
    assert {entry.key: entry.value for entry in proto.metadata_props} == before | {'precision': step}
    onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
    assert half.convert(NETWORKS[name], step) == model


def test_casts_stand_only_where_the_precision_changes() -> None:
    model = half.convert(convolutions(), 'fp16')
    assert casts(model) == 2 and halved(model) == {'Conv', 'Relu', 'Add', 'Clip'}
    # Mixed: the image, both sides of the addition; the last convolution is a head.
    assert casts(half.convert(convolutions(), 'mixed')) == 3
    assert halved(half.convert(convolutions(), 'mixed')) == {'Conv', 'Relu'}


def test_fp32_and_quantised_networks_are_left_alone() -> None:
    model = convolutions()
    assert half.convert(model, 'fp32') is model and not half.is_quantised(model)
    quantised = network('a = QuantizeLinear(image, s, z)  b = DequantizeLinear(a, s, z)', {'s': np.array(0.1)},
                        IMAGE + ', int8 z', 'float[N,3,32,24] b')
    assert half.is_quantised(quantised) and half.convert(quantised, 'fp16') is quantised


def test_what_normalises_stays_in_float32_and_so_do_simcc_heads() -> None:
    proto = onnx.load_model_from_string(half.convert(simcc(1.0), 'fp16'))
    full = {node.output[0] for node in proto.graph.node if not node.output[0].endswith(half.SUFFIX)}
    assert {'middle', 'off', 'square', 'variance', 'safe', 'deviation', 'normal', 'scaled', 'simcc_x'} <= full
    assert {'maps', 'flat', 'tokens'}.isdisjoint(
        node.output[0] for node in proto.graph.node if node.op_type != 'Cast')
    norm = network('a = Conv(image, w)  b = LayerNormalization(a, g)  heat = Conv(b, w)',
                   {'w': np.ones((3, 3, 1, 1)), 'g': np.ones(24)}, IMAGE, 'float[N,3,32,24] heat')
    assert halved(half.convert(norm, 'fp16')) == {'Conv'}


@pytest.mark.parametrize('weight', [1e5, 1e-9])
def test_a_constant_that_half_precision_cannot_hold_keeps_its_operator_in_float32(weight: float) -> None:
    model = network('a = Conv(image, w1)  b = Mul(a, factor)  c = Mul(b, other)  heat = Conv(c, w1)',
                    {'w1': np.eye(3)[:, :, None, None], 'factor': np.array(weight), 'other': np.array(1 / weight)},
                    IMAGE, 'float[N,3,32,24] heat')
    image = rng().random((2, 3, 32, 24))
    result, = run(rounded(half.convert(model, 'fp16')), image=image)
    np.testing.assert_allclose(result, image, rtol=2e-3)
    assert not np.allclose(run(rounded(carelessly_halved(model)), image=image)[0], image, rtol=0.1)


def test_constants_and_tensors_serve_both_precisions_and_inner_graphs() -> None:
    inner = helper.make_graph([helper.make_node('Identity', ['a'], ['inside'])], 'inner', [],
                              [helper.make_tensor_value_info('inside', TensorProto.FLOAT, None)])
    model = onnx.load_model_from_string(network(
        'a = Conv(image, w)  b = Conv(a, w)  c = Exp(b)  d = Mul(c, w)  heat = Add(d, b)',
        {'w': 0.1 * np.ones((3, 3, 1, 1))}, IMAGE, 'float[N,3,32,24] heat'))
    model.graph.node.append(helper.make_node('If', ['yes'], ['copy'], then_branch=inner, else_branch=inner))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), 'yes'))
    model.graph.output.append(helper.make_tensor_value_info('copy', TensorProto.FLOAT, ['N', 3, 32, 24]))
    # Files of before 2019 list weights among the inputs.
    model.graph.input.append(helper.make_tensor_value_info('w', TensorProto.FLOAT, [3, 3, 1, 1]))
    content = model.SerializeToString()
    image = rng().random((3, 3, 32, 24))
    for expected, found in zip(run(content, image=image), run(half.convert(content, 'fp16'), image=image)):
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_unusable_files_and_steps_are_clear_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="precision 'int4' is not known; choose one of fp16, mixed, fp32"):
        half.convert(convolutions(), 'int4')
    for content in (b'no network', b''):
        with pytest.raises(EngineError, match='not an ONNX file'):
            half.convert(content, 'fp16')
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(EngineError, match="run 'pip install onnx', or choose precision 'fp32'"):
        half.convert(NETWORKS['simcc'], 'fp16')
    assert half.convert(NETWORKS['simcc'], 'fp32') == NETWORKS['simcc']


@pytest.mark.parametrize('opset', [17, 11])
def test_rounding_is_that_of_half_precision_after_every_operator(opset: int) -> None:
    model = network('a = Conv(image, w)  b = Add(a, one)  c = Add(b, one)  d = Mul(c, third)  heat = Conv(d, w)',
                    {'w': np.eye(3)[:, :, None, None], 'one': np.array(1.0), 'third': np.array(1 / 3)},
                    IMAGE, 'float[N,3,32,24] heat', opset=opset)
    image = rng().uniform(-3000, 3000, (1, 3, 32, 24)).astype(np.float32)
    image[0, 0, 0, :3] = 1e5, 1e-7, 3e-8       # too large; so small that digits are lost; next to nothing
    one, third = np.float16(1), np.float16(1 / 3)
    with np.errstate(over='ignore'):
        expected = (image.astype(np.float16) + one + one) * third
    result, = run(rounded(carelessly_halved(model)), image=image)
    # An infinite value multiplied with the zeros of this convolution is NaN.
    np.testing.assert_array_equal(result[0, 0, 1:], expected[0, 0, 1:].astype(np.float32))
    assert not np.isfinite(result[0, 0, 0, 0])
    assert casts(rounded(half.convert(model, 'fp32'))) == 0


@pytest.mark.parametrize('scale', [1e-3, 1.0, 300.0])
def test_norms_of_large_and_small_values_survive_and_only_with_care(tmp_path: Path, scale: float) -> None:
    file = tmp_path / 'simcc.onnx'
    file.write_bytes(simcc(scale))
    assert all(verdict.passed for verdict in rehearse(file).values())
    careless = tmp_path / 'careless.onnx'
    careless.write_bytes(rounded(carelessly_halved(simcc(scale))))
    verdict = self_check(OnnxEngine(careless), file)
    assert verdict.passed is (scale == 1.0)
    if not verdict.passed:
        assert verdict.text.startswith('differs from the reference: simcc_x (peaks)'), verdict.text


def test_an_overflow_inside_a_convolution_is_refused_until_float32(tmp_path: Path) -> None:
    file = tmp_path / 'loud.onnx'
    file.write_bytes(convolutions(scale=3e4))
    verdicts = rehearse(file)
    assert [verdict.passed for verdict in verdicts.values()] == [False, False, True]
    assert 'heat (peaks) not finite at' in verdicts['fp16'].text


def test_networks_that_take_bytes_are_converted_and_checked_on_images_of_bytes(tmp_path: Path) -> None:
    file = tmp_path / 'bytes.onnx'
    file.write_bytes(network("""
        a = Cast<to=1>(image)
        b = Sub(a, mean)
        c = Div(b, std)
        d = Conv(c, w)
        heat = Conv(d, w)""", {'mean': np.full((3, 1, 1), 120.0), 'std': np.full((3, 1, 1), 58.0),
                               'w': rng().normal(size=(3, 3, 1, 1))}, 'uint8[N,3,32,24] image',
        'float[N,3,32,24] heat'))
    for verdict in rehearse(file).values():
        assert verdict.passed and verdict.deviations['heat'] < 0.5
    assert halved(half.convert(file.read_bytes(), 'fp16')) >= {'Sub', 'Div', 'Conv'}


def test_the_networks_of_the_package_are_half_as_large_with_few_casts(models_dir: Path) -> None:
    for name, most in (('pose_detection', 3), ('pose_landmark_full', 5)):
        content = (models_dir / f'{name}.onnx').read_bytes()
        model = half.convert(content, 'fp16')
        assert len(model) < 0.51 * len(content) and casts(model) <= most
        assert casts(half.convert(content, 'mixed')) <= 50
