"""Acclaim's skeleton (.asf) and motion (.amc) files, as the CMU Graphics Lab publishes them.

Format: M. Schafer, "Acclaim Skeleton File Definition V1.10", 1995. A bone starts where its parent ends and runs along
`direction` (world axes of the rest pose) for `length`. Its rotation in a frame, relative to its parent, is C M inv(C):
M from the values of the .amc file, in the order in which `dof` names them, about axes that `axis` (C) turns. Angles of
three letters are turned about fixed axes in the order of the letters: XYZ means Rz Ry Rx.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.mocap import MocapError
from pose3d_ros.train.readers.clip import Clip
from pose3d_ros.train.readers.world import on_floor, y_up_to_world

INCH = 0.0254          # m: a length in the files is this long, divided by `length` of :units (0.45 at CMU)
FPS = 120.0            # the files do not say; CMU's recordings are 120 frames a second, but for a few of 60
_DOFS = ('tx', 'ty', 'tz', 'rx', 'ry', 'rz')

# Joints that are the start or the end of a bone; the others are computed in `human17`.
_ENDS = {'knee': 'femur', 'ankle': 'tibia', 'elbow': 'humerus', 'wrist': 'wrist'}
_STARTS = {'hip': 'femur', 'shoulder': 'humerus'}


@dataclass
class Bone:
    """A bone of an .asf file: direction (3,) unit, length m, axis (3, 3) the frame of its rotations, dof as listed."""

    name: str
    direction: NDArray = field(default_factory=lambda: np.zeros(3))
    length: float = 0.0
    axis: Rotation = field(default_factory=Rotation.identity)
    dof: tuple[str, ...] = ()
    parent: str = ''


@dataclass(frozen=True)
class AsfSkeleton:
    """A skeleton: bones by name, parents before children; the first is 'root', whose end is the root joint."""

    bones: dict[str, Bone]
    unit: float            # m per unit of length, also of the root's translation
    degrees: bool
    position: NDArray      # m, of the root in the rest pose
    orientation: Rotation


def read_asf_amc(asf: Path, amc: Path, fps: float = FPS) -> Clip:
    """Read one trial. Raises MocapError that names the file and the line."""
    skeleton = read_asf(asf)
    starts, ends, rotations = forward(skeleton, read_amc(amc, skeleton))
    try:
        joints = human17(skeleton, starts, ends, rotations)
    except KeyError as error:
        raise MocapError(f'{asf}: no bone {error.args[0]!r}, which the 17 joints need') from error
    # CMU names a trial after the subject: 05_12.amc is subject 05.
    subject = amc.stem.split('_')[0] if '_' in amc.stem else asf.stem
    return Clip(amc.stem, subject, on_floor(y_up_to_world(joints)), fps, 'amc')


def read_asf(path: Path) -> AsfSkeleton:
    """Read a skeleton. Raises MocapError."""
    sections = _sections(path)
    units = {words[0]: words[1:] for _, words in sections.get('units', [])}
    root_values = {words[0]: (number, words[1:]) for number, words in sections.get('root', [])}
    for needed in ('bonedata', 'hierarchy'):
        if needed not in sections:
            raise MocapError(f'{path}: no section :{needed}, so this is no .asf file')
    degrees = (units.get('angle') or ['deg'])[0].lower().startswith('deg')
    unit = INCH / _numbers(path, 0, units.get('length') or ['1'], 1)[0]

    def root(key: str, default: list[str]) -> tuple[int, list[str]]:
        return root_values.get(key, (0, default))

    dof = root('order', ['TX', 'TY', 'TZ', 'RX', 'RY', 'RZ'])[1]
    bones = {'root': Bone('root', dof=tuple(word.lower() for word in dof))}
    bones |= {bone.name: bone for bone in _bones(path, sections['bonedata'], unit, degrees)}
    for bone in bones.values():
        if unknown := [dof for dof in bone.dof if dof not in _DOFS]:
            raise MocapError(f'{path}: bone {bone.name}: degree of freedom {unknown[0]!r} is not supported')
    order = _hierarchy(path, sections['hierarchy'], bones)
    axis = ' '.join(root('axis', ['XYZ'])[1])
    number, words = root('orientation', ['0', '0', '0'])
    orientation = _euler(path, number, axis, _numbers(path, number, words, 3), degrees)
    position = unit * np.array(_numbers(path, *root('position', ['0', '0', '0']), 3))
    return AsfSkeleton({name: bones[name] for name in order}, unit, degrees, position, orientation)


def read_amc(path: Path, skeleton: AsfSkeleton) -> dict[str, NDArray]:
    """Return the values (T, D) of each bone that has degrees of freedom: rad, and m for translations.

    Raises MocapError.
    """
    degrees = skeleton.degrees
    moving = {name: len(bone.dof) for name, bone in skeleton.bones.items() if bone.dof}
    values: dict[str, list[list[float]]] = {name: [] for name in moving}
    frames = 0
    for number, line in _lines(path):
        words = line.split()
        if words[0].startswith(':'):
            degrees = {':DEGREES': True, ':RADIANS': False}.get(words[0].upper(), degrees)
        elif len(words) == 1 and words[0].isdigit():
            _check_complete(path, number, values, frames)
            frames += 1
        elif words[0] not in moving:
            raise MocapError(f'{path}:{number}: bone {words[0]!r} is not in the skeleton, or cannot move there')
        elif len(values[words[0]]) != frames - 1:
            raise MocapError(f'{path}:{number}: bone {words[0]!r} a second time in a frame, or before the first frame')
        else:
            values[words[0]].append(_numbers(path, number, words[1:], moving[words[0]]))
    _check_complete(path, 'end', values, frames)
    if not frames:
        raise MocapError(f'{path}: no frames')
    arrays = {name: np.array(rows) for name, rows in values.items()}
    for name, array in arrays.items():
        for column, dof in enumerate(skeleton.bones[name].dof):
            array[:, column] *= skeleton.unit if dof[0] == 't' else np.pi / 180 if degrees else 1.0
    return arrays


def forward(skeleton: AsfSkeleton, motion: dict[str, NDArray]
            ) -> tuple[dict[str, NDArray], dict[str, NDArray], dict[str, Rotation]]:
    """Return start and end (T, 3) m of every bone, and its rotation from the rest pose, in the file's axes (y up)."""
    frames = len(next(iter(motion.values())))
    starts, ends = {}, {}
    rotations: dict[str, Rotation] = {}
    for name, bone in skeleton.bones.items():
        turn, shift = Rotation.identity(frames), np.zeros((frames, 3))
        for dof, values in zip(bone.dof, motion[name].T if bone.dof else ()):
            if dof[0] == 'r':
                turn = Rotation.from_euler(dof[1], values[:, None]) * turn
            else:
                shift[:, 'xyz'.index(dof[1])] = values
        if name == 'root':
            axis = skeleton.orientation
            rotations[name] = axis * turn * axis.inv()
            starts[name] = ends[name] = skeleton.position + shift
            continue
        parent = rotations[bone.parent]
        rotations[name] = parent * bone.axis * turn * bone.axis.inv()
        starts[name] = ends[bone.parent] + parent.apply(bone.axis.apply(shift))
        ends[name] = starts[name] + rotations[name].apply(bone.length * bone.direction)
    return starts, ends, rotations


