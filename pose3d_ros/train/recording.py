"""What several calibrated cameras detected of people over time: 2D and nothing else. Self-supervision sees this.

A file of it holds no 3D pose, so whoever trains from it cannot use one. Where the truth is known (motion capture seen
by virtual cameras, train/filming.py), it lies in a file of its own, which evaluation reads.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17

KIND = 'pose3d recording, 2D'
TRUTH_KIND = 'pose3d recording, truth'


class RecordingError(ValueError):
    """A recording that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Recording:
    """F moments, each seen by V cameras, one person at a time.

    rays (F, V, 17, 2) of HUMAN17, undistorted; confidence (F, V, 17) in 0..1, 0 where not seen (rays are 0 then);
    focal (V,) px, to tell errors in pixels; camera_T_world (V, 4, 4); clip (F,): moments of one clip follow each other
    at `rate` per second.
    """

    rays: NDArray[np.float32]
    confidence: NDArray[np.float32]
    focal: NDArray[np.float32]
    camera_T_world: NDArray[np.float64]  # noqa: N815 (a_T_b: maps b to a)
    clip: NDArray[np.int64]
    rate: NDArray[np.float32]

    def __post_init__(self) -> None:
        frames, views = self.rays.shape[:2]
        for name, shape in (('rays', (frames, views, 17, 2)), ('confidence', (frames, views, 17)), ('focal', (views,)),
                            ('camera_T_world', (views, 4, 4)), ('clip', (frames,)), ('rate', ())):
            if getattr(self, name).shape != shape:
                raise RecordingError(f'{name} is {getattr(self, name).shape}, expected {shape}')
        if views < 2:
            raise RecordingError(f'{views} camera; two at least must have seen the same people')
        if not frames:
            raise RecordingError('it is empty')
        if not all(np.isfinite(part).all() for part in (self.rays, self.confidence, self.camera_T_world)):
            raise RecordingError('rays, confidence and camera_T_world must be finite (0 where not seen)')
        if np.count_nonzero(np.diff(self.clip)) + 1 != len(np.unique(self.clip)):
            raise RecordingError('the moments of a clip do not lie together')

    def __len__(self) -> int:
        return len(self.rays)

    def where(self, chosen: NDArray | slice) -> Recording:
        """Return some of the moments."""
        return replace(self, rays=self.rays[chosen], confidence=self.confidence[chosen], clip=self.clip[chosen])

    def windows(self, frames: NDArray, views: NDArray, length: int) -> NDArray[np.float32]:
        """Return rays (B, length, 17, 2) around moments frames (B,) in views (B,); ends of clips are repeated."""
        if length == 1:
            return self.rays[frames, views][:, None]
        first, last = self.ends
        around = frames[:, None] + np.arange(length) - length // 2
        return self.rays[np.clip(around, first[frames, None], last[frames, None]), views[:, None]]

    @cached_property
    def ends(self) -> tuple[NDArray, NDArray]:
        """The first and the last moment (F,) of the clip of each moment."""
        starts = np.flatnonzero(np.diff(self.clip, prepend=self.clip[0] - 1))
        lengths = np.diff(np.append(starts, len(self)))
        return np.repeat(starts, lengths), np.repeat(starts + lengths - 1, lengths)

    def save(self, path: Path) -> None:
        """Write the recording as .npz."""
        _save(path, kind=KIND, joint_names=np.array(HUMAN17.joints),
              **{field.name: getattr(self, field.name) for field in fields(self)})


def load_recording(path: Path) -> Recording:
    """Read a recording. Raises RecordingError."""
    arrays = _load(path, KIND)
    try:
        return Recording(**{field.name: arrays[field.name] for field in fields(Recording)})
    except KeyError as error:
        raise RecordingError(f'{path}: no array {error.args[0]}') from error
    except RecordingError as error:
        raise RecordingError(f'{path}: {error}') from error


def save_truth(path: Path, positions: NDArray) -> None:
    """Write the true joints (F, 17, 3) m in the world of a recording as .npz."""
    _save(path, kind=TRUTH_KIND, joint_names=np.array(HUMAN17.joints), positions=positions.astype(np.float32))


def load_truth(path: Path) -> NDArray[np.float32]:
    """Read the true joints (F, 17, 3) m. Raises RecordingError."""
    arrays = _load(path, TRUTH_KIND)
    if 'positions' not in arrays or arrays['positions'].shape[1:] != (17, 3):
        raise RecordingError(f'{path}: no array positions (F, 17, 3)')
    return np.asarray(arrays['positions'], dtype=np.float32)


def _save(path: Path, **arrays: NDArray | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    with part.open('wb') as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def _load(path: Path, kind: str) -> dict[str, NDArray]:
    try:
        with path.open('rb') as file, np.load(file, allow_pickle=False) as data:
            arrays = dict(data)
    except OSError as error:
        raise RecordingError(f'{path}: {error.strerror or error}') from error
    except (ValueError, zipfile.BadZipFile) as error:
        raise RecordingError(f'{path}: not a readable .npz file ({error})') from error
    if str(arrays.get('kind', '')) != kind:
        raise RecordingError(f'{path}: is no {kind!r} file; make one with `pose3d record`')
    if list(arrays.get('joint_names', [])) != list(HUMAN17.joints):
        raise RecordingError(f'{path}: its joints are not those of {HUMAN17.name}')
    return arrays
