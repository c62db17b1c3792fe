"""Biovision hierarchy files (.bvh): a tree of joints with offsets, then the values of its channels frame by frame.

Format: M. Meredith, S. Maddock, "Motion Capture File Formats Explained", University of Sheffield CS-01-11. A joint is
turned about the axes of its channels in the order in which they are listed, each about the axes already turned
(Zrotation Yrotation Xrotation: Rz Ry Rx); position channels replace its OFFSET.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.train.mocap import MocapError
from pose3d_ros.train.readers.bvh_joints import Node, Posed, bone_chain_length, human17, is_cmu, restore_cmu_thorax
from pose3d_ros.train.readers.clip import Clip
from pose3d_ros.train.readers.world import on_floor, y_up_to_world

# The files do not say their unit: it is the one that makes the figure this tall (m). CMU's own is looked for only in
# conversions of CMU's files: it is near enough to the inch to make giants of children.
UNITS = {'m': 1.0, 'cm': 0.01, 'mm': 0.001, 'inch': 0.0254, 'cmu': 0.0254 / 0.45}
PLAUSIBLE_HEIGHT = (0.9, 2.2)
_CHANNELS = {f'{axis}{kind}' for axis in 'xyz' for kind in ('position', 'rotation')}


@dataclass(frozen=True)
class Bvh:
    """A file as read: nodes, parents before children; values (T, C) of all channels; seconds from frame to frame."""

    nodes: list[Node]
    values: NDArray
    frame_time: float


def read_bvh(path: Path, unit: str = 'auto', up: str = 'auto') -> Clip:
    """Read a recording. Raises MocapError that names the file, and the line where it is one.

    unit: a key of UNITS; up: 'y' or 'z'; 'auto': the unit that makes the person 0.9 to 2.2 m tall, and the axis along
    which the head is above the feet most of the time.
    """
    bvh = parse_bvh(path)
    restore_cmu_thorax(bvh.nodes)
    try:
        joints = human17(forward(bvh), _guess_unit(path, bvh.nodes) if unit == 'auto' else UNITS[unit])
    except KeyError as error:
        raise MocapError(f'{path}: {error.args[0]}') from error
    axis = _guess_up(joints) if up == 'auto' else up
    world = joints if axis == 'z' else y_up_to_world(joints)
    # As CMU's and many others' files are named: SUBJECT_TRIAL.
    return Clip(path.stem, path.stem.split('_')[0], on_floor(world), 1 / bvh.frame_time, 'bvh')


def parse_bvh(path: Path) -> Bvh:
    """Read tree and values. Raises MocapError."""
    try:
        lines = path.read_text(encoding='latin-1').splitlines()
    except OSError as error:
        raise MocapError(f'{path}: {error.strerror or error}') from error
    nodes, motion = _parse_tree(path, lines)
    frames, frame_time, first = _parse_header(path, lines, motion)
    count = sum(len(node.channels) for node in nodes)
    numbered = [(number, line.split()) for number, line in enumerate(lines[first:], first + 1) if line.strip()]
    if len(numbered) != frames:
        raise MocapError(f'{path}: {len(numbered)} lines of values for {frames} frames')
    for number, words in numbered:
        if len(words) != count:
            raise MocapError(f'{path}:{number}: {len(words)} values, expected {count}')
    try:
        values = np.array([words for _, words in numbered], dtype=np.float64)
    except ValueError as error:
        number = next(number for number, words in numbered if not _all_numbers(words))
        raise MocapError(f'{path}:{number}: not a line of numbers') from error
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise MocapError(f'{path}:{numbered[int(np.argmin(finite))][0]}: a value is not finite')
    return Bvh(nodes, values, frame_time)


def forward(bvh: Bvh) -> Posed:
    """Return every node's position (T, 3), in the axes and the unit of the file, and rotation from the rest pose."""
    posed = Posed(bvh.nodes, [], [])
    column = 0
    for node in bvh.nodes:
        turn = Rotation.identity(len(bvh.values))
        offset = np.tile(node.offset, (len(bvh.values), 1))
        for channel in node.channels:
            if channel.endswith('rotation'):
                turn = turn * Rotation.from_euler(channel[0], bvh.values[:, column, None], degrees=True)
            else:
                offset[:, 'xyz'.index(channel[0])] = bvh.values[:, column]
            column += 1
        if node.parent >= 0:
            parent = posed.rotations[node.parent]
            offset = posed.positions[node.parent] + parent.apply(offset)
            turn = parent * turn
        posed.positions.append(offset)
        posed.rotations.append(turn)
    return posed


