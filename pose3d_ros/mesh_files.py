"""Bodies that move, written for other programs: BVH (joints) and OBJ (a mesh per frame). mesh_gltf.py: glTF.

What is written has the axes and metres that it is given in. These formats take y for up: see BodyMotion.turned.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pose3d_ros.body_model import JOINTS, BodyModel
from pose3d_ros.skeleton import SMPL24, Skeleton

# Turns axes with z up into those with y up, +x staying.
Y_UP_FROM_Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


@dataclass(frozen=True)
class BodyMotion:
    """One person over T frames.

    rotations (T, 24, 3, 3): of each joint against its parent, the root's against the world; translation (T, 3) m and
    shape (b,): as BodyModel.pose takes them; times (T,) s, rising. Raises ValueError for sizes that disagree, values
    that are not finite, no frames, and times that do not rise.
    """

    rotations: NDArray[np.float64]
    translation: NDArray[np.float64]
    shape: NDArray[np.float64]
    times: NDArray[np.float64]
    name: str = 'body'

    def __post_init__(self) -> None:
        frames = len(self.times)
        for name, shape in (('rotations', (frames, JOINTS, 3, 3)), ('translation', (frames, 3)), ('times', (frames,))):
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f'{name} is {np.shape(getattr(self, name))}, expected {shape}')
        if np.ndim(self.shape) != 1:
            raise ValueError(f'shape is {np.shape(self.shape)}, expected (b,): one body for all frames')
        if not all(np.isfinite(values).all() for values in (self.rotations, self.translation, self.shape, self.times)):
            raise ValueError('rotations, translation, shape or times hold a value that is not finite')
        if not frames or not (np.diff(self.times) > 0).all():
            raise ValueError('no frames, or times that do not rise')

    def turned(self, model: BodyModel, turn: NDArray) -> BodyMotion:
        """Return the same motion in other axes: turn (3, 3) brings the present axes to the new ones."""
        root = model.rest(self.shape)[1][0]
        rotations = np.array(self.rotations, dtype=np.float64)
        rotations[:, 0] = turn @ rotations[:, 0]
        return replace(self, rotations=rotations, translation=(self.translation + root) @ np.transpose(turn) - root)


@contextmanager
def written(path: Path, mode: str = 'w') -> Iterator[IO]:
    """Open a file for writing that takes its place when it is whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with partial.open(mode, encoding=None if 'b' in mode else 'utf-8') as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_obj_sequence(folder: Path, model: BodyModel, motion: BodyMotion, first: int = 0) -> list[Path]:
    """Write a mesh for each frame, folder/NAME_000000.obj and so on, and return the files. Raises OSError.

    first: the number of the first frame.
    """
    faces = ''.join(f'f {a} {b} {c}\n' for a, b, c in (model.faces + 1).tolist())
    lines = 'v %.5f %.5f %.5f\n' * len(model)  # at once: twice as fast as line by line
    paths = []
    for number, (turns, place) in enumerate(zip(motion.rotations, motion.translation), first):
        vertices = model.pose(turns[None], motion.shape, place)[0][0]
        paths.append(folder / f'{motion.name}_{number:06d}.obj')
        with written(paths[-1]) as file:
            file.write(f'o {motion.name}\n')
            file.write(lines % tuple(vertices.ravel().tolist()))
            file.write(faces)
    return paths


def write_bvh(path: Path, model: BodyModel, motion: BodyMotion) -> None:
    """Write joints as a Biovision hierarchy, in metres. Raises OSError, ValueError for times without one step.

    The rest pose is that of the model (arms to the sides); angles are in degrees, turned about z, x, y in this order.
    """
    step = _frame_time(motion.times)
    vertices, joints = model.rest(motion.shape)
    lines = ['HIERARCHY', *_hierarchy(SMPL24, joints, _tips(model, vertices, joints)),
             'MOTION', f'Frames: {len(motion.times)}', f'Frame Time: {step:.8f}']
    order = list(_depth_first(SMPL24))
    angles = np.degrees(_zxy_angles(motion.rotations[:, order])).reshape(len(motion.times), -1)
    values = np.concatenate([motion.translation + joints[0], angles], axis=1)
    with written(path) as file:
        file.writelines(f'{line}\n' for line in lines)
        file.writelines(' '.join(f'{value:.6f}' for value in row) + '\n' for row in values.tolist())


def _frame_time(times: NDArray) -> float:
    if len(times) == 1:
        return 1 / 30
    steps = np.diff(times)
    if steps.max() > 1.02 * steps.min():
        raise ValueError('BVH knows frames at equal steps of time alone; resample the motion first (resampled)')
    return float(steps.mean())


