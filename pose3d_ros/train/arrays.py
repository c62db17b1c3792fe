"""The file that training reads (see train/mocap.py): written from clips, and summed up."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.stature import stature
from pose3d_ros.train.mocap import HUMAN36M_NAMES, MocapError
from pose3d_ros.train.readers.clip import Clip

SPLITS = ('train', 'val', 'test')
SHARES = {'test': 0.15, 'val': 0.08}  # of the frames, at least, where there are enough people
LOW = 0.27                            # of the stature: with the pelvis less above the lower ankle one sits or is lower

_PELVIS = HUMAN17.index('pelvis')
_ANKLES = HUMAN17.indices(['left_ankle', 'right_ankle'])


@dataclass(frozen=True)
class SubjectSummary:
    """What is known of one person: clips, frames, minutes, median stature m, share of low poses, splits."""

    subject: str
    clips: int
    frames: int
    minutes: float
    stature: float
    low: float
    splits: str


def assign_splits(clips: Sequence[Clip], validation: Sequence[str] = (), test: Sequence[str] = (),
                  by: str = 'subject') -> list[Clip]:
    """Return the clips, each with a split: the one asked for, else that of its data set, else one drawn.

    validation, test: subjects. by: 'subject' draws whole people, 'clip' whole clips (for recordings of one or two
    people: then nothing tells how the result is on others). The draw depends on names alone, not on the order of files.
    Raises MocapError for a subject that is not there.
    """
    if unknown := [name for name in (*validation, *test) if all(clip.subject != name for clip in clips)]:
        raise MocapError(f'no clip of subject {unknown[0]!r}')
    asked = {name: 'val' for name in validation} | {name: 'test' for name in test}
    clips = [replace(clip, split=asked.get(clip.subject, clip.split)) for clip in clips]
    groups: dict[str, int] = {}
    for clip in clips:
        if not clip.split:
            key = clip.subject if by == 'subject' else f'{clip.subject} {clip.name}'
            groups[key] = groups.get(key, 0) + len(clip)
    drawn = dict.fromkeys(groups, 'train')
    if len(groups) >= 3:
        for split, share in SHARES.items():
            _draw(groups, drawn, split, share * sum(groups.values()))
    return [replace(clip, split=clip.split or drawn[clip.subject if by == 'subject' else f'{clip.subject} {clip.name}'])
            for clip in clips]


def write_arrays(path: Path, clips: Sequence[Clip], fps: float) -> None:
    """Write clips, all at `fps`, as one .npz file: at once or not at all. Raises MocapError.

    x and y in the file are relative to each clip's mean pelvis (`clip_offset_xy`, mm), so that a millimetre fits into
    int16.
    """
    if not clips:
        raise MocapError('no clips to write')
    positions, offsets = [], []
    for clip in clips:
        offset = clip.positions[:, _PELVIS, :2].mean(axis=0)
        points = np.round(1000 * (clip.positions - [*offset, 0.0]))
        if np.abs(points).max() > np.iinfo(np.int16).max:
            raise MocapError(f'clip {clip.name!r}: a joint is more than 32 m from the middle of the clip: wrong unit?')
        positions.append(points.astype(np.int16))
        offsets.append(1000 * offset)
    arrays = {
        'positions': np.concatenate(positions), 'clip_start': np.cumsum([0, *map(len, clips)]).astype(np.int32),
        'clip_offset_xy': np.array(offsets, dtype=np.float32),
        'clip_name': np.array([clip.name for clip in clips]), 'subject': np.array([clip.subject for clip in clips]),
        'split': np.array([clip.split for clip in clips]), 'source': np.array([clip.source for clip in clips]),
        'joint_names': np.array([HUMAN36M_NAMES[joint] for joint in HUMAN17.joints]),
        'parents': np.array([HUMAN17.index(parent) if parent else -1 for parent in HUMAN17.parents], dtype=np.int8),
        'fps': np.float64(fps), 'unit': np.array('mm'),
    }
    partial = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open('wb') as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MocapError(f'cannot write {path}: {error.strerror or error}') from error


def summarise(clips: Sequence[Clip]) -> list[SubjectSummary]:
    """Return what the clips hold, by subject."""
    rows = []
    for subject in sorted({clip.subject for clip in clips}):
        own = [clip for clip in clips if clip.subject == subject]
        positions = np.concatenate([clip.positions for clip in own])
        above = positions[:, _PELVIS, 2] - positions[:, _ANKLES, 2].min(axis=1)
        height = float(np.median(stature(positions)))
        splits = [split for split in SPLITS if any(clip.split == split for clip in own)]
        rows.append(SubjectSummary(subject, len(own), len(positions), sum(len(clip) / clip.fps for clip in own) / 60,
                                   height, float(np.mean(above < LOW * height)), '+'.join(splits)))
    return rows


def _draw(groups: dict[str, int], drawn: dict[str, str], split: str, wanted: float) -> None:
    """Move groups from 'train' to a split until it has the frames wanted, in an order that only names decide.

    A group that would take more than twice that is passed over, as long as others are left.
    """
    free = sorted((name for name in groups if drawn[name] == 'train'), key=_digest)
    taken = 0
    for name in [name for name in free if groups[name] <= 2 * wanted] or free[:1]:
        if taken < wanted and sum(value == 'train' for value in drawn.values()) > 1:
            drawn[name] = split
            taken += groups[name]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
