"""Files of body models: .npz with the names of SMPL's arrays, checked, and read without unpickling anything."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import SMPL24

JOINTS = len(SMPL24)
POSE_FEATURES = 9 * (JOINTS - 1)  # what posedirs are multiplied by: the rotations of all joints but the root, less I
KEYS = ('v_template', 'shapedirs', 'posedirs', 'J_regressor', 'weights', 'kintree_table', 'f')
_SUM_TOLERANCE = 1e-3             # weights come in 32 bits, and some files rounded them
_LARGEST = 10.0                   # m: what a vertex of a person may be away from the origin


class BodyModelError(ValueError):
    """A file is no body model, or a damaged one. The message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class BodyArrays:
    """A body model of V vertices, B shape components and F triangles. Metres.

    template (V, 3); shapedirs (V, 3, B): m per coefficient; posedirs (V, 3, 207); regressor (24, V): the joints in the
    rest pose as sums of vertices; weights (V, 24): how much each vertex follows each joint, rows sum to 1; parents
    (24,): -1 for the root, which is first, else lower than the joint's own index; faces (F, 3).
    """

    template: NDArray[np.float32]
    shapedirs: NDArray[np.float32]
    posedirs: NDArray[np.float32]
    regressor: NDArray[np.float32]
    weights: NDArray[np.float32]
    parents: NDArray[np.intp]
    faces: NDArray[np.int32]


def read_body_arrays(path: Path) -> BodyArrays:
    """Read an .npz file. Raises BodyModelError."""
    found: dict[str, NDArray] = {}
    try:
        with path.open('rb') as opened:
            if not zipfile.is_zipfile(opened):
                raise BodyModelError(f'{path}: not a whole .npz file. A .pkl file of SMPL is converted once: pose3d '
                                     'body-model convert FILE.pkl --out FILE.npz')
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file.files]
            if missing:
                raise BodyModelError(f'{path}: lacks {", ".join(missing)}; a body model has {", ".join(KEYS)}')
            for key in KEYS:
                found[key] = _member(path, key, file)
    except OSError as error:
        raise BodyModelError(f'{path}: cannot be read ({error.strerror or error})') from error
    except (zipfile.BadZipFile, zlib.error, EOFError, MemoryError) as error:
        raise BodyModelError(f'{path}: a damaged .npz file ({error or type(error).__name__})') from error
    return checked_body_arrays(found, str(path))


def _member(path: Path, key: str, file: Mapping[str, NDArray]) -> NDArray:
    try:
        return file[key]
    except ValueError as error:
        if 'allow_pickle' in str(error):
            raise BodyModelError(f'{path}: {key} holds pickled objects, which are never loaded; use an .npz with plain '
                                 'arrays, or convert the .pkl: pose3d body-model convert') from error
        raise BodyModelError(f'{path}: {key} cannot be read ({error})') from error


def checked_body_arrays(found: Mapping[str, NDArray], source: str) -> BodyArrays:
    """Return the arrays of a model from those under SMPL's names. source: named in errors. Raises BodyModelError."""
    def wrong(key: str, what: str) -> BodyModelError:
        return BodyModelError(f'{source}: {key} {what}')

    template = _numbers(found, 'v_template', source)
    count = len(template)
    expected = {'v_template': (count, 3), 'shapedirs': (count, 3, None), 'posedirs': (count, 3, POSE_FEATURES),
                'J_regressor': (JOINTS, count), 'weights': (count, JOINTS)}
    arrays = {key: _numbers(found, key, source) for key in expected}
    for key, shape in expected.items():
        got = arrays[key].shape
        if len(got) != len(shape) or any(size is not None and size != own for size, own in zip(shape, got)):
            told = ', '.join('B' if size is None else str(size) for size in shape)
            raise wrong(key, f'is {got}, expected ({told}): a model with the {JOINTS} joints of SMPL')
    if count < 4:
        raise wrong('v_template', f'has {count} vertices')
    if np.abs(template).max() > _LARGEST:
        raise wrong('v_template', f'reaches {np.abs(template).max():.0f} from the origin; a body is in metres')
    weights = arrays['weights']
    if weights.min() < -_SUM_TOLERANCE or not (abs(weights.sum(axis=1) - 1) < _SUM_TOLERANCE).all():
        raise wrong('weights', 'are negative, or do not sum to 1 at every vertex')
    if not (abs(arrays['J_regressor'].sum(axis=1) - 1) < _SUM_TOLERANCE).all():
        raise wrong('J_regressor', 'has a row that does not sum to 1')
    return BodyArrays(template, arrays['shapedirs'], arrays['posedirs'], arrays['J_regressor'], weights,
                      _parents(found['kintree_table'], source), _faces(found['f'], count, source))


