"""The people that several cameras saw, in a file, so that what follows can be repeated without detecting again."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pose3d_ros.cli.errors import UserError
from pose3d_ros.records import Person2D, PersonState
from pose3d_ros.skeleton import SKELETONS, Skeleton

KIND = 'pose3d people of cameras'
Seen = dict[str, list[tuple[int, list[Person2D]]]]  # by camera: stamp [ns] and people of each image, in order
_OF_JOINTS = ('pixels', 'rays', 'sigma', 'joint_confidence', 'depth', 'box')
_OF_PEOPLE = ('confidence', 'id', 'state', 'swapped')


def save_people(path: Path, seen: Mapping[str, Sequence[tuple[int, Sequence[Person2D]]]], about: str) -> None:
    """Write them as .npz, at once or not at all; about: what they were detected in and by. Joints, and no pictures."""
    arrays = {'kind': np.array(KIND), 'about': np.array(about)}
    for name, images in seen.items():
        people = [person for _, each in images for person in each]
        arrays[f'{name}/stamps_ns'] = np.array([stamp for stamp, _ in images], dtype=np.int64)
        arrays[f'{name}/count'] = np.array([len(each) for _, each in images], dtype=np.int64)
        skeletons = {person.skeleton.name: person.skeleton for person in people}
        if len(skeletons) > 1:
            raise ValueError(f'{name}: people of several skeletons: {", ".join(skeletons)}')
        for skeleton in skeletons.values():
            arrays[f'{name}/skeleton'] = np.array([skeleton.name, *skeleton.joints])
            arrays |= {f'{name}/{field}': np.array([getattr(person, field) for person in people])
                       for field in (*_OF_JOINTS, *_OF_PEOPLE)}
    partial = path.with_name(f'.{path.name}.{os.getpid()}.npz')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(partial, allow_pickle=False, **arrays)
        partial.replace(path)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror or error})') from error


def load_people(path: Path, names: Sequence[str], about: str) -> Seen:
    """Return the people of the cameras called names. Raises UserError for a file of something else."""
    cure = 'delete it, or give another --joints'
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file['kind']) != KIND:
                raise UserError(f'{path}: is no file of people; {cure}')
            if str(file['about']) != about:
                raise UserError(f'{path}: holds the people of {file["about"]}, not of {about}; {cure}')
            arrays = dict(file)
        return {name: _images(name, arrays) for name in names}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f'{path}: holds no people of {", ".join(names)} ({error}); {cure}') from None


def load_begun(path: Path, names: Sequence[str], about: str) -> Seen:
    """Return the people of those of the cameras that a file has; of none where it is of something else, or broken."""
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            done = [name for name in names if f'{name}/stamps_ns' in file.files]
        return load_people(path, done, about)
    except (OSError, ValueError, zipfile.BadZipFile, UserError):
        return {}


def _images(name: str, arrays: Mapping[str, np.ndarray]) -> list[tuple[int, list[Person2D]]]:
    stamps, counts = arrays[f'{name}/stamps_ns'].tolist(), arrays[f'{name}/count'].tolist()
    people: list[Person2D] = []
    if sum(counts):
        kind, *joints = (str(word) for word in arrays[f'{name}/skeleton'])
        known = SKELETONS.get(kind)
        skeleton = known if known is not None and known.joints == tuple(joints) else Skeleton(kind, tuple(joints), ())
        columns = {field: arrays[f'{name}/{field}'] for field in (*_OF_JOINTS, *_OF_PEOPLE)}
        for row in range(sum(counts)):
            people.append(Person2D(
                skeleton, **{field: columns[field][row].astype(np.float64) for field in _OF_JOINTS},
                confidence=float(columns['confidence'][row]), id=int(columns['id'][row]),
                state=PersonState(int(columns['state'][row])), swapped=bool(columns['swapped'][row])))
    ends = np.cumsum(counts).tolist()
    return [(stamp, people[end - count:end]) for stamp, count, end in zip(stamps, counts, ends)]
