"""Human3.6M as users of VideoPose3D have it: data_3d_h36m.npz, made by its prepare_data_h36m.py.

The file holds one pickled table: subject -> action -> positions (T, 32, 3) m in the world of the recording (z up, floor
at 0), 50 frames a second. All papers train on S1, S5, S6, S7, S8 and test on S9, S11 (Martinez et al. 2017, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pose3d_ros.train.mocap import MocapError
from pose3d_ros.train.readers.clip import Clip
from pose3d_ros.train.readers.pickled import load_pickled
from pose3d_ros.train.readers.world import on_floor

KEY = 'positions_3d'
FPS = 50.0
SPLIT = {'S1': 'train', 'S5': 'train', 'S6': 'train', 'S7': 'train', 'S8': 'train', 'S9': 'test', 'S11': 'test'}
# Of the 32 joints, those of HUMAN17 in its order; the others repeat a place, or end fingers and toes.
JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)


def read_human36m(path: Path) -> Iterator[Clip]:
    """Yield the recordings of the file. Raises MocapError."""
    table = load_pickled(path, KEY)
    if not isinstance(table, dict) or not all(isinstance(actions, dict) for actions in table.values()):
        raise MocapError(f'{path}: {KEY!r} is not a table of subjects and actions')
    for subject, actions in table.items():
        for action, positions in actions.items():
            where = f'{path}: {subject} {action}'
            if not isinstance(positions, np.ndarray) or positions.ndim != 3 or positions.shape[2] != 3:
                raise MocapError(f'{where}: not positions (frames, joints, 3)')
            if positions.shape[1] not in (17, 32):
                raise MocapError(f'{where}: {positions.shape[1]} joints, expected 32, or the 17 that are left of them')
            chosen = positions[:, JOINTS] if positions.shape[1] == 32 else positions
            yield Clip(f'{subject} {action}', str(subject), on_floor(chosen.astype(np.float64)), FPS, 'human36m',
                       SPLIT.get(str(subject), ''))
