"""People made by formulas, in world axes with z up, and files of them as motion capture comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.mocap import HUMAN36M_NAMES

# Facing +y as in the recordings: x to the person's right, y ahead, z up; metres, floor at z = 0.
_STANDING = {
    'pelvis': (0.0, 0.0, 0.90), 'right_hip': (0.10, 0.0, 0.90), 'right_knee': (0.11, 0.02, 0.49),
    'right_ankle': (0.11, -0.02, 0.08), 'spine': (0.0, -0.01, 1.12), 'thorax': (0.0, 0.0, 1.40),
    'neck': (0.0, 0.03, 1.52), 'head': (0.0, 0.04, 1.64), 'right_shoulder': (0.18, -0.01, 1.38),
    'right_elbow': (0.21, -0.02, 1.09), 'right_wrist': (0.22, 0.05, 0.85),
}


def standing(phase: float = 0.0) -> np.ndarray:
    """Return joints (17, 3) m of somebody who stands (phase 0) or walks on the spot (phase of the stride, rad)."""
    joints = np.zeros((len(HUMAN17), 3))
    for name in HUMAN17.joints:
        own = name.replace('left_', 'right_')
        joints[HUMAN17.index(name)] = np.array(_STANDING[own]) * (-1 if name.startswith('left_') else 1, 1, 1)
    for side, sign in (('left', 1.0), ('right', -1.0)):
        for pivot, names, swing in ((f'{side}_shoulder', ('elbow', 'wrist'), -0.5),
                                    (f'{side}_hip', ('knee', 'ankle'), 0.4)):
            angle = sign * swing * np.sin(phase)
            turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
            chosen = HUMAN17.indices([f'{side}_{name}' for name in names])
            centre = joints[HUMAN17.index(pivot)]
            joints[chosen] = (joints[chosen] - centre) @ turn.T + centre
    joints[:, 2] += 0.08 - joints[:, 2].min()
    return joints


def motion(frames: int) -> np.ndarray:
    """Return a walk on the spot (frames, 17, 3) m."""
    return np.stack([standing(0.2 * frame) for frame in range(frames)])


def write_mocap(path: Path, frames: int = 40, **changes: object) -> Path:
    """Write a file of three clips, one per split, as motion capture comes: int16 mm, names of Human3.6M."""
    positions = np.concatenate([motion(frames)] * 3)
    arrays: dict[str, object] = {
        'positions': np.round(1000 * positions).astype(np.int16), 'clip_start': np.arange(4) * frames,
        'clip_name': np.array(['walk_1', 'walk_2', 'walk_3']), 'subject': np.array(['a', 'b', 'c']),
        'split': np.array(['train', 'val', 'test']), 'unit': 'mm',
        'joint_names': np.array([HUMAN36M_NAMES[joint] for joint in HUMAN17.joints])}
    arrays |= changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})  # type: ignore[arg-type]
    return path
