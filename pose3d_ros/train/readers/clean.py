"""Broken frames cut out of a recording, and the rest brought to one frame rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.readers.clip import Clip

SHORTEST = 0.5        # s: pieces below this are dropped
# A joint whose place differs more than this from the mean of its neighbours in time, twice, has jumped; at low frame
# rates the limit is what a fast arm can do (200 m/s^2; a punch reaches about 150). Likewise a step.
JUMP, JUMP_ACCELERATION = 0.06, 200.0   # m, m/s^2
STEP, STEP_SPEED = 0.20, 15.0           # m, m/s
UNDER_FLOOR = 0.06    # m, of an ankle
FARTHEST = 1e4        # m
KNEE_BACK = 0.5       # sine of the angle by which a knee is bent against its hinge

_SIDES = [tuple(HUMAN17.index(f'{side}_{joint}') for joint in ('hip', 'knee', 'ankle')) for side in ('left', 'right')]
_HIPS = HUMAN17.indices(['left_hip', 'right_hip'])
_ANKLES = HUMAN17.indices(['left_ankle', 'right_ankle'])


def broken_frames(positions: NDArray, fps: float) -> dict[str, NDArray[np.bool_]]:
    """Return which frames (T,) of a recording (T, 17, 3) m are broken, by reason.

    jump: a joint jumps; floor: an ankle is far under the floor; knee: a knee is bent forwards; missing: not finite, or
    nowhere on earth.
    """
    missing = ~(np.abs(positions) < FARTHEST).all(axis=(1, 2))  # also what is not a number
    found = {'missing': missing, 'jump': np.zeros(len(positions), dtype=np.bool_)}
    positions = np.where(missing[:, None, None], 0.0, positions)
    if len(positions) > 2:
        bend = np.linalg.norm(positions[:-2] - 2 * positions[1:-1] + positions[2:], axis=-1).max(axis=1)
        found['jump'][1:-1] = bend > max(JUMP, JUMP_ACCELERATION / fps**2)
        # The jump from or to a missing frame is not one of the frame beside it.
        found['jump'][1:-1] &= ~(missing[:-2] | missing[1:-1] | missing[2:])
    step = np.linalg.norm(np.diff(positions, axis=0), axis=-1).max(axis=1, initial=0.0) > max(STEP, STEP_SPEED / fps)
    step &= ~(missing[1:] | missing[:-1])
    found['jump'][1:] |= step
    found['floor'] = (positions[:, _ANKLES, 2] < -UNDER_FLOOR).any(axis=1)
    found['knee'] = np.any([_bent_back(positions, *side) for side in _SIDES], axis=0) & ~missing
    return found


def whole_pieces(clip: Clip, fps: float, dropped: Counter[str] | None = None) -> Iterator[Clip]:
    """Yield the unbroken pieces of a clip at `fps` frames per second, as NAME, NAMEa, NAMEb ...

    A rate that is a multiple of fps is reduced by taking frames; from any other, frames are interpolated (cubic).
    dropped: frames of the recording that were lost are added to it, by reason ('short': pieces of less than 0.5 s).
    """
    dropped = Counter() if dropped is None else dropped
    bad = np.zeros(len(clip), dtype=np.bool_)
    for reason, frames in broken_frames(clip.positions, clip.fps).items():
        dropped[reason] += int(np.sum(frames & ~bad))
        bad |= frames
    edges = np.flatnonzero(np.diff(np.concatenate([[True], bad, [True]]).astype(np.int8)))
    found = 0
    for start, stop in edges.reshape(-1, 2):
        if stop - start < SHORTEST * clip.fps:
            dropped['short'] += int(stop - start)
            continue
        letter = '' if not found else chr(ord('a') + found - 1) if found <= 26 else f'_{found}'
        positions = resample(clip.positions[start:stop], clip.fps, fps)
        yield replace(clip, name=clip.name + letter, fps=fps, positions=positions)
        found += 1


def resample(positions: NDArray, given: float, wanted: float) -> NDArray:
    """Return a recording (T, ...) of `given` frames per second at `wanted`, from its first frame on."""
    ratio = given / wanted
    if round(ratio) >= 1 and abs(ratio - round(ratio)) < 0.01 * ratio:
        return positions[::round(ratio)]
    seconds = np.arange(len(positions)) / given
    # A hair of room: the last frame counts although its time was rounded.
    times = np.arange(0.0, seconds[-1] + 1e-9, 1 / wanted)
    return CubicSpline(seconds, positions, axis=0)(np.minimum(times, seconds[-1]))


def _bent_back(positions: NDArray, hip: int, knee: int, ankle: int) -> NDArray[np.bool_]:
    """Return where (T,) the shank swings forwards of the thigh: its turn is about +right, and not about -right."""
    thigh, shank = (positions[:, b] - positions[:, a] for a, b in ((hip, knee), (knee, ankle)))
    right = positions[:, _HIPS[1]] - positions[:, _HIPS[0]]
    turn = np.sum(np.cross(thigh, shank) * right, axis=-1)
    size = np.prod([np.linalg.norm(part, axis=-1) for part in (thigh, shank, right)], axis=0)
    return turn > KNEE_BACK * size