def _parse_tree(path: Path, lines: list[str]) -> tuple[list[Node], int]:
    """Return the nodes, and the index of the line after MOTION."""
    nodes: list[Node] = []
    open_nodes: list[int] = []
    for index, line in enumerate(lines):
        words = line.split()
        where = f'{path}:{index + 1}'
        key = words[0].upper() if words else ''
        if key in ('ROOT', 'JOINT', 'END'):
            if key == 'ROOT' and nodes:
                raise MocapError(f'{where}: a second ROOT; files of several people are not read')
            parent = open_nodes[-1] if open_nodes else -1
            name = f'{nodes[parent].name}/end' if key == 'END' and nodes else ' '.join(words[1:])
            nodes.append(Node(name, parent))
        elif key == '{':
            open_nodes.append(len(nodes) - 1)
        elif key == '}':
            if not open_nodes:
                raise MocapError(f'{where}: a closing brace too many')
            open_nodes.pop()
        elif key == 'OFFSET' and nodes:
            if len(words) != 4 or not _all_numbers(words[1:]):
                raise MocapError(f'{where}: {line.strip()!r}, expected OFFSET and three numbers')
            nodes[-1].offset = np.array([float(word) for word in words[1:]])
        elif key == 'CHANNELS' and nodes:
            channels = tuple(word.lower() for word in words[2:])
            if not words[1:] or words[1] != str(len(channels)) or not _CHANNELS.issuperset(channels):
                raise MocapError(f'{where}: {line.strip()!r}, expected CHANNELS, how many, and their names')
            nodes[-1].channels = channels
        elif key == 'MOTION':
            if open_nodes or not nodes:
                raise MocapError(f'{where}: MOTION before the tree is closed')
            return nodes, index + 1
        elif key not in ('', 'HIERARCHY'):
            raise MocapError(f'{where}: {line.strip()[:40]!r} is not understood, so this is no .bvh file')
    raise MocapError(f'{path}: no MOTION, so this is no whole .bvh file')


def _parse_header(path: Path, lines: list[str], index: int) -> tuple[int, float, int]:
    """Return the number of frames, their time in s, and the index of the first line of values."""
    found: dict[str, float] = {}
    while index < len(lines) and len(found) < 2:
        if lines[index].strip():
            key, _, value = lines[index].partition(':')
            if key.strip().lower() not in ('frames', 'frame time') or not _all_numbers([value]):
                raise MocapError(f'{path}:{index + 1}: {lines[index].strip()[:40]!r}, expected Frames: or Frame Time:')
            found[key.strip().lower()] = float(value)
        index += 1
    if len(found) < 2 or found['frames'] < 1 or found['frame time'] <= 0:
        raise MocapError(f'{path}: no frames, or no frame time')
    return int(found['frames']), found['frame time'], index


def _guess_unit(path: Path, nodes: list[Node]) -> float:
    """Return m per unit; bone lengths do not depend on how the figure stands at rest."""
    height = bone_chain_length(nodes)
    for name, scale in UNITS.items():
        if (name != 'cmu' or is_cmu(nodes)) and PLAUSIBLE_HEIGHT[0] <= scale * height <= PLAUSIBLE_HEIGHT[1]:
            return scale
    raise MocapError(f'{path}: the figure is {height:.4g} units tall, which is a person in no unit known here; say '
                     f'which it is (--unit {", ".join(UNITS)})')


def _guess_up(joints: NDArray) -> str:
    """Return the axis, 'y' or 'z', along which the head is above the ankles most of the time."""
    ankles = joints[:, [3, 6]].mean(axis=1)
    above = np.median(joints[:, 10] - ankles, axis=0)
    return 'z' if above[2] > abs(above[1]) else 'y'


def _all_numbers(words: list[str]) -> bool:
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return True
