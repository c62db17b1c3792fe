"""Bodies that move as one glTF 2.0 binary file (.glb): mesh, skeleton, skin and animation.

Khronos Group, "glTF 2.0 Specification", 2021: sections 3.5.3 (a scale of zero is how things are hidden), 3.7.3 (skins),
3.11 (animations), 4.4 (GLB container). y is up and the front of a figure faces +z there, as in the rest pose here. A
skin of glTF is plain linear blending with four joints at a vertex: pose blend shapes are left out.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.body_model import JOINTS, BodyModel
from pose3d_ros.mesh_files import BodyMotion, written
from pose3d_ros.skeleton import SMPL24

_FLOAT, _UINT8, _UINT32 = 5126, 5121, 5125
_KINDS = {np.dtype(np.float32): _FLOAT, np.dtype(np.uint8): _UINT8, np.dtype(np.uint32): _UINT32}
_SHAPES = {(): 'SCALAR', (3,): 'VEC3', (4,): 'VEC4', (16,): 'MAT4'}
_VERTICES, _INDICES = 34962, 34963  # what a graphics card holds them as
_SKIN_COLOR = (0.627, 0.690, 0.776, 1.0)
_JSON, _BINARY = 0x4E4F534A, 0x004E4942
_STEP_S = 1 / 30  # how long the only frame of a motion is shown


@dataclass(frozen=True)
class Actor:
    """One person of a scene: the body, in its size, and the pieces of its motion, in the order of time.

    Between pieces the person is away. Raises ValueError for no pieces, and for such that differ in name or shape, or
    overlap.
    """

    model: BodyModel
    pieces: Sequence[BodyMotion]

    def __post_init__(self) -> None:
        if not self.pieces:
            raise ValueError('a person without motion')
        first = self.pieces[0]
        if any(piece.name != first.name or not np.array_equal(piece.shape, first.shape) for piece in self.pieces):
            raise ValueError('the pieces of a motion have several names or shapes')
        if any(after.times[0] <= before.times[-1] for before, after in zip(self.pieces, self.pieces[1:])):
            raise ValueError('the pieces of a motion overlap')


def write_glb(path: Path, actors: Sequence[Actor], start: float | None = None) -> None:
    """Write people, hidden while they are away. start [s]: when the animation begins; None: with the first of them.

    Raises OSError, and ValueError when there is nobody, or somebody before the start.
    """
    if not actors:
        raise ValueError('nobody to write')
    first = min(float(actor.pieces[0].times[0]) for actor in actors)
    last = max(float(actor.pieces[-1].times[-1]) for actor in actors)
    start = first if start is None else start
    if first < start:
        raise ValueError(f'somebody is there at {first:g} s, before the start at {start:g} s')
    document = _Document()
    for actor in actors:
        _add_body(document, actor, start, last)
    with written(path, 'wb') as file:
        file.write(document.bytes())


class _Document:
    """A file in the making: its description, and the numbers that it points to."""

    def __init__(self) -> None:
        self.root: dict[str, Any] = {
            'asset': {'version': '2.0', 'generator': 'pose3d_ros'}, 'scene': 0, 'scenes': [{'nodes': []}], 'nodes': [],
            'meshes': [], 'skins': [], 'animations': [{'name': 'motion', 'channels': [], 'samplers': []}],
            'materials': [{'name': 'skin', 'pbrMetallicRoughness': {
                'baseColorFactor': _SKIN_COLOR, 'metallicFactor': 0.0, 'roughnessFactor': 0.8}}],
            'accessors': [], 'bufferViews': [], 'buffers': [{'byteLength': 0}]}
        self.data = bytearray()

    def add(self, key: str, value: dict[str, Any]) -> int:
        """Append to a list of the description, and return the place there."""
        self.root[key].append(value)
        return len(self.root[key]) - 1

    def numbers(self, values: NDArray, target: int | None = None, bounds: bool = False) -> int:
        """Append an array (N, ...) and return the index of its accessor."""
        values = np.ascontiguousarray(values)
        view = {'buffer': 0, 'byteOffset': len(self.data), 'byteLength': values.nbytes}
        if target is not None:
            view['target'] = target
        accessor: dict[str, Any] = {'bufferView': self.add('bufferViews', view), 'count': len(values),
                                    'componentType': _KINDS[values.dtype], 'type': _SHAPES[values.shape[1:]]}
        if bounds:
            accessor['min'] = np.atleast_1d(values.min(axis=0)).tolist()
            accessor['max'] = np.atleast_1d(values.max(axis=0)).tolist()
        self.data += values.astype(values.dtype.newbyteorder('<')).tobytes()
        self.data += bytes(-len(self.data) % 4)
        return self.add('accessors', accessor)

    def times(self, values: NDArray) -> int:
        """Append moments (N,) s from the beginning of the animation on, and return the index of their accessor."""
        return self.numbers(values.astype(np.float32), bounds=True)

    def channel(self, node: int, path: str, times: int, values: NDArray, interpolation: str = 'LINEAR') -> None:
        """Have the animation change translation, rotation or scale of a node: values (N, 3 or 4) at moments."""
        animation = self.root['animations'][0]
        animation['samplers'].append({'input': times, 'interpolation': interpolation,
                                      'output': self.numbers(values.astype(np.float32))})
        animation['channels'].append({'sampler': len(animation['samplers']) - 1,
                                      'target': {'node': node, 'path': path}})

    def bytes(self) -> bytes:
        self.root['buffers'][0]['byteLength'] = len(self.data)
        text = json.dumps(self.root, separators=(',', ':'), allow_nan=False).encode()
        text += b' ' * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + len(self.data)
        return b''.join([struct.pack('<4sII', b'glTF', 2, total), struct.pack('<II', len(text), _JSON), text,
                         struct.pack('<II', len(self.data), _BINARY), bytes(self.data)])


def _add_body(document: _Document, actor: Actor, start: float, last: float) -> None:
    """Add a person to a scene that goes from start to last [s]."""
    model, motion = actor.model, actor.pieces[0]
    vertices, joints = model.rest(motion.shape)
    first = len(document.root['nodes'])
    for joint, name in enumerate(SMPL24.joints):
        parent = int(model.parents[joint])
        place = joints[joint] - joints[parent] if parent >= 0 else joints[joint] + motion.translation[0]
        node: dict[str, Any] = {'name': f'{motion.name}.{name}', 'translation': place.tolist(),
                                'rotation': [0.0, 0.0, 0.0, 1.0]}
        if children := np.flatnonzero(model.parents == joint).tolist():
            node['children'] = [first + child for child in children]
        document.add('nodes', node)
    bind = np.tile(np.eye(4, dtype=np.float32), (JOINTS, 1, 1))
    bind[:, :3, 3] = -joints
    skin = document.add('skins', {
        'joints': list(range(first, first + JOINTS)), 'skeleton': first,
        'inverseBindMatrices': document.numbers(bind.transpose(0, 2, 1).reshape(JOINTS, 16))})  # by columns
    numbers, weights = _four_joints(model.arrays.weights)
    mesh = document.add('meshes', {'name': motion.name, 'primitives': [{
        'attributes': {'POSITION': document.numbers(vertices, _VERTICES, bounds=True),
                       'NORMAL': document.numbers(_normals(vertices, model.faces), _VERTICES),
                       'JOINTS_0': document.numbers(numbers, _VERTICES),
                       'WEIGHTS_0': document.numbers(weights, _VERTICES)},
        'indices': document.numbers(model.faces.ravel().astype(np.uint32), _INDICES), 'material': 0}]})
    # The skin's joints place a skinned mesh; its own node must stay without a transform.
    document.root['scenes'][0]['nodes'] += [first, document.add('nodes', {'name': motion.name, 'mesh': mesh,
                                                                          'skin': skin})]
    _add_motion(document, actor.pieces, first, joints[0], start)
    if len(shown := _shown(actor.pieces, start, last)) > 1:
        times, sizes = zip(*shown)
        document.channel(first, 'scale', document.times(np.array(times) - start), np.tile(sizes, (3, 1)).T, 'STEP')


def _add_motion(document: _Document, pieces: Sequence[BodyMotion], first: int, root: NDArray, start: float) -> None:
    """Move the joints: nodes from `first` on; root (3,) m: the first of them at rest.

    Between two pieces the last pose is held until it is hidden: it must not set out for the next one before.
    """
    pieces = [*(_held(piece, float(after.times[0])) for piece, after in zip(pieces, pieces[1:])), pieces[-1]]
    times = document.times(np.concatenate([piece.times for piece in pieces]) - start)
    document.channel(first, 'translation', times, np.concatenate([piece.translation for piece in pieces]) + root)
    turns = np.concatenate([piece.rotations for piece in pieces])
    for joint in range(JOINTS):
        document.channel(first + joint, 'rotation', times, Rotation.from_matrix(turns[:, joint]).as_quat())


def _shown(pieces: Sequence[BodyMotion], start: float, last: float) -> list[tuple[float, float]]:
    """Return when [s] a person appears (1) and goes (0), a last frame being shown for one step."""
    changes = [(start, 0.0)] if pieces[0].times[0] > start else []
    ends = [*(float(piece.times[0]) for piece in pieces[1:]), last]
    for number, (piece, end) in enumerate(zip(pieces, ends), 1):
        changes.append((float(piece.times[0]), 1.0))
        gone = min(_gone(piece), end)
        if gone < end or (number == len(pieces) and piece.times[-1] < last):
            changes.append((gone, 0.0))
    return changes


def _gone(piece: BodyMotion) -> float:
    """Return when [s] a person's last frame has been shown."""
    return float(piece.times[-1] + (np.diff(piece.times).mean() if len(piece.times) > 1 else _STEP_S))


