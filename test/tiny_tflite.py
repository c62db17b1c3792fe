"""Write small TensorFlow Lite files for tests: tensors, operators, half-precision and block-sparse constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

TYPES = {'float32': 'FLOAT32', 'float16': 'FLOAT16', 'int32': 'INT32'}


@dataclass
class TinyModel:
    """A graph under construction. tensor() and op() return tensor numbers; finish() returns the file."""

    tensors: list[dict[str, Any]] = field(default_factory=list)
    ops: list[dict[str, Any]] = field(default_factory=list)

    def tensor(self, shape: Sequence[int], name: str = '', dtype: str = 'float32') -> int:
        """Add a computed tensor (or an input)."""
        self.tensors.append({'shape': list(shape), 'name': name or f'tensor{len(self.tensors)}', 'dtype': dtype})
        return len(self.tensors) - 1

    def constant(self, value: NDArray) -> int:
        """Add a constant."""
        index = self.tensor(value.shape, dtype=value.dtype.name)
        self.tensors[index]['values'] = value
        return index

    def sparse(self, value: NDArray, order: Sequence[int], blocks: dict[int, int], csr: Sequence[int]) -> int:
        """Add a block-sparse constant.

        order: the levels of the index, dimensions of the tensor first and then one for each entry of `blocks`
        (dimension -> block size). csr: the levels (by number in `order`) that list only what is present.
        """
        index = self.tensor(value.shape, dtype=value.dtype.name)
        values, levels = _sparse_index(value, order, blocks, csr)
        self.tensors[index] |= {'values': values, 'order': list(order), 'block_map': list(blocks), 'levels': levels}
        return index

    def op(self, name: str, inputs: Sequence[int], shape: Sequence[int], options: str = '', dtype: str = 'float32',
           **values: int) -> int:
        """Add an operator and its output. options: name of its table in the schema, values: the fields."""
        output = self.tensor(shape, dtype=dtype)
        self.ops.append({'name': name, 'inputs': list(inputs), 'outputs': [output], 'options': options,
                         'values': values})
        return output

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the file."""
        b = flatbuffers.Builder(1024)
        buffers = [_table(b, 'Buffer')]
        tensors = [self._write_tensor(b, tensor, buffers) for tensor in self.tensors]
        names = sorted({op['name'] for op in self.ops})
        ops = [self._write_op(b, op, names.index(op['name'])) for op in self.ops]
        subgraph = _table(b, 'SubGraph', Tensors=_offsets(b, tensors), Inputs=_ints(b, inputs),
                          Outputs=_ints(b, outputs), Operators=_offsets(b, ops))
        codes = [_table(b, 'OperatorCode', DeprecatedBuiltinCode=min(getattr(tflite.BuiltinOperator, name), 127),
                        BuiltinCode=getattr(tflite.BuiltinOperator, name), Version=1) for name in names]
        model = _table(b, 'Model', Version=3, OperatorCodes=_offsets(b, codes), Subgraphs=_offsets(b, [subgraph]),
                       Buffers=_offsets(b, buffers))
        b.Finish(model, file_identifier=b'TFL3')
        return bytes(b.Output())

    @staticmethod
    def _write_tensor(b: flatbuffers.Builder, tensor: dict[str, Any], buffers: list[int]) -> int:
        fields = {'Shape': _ints(b, tensor['shape']), 'Name': b.CreateString(tensor['name']),
                  'Type': getattr(tflite.TensorType, TYPES[tensor['dtype']])}
        if 'values' in tensor:
            data = b.CreateNumpyVector(np.frombuffer(np.ascontiguousarray(tensor['values']).tobytes(), np.uint8))
            fields['Buffer'] = len(buffers)
            buffers.append(_table(b, 'Buffer', Data=data))
        if 'levels' in tensor:
            levels = []
            for level in tensor['levels']:
                if isinstance(level, int):
                    levels.append(_table(b, 'DimensionMetadata', Format=tflite.DimensionType.DENSE, DenseSize=level))
                    continue
                segments, indices = (_table(b, 'Int32Vector', Values=_ints(b, part)) for part in level)
                levels.append(_table(
                    b, 'DimensionMetadata', Format=tflite.DimensionType.SPARSE_CSR,
                    ArraySegmentsType=tflite.SparseIndexVector.Int32Vector, ArraySegments=segments,
                    ArrayIndicesType=tflite.SparseIndexVector.Int32Vector, ArrayIndices=indices))
            fields['Sparsity'] = _table(
                b, 'SparsityParameters', TraversalOrder=_ints(b, tensor['order']),
                BlockMap=_ints(b, tensor['block_map']), DimMetadata=_offsets(b, levels))
        return _table(b, 'Tensor', **fields)

    @staticmethod
    def _write_op(b: flatbuffers.Builder, op: dict[str, Any], code: int) -> int:
        fields = {'OpcodeIndex': code, 'Inputs': _ints(b, op['inputs']), 'Outputs': _ints(b, op['outputs'])}
        if op['options']:
            fields['BuiltinOptions'] = _table(b, op['options'], **op['values'])
            fields['BuiltinOptionsType'] = getattr(tflite.BuiltinOptions, op['options'])
        return _table(b, 'Operator', **fields)


def _sparse_index(value: NDArray, order: Sequence[int], blocks: dict[int, int], csr: Sequence[int],
                  ) -> tuple[NDArray, list[Any]]:
    """Return the stored values and, per level, its size (dense) or (segments, indices)."""
    rank = value.ndim
    sizes = [size // blocks.get(dimension, 1) for dimension, size in enumerate(value.shape)] + list(blocks.values())

    def part(prefix: tuple[int, ...]) -> NDArray:
        """Return the values below a node of the index."""
        where = dict(zip(order, prefix))
        chosen = []
        for dimension, size in enumerate(value.shape):
            block = blocks.get(dimension, 1)
            inner = rank + list(blocks).index(dimension) if dimension in blocks else None
            chosen.append([i for i in range(size) if where.get(dimension, i // block) == i // block
                           and (inner is None or where.get(inner, i % block) == i % block)])
        return value[np.ix_(*chosen)]

    nodes: list[tuple[int, ...]] = [()]
    levels: list[Any] = []
    for level, dimension in enumerate(order):
        children = [(node, i) for node, i in product(nodes, range(sizes[dimension]))]
        if level in csr:
            children = [(node, i) for node, i in children if part((*node, i)).any()]
            counts = [sum(parent == node for parent, _ in children) for node in nodes]
            levels.append((np.concatenate([[0], np.cumsum(counts)]), [i for _, i in children]))
        else:
            levels.append(sizes[dimension])
        nodes = [(*node, i) for node, i in children]
    return np.array([part(node).item() for node in nodes], dtype=value.dtype), levels


def _table(b: flatbuffers.Builder, kind: str, **fields: int) -> int:
    getattr(tflite, f'{kind}Start')(b)
    for name, value in fields.items():
        getattr(tflite, f'{kind}Add{name}')(b, value)
    return getattr(tflite, f'{kind}End')(b)


def _ints(b: flatbuffers.Builder, values: Sequence[int]) -> int:
    return b.CreateNumpyVector(np.asarray(values, dtype=np.int32))


def _offsets(b: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()
