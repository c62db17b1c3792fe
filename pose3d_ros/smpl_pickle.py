"""SMPL's own .pkl files: the arrays in them, without unpickling.

They are pickles of Python 2 with arrays of NumPy, sparse matrices of SciPy and objects of chumpy. What is allowed here
are the few names that those need, as names; the arrays are put together by our own code.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.body_model_file import KEYS, BodyArrays, BodyModelError, checked_body_arrays
from pose3d_ros.pickle_reader import Global, Made, PickleRefusedError, read_pickle, text

_MOST_BYTES = 1 << 30     # the largest files of SMPL have a quarter of this
_MOST_VALUES = 1 << 27    # of one array
_TYPES = frozenset(['f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'b1'])
_CORE = tuple(f'numpy.{core}' for core in ('core', '_core'))
_RECONSTRUCT = frozenset((f'{core}.multiarray', '_reconstruct') for core in _CORE)
_FROM_BUFFER = frozenset((f'{core}.numeric', '_frombuffer') for core in _CORE)
_SPARSE = {(f'scipy.sparse.{module}', f'{kind}_{form}'): kind for kind in ('csc', 'csr', 'coo')
           for module in (kind, f'_{kind}') for form in ('matrix', 'array')}
_DTYPE, _ENCODE = ('numpy', 'dtype'), ('_codecs', 'encode')
_RECONSTRUCTOR = frozenset([('copy_reg', '_reconstructor'), ('copyreg', '_reconstructor')])
_CHUMPY = frozenset([('chumpy.ch', 'Ch'), ('chumpy', 'Ch')])
_BYTE_ARRAY = frozenset((module, 'bytearray') for module in ('builtins', '__builtin__'))
_HARMLESS = frozenset((module, name) for module in ('builtins', '__builtin__') for name in ('set', 'object', 'bytes'))
_SCALAR = frozenset((f'{core}.multiarray', 'scalar') for core in _CORE)
ALLOWED = frozenset([*_RECONSTRUCT, *_FROM_BUFFER, *_SPARSE, _DTYPE, ('numpy', 'ndarray'), _ENCODE, *_RECONSTRUCTOR,
                     *_CHUMPY, *_HARMLESS, *_SCALAR, *_BYTE_ARRAY, ('collections', 'OrderedDict')])


def read_smpl_pickle(path: Path) -> BodyArrays:
    """Return the body model in a .pkl file of SMPL. Raises BodyModelError, also for a file that asks for anything else.

    Nothing of the file is run.
    """
    cure = 'use the .npz file that the makers of the model offer'
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BodyModelError(f'{path}: is larger than 1 GB, which no such model is; {cure}')
        data = path.read_bytes()
    except OSError as error:
        raise BodyModelError(f'{path}: cannot be read ({error.strerror or error})') from error
    try:
        model = read_pickle(data, ALLOWED)
        if not isinstance(model, dict):
            raise PickleRefusedError('something that is no model')
        missing = [key for key in KEYS if key not in model]
        if missing:
            raise BodyModelError(f'{path}: lacks {", ".join(missing)}; a body model has {", ".join(KEYS)}')
        found = {key: _array(model[key], key) for key in KEYS}
    except PickleRefusedError as error:
        raise BodyModelError(f'{path}: refused, as the file asks for {error}. Nothing of it was run; {cure}') from error
    return checked_body_arrays(found, str(path))


def _array(value: Any, key: str, nested: bool = False) -> NDArray:
    """Return the array that a value stands for. Raises PickleRefusedError."""
    if not isinstance(value, Made):
        raise PickleRefusedError(f'{key} that is no array')
    by = (value.by.module, value.by.name)
    if by in _RECONSTRUCTOR or by in _CHUMPY or by in _SPARSE:
        made = _class_of(value)
        if not nested and isinstance(value.state, dict):
            if made in _CHUMPY:
                return _array(value.state.get('x'), key, nested=True)
            if made in _SPARSE:
                return _dense(_SPARSE[made], value.state, key)
    if by in _RECONSTRUCT and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, kind, column_major, data = value.state
        return _numbers(shape, kind, bool(column_major), data, key)
    if by in _FROM_BUFFER and len(value.arguments) == 4:
        data, kind, shape, order = value.arguments
        return _numbers(shape, kind, text(order) == 'F', data, key)
    raise PickleRefusedError(f'{key} as {value.by}')


def _class_of(value: Made) -> tuple[str, str]:
    """Return of which class an object is, also where Python 2 had it made by copy_reg."""
    first = value.arguments[0] if value.arguments else None
    if (value.by.module, value.by.name) in _RECONSTRUCTOR and isinstance(first, Global):
        return first.module, first.name
    return value.by.module, value.by.name


def _numbers(shape: Any, kind: Any, column_major: bool, data: Any, key: str) -> NDArray:
    if isinstance(data, Made):
        data = _bytes(data, key)
    if not (isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape) and len(shape) <= 4
            and isinstance(data, bytes)):
        raise PickleRefusedError(f'{key} as an array without sizes or values')
    dtype = _dtype(kind, key)
    if math.prod(shape) > _MOST_VALUES or math.prod(shape) * dtype.itemsize != len(data):
        raise PickleRefusedError(f'{key} as an array of {shape} in {len(data)} bytes')
    return np.frombuffer(data, dtype).reshape(shape, order='F' if column_major else 'C')


def _bytes(value: Made, key: str) -> bytes:
    """Return bytes, where Python 3 wrote them so that Python 2 could read them, or as an array of bytes."""
    if (value.by.module, value.by.name) in _HARMLESS and value.by.name == 'bytes' and not value.arguments:
        return b''
    if (value.by.module, value.by.name) == _ENCODE and len(value.arguments) == 2:
        letters, encoding = (text(argument) for argument in value.arguments)
        if encoding in ('latin1', 'latin-1') and all(ord(letter) < 256 for letter in set(letters)):
            return letters.encode('latin-1')
    if ((value.by.module, value.by.name) in _BYTE_ARRAY and len(value.arguments) == 1
            and isinstance(value.arguments[0], bytes)):
        return value.arguments[0]
    raise PickleRefusedError(f'{key} with values as {value.by}')


def _dtype(kind: Any, key: str) -> np.dtype:
    if not isinstance(kind, Made) or (kind.by.module, kind.by.name) != _DTYPE or not kind.arguments:
        raise PickleRefusedError(f'{key} as an array without a type')
    name = text(kind.arguments[0])
    if name not in _TYPES:
        raise PickleRefusedError(f'{key} as an array of type {name[:20]!r}')
    order = text(kind.state[1]) if isinstance(kind.state, tuple) and len(kind.state) > 1 else '|'
    if order not in ('<', '>', '|', '='):
        raise PickleRefusedError(f'{key} in a byte order that there is not')
    return np.dtype(f'{order}{name}')


def _dense(kind: str, state: dict, key: str) -> NDArray:
    """Return a sparse matrix as a whole one. Indices are checked: the file wrote them."""
    shape = state.get('_shape', state.get('shape'))
    if not (isinstance(shape, tuple) and len(shape) == 2 and all(type(size) is int and size >= 0 for size in shape)
            and math.prod(shape) <= _MOST_VALUES):
        raise PickleRefusedError(f'{key} as a sparse matrix without sizes')
    values = _array(state.get('data'), key, nested=True)
    if kind == 'coo':
        row, column = (_array(state.get(name), key, nested=True) for name in ('row', 'col'))
    else:
        minor, starts = (_array(state.get(name), key, nested=True) for name in ('indices', 'indptr'))
        lines = shape[1] if kind == 'csc' else shape[0]
        counts = np.diff(starts) if starts.dtype.kind in 'iu' and starts.shape == (lines + 1,) else np.array([-1])
        if counts.min(initial=0) < 0 or starts[0] != 0 or starts[-1] != len(minor):
            raise PickleRefusedError(f'{key} as a sparse matrix whose columns do not follow each other')
        major = np.repeat(np.arange(lines), counts)
        row, column = (minor, major) if kind == 'csc' else (major, minor)
    if not (values.shape == row.shape == column.shape and values.ndim == 1 and row.dtype.kind in 'iu'
            and column.dtype.kind in 'iu' and _within(row, shape[0]) and _within(column, shape[1])):
        raise PickleRefusedError(f'{key} as a sparse matrix with indices outside of it')
    whole = np.zeros(shape)
    np.add.at(whole, (row, column), values)
    return whole


def _within(indices: NDArray, size: int) -> bool:
    return not len(indices) or bool(indices.min() >= 0 and indices.max() < size)