def _held(piece: BodyMotion, end: float) -> BodyMotion:
    """Return a motion whose last pose stays until it is gone, where that is before the end [s]."""
    gone = _gone(piece)
    if not piece.times[-1] < gone < end:
        return piece
    return replace(piece, times=np.append(piece.times, gone),
                   rotations=np.concatenate([piece.rotations, piece.rotations[-1:]]),
                   translation=np.concatenate([piece.translation, piece.translation[-1:]]))


def _four_joints(weights: NDArray) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the four joints (V, 4) that each vertex follows most, and how much, to a sum of 1."""
    chosen = np.argsort(-weights, axis=1, kind='stable')[:, :4]
    share = np.take_along_axis(weights, chosen, axis=1).clip(0)
    chosen = np.where(share > 0, chosen, 0)  # as the specification asks
    return chosen.astype(np.uint8), (share / share.sum(axis=1, keepdims=True)).astype(np.float32)


def _normals(vertices: NDArray, faces: NDArray) -> NDArray[np.float32]:
    """Return unit normals (V, 3): the mean of those of the triangles around, by area."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    total = np.zeros(vertices.shape)
    for corner in range(3):
        np.add.at(total, faces[:, corner], np.cross(b - a, c - a))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 1e-12, total / np.maximum(length, 1e-12), [0.0, 1.0, 0.0]).astype(np.float32)
