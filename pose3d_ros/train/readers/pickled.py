"""Arrays inside .npz files that NumPy stored by pickling, read without running anything that the file asks for.

Unpickling a file from elsewhere with NumPy or pickle lets that file run any program. Here only containers, numbers,
text and plain number arrays are built, and the arrays by our own code: NumPy's own way would trust a data type that the
file describes.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.train.mocap import MocapError

_KINDS = frozenset(['f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'b1'])


class _Refused(pickle.UnpicklingError):
    """The file asks for something that plain data does not need."""


class _DataType:
    """Stands for numpy.dtype: a plain number type, or 'O' for an array of objects."""

    def __init__(self, kind: object, *_: object) -> None:
        if kind not in _KINDS and kind != 'O8' and kind != 'O':
            raise _Refused(f'an array of type {str(kind)[:20]!r}')
        self.kind, self.order = str(kind), '|'

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ('<', '>', '|', '='):
            raise _Refused('a byte order that there is not')
        self.order = state[1]

    def numpy(self) -> np.dtype:
        return np.dtype(f'{self.order}{self.kind}')


class _Array:
    """Stands for numpy.ndarray until `plain` replaces it."""

    def __init__(self) -> None:
        self.value: NDArray | list = []

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, column_major, data = state
        if not isinstance(kind, _DataType) or not isinstance(shape, tuple):
            raise _Refused('an array without a type')
        if isinstance(data, str):  # from Python 2
            data = data.encode('latin-1')
        if kind.kind[0] == 'O':
            if not isinstance(data, list):
                raise _Refused('an array of objects that is no list')
            # The values of a list of the shape () or (N,) are all we need.
            self.value = data
            return
        if not isinstance(data, bytes) or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise _Refused('an array without values')
        self.value = np.frombuffer(data, dtype=kind.numpy()).reshape(shape, order='F' if column_major else 'C')


def _new_array(*_: object) -> _Array:
    return _Array()


def _bytes(text: object, encoding: object = 'latin1') -> bytes:
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise _Refused('text in another encoding')
    return text.encode('latin-1')


def _no_bytes() -> bytes:
    return b''


def _from_buffer(data: object, kind: object, shape: object, order: object) -> _Array:
    """Stand for how arrays are stored since protocol 5."""
    array = _Array()
    array.__setstate__((1, shape, kind, order == 'F', bytes(data) if isinstance(data, bytearray) else data))
    return array


def _scalar(kind: object, data: object) -> object:
    if not isinstance(kind, _DataType) or not isinstance(data, bytes) or kind.kind[0] == 'O':
        raise _Refused('a number without a type')
    return np.frombuffer(data, dtype=kind.numpy())[0]


_ALLOWED: dict[tuple[str, str], Any] = {
    ('numpy', 'ndarray'): _Array, ('numpy', 'dtype'): _DataType, ('_codecs', 'encode'): _bytes,
    ('__builtin__', 'bytes'): _no_bytes,
    **{(f'numpy.{core}.{name}', function): stand_in for core in ('core', '_core') for name, function, stand_in in (
        ('multiarray', '_reconstruct', _new_array), ('multiarray', 'scalar', _scalar),
        ('numeric', '_frombuffer', _from_buffer))},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f'{module}.{name}, which data does not need') from None

    def persistent_load(self, pid: object) -> Any:
        raise _Refused('an object of another file')


def member_names(path: Path) -> list[str]:
    """Return the names of the arrays in an .npz file. Raises MocapError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix('.npy') for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise MocapError(f'{path}: not a readable .npz file ({error})') from error


def load_pickled(path: Path, name: str) -> Any:
    """Return what the object array `name` of an .npz file holds: dicts, lists, numbers, text and arrays of numbers.

    An array of one object is that object. Raises MocapError, also when the file asks for anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f'{name}.npy') as file:
            version = np.lib.format.read_magic(file)
            read_header = (np.lib.format.read_array_header_1_0 if version == (1, 0)
                           else np.lib.format.read_array_header_2_0)
            _, _, kind = read_header(file)
            if not kind.hasobject:
                raise MocapError(f'{path}: {name!r} is a plain array, not a table of recordings')
            # 'latin1': NumPy's rule for arrays pickled by Python 2.
            value = plain(_Unpickler(file, encoding='latin1').load())
    except _Refused as error:
        raise MocapError(f'{path}: refused, as the file asks for {error}; it may be harmful') from error
    except MocapError:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise MocapError(f'{path}: {name!r} cannot be read ({type(error).__name__}: {error})') from error
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def plain(value: Any) -> Any:
    """Return a value with its stand-ins for arrays replaced by what they hold."""
    if isinstance(value, _Array):
        return plain(value.value) if isinstance(value.value, list) else value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
