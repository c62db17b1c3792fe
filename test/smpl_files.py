"""Pickles as SMPL's makers wrote them: stand-ins under the names of chumpy, SciPy and NumPy of their time."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.body_model_file import BodyArrays


def smpl_arrays(arrays: BodyArrays) -> dict[str, NDArray]:
    """Return a model under SMPL's names and in the types that its files have."""
    table = np.stack([arrays.parents, np.arange(24)])
    table[0, 0] = 2 ** 32 - 1
    return {'v_template': arrays.template.astype(np.float64), 'shapedirs': arrays.shapedirs.astype(np.float64),
            'posedirs': arrays.posedirs.astype(np.float64), 'J_regressor': arrays.regressor.astype(np.float64),
            'weights': arrays.weights.astype(np.float64), 'kintree_table': table.astype(np.int64),
            'f': arrays.faces.astype(np.uint32)}


@contextmanager
def modules(**classes: type) -> Iterator[None]:
    """Put classes where pickle looks for them, for as long as it writes. Names: module__path__Class."""
    before = dict(sys.modules)
    try:
        for path, kind in classes.items():
            *parents, name = path.split('__')
            kind.__module__, kind.__qualname__, kind.__name__ = '.'.join(parents), name, name
            for length in range(1, len(parents) + 1):
                own = '.'.join(parents[:length])
                sys.modules[own] = types.ModuleType(own)
            setattr(sys.modules[kind.__module__], name, kind)
        yield
    finally:
        sys.modules.clear()
        sys.modules.update(before)


def write_smpl_pickle(arrays: BodyArrays, protocol: int, sparse: str = 'csc') -> bytes:
    """Return a pickle as of SMPL: shapedirs an object of chumpy, J_regressor a sparse matrix, more keys than needed."""
    class Ch:
        def __init__(self, x: NDArray) -> None:
            self.__dict__.update(x=x, _dirty_vars={'x'}, _itr=None, _status='new', dterms=('x',))

    class Sparse:
        def __init__(self, **state: Any) -> None:
            self.__dict__.update(state)

    found: dict[str, Any] = smpl_arrays(arrays)
    whole = found['J_regressor']
    rows, columns = np.nonzero(whole)
    if sparse == 'csc':
        columns, rows = np.nonzero(whole.T)
    counts = np.bincount(columns if sparse == 'csc' else rows, minlength=whole.shape[1 if sparse == 'csc' else 0])
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    state = {'_shape': whole.shape, 'maxprint': 50, 'data': whole[rows, columns],
             'indices': (rows if sparse == 'csc' else columns).astype(np.int32), 'indptr': starts}
    if sparse == 'coo':
        state = {'_shape': whole.shape, 'data': whole[rows, columns], 'row': rows, 'col': columns}
    path = f'scipy__sparse__{sparse}__{sparse}_matrix'
    with modules(chumpy__ch__Ch=Ch, **{path: Sparse}):
        found.update(shapedirs=Ch(found['shapedirs']), J_regressor=Sparse(**state), bs_style='lbs', bs_type='lrotmin',
                     J=Ch(np.zeros((24, 3))), vert_sym_idxs=np.arange(7), scale=np.float64(2.0))
        return pickle.dumps(found, protocol)


def python_2_pickle(arrays: BodyArrays) -> bytes:
    """Return a pickle of protocol 0 as Python 2 wrote it: text and the values of arrays in quotes, with escapes."""
    def quoted(data: bytes) -> bytes:
        return b"S'" + b''.join(b'\\x%02x' % byte for byte in data) + b"'\n"

    def array(values: NDArray) -> bytes:
        order = 'F' if values.flags.f_contiguous and values.ndim > 1 else 'C'
        shape = b'(' + b''.join(b'I%d\n' % size for size in values.shape) + b't'
        dtype = (b'cnumpy\ndtype\n(' + quoted(values.dtype.str[1:].encode())
                 + b"I0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb")
        return (b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS' + b"'b'\ntR(I1\n" + shape + dtype
                + (b'I01\n' if order == 'F' else b'I00\n') + quoted(values.tobytes(order)) + b'tb')

    items = []
    for key, values in smpl_arrays(arrays).items():
        body = array(np.asfortranarray(values) if key == 'posedirs' else values)
        if key == 'shapedirs':
            body = (b'ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR(dS' + b"'x'\n" + body
                    + b"sS'_dirty_vars'\nc__builtin__\nset\n((lp9\nS'x'\natRsb")
        items.append(quoted(key.encode()) + body + b's')
    return b'(dp0\n' + b''.join(items) + b'.'
