"""Read a TensorFlow Lite file into a plain graph: tensors, nodes, options and decoded constants.

Only what float networks need: float32 and float16 values, integer shapes, and block-sparse weights, which are expanded
while reading. The file format is TensorFlow Lite's schema version 3, read through the `tflite` package.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray


class ConversionError(ValueError):
    """The file is not a TensorFlow Lite model, or holds something that this converter does not know."""


@dataclass(frozen=True)
class Tensor:
    """One edge of the graph. shape as stored in the file (rank 4: NHWC); data: the value of a constant, else None."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    data: NDArray | None = None


@dataclass(frozen=True)
class Node:
    """One operator. inputs, outputs: tensor numbers (-1 for an optional input left out); options by schema name."""

    index: int
    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f'{self.op} (node {self.index})'


@dataclass(frozen=True)
class Graph:
    """The first subgraph of a file: tensors by number, nodes in the order of execution."""

    tensors: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


_OPTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    'CONV_2D': (tflite.Conv2DOptions, ('Padding', 'StrideH', 'StrideW', 'DilationHFactor', 'DilationWFactor',
                                       'FusedActivationFunction')),
    'DEPTHWISE_CONV_2D': (tflite.DepthwiseConv2DOptions, ('Padding', 'StrideH', 'StrideW', 'DilationHFactor',
                                                          'DilationWFactor', 'FusedActivationFunction')),
    'MAX_POOL_2D': (tflite.Pool2DOptions, ('Padding', 'StrideH', 'StrideW', 'FilterHeight', 'FilterWidth',
                                           'FusedActivationFunction')),
    'ADD': (tflite.AddOptions, ('FusedActivationFunction',)),
    'CONCATENATION': (tflite.ConcatenationOptions, ('Axis', 'FusedActivationFunction')),
    'DEPTH_TO_SPACE': (tflite.DepthToSpaceOptions, ('BlockSize',)),
    'RESIZE_BILINEAR': (tflite.ResizeBilinearOptions, ('AlignCorners', 'HalfPixelCenters')),
}


def _names(schema_enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(schema_enum).items() if not name.startswith('_')}


_OP_NAMES = _names(tflite.BuiltinOperator)
_TYPE_NAMES = _names(tflite.TensorType)
_DTYPES = {'FLOAT32': '<f4', 'FLOAT16': '<f2', 'INT32': '<i4', 'INT64': '<i8'}


def read_graph(content: bytes) -> Graph:
    """Return the graph of a TensorFlow Lite file. Raises ConversionError when the content is not one or is damaged."""
    if content[4:8] != b'TFL3':
        raise ConversionError('not a TensorFlow Lite file (schema version 3)')
    try:
        model = tflite.Model.GetRootAs(content, 0)
        if model.SubgraphsLength() != 1:
            raise ConversionError(f'{model.SubgraphsLength()} subgraphs; only files with one are known')
        subgraph = model.Subgraphs(0)
        tensors = tuple(_tensor(model, subgraph, index) for index in range(subgraph.TensorsLength()))
        nodes = tuple(_node(model, subgraph, index) for index in range(subgraph.OperatorsLength()))
        return Graph(tensors, nodes, _integers(subgraph.InputsAsNumpy()), _integers(subgraph.OutputsAsNumpy()))
    except ConversionError:
        raise
    except (struct.error, ValueError, IndexError, TypeError, AttributeError) as error:
        raise ConversionError(f'damaged TensorFlow Lite file: {error}') from error


def _integers(values: Any) -> tuple[int, ...]:
    # The schema's accessor gives the number 0 for a vector that is absent.
    return () if isinstance(values, int) else tuple(int(value) for value in values)