def human17(skeleton: AsfSkeleton, starts: dict[str, NDArray], ends: dict[str, NDArray],
            rotations: dict[str, Rotation]) -> NDArray:
    """Return the joints (T, 17, 3) m of HUMAN17 from the bones of CMU's skeleton. Raises KeyError if one is missing."""
    joints = {f'{side}_{joint}': points[side[0] + bone] for side in ('left', 'right')
              for table, points in ((_STARTS, starts), (_ENDS, ends)) for joint, bone in table.items()}
    joints['pelvis'] = 0.5 * (joints['left_hip'] + joints['right_hip'])
    joints['spine'] = ends['lowerback']
    # The base of the neck: half the lower neck beyond the thorax, as if it were part of it.
    neck = skeleton.bones['lowerneck']
    joints['thorax'] = ends['thorax'] + rotations['thorax'].apply(0.5 * neck.length * neck.direction)
    joints['neck'], joints['head'] = starts['head'], ends['head']
    return np.stack([joints[name] for name in HUMAN17.joints], axis=1)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding='latin-1')
    except OSError as error:
        raise MocapError(f'{path}: {error.strerror or error}') from error
    for number, line in enumerate(text.splitlines(), 1):
        if content := line.split('#', 1)[0].strip():
            yield number, content


def _sections(path: Path) -> dict[str, list[tuple[int, list[str]]]]:
    sections: dict[str, list[tuple[int, list[str]]]] = {}
    current: list[tuple[int, list[str]]] = []
    for number, line in _lines(path):
        words = line.split()
        if words[0].startswith(':'):
            current = sections.setdefault(words[0][1:].lower(), [])
        else:
            current.append((number, words))
    return sections


