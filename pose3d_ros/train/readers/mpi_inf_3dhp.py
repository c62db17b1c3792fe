"""MPI-INF-3DHP: the annot.mat files of its training set, and the .npz files into which lifting papers convert it.

annot.mat (MATLAB 5): annot3, one cell per camera of (T, 84): 28 joints, x, y, z in mm in that camera's optical frame;
beside it camera.calibration, whose world has y up. data_train_3dhp.npz (from P-STMO's converter): a pickled table
"S1 Seq1" -> [camera -> {data_3d (T, 17, 3) mm in that camera's optical frame, of a skeleton of one height, data_2d}];
data_test_3dhp.npz: "TS1" -> {data_3d, ...}. All cameras saw the same motion: the first is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.mocap import MocapError
from pose3d_ros.train.readers.clip import Clip
from pose3d_ros.train.readers.pickled import load_pickled
from pose3d_ros.train.readers.world import level, on_floor, y_up_to_world

KEY = 'data'
# Sequences of 50 frames a second; the others have 25.
FAST = {'S1 Seq2', 'S3 Seq1', 'S3 Seq2', 'S5 Seq1', 'S5 Seq2'}

MAT_JOINTS = (
    'spine3', 'spine4', 'spine2', 'spine', 'pelvis', 'neck', 'head', 'head_top', 'left_clavicle', 'left_shoulder',
    'left_elbow', 'left_wrist', 'left_hand', 'right_clavicle', 'right_shoulder', 'right_elbow', 'right_wrist',
    'right_hand', 'left_hip', 'left_knee', 'left_ankle', 'left_foot', 'left_toe', 'right_hip', 'right_knee',
    'right_ankle', 'right_foot', 'right_toe')
NPZ_JOINTS = (
    'head_top', 'neck', 'right_shoulder', 'right_elbow', 'right_wrist', 'left_shoulder', 'left_elbow', 'left_wrist',
    'right_hip', 'right_knee', 'right_ankle', 'left_hip', 'left_knee', 'left_ankle', 'pelvis', 'spine', 'head')
# What HUMAN17 calls otherwise: its neck is the start of the head bone, its thorax the base of the neck.
NAMES = {'thorax': 'neck', 'neck': 'head', 'head': 'head_top'}


def read_annot_mat(path: Path) -> Iterator[Clip]:
    """Yield the recording of .../S1/Seq1/annot.mat, in the world of its camera.calibration. Raises MocapError."""
    from scipy.io import loadmat

    try:
        cells = loadmat(path, variable_names=['annot3'])['annot3']
    except NotImplementedError as error:
        raise MocapError(f'{path}: a MATLAB 7.3 file (the test set); only the training set is read') from error
    except KeyError as error:
        raise MocapError(f'{path}: no annot3, so this is not an annot.mat of MPI-INF-3DHP') from error
    except Exception as error:  # SciPy raises almost anything for a damaged file
        raise MocapError(f'{path}: not a readable MATLAB file ({error})') from error
    first = cells.ravel()[0] if cells.dtype == object and cells.size else cells
    if not isinstance(first, np.ndarray) or first.dtype.kind not in 'fiu':
        raise MocapError(f'{path}: annot3 does not hold numbers')
    first = first.astype(np.float64)
    if first.ndim != 2 or first.shape[1] != 3 * len(MAT_JOINTS):
        raise MocapError(f'{path}: annot3 is {first.shape} per camera, expected (frames, {3 * len(MAT_JOINTS)})')
    camera = select17(first.reshape(len(first), -1, 3), MAT_JOINTS)  # mm
    rotation, translation = camera_pose(path.with_name('camera.calibration'))
    world = (camera - translation) @ rotation
    subject, sequence = path.parent.parent.name, path.parent.name
    yield Clip(f'{subject} {sequence}', subject, on_floor(y_up_to_world(1e-3 * world)), _fps(f'{subject} {sequence}'),
               'mpi_inf_3dhp')


def read_3dhp_npz(path: Path) -> Iterator[Clip]:
    """Yield the recordings of a converted file, turned upright by the floor under their feet. Raises MocapError."""
    table = load_pickled(path, KEY)
    if not isinstance(table, dict):
        raise MocapError(f'{path}: {KEY!r} is not a table of sequences')
    for name, entry in table.items():
        positions = _positions(entry)
        if positions is None or positions.size == 0 or positions.size % 51:
            raise MocapError(f'{path}: {name}: no data_3d (frames, 17, 3)')
        camera = 1e-3 * select17(positions.reshape(-1, 17, 3).astype(np.float64), NPZ_JOINTS)
        subject = str(name).split()[0]
        yield Clip(str(name), subject, level(camera), _fps(str(name)), 'mpi_inf_3dhp',
                   'test' if subject.startswith('TS') else '')


def select17(positions: NDArray, names: tuple[str, ...]) -> NDArray:
    """Return the joints (T, 17, 3) of HUMAN17 out of positions (T, J, 3) of joints called `names`."""
    chosen = positions[:, [names.index(NAMES.get(joint, joint)) for joint in HUMAN17.joints]]
    hips = chosen[:, HUMAN17.indices(['left_hip', 'right_hip'])]
    chosen[:, HUMAN17.index('pelvis')] = hips.mean(axis=1)  # by our definition of the pelvis
    return chosen


def camera_pose(path: Path) -> tuple[NDArray, NDArray]:
    """Return rotation (3, 3) and translation (3,) mm from the world to the first camera. Raises MocapError."""
    try:
        lines = path.read_text(encoding='latin-1').splitlines()
    except OSError as error:
        raise MocapError(f'{path}: {error.strerror or error}; it belongs beside annot.mat') from error
    number = next((number for number, line in enumerate(lines, 1) if line.split()[:1] == ['extrinsic']), 0)
    if not number:
        raise MocapError(f'{path}: no line "extrinsic"')
    try:
        matrix = np.array([float(word) for word in lines[number - 1].split()[1:]]).reshape(4, 4)
    except ValueError as error:
        raise MocapError(f'{path}:{number}: not the 16 numbers of a matrix') from error
    if not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-3):
        raise MocapError(f'{path}:{number}: not a rotation and a translation')
    return matrix[:3, :3], matrix[:3, 3]


def _positions(entry: Any) -> NDArray | None:
    """Return data_3d of the first camera, however deep it lies."""
    while not (isinstance(entry, dict) and 'data_3d' in entry):
        if isinstance(entry, dict) and entry:
            entry = entry[min(entry, key=str)]
        elif isinstance(entry, list) and entry:
            entry = entry[0]
        else:
            return None
    return entry['data_3d'] if isinstance(entry['data_3d'], np.ndarray) else None


def _fps(sequence: str) -> float:
    return 50.0 if re.sub(r'\s+', ' ', sequence) in FAST else 25.0