def _numbers(found: Mapping[str, NDArray], key: str, source: str) -> NDArray[np.float32]:
    values = np.asarray(found[key])
    if values.dtype.kind not in 'fiu':
        raise BodyModelError(f'{source}: {key} is of type {values.dtype}, expected numbers')
    if values.ndim == 0 or values.size == 0:
        raise BodyModelError(f'{source}: {key} is empty')
    with np.errstate(over='ignore'):
        values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values).all():
        raise BodyModelError(f'{source}: {key} holds a value that is not finite')
    return values


def _parents(table: NDArray, source: str) -> NDArray[np.intp]:
    """Return the parents (24,). The root's is -1, or that in 32 bits without sign, as SMPL has it."""
    table = np.asarray(table)
    if table.shape != (2, JOINTS) or table.dtype.kind not in 'iu':
        raise BodyModelError(f'{source}: kintree_table is {table.shape} {table.dtype}, expected (2, {JOINTS}) whole '
                             'numbers: parents, then joints')
    table = table.astype(np.int64)
    if table[1].tolist() != list(range(JOINTS)):
        raise BodyModelError(f'{source}: kintree_table numbers its joints {table[1].tolist()}, expected 0 to '
                             f'{JOINTS - 1} in order')
    parents = table[0].copy()
    parents[0] = -1
    if table[0, 0] not in (-1, 2 ** 32 - 1):
        raise BodyModelError(f'{source}: kintree_table gives the first joint the parent {table[0, 0]}; it is the root')
    for joint, parent in enumerate(parents.tolist()[1:], 1):
        if not 0 <= parent < joint:
            raise BodyModelError(f'{source}: kintree_table gives joint {joint} the parent {parent}; a parent comes '
                                 'before its children, so that there are no loops')
    return parents.astype(np.intp)


def _faces(faces: NDArray, count: int, source: str) -> NDArray[np.int32]:
    faces = np.asarray(faces)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in 'iu' or not len(faces):
        raise BodyModelError(f'{source}: f is {faces.shape} {faces.dtype}, expected (F, 3) whole numbers')
    if faces.min() < 0 or faces.max() >= count:
        raise BodyModelError(f'{source}: f names vertices {faces.min()} to {faces.max()}, but there are {count}')
    return np.ascontiguousarray(faces, dtype=np.int32)


def write_body_arrays(path: Path, arrays: BodyArrays) -> None:
    """Write an .npz file that read_body_arrays and other readers of SMPL's layout take. Raises OSError.

    The same arrays give the same bytes, whenever they are written (with one version of zlib).
    """
    table = np.stack([arrays.parents, np.arange(JOINTS)]).astype(np.int64)
    table[0, 0] = 2 ** 32 - 1
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.part')
    with partial.open('wb') as file:
        np.savez_compressed(file, v_template=arrays.template, shapedirs=arrays.shapedirs, posedirs=arrays.posedirs,
                            J_regressor=arrays.regressor, weights=arrays.weights,
                            kintree_table=table.astype(np.uint32), f=arrays.faces)
    partial.replace(path)
