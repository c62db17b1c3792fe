"""Motion capture as a data source: files of 3D joints, read into one array in metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17

# How the joints of HUMAN17 are called in Human3.6M-style files.
HUMAN36M_NAMES = {
    'pelvis': 'Pelvis', 'right_hip': 'RHip', 'right_knee': 'RKnee', 'right_ankle': 'RAnkle', 'left_hip': 'LHip',
    'left_knee': 'LKnee', 'left_ankle': 'LAnkle', 'spine': 'Spine', 'thorax': 'Thorax', 'neck': 'Neck/Nose',
    'head': 'HeadTop', 'left_shoulder': 'LShoulder', 'left_elbow': 'LElbow', 'left_wrist': 'LWrist',
    'right_shoulder': 'RShoulder', 'right_elbow': 'RElbow', 'right_wrist': 'RWrist',
}
UNITS = {'mm': 1e-3, 'm': 1.0}
RAW = 'recordings as they are downloaded go through pose3d mocap first (docs/data.md)'


class MocapError(ValueError):
    """A motion-capture file that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Mocap:
    """Moving people.

    positions (N, 17, 3) float32 m in the order of HUMAN17, world axes with z up and the floor near z = 0;
    clip (N,) index of the clip that a frame belongs to, the frames of a clip together and in order of time; clip_name,
    subject (C,) per clip; fps frames per second inside a clip.
    """

    positions: NDArray[np.float32]
    clip: NDArray[np.intp]
    clip_name: tuple[str, ...]
    subject: tuple[str, ...]
    fps: float = 30.0

    def __len__(self) -> int:
        return len(self.positions)

    def frame_weights(self) -> NDArray[np.float64]:
        """Return the chance (N,) of drawing each frame.

        A subject counts with the square root of its frames, and inside a subject a clip alike, so that one long
        recording does not crowd out the others.
        """
        frames = np.bincount(self.clip, minlength=len(self.clip_name)).astype(np.float64)
        subjects, owner = np.unique(np.asarray(self.subject), return_inverse=True)
        per_subject = np.bincount(owner, weights=frames, minlength=len(subjects))
        clip_share = np.sqrt(frames)
        clip_share /= np.bincount(owner, weights=clip_share, minlength=len(subjects))[owner]
        weight = (np.sqrt(per_subject)[owner] * clip_share / np.maximum(frames, 1))[self.clip]
        return weight / weight.sum()


def load_mocap(paths: Sequence[str | Path], split: str, leave_out: Sequence[str] = ()) -> Mocap:
    """Read the clips of one split ('train', 'val', 'test') from .npz files, without the subjects in leave_out.

    Arrays in a file: positions [N, 17, 3] (with `unit` 'mm' or 'm'), clip_start [C + 1], clip_name, subject, split [C],
    joint_names [17], fps (30 without it; the same in all files). Raises MocapError.
    """
    parts = [_read(Path(path), split, frozenset(leave_out)) for path in paths]
    positions, clips = [], []
    names: list[str] = []
    subjects: list[str] = []
    for part in parts:
        clips.append(part.clip + len(names))
        positions.append(part.positions)
        names.extend(part.clip_name)
        subjects.extend(part.subject)
    if not names:
        raise MocapError(f'no clip of split {split!r} in {", ".join(map(str, paths)) or "no file"}')
    rates = {part.fps for part in parts if len(part)}
    if len(rates) > 1:
        raise MocapError(f'files of different frame rates together: {", ".join(f"{rate:g}" for rate in sorted(rates))}')
    return Mocap(np.concatenate(positions), np.concatenate(clips), tuple(names), tuple(subjects), rates.pop())


def _read(path: Path, split: str, leave_out: frozenset[str]) -> Mocap:
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in
                      ('positions', 'clip_start', 'clip_name', 'subject', 'split', 'joint_names', 'unit')}
            arrays['fps'] = data['fps'] if 'fps' in data else np.float64(30)
    except KeyError as error:
        raise MocapError(f'{path}: {error.args[0]}; {RAW}') from error
    except (OSError, ValueError) as error:
        raise MocapError(f'{path}: not a readable .npz file ({error}); {RAW}') from error
    positions, starts = arrays['positions'], arrays['clip_start']
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise MocapError(f'{path}: positions are {positions.shape}, expected (frames, joints, 3)')
    if starts[0] != 0 or starts[-1] != len(positions) or (np.diff(starts) < 0).any():
        raise MocapError(f'{path}: clip_start does not cut {len(positions)} frames into clips')
    unit = str(arrays['unit'])
    if unit not in UNITS:
        raise MocapError(f'{path}: unit {unit!r}, expected one of {", ".join(UNITS)}')
    order = _joint_order(path, [str(name) for name in arrays['joint_names']])

    chosen = [i for i in range(len(starts) - 1)
              if arrays['split'][i] == split and str(arrays['subject'][i]) not in leave_out]
    frames = [np.arange(starts[i], starts[i + 1]) for i in chosen]
    index = np.concatenate(frames) if frames else np.zeros(0, dtype=np.intp)
    return Mocap(
        positions=positions[index][:, order].astype(np.float32) * np.float32(UNITS[unit]),
        clip=np.repeat(np.arange(len(chosen)), [len(frame) for frame in frames]),
        clip_name=tuple(str(arrays['clip_name'][i]) for i in chosen),
        subject=tuple(str(arrays['subject'][i]) for i in chosen),
        fps=float(arrays['fps']))


def _joint_order(path: Path, names: list[str]) -> list[int]:
    """Return where each joint of HUMAN17 lies in the file, which may use its names or those of Human3.6M."""
    order = []
    for joint in HUMAN17.joints:
        found = [name for name in (joint, HUMAN36M_NAMES[joint]) if name in names]
        if not found:
            raise MocapError(f'{path}: no joint {joint!r} ({HUMAN36M_NAMES[joint]!r}) among {", ".join(names)}')
        order.append(names.index(found[0]))
    return order