def _node(model: Any, subgraph: Any, index: int) -> Node:
    operator = subgraph.Operators(index)
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Old files keep the operator in an 8-bit field, new ones in a wider one; the unused of the two is smaller.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    op = _OP_NAMES.get(number, f'operator {number}')
    if op == 'CUSTOM':
        op = f'custom operator {(code.CustomCode() or b"?").decode()}'
    options: dict[str, int] = {}
    if op in _OPTIONS and operator.BuiltinOptions() is not None:
        kind, fields = _OPTIONS[op]
        table = kind()
        table.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
        options = {name: int(getattr(table, name)()) for name in fields}
    return Node(index, op, _integers(operator.InputsAsNumpy()), _integers(operator.OutputsAsNumpy()), options)


def _tensor(model: Any, subgraph: Any, index: int) -> Tensor:
    tensor = subgraph.Tensors(index)
    name = (tensor.Name() or b'').decode()
    shape = _integers(tensor.ShapeAsNumpy())
    dtype = _TYPE_NAMES.get(tensor.Type(), f'type {tensor.Type()}')
    buffer = model.Buffers(tensor.Buffer())
    if buffer.DataLength() == 0 or dtype not in _DTYPES:
        return Tensor(index, name, shape, dtype)
    values = np.frombuffer(buffer.DataAsNumpy().tobytes(), dtype=_DTYPES[dtype])
    sparsity = tensor.Sparsity()
    if sparsity is not None:
        return Tensor(index, name, shape, dtype, _expand_sparse(values, sparsity, shape, name))
    if values.size != np.prod(shape, dtype=int):
        raise ConversionError(f'tensor {name!r}: {values.size} values for shape {shape}')
    return Tensor(index, name, shape, dtype, values.reshape(shape))


def _expand_sparse(values: NDArray, sparsity: Any, shape: tuple[int, ...], name: str) -> NDArray:
    """Return the dense form of a block-sparse tensor.

    The stored values are the leaves of a tree with one level per entry of the traversal order: first the dimensions of
    the tensor (in blocks), then the dimensions inside a block. A dense level lists every index; a CSR level lists, per
    parent, the indices that are present.
    """
    order = _integers(sparsity.TraversalOrderAsNumpy())
    block_map = _integers(sparsity.BlockMapAsNumpy())
    coordinates = np.zeros((1, 0), dtype=np.int64)  # a row per tree node of the level reached, a column per level
    for level in range(sparsity.DimMetadataLength()):
        metadata = sparsity.DimMetadata(level)
        if metadata.Format() == tflite.DimensionType.DENSE:
            size = metadata.DenseSize()
            children = np.tile(np.arange(size), len(coordinates))
            counts = np.full(len(coordinates), size)
        else:
            segments = _index_vector(metadata.ArraySegments(), metadata.ArraySegmentsType())
            children = _index_vector(metadata.ArrayIndices(), metadata.ArrayIndicesType())
            counts = np.diff(segments)
        if len(counts) != len(coordinates) or counts.sum() != len(children):
            raise ConversionError(f'tensor {name!r}: inconsistent sparse index at level {level}')
        coordinates = np.column_stack([np.repeat(coordinates, counts, axis=0), children])
    if len(coordinates) != len(values) or coordinates.shape[1] != len(order):
        raise ConversionError(f'tensor {name!r}: {len(values)} sparse values, {len(coordinates)} positions')

    by_dimension = coordinates[:, np.argsort(order)]
    position = by_dimension[:, :len(shape)]
    for block, dimension in enumerate(block_map):
        inner = by_dimension[:, len(shape) + block]
        block_size = sparsity.DimMetadata(order.index(len(shape) + block)).DenseSize()
        position[:, dimension] = position[:, dimension] * block_size + inner
    dense = np.zeros(shape, dtype=values.dtype)
    dense[tuple(position.T)] = values
    return dense


def _index_vector(union: Any, kind: int) -> NDArray[np.int64]:
    tables = {tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
              tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
              tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector}
    if union is None or kind not in tables:
        raise ConversionError('sparse tensor without index vectors')
    table = tables[kind]()
    table.Init(union.Bytes, union.Pos)
    return np.array(_integers(table.ValuesAsNumpy()), dtype=np.int64)