def _bones(path: Path, lines: list[tuple[int, list[str]]], unit: float, degrees: bool) -> Iterator[Bone]:
    bone = Bone('')
    for number, words in lines:
        key, rest = words[0].lower(), words[1:]
        if key == 'begin':
            bone = Bone('')
        elif key == 'end':
            if not bone.name:
                raise MocapError(f'{path}:{number}: a bone without a name')
            yield bone
            bone = Bone('')  # also where the next `begin` is missing
        elif key == 'name':
            bone.name = rest[0] if rest else ''
        elif key == 'direction':
            bone.direction = np.array(_numbers(path, number, rest, 3))
            bone.direction /= max(float(np.linalg.norm(bone.direction)), 1e-12)
        elif key == 'length':
            bone.length = unit * _numbers(path, number, rest, 1)[0]
        elif key == 'axis':
            order = rest[3] if len(rest) > 3 else 'XYZ'
            bone.axis = _euler(path, number, order, _numbers(path, number, rest[:3], 3), degrees)
        elif key == 'dof':
            bone.dof = tuple(word.lower() for word in rest)


def _hierarchy(path: Path, lines: list[tuple[int, list[str]]], bones: dict[str, Bone]) -> list[str]:
    """Return the names of all bones that hang on the root, parents first, and note each one's parent."""
    order = ['root']
    waiting = {words[0]: (number, words[1:]) for number, words in lines if words[0] not in ('begin', 'end')}
    for parent in order:
        number, children = waiting.get(parent, (0, []))
        for child in children:
            if child not in bones or child in order:
                raise MocapError(f'{path}:{number}: {child!r} is not in :bonedata, or has two parents')
            bones[child].parent = parent
            order.append(child)
    return order


def _euler(path: Path, line: int, order: str, angles: list[float], degrees: bool) -> Rotation:
    if not re.fullmatch('[xyz]{3}', order.lower()):
        raise MocapError(f'{path}:{line}: axis order {order!r}, expected three of X, Y, Z')
    turn = Rotation.identity()
    for letter, angle in zip(order.lower(), angles):
        turn = Rotation.from_euler(letter, angle, degrees) * turn
    return turn


def _numbers(path: Path, line: int, words: list[str], count: int) -> list[float]:
    """Return exactly `count` finite numbers. Raises MocapError."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise MocapError(f'{path}:{line}: {" ".join(words) or "nothing"!r}, expected {count} numbers')
    return values


def _check_complete(path: Path, line: int | str, values: dict[str, list[list[float]]], frames: int) -> None:
    for name, rows in values.items():
        if len(rows) != frames:
            raise MocapError(f'{path}:{line}: frame {frames} has no values for bone {name!r}')