def resampled(motion: BodyMotion, rate: float) -> BodyMotion:
    """Return the motion at equal steps of time, rate in Hz: places on straight ways, turns on the shortest arcs."""
    count = int(np.floor((motion.times[-1] - motion.times[0]) * rate + 1e-6)) + 1
    times = motion.times[0] + np.arange(count) / rate
    after = np.clip(np.searchsorted(motion.times, times, side='right'), 1, max(len(motion.times) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(motion.times) - 1)
    span = np.maximum(motion.times[after] - motion.times[before], 1e-12)
    share = np.clip((times - motion.times[before]) / span, 0, 1)
    first = Rotation.from_matrix(motion.rotations[before].reshape(-1, 3, 3))
    last = Rotation.from_matrix(motion.rotations[after].reshape(-1, 3, 3))
    way = (first.inv() * last).as_rotvec() * np.repeat(share, JOINTS)[:, None]
    turns = (first * Rotation.from_rotvec(way)).as_matrix().reshape(count, JOINTS, 3, 3)
    places = motion.translation[before] + share[:, None] * (motion.translation[after] - motion.translation[before])
    return replace(motion, rotations=turns, translation=places, times=times)


def _children(skeleton: Skeleton, joint: str) -> list[str]:
    return [child for child, parent in zip(skeleton.joints, skeleton.parents) if parent == joint]


def _depth_first(skeleton: Skeleton) -> Iterator[int]:
    """Yield joints in the order in which a hierarchy lists them."""
    waiting = [joint for joint, parent in zip(skeleton.joints, skeleton.parents) if not parent]
    while waiting:
        joint = waiting.pop()
        yield skeleton.index(joint)
        waiting.extend(reversed(_children(skeleton, joint)))


def _tips(model: BodyModel, vertices: NDArray, joints: NDArray) -> dict[str, NDArray]:
    """Return where the bones of joints without children end (3,) m: as far as their skin reaches."""
    tips = {}
    for index, joint in enumerate(SMPL24.joints):
        if not _children(SMPL24, joint):
            own = vertices[model.arrays.weights[:, index] > 0.5] - joints[index]
            way = own.mean(axis=0) if len(own) else np.array([0, 0.05, 0])
            way = way / max(float(np.linalg.norm(way)), 1e-6)
            tips[joint] = way * (float((own @ way).max()) if len(own) else 0.05)
    return tips


def _hierarchy(skeleton: Skeleton, joints: NDArray, tips: dict[str, NDArray]) -> list[str]:
    """Return the lines of the tree. joints (24, 3) m at rest; the place of the root is in its channels."""
    def lines(joint: str, depth: int) -> list[str]:
        index, pad = skeleton.index(joint), '\t' * depth
        parent = skeleton.parents[index]
        offset = joints[index] - joints[skeleton.index(parent)] if parent else np.zeros(3)
        channels = '3 Zrotation Xrotation Yrotation' if parent else (
            '6 Xposition Yposition Zposition Zrotation Xrotation Yrotation')
        result = [f'{pad}{"JOINT" if parent else "ROOT"} {joint}', f'{pad}{{', f'{pad}\t{_offset(offset)}',
                  f'{pad}\tCHANNELS {channels}']
        for child in _children(skeleton, joint):
            result += lines(child, depth + 1)
        if joint in tips:
            result += [f'{pad}\tEnd Site', f'{pad}\t{{', f'{pad}\t\t{_offset(tips[joint])}', f'{pad}\t}}']
        return [*result, f'{pad}}}']

    return lines(skeleton.joints[next(_depth_first(skeleton))], 0)


def _offset(value: NDArray) -> str:
    return 'OFFSET ' + ' '.join(f'{number:.6f}' for number in value.tolist())


def _zxy_angles(turns: NDArray) -> NDArray[np.float64]:
    """Return angles (..., 3) rad about z, x, y of rotations (..., 3, 3) = Rz Rx Ry."""
    a = np.arcsin(np.clip(turns[..., 2, 1], -1, 1))
    level = np.hypot(turns[..., 2, 0], turns[..., 2, 2]) > 1e-6
    b = np.where(level, np.arctan2(-turns[..., 2, 0], turns[..., 2, 2]), 0)
    # With x at a right angle, z and y turn about one line: all of it is given to z.
    c = np.where(level, np.arctan2(-turns[..., 0, 1], turns[..., 1, 1]), np.arctan2(turns[..., 1, 0], turns[..., 0, 0]))
    return np.stack([c, a, b], axis=-1)
