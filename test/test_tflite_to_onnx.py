"""The converter: every operator against a plain NumPy definition and against the reference interpreter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tflite
from numpy.typing import NDArray
from tiny_tflite import TinyModel

from pose3d_ros.runtime.catalogue import CATALOGUE
from pose3d_ros.runtime.parity import largest_difference, reference_outputs
from pose3d_ros.runtime.store import ModelMissing, ModelStore, convert_and_check
from pose3d_ros.runtime.tflite_graph import ConversionError, read_graph
from pose3d_ros.runtime.tflite_to_onnx import convert

SAME, VALID = tflite.Padding.SAME, tflite.Padding.VALID
NONE, RELU, RELU_N1_TO_1, RELU6 = (getattr(tflite.ActivationFunctionType, name)
                                   for name in ('NONE', 'RELU', 'RELU_N1_TO_1', 'RELU6'))


def run_converted(content: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert a one-input, one-output file and run it; images and result in the source's layout (NHWC)."""
    name = read_graph(content).tensors[read_graph(content).outputs[0]].name
    model = convert(content, inputs=['image'], outputs={name: 'result'})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    turned = images.transpose(0, 3, 1, 2) if images.ndim == 4 else images
    result, = session.run(['result'], {'image': np.ascontiguousarray(turned)})
    return result.transpose(0, 2, 3, 1) if result.ndim == 4 else result


def check(model: TinyModel, image: int, result: int, definition: Callable[[NDArray], NDArray] | None,
          rng: np.random.Generator, reference: str) -> None:
    """Compare a converted model with its definition or with the interpreter, and a batch with its single images."""
    content = model.finish([image], [result])
    images = rng.normal(size=(2, *model.tensors[image]['shape'][1:])).astype(np.float32) * 3
    found = run_converted(content, images)
    assert list(found.shape[1:]) == model.tensors[result]['shape'][1:]
    np.testing.assert_array_equal(run_converted(content, images[:1]), found[:1])
    np.testing.assert_array_equal(run_converted(content, images[1:]), found[1:])
    if reference == 'numpy':
        assert definition is not None
        expected = definition(images[:1])
    else:
        outputs = reference_outputs(content, [images[:1]])
        if outputs is None:
            pytest.skip('no reference interpreter is installed (ai-edge-litert)')
        expected, = outputs.values()
    np.testing.assert_allclose(found[:1], expected, rtol=1e-5, atol=2e-5)


both_references = pytest.mark.parametrize('reference', ['numpy', 'interpreter'])


def activated(values: NDArray, activation: int) -> NDArray:
    low, high = {NONE: (-np.inf, np.inf), RELU: (0, np.inf), RELU6: (0, 6), RELU_N1_TO_1: (-1, 1)}[activation]
    return np.clip(values, low, high)


