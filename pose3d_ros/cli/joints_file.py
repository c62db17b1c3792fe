"""Detected 2D joints of several cameras in a file, so that what follows can be repeated without detecting again."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from pose3d_ros.cli.errors import UserError
from pose3d_ros.fuse.extrinsics.tracks import JOINTS, Sightings

_ABOUT = 'about'


def save_joints(path: Path, seen: Mapping[str, Sightings], about: str) -> None:
    """Write the joints by camera as .npz, at once or not at all; about: what they were detected in and by."""
    arrays = {f'{name}/{field.name}': getattr(sightings, field.name)
              for name, sightings in seen.items() for field in fields(Sightings)}
    partial = path.with_name(f'.{path.name}.{os.getpid()}.npz')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(partial, allow_pickle=False, **{_ABOUT: np.array(about)}, **arrays)
        partial.replace(path)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror or error})') from error


def load_joints(path: Path, names: Sequence[str], about: str) -> dict[str, Sightings]:
    """Return the joints of the cameras called names. Raises UserError for a file of something else."""
    cure = 'delete it, or give another --joints'
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file[_ABOUT]) != about:
                raise UserError(f'{path}: holds the joints of {file[_ABOUT]}, not of {about}; {cure}')
            seen = {name: Sightings(*(file[f'{name}/{field.name}'] for field in fields(Sightings))) for name in names}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f'{path}: holds no joints of {", ".join(names)} ({error}); {cure}') from None
    for name, sightings in seen.items():
        if sightings.pixels.shape[1:] != (len(JOINTS), 2):
            raise UserError(f'{path}: {name} has other joints than this version detects; {cure}')
    return seen
