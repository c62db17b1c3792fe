"""Motion files as tests write them: Acclaim skeletons and motions, Biovision hierarchies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from pose3d_ros.skeleton import HUMAN17

# A figure of CMU's bones in round numbers (m): it stands with the arms stretched to the sides, faces +z, y is up.
# name: (parent, direction, length, degrees of freedom)
CMU_BONES: dict[str, tuple[str, tuple[float, float, float], float, str]] = {
    'lowerback': ('root', (0, 1, 0), 0.1, 'rx ry rz'), 'upperback': ('lowerback', (0, 1, 0), 0.1, 'rx ry rz'),
    'thorax': ('upperback', (0, 1, 0), 0.1, 'rx ry rz'), 'lowerneck': ('thorax', (0, 1, 0), 0.08, 'rx ry rz'),
    'upperneck': ('lowerneck', (0, 1, 0), 0.08, 'rx ry rz'), 'head': ('upperneck', (0, 1, 0), 0.1, 'rx ry rz'),
}
for _side, _sign in (('l', 1.0), ('r', -1.0)):
    CMU_BONES |= {
        f'{_side}hipjoint': ('root', (0.6 * _sign, -0.8, 0), 0.1, ''),
        f'{_side}femur': (f'{_side}hipjoint', (0, -1, 0), 0.4, 'rx ry rz'),
        f'{_side}tibia': (f'{_side}femur', (0, -1, 0), 0.4, 'rx'),
        f'{_side}clavicle': ('thorax', (_sign, 0, 0), 0.16, 'ry rz'),
        f'{_side}humerus': (f'{_side}clavicle', (_sign, 0, 0), 0.3, 'rx ry rz'),
        f'{_side}radius': (f'{_side}humerus', (_sign, 0, 0), 0.16, 'rx'),
        f'{_side}wrist': (f'{_side}radius', (_sign, 0, 0), 0.08, 'ry'),
    }

# Where the joints of HUMAN17 are in that figure with its root at (0, 0.88, 0), by hand; (x, y, z) with y up.
CMU_STANDING = {
    'pelvis': (0, 0.80, 0), 'spine': (0, 0.98, 0), 'thorax': (0, 1.22, 0), 'neck': (0, 1.34, 0), 'head': (0, 1.44, 0),
    'left_hip': (0.06, 0.80, 0), 'left_knee': (0.06, 0.40, 0), 'left_ankle': (0.06, 0, 0),
    'left_shoulder': (0.16, 1.18, 0), 'left_elbow': (0.46, 1.18, 0), 'left_wrist': (0.70, 1.18, 0),
}


def cmu_standing() -> np.ndarray:
    """Return CMU_STANDING (17, 3) in world axes: facing +y, the right hand on the +x side, z up."""
    joints = []
    for name in HUMAN17.joints:
        x, y, z = CMU_STANDING[name.replace('right_', 'left_')]
        joints.append((-x if not name.startswith('right_') else x, z, y))
    return np.array(joints, dtype=float)


def write_asf(path: Path, axes: Mapping[str, tuple[Sequence[float], str]] | None = None, length: float = 0.45,
              radians: bool = False, without: str = '', dof: Mapping[str, str] | None = None) -> Path:
    """Write the figure; axes: per bone, angles and order of its frame; dof: other degrees of freedom."""
    unit = 0.0254 / length
    lines = ['# made up', ':version 1.10', ':name test', ':units', f'  mass 1.0\n  length {length}',
             f'  angle {"rad" if radians else "deg"}', ':root', '  order TX TY TZ RX RY RZ', '  axis XYZ',
             '  position 0 0 0', '  orientation 0 0 0', ':bonedata']
    for name, (_, direction, size, own) in CMU_BONES.items():
        angles, order = (axes or {}).get(name, ((0, 0, 0), 'XYZ'))
        own = (dof or {}).get(name, own)
        if name != without:
            lines += ['  begin', f'    name {name}', f'    direction {" ".join(map(str, direction))}',
                      f'    length {size / unit:.12g}', f'    axis {" ".join(map(str, angles))} {order}',
                      *([f'    dof {own}', '    limits (-90 90)'] if own else []), '  end']
    lines += [':hierarchy', '  begin']
    for parent in ['root', *CMU_BONES]:
        children = [name for name, bone in CMU_BONES.items() if bone[0] == parent and name != without]
        if children and parent != without:
            lines.append(f'    {parent} {" ".join(children)}')
    path.write_text('\n'.join([*lines, '  end', '']))
    return path


def write_amc(path: Path, frames: Sequence[Mapping[str, Sequence[float]]], length: float = 0.45,
              radians: bool = False, dof: Mapping[str, str] | None = None) -> Path:
    """Write frames: bone to values (0 where left out; the root's place in m, then angles)."""
    unit = 0.0254 / length
    lines = ['#!OML:ASF', ':FULLY-SPECIFIED', ':RADIANS' if radians else ':DEGREES']
    for number, frame in enumerate(frames, 1):
        root = frame.get('root', (0, 0.88, 0, 0, 0, 0))
        values = (*(np.array(root[:3]) / unit), *root[3:])
        lines += [str(number), 'root ' + ' '.join(f'{value:.12g}' for value in values)]
        for name, (_, _, _, own) in CMU_BONES.items():
            count = len((dof or {}).get(name, own).split())
            if count:
                lines.append(f'{name} ' + ' '.join(f'{value:.12g}' for value in frame.get(name, [0.0] * count)))
    path.write_text('\n'.join(lines) + '\n')
    return path


def write_bvh(path: Path, joints: np.ndarray, fps: float, names: Mapping[str, str], scale: float = 1.0,
              z_up: bool = False, seed: int = 0) -> Path:
    """Write people (T, 17, 3) m, world z up, as a tree of joints that turn, each in an order of axes of its own.

    names: what the file calls the joints of HUMAN17 (the others are called after them). Every bone hangs on a joint of
    its own at its start, so that any motion of bones of constant length can be said. The head bone is left out.
    """
    rng = np.random.default_rng(seed)
    points = scale * (joints if z_up else joints @ np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]))
    lines, columns = ['HIERARCHY'], []

    def direction(index: int) -> np.ndarray:
        return points[:, index] - points[:, HUMAN17.index(HUMAN17.parents[index])]

    def add(index: int, depth: int, parent_turn: Rotation) -> None:
        """Add the bone that ends at a joint: a pivot at its start, then the joint, then what hangs on it."""
        pad, order = '\t' * depth, ''.join(rng.permutation(list('XYZ')))
        length = float(np.linalg.norm(direction(index), axis=-1).mean())
        rest = length * np.array([1.0, 0.0, 0.0])
        turn = _turn_to(direction(index))
        columns.append((parent_turn.inv() * turn).as_euler(order, degrees=True))
        channels = ' '.join(f'{axis}rotation' for axis in order)
        name = HUMAN17.joints[index]
        lines.extend([f'{pad}JOINT pivot_{name}', f'{pad}{{', f'{pad}\tOFFSET 0 0 0', f'{pad}\tCHANNELS 3 {channels}',
                      f'{pad}\tJOINT {names.get(name, name)}', f'{pad}\t{{',
                      f'{pad}\t\tOFFSET {" ".join(f"{value:.9g}" for value in rest)}', f'{pad}\t\tCHANNELS 0'])
        children = [child for child, parent in enumerate(HUMAN17.parents) if parent == name]
        for child in children:
            add(child, depth + 2, turn)
        if not children:
            lines.extend([f'{pad}\t\tEnd Site', f'{pad}\t\t{{', f'{pad}\t\t\tOFFSET 0 0 0', f'{pad}\t\t}}'])
        lines.extend([f'{pad}\t}}', f'{pad}}}'])

    lines.extend([f'ROOT {names.get("pelvis", "pelvis")}', '{', '\tOFFSET 1 2 3',
                  '\tCHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation'])
    columns.append(np.concatenate([points[:, 0], np.zeros((len(points), 3))], axis=1))
    for child, parent in enumerate(HUMAN17.parents):
        if parent == 'pelvis':
            add(child, 1, Rotation.identity(len(points)))
    values = np.concatenate(columns, axis=1)
    lines.extend(['}', 'MOTION', f'Frames: {len(points)}', f'Frame Time: {1 / fps:.9f}'])
    lines.extend(' '.join(f'{value:.7f}' for value in row) for row in values)
    path.write_text('\n'.join(lines) + '\n')
    return path


def _turn_to(directions: np.ndarray) -> Rotation:
    """Return rotations that turn +x to directions (T, 3)."""
    x = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    other = np.where(np.abs(x[:, 2:]) < 0.9, [[0.0, 0, 1]], [[0.0, 1, 0]])
    y = np.cross(other, x)
    y /= np.linalg.norm(y, axis=-1, keepdims=True)
    return Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=-1))