def windows(image: NDArray, size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], padding: int,
            fill: float) -> NDArray:
    """Return (H', W', kh, kw, C): what each output pixel sees, pixel by pixel from the definition."""
    height, width, channels = image.shape
    reach = [(size[axis] - 1) * dilation[axis] + 1 for axis in (0, 1)]
    if padding == SAME:
        count = [-(-length // step) for length, step in zip((height, width), stride)]
        first = [-(max((count[axis] - 1) * stride[axis] + reach[axis] - (height, width)[axis], 0) // 2)
                 for axis in (0, 1)]
    else:
        count = [(length - reached) // step + 1 for length, reached, step in zip((height, width), reach, stride)]
        first = [0, 0]
    seen = np.full((*count, *size, channels), float(fill))
    for row, column, i, j in np.ndindex(*count, *size):
        y = first[0] + row * stride[0] + i * dilation[0]
        x = first[1] + column * stride[1] + j * dilation[1]
        if 0 <= y < height and 0 <= x < width:
            seen[row, column, i, j] = image[y, x]
    return seen


CONVOLUTIONS = [  # input size, kernel, stride, dilation, padding, activation
    ((8, 8), (3, 3), (2, 2), (1, 1), SAME, RELU6),   # even size, stride 2: the odd padding pixel goes last
    ((7, 9), (3, 3), (2, 2), (1, 1), SAME, RELU),
    ((8, 7), (5, 5), (2, 2), (1, 1), SAME, NONE),
    ((6, 6), (2, 2), (1, 1), (1, 1), SAME, NONE),    # even kernel: asymmetric at stride 1 too
    ((5, 6), (1, 1), (1, 1), (1, 1), VALID, NONE),
    ((5, 5), (1, 1), (2, 2), (1, 1), SAME, NONE),
    ((9, 8), (2, 3), (2, 1), (1, 1), SAME, RELU_N1_TO_1),
    ((9, 7), (3, 2), (3, 2), (1, 1), VALID, RELU6),
    ((9, 9), (3, 3), (1, 1), (2, 2), SAME, NONE),
    ((2, 2), (2, 2), (1, 1), (1, 1), VALID, NONE),   # to one pixel, like the landmark heads
]


@both_references
@pytest.mark.parametrize('case', CONVOLUTIONS)
@pytest.mark.parametrize('depthwise', [False, True])
def test_convolution(depthwise: bool, case: tuple, reference: str) -> None:
    size, extent, stride, dilation, padding, activation = case
    rng = np.random.default_rng(1)
    channels, out = 3, 6  # depthwise: each channel gives two
    model = TinyModel()
    image = model.tensor((1, *size, channels))
    kernel = rng.normal(size=(1, *extent, out) if depthwise else (out, *extent, channels)).astype(np.float32)
    bias = rng.normal(size=out).astype(np.float32)
    options = {'Padding': padding, 'StrideH': stride[0], 'StrideW': stride[1], 'DilationHFactor': dilation[0],
               'DilationWFactor': dilation[1], 'FusedActivationFunction': activation}

    def definition(images: NDArray) -> NDArray:
        seen = windows(images[0], extent, stride, dilation, padding, 0)
        if depthwise:
            values = np.einsum('hwijc,ijcm->hwcm', seen, kernel[0].reshape(*extent, channels, 2))
            values = values.reshape(*values.shape[:2], out)
        else:
            values = np.einsum('hwijc,oijc->hwo', seen, kernel)
        return activated(values + bias, activation)[None]

    shape = definition(np.zeros((1, *size, channels))).shape
    inputs = [image, model.constant(kernel), model.constant(bias)]
    if depthwise:
        result = model.op('DEPTHWISE_CONV_2D', inputs, shape, 'DepthwiseConv2DOptions', DepthMultiplier=2, **options)
    else:
        result = model.op('CONV_2D', inputs, shape, 'Conv2DOptions', **options)
    check(model, image, result, definition, rng, reference)


def test_convolution_without_bias() -> None:
    rng = np.random.default_rng(2)
    model = TinyModel()
    image = model.tensor((1, 4, 4, 2))
    kernel = rng.normal(size=(3, 1, 1, 2)).astype(np.float32)
    result = model.op('CONV_2D', [image, model.constant(kernel), -1], (1, 4, 4, 3), 'Conv2DOptions', Padding=VALID,
                      StrideH=1, StrideW=1)
    check(model, image, result, lambda images: images @ kernel[:, 0, 0].T, rng, 'numpy')


@both_references
@pytest.mark.parametrize(('size', 'extent', 'stride', 'padding', 'activation'), [
    ((8, 8), (2, 2), (2, 2), SAME, NONE), ((7, 5), (2, 2), (2, 2), SAME, NONE), ((7, 7), (3, 3), (2, 2), VALID, RELU),
    ((6, 7), (3, 2), (1, 2), SAME, RELU6)])
def test_max_pool(size: tuple, extent: tuple, stride: tuple, padding: int, activation: int, reference: str) -> None:
    rng = np.random.default_rng(3)
    model = TinyModel()
    image = model.tensor((1, *size, 2))

    def definition(images: NDArray) -> NDArray:  # outside the image is never the maximum, though values are negative
        highest = windows(images[0], extent, stride, (1, 1), padding, -np.inf).max(axis=(2, 3))
        return activated(highest, activation)[None]

    result = model.op('MAX_POOL_2D', [image], definition(np.zeros((1, *size, 2))).shape, 'Pool2DOptions',
                      Padding=padding, StrideH=stride[0], StrideW=stride[1], FilterHeight=extent[0],
                      FilterWidth=extent[1], FusedActivationFunction=activation)
    check(model, image, result, definition, rng, reference)


@both_references
@pytest.mark.parametrize('amounts', [((0, 0), (1, 1), (1, 1), (0, 0)), ((0, 0), (0, 2), (3, 1), (0, 0)),
                                     ((0, 0), (0, 0), (1, 0), (2, 1))])
def test_pad(amounts: tuple, reference: str) -> None:
    model = TinyModel()
    image = model.tensor((1, 4, 5, 3))
    shape = [size + sum(amount) for size, amount in zip((1, 4, 5, 3), amounts)]
    result = model.op('PAD', [image, model.constant(np.array(amounts, dtype=np.int32))], shape)
    check(model, image, result, lambda images: np.pad(images, amounts), np.random.default_rng(4), reference)


RULES = {'half_pixel': {'HalfPixelCenters': 1}, 'align_corners': {'AlignCorners': 1}, 'asymmetric': {}}


@both_references
@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize(('size', 'new_size'), [((4, 4), (8, 8)), ((7, 7), (14, 14)), ((5, 3), (7, 11)),
                                                ((9, 8), (4, 3)), ((6, 6), (6, 13))])
def test_resize(size: tuple, new_size: tuple, rule: str, reference: str) -> None:
    model = TinyModel()
    image = model.tensor((1, *size, 2))
    result = model.op('RESIZE_BILINEAR', [image, model.constant(np.array(new_size, dtype=np.int32))],
                      (1, *new_size, 2), 'ResizeBilinearOptions', **RULES[rule])

    def weights(old: int, new: int) -> NDArray:
        at = np.arange(new, dtype=float)
        at = {'half_pixel': (at + 0.5) * old / new - 0.5, 'align_corners': at * (old - 1) / (new - 1),
              'asymmetric': at * old / new}[rule]
        return np.maximum(1 - np.abs(np.clip(at, 0, old - 1)[:, None] - np.arange(old)), 0)

    check(model, image, result, lambda images: np.einsum(
        'yi,xj,nijc->nyxc', weights(size[0], new_size[0]), weights(size[1], new_size[1]), images),
        np.random.default_rng(5), reference)


@both_references
@pytest.mark.parametrize(('shape', 'new_shape'), [
    ((1, 4, 3, 6), (1, 24, 3)), ((1, 4, 3, 1), (1, 12, 1)), ((1, 1, 1, 6), (1, 6)), ((1, 24, 3), (1, 4, 3, 6)),
    ((1, 4, 3, 6), (1, 2, 6, 6)), ((1, 12), (1, 3, 4))])
def test_reshape_keeps_the_order_of_the_source(shape: tuple, new_shape: tuple, reference: str) -> None:
    model = TinyModel()
    image = model.tensor(shape)
    result = model.op('RESHAPE', [image, model.constant(np.array(new_shape, dtype=np.int32))], new_shape)
    check(model, image, result, lambda images: images.reshape(new_shape), np.random.default_rng(6), reference)


@both_references
@pytest.mark.parametrize(('shape', 'axis'), [((1, 3, 4, 2), 1), ((1, 3, 4, 2), 2), ((1, 3, 4, 2), 3),
                                             ((1, 3, 4, 2), -1), ((1, 5, 2), 1), ((1, 5, 2), -1)])
def test_concatenation(shape: tuple, axis: int, reference: str) -> None:
    model = TinyModel()
    image = model.tensor(shape)
    other = model.op('LOGISTIC', [image], shape)
    joined = list(shape)
    joined[axis] *= 2
    result = model.op('CONCATENATION', [image, other], joined, 'ConcatenationOptions', Axis=axis)
    check(model, image, result, lambda images: np.concatenate([images, 1 / (1 + np.exp(-images))], axis),
          np.random.default_rng(7), reference)


@both_references
@pytest.mark.parametrize('shape', [(3,), (1, 1, 1, 3), (1, 4, 1, 1), (1, 1, 5, 3), (1, 4, 5, 3), (1,)])
@pytest.mark.parametrize('activation', [NONE, RELU6])
def test_sum_with_a_constant(shape: tuple, activation: int, reference: str) -> None:
    rng = np.random.default_rng(8)
    model = TinyModel()
    image = model.tensor((1, 4, 5, 3))
    constant = rng.normal(size=shape).astype(np.float32)
    result = model.op('ADD', [image, model.constant(constant)], (1, 4, 5, 3), 'AddOptions',
                      FusedActivationFunction=activation)
    check(model, image, result, lambda images: activated(images + constant, activation), rng, reference)


@both_references
def test_sum_of_two_computed_tensors(reference: str) -> None:
    model = TinyModel()
    image = model.tensor((1, 3, 4, 2))
    result = model.op('ADD', [image, model.op('LOGISTIC', [image], (1, 3, 4, 2))], (1, 3, 4, 2), 'AddOptions',
                      FusedActivationFunction=RELU)
    check(model, image, result, lambda images: np.maximum(images + 1 / (1 + np.exp(-images)), 0),
          np.random.default_rng(9), reference)


@both_references
@pytest.mark.parametrize('block', [2, 3])
def test_depth_to_space(block: int, reference: str) -> None:
    model = TinyModel()
    image = model.tensor((1, 2, 3, 2 * block * block))
    result = model.op('DEPTH_TO_SPACE', [image], (1, 2 * block, 3 * block, 2), 'DepthToSpaceOptions', BlockSize=block)
    check(model, image, result, lambda images: images.reshape(1, 2, 3, block, block, 2).transpose(
        0, 1, 3, 2, 4, 5).reshape(1, 2 * block, 3 * block, 2), np.random.default_rng(10), reference)


def blocky(rng: np.random.Generator, shape: tuple[int, ...], blocks: dict[int, int]) -> NDArray[np.float16]:
    """Return random values of which whole blocks are zero."""
    kept = rng.random([size // blocks.get(axis, 1) for axis, size in enumerate(shape)]) < 0.4
    for axis, block in blocks.items():
        kept = kept.repeat(block, axis)
    return (rng.uniform(0.5, 1, shape) * kept).astype(np.float16)


SPARSE = [  # order of the levels, blocks, levels in CSR form
    ((0, 1, 2, 3), {}, (3,)),
    ((0, 1, 2, 3, 4), {0: 4}, (3,)),       # as in BlazePose's detector
    ((0, 3, 1, 2, 4, 5), {0: 2, 3: 4}, (1,)),
    ((3, 0, 1, 2, 5, 4), {0: 4, 3: 2}, (0, 1)),
    ((0, 1, 2, 3), {}, ()),
]


@both_references
@pytest.mark.parametrize(('order', 'blocks', 'csr'), SPARSE)
def test_half_precision_and_sparse_weights(order: tuple, blocks: dict, csr: tuple, reference: str) -> None:
    rng = np.random.default_rng(11)
    model = TinyModel()
    image = model.tensor((1, 3, 3, 8))
    kernel = blocky(rng, (8, 1, 1, 8), blocks)
    bias = rng.normal(size=8).astype(np.float16)
    dense = model.op('DENSIFY', [model.sparse(kernel, order, blocks, csr)], kernel.shape, dtype='float16')
    wide = model.op('DEQUANTIZE', [dense], kernel.shape)
    wide_bias = model.op('DEQUANTIZE', [model.constant(bias)], bias.shape)
    result = model.op('CONV_2D', [image, wide, wide_bias], (1, 3, 3, 8), 'Conv2DOptions', Padding=VALID, StrideH=1,
                      StrideW=1, DilationHFactor=1, DilationWFactor=1)
    check(model, image, result, lambda images: images @ kernel[:, 0, 0].astype(np.float32).T + bias, rng, reference)


@pytest.mark.parametrize('seed', range(20))
def test_random_graphs(seed: int) -> None:
    """Chains of random operators with shortcuts agree with the interpreter."""
    rng = np.random.default_rng(100 + seed)
    model = TinyModel()
    image = last = model.tensor((1, int(rng.integers(6, 14)), int(rng.integers(6, 14)), 4))
    for _ in range(8):
        last = _random_operator(model, last, rng)
    check(model, image, last, None, rng, 'interpreter')


def _random_operator(model: TinyModel, source: int, rng: np.random.Generator) -> int:
    _, height, width, channels = shape = model.tensors[source]['shape']
    step = int(rng.integers(1, 3)) if min(height, width) > 4 else 1
    smaller = (-(-height // step), -(-width // step))
    activation = {'FusedActivationFunction': int(rng.choice([NONE, RELU, RELU6]))}
    window = {'Padding': SAME, 'StrideH': step, 'StrideW': step, **activation}
    extent = (int(rng.integers(1, 6)), int(rng.integers(1, 6)))
    kind = rng.choice(['conv', 'depthwise', 'pool', 'pad', 'resize', 'add', 'concat'])
    if kind == 'pool' and model.ops and model.ops[-1]['name'] == 'PAD':  # refused, see below
        kind = 'conv'
    if kind == 'conv':
        kernel = (rng.normal(size=(4, *extent, channels)) / np.sqrt(np.prod(extent) * channels)).astype(np.float32)
        inputs = [source, model.constant(kernel), model.constant(rng.normal(size=4).astype(np.float32))]
        return model.op('CONV_2D', inputs, (1, *smaller, 4), 'Conv2DOptions', DilationHFactor=1, DilationWFactor=1,
                        **window)
    if kind == 'depthwise':
        kernel = (rng.normal(size=(1, *extent, channels)) / np.sqrt(np.prod(extent))).astype(np.float32)
        inputs = [source, model.constant(kernel), model.constant(rng.normal(size=channels).astype(np.float32))]
        return model.op('DEPTHWISE_CONV_2D', inputs, (1, *smaller, channels), 'DepthwiseConv2DOptions',
                        DepthMultiplier=1, DilationHFactor=1, DilationWFactor=1, **window)
    if kind == 'pool':
        return model.op('MAX_POOL_2D', [source], (1, *smaller, channels), 'Pool2DOptions', FilterHeight=extent[0],
                        FilterWidth=extent[1], **window)
    if kind == 'pad':
        amounts = np.array([(0, 0), *rng.integers(0, 3, size=(2, 2)), (0, 0)], dtype=np.int32)
        return model.op('PAD', [source, model.constant(amounts)], shape + amounts.sum(axis=1))
    if kind == 'resize':
        size = rng.integers(4, 16, size=2).astype(np.int32)
        return model.op('RESIZE_BILINEAR', [source, model.constant(size)], (1, *size, channels),
                        'ResizeBilinearOptions', HalfPixelCenters=1)
    other = model.op('LOGISTIC', [source], shape)
    if kind == 'add':
        return model.op('ADD', [source, other], shape, 'AddOptions', **activation)
    return model.op('CONCATENATION', [source, other], (1, height, width, 2 * channels), 'ConcatenationOptions', Axis=3)


def two_branches(op: str) -> bytes:
    """Return a file with a wanted output (a sum) and an unwanted one (another operator, on top of a logistic)."""
    model = TinyModel()
    image = model.tensor((1, 2, 2, 2))
    wanted = model.op('ADD', [image, image], (1, 2, 2, 2), 'AddOptions')
    unwanted = model.op(op, [model.op('LOGISTIC', [image], (1, 2, 2, 2))], (1, 2, 2, 2))
    model.tensors[wanted]['name'], model.tensors[unwanted]['name'] = 'wanted', 'unwanted'
    return model.finish([image], [wanted, unwanted])


def test_only_what_leads_to_a_wanted_output_is_converted() -> None:
    model = convert(two_branches('COS'), inputs=['image'], outputs={'wanted': 'sum'}, metadata={'licence': 'free'})
    assert [node.op_type for node in model.graph.node] == ['Add']
    assert [output.name for output in model.graph.output] == ['sum']
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == ['N', 2, 2, 2]
    assert {entry.key: entry.value for entry in model.metadata_props}['licence'] == 'free'


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(ConversionError, match=r"COS \(node 2\) writing 'unwanted'"):
        convert(two_branches('COS'), inputs=['image'], outputs={'unwanted': 'x'})


def test_an_unknown_output_is_named_with_what_there_is() -> None:
    with pytest.raises(ConversionError, match="no output 'nothing'; the file has wanted, unwanted"):
        convert(two_branches('COS'), inputs=['image'], outputs={'nothing': 'x'})


def test_what_would_mix_the_images_of_a_batch_is_refused() -> None:
    model = TinyModel()
    image = model.tensor((1, 2, 2, 2))
    result = model.op('CONCATENATION', [image, image], (2, 2, 2, 2), 'ConcatenationOptions', Axis=0)
    with pytest.raises(ConversionError, match='CONCATENATION .node 0.: concatenation along the batch'):
        run_converted(model.finish([image], [result]), np.zeros((1, 2, 2, 2), np.float32))


def test_what_the_runtime_would_get_wrong_is_refused() -> None:
    model = TinyModel()
    image = model.tensor((1, 4, 4, 1))
    amounts = model.constant(np.array([(0, 0), (1, 1), (1, 1), (0, 0)], dtype=np.int32))
    padded = model.op('PAD', [image, amounts], (1, 6, 6, 1))
    result = model.op('MAX_POOL_2D', [padded], (1, 3, 3, 1), 'Pool2DOptions', Padding=VALID, StrideH=2, StrideW=2,
                      FilterHeight=2, FilterWidth=2)
    with pytest.raises(ConversionError, match='MAX_POOL_2D .node 1.: the maximum over a padded tensor'):
        run_converted(model.finish([image], [result]), np.zeros((1, 4, 4, 1), np.float32))


def test_damaged_files_are_refused() -> None:
    content = two_branches('LOGISTIC')
    with pytest.raises(ConversionError, match='not a TensorFlow Lite file'):
        read_graph(b'PK\x03\x04 something else')
    refused = 0
    for end in range(0, len(content), 7):
        try:
            convert(content[:end], inputs=['image'], outputs={'wanted': 'x'})
        except ConversionError:
            refused += 1
    assert refused >= len(content) / 7 * 0.7  # the last part holds data that this output does not need


def test_changed_bytes_never_raise_anything_but_a_conversion_error() -> None:
    rng = np.random.default_rng(12)
    content = np.frombuffer(two_branches('LOGISTIC'), np.uint8)
    for _ in range(300):
        damaged = content.copy()
        damaged[rng.integers(8, len(content), 3)] = rng.integers(0, 256, 3)
        try:
            read_graph(damaged.tobytes())
        except ConversionError as error:
            assert str(error)


def test_conversion_is_deterministic_and_known_to_old_runtimes() -> None:
    first, second = (convert(two_branches('COS'), inputs=['image'], outputs={'wanted': 'x'}).SerializeToString(
        deterministic=True) for _ in range(2))
    assert first == second
    model = onnx.load_from_string(first)
    assert model.ir_version <= 9 and model.opset_import[0].version <= 19  # what ONNX Runtime 1.16 accepts


def cached_network(name: str) -> Path:
    try:
        return ModelStore().path(name)
    except ModelMissing as error:
        pytest.skip(f'not cached; run `pose3d fetch --all` ({error})')


# SHA-256 of the converted networks: the same with onnx 1.14 to 1.23. Who changes them raises CONVERTER_VERSION.
NETWORKS = {
    'pose_detection': '2a8a10a72a66277534bb19d8d4547d2c2fadf538b82b2fb3ec9db413f48296ab',
    'pose_landmark_full': '6cf152b2327738250aa106ff9cf01b050b9c1eb2b65a748e00ae5fa1c39db73d',
    'pose_landmark_lite': 'de74c2ee278f66f72cdb86a5bc4275fe1d97bbb6a7c02560790cfb549da49968',
    'pose_landmark_heavy': '38b99431d103370517ac134a0d5dce7d10ccb1db944238ba746fd0aeb26c5d4e',
}


@pytest.mark.parametrize('name', NETWORKS)
def test_the_real_networks_agree_with_the_reference(name: str) -> None:
    path = cached_network(name)
    source = path.with_suffix('.tflite').read_bytes()
    converted, difference = convert_and_check(CATALOGUE[name], source)
    assert hashlib.sha256(converted).hexdigest() == NETWORKS[name]
    assert converted == path.read_bytes()  # what is cached is what the converter makes today
    if difference is None:
        pytest.skip('no reference interpreter is installed (ai-edge-litert)')
    assert difference < 1e-4


@pytest.mark.parametrize('name', NETWORKS)
def test_the_real_networks_have_the_promised_ends_and_batch(name: str) -> None:
    session = onnxruntime.InferenceSession(str(cached_network(name)), providers=['CPUExecutionProvider'])
    size = 224 if name == 'pose_detection' else 256
    expected = {'boxes': (2254, 12), 'scores': (2254, 1)} if name == 'pose_detection' else {
        'landmarks': (195,), 'presence': (1,), 'heatmap': (39, 64, 64), 'world': (117,)}
    images = np.random.default_rng(13).random((2, 3, size, size), dtype=np.float32)
    both = session.run(list(expected), {'image': images})
    single = session.run(list(expected), {'image': images[1:]})
    assert {output.name: both[i].shape[1:] for i, output in enumerate(session.get_outputs())} == expected
    for together, alone in zip(both, single):
        np.testing.assert_allclose(together[1:], alone, rtol=1e-5, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata['source_sha256'] == CATALOGUE[name].members[0].sha256
    assert metadata['input_size'] == f'{size}x{size}' and 'Apache-2.0' in metadata['licence']


def test_a_wrong_conversion_is_noticed() -> None:
    content = two_branches('LOGISTIC')
    wrong = convert(content, inputs=['image'], outputs={'unwanted': 'wanted'}).SerializeToString()
    difference = largest_difference(content, wrong, {'wanted': 'wanted'})
    if difference is None:
        pytest.skip('no reference interpreter is installed (ai-edge-litert)')
    assert difference > 0.1
