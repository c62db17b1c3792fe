"""Which format a file is in, and its recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pose3d_ros.train.mocap import MocapError
from pose3d_ros.train.readers import human36m, mpi_inf_3dhp
from pose3d_ros.train.readers.asf_amc import FPS, read_asf_amc
from pose3d_ros.train.readers.bvh import read_bvh
from pose3d_ros.train.readers.clip import Clip
from pose3d_ros.train.readers.pickled import member_names

SUFFIXES = ('.amc', '.bvh', '.npz', '.mat')


@dataclass(frozen=True)
class ReadOptions:
    """What files do not say. rate: frames per second of .amc files; unit and up: see `bvh.read_bvh`;
    subject: the person in the files, where their names do not tell ('': by the rule of the format).
    """

    rate: float = FPS
    unit: str = 'auto'
    up: str = 'auto'
    subject: str = ''


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return files as given, and in place of a folder the motion files below it. Raises MocapError for an empty one."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        below = sorted(file for file in path.rglob('*') if file.suffix.lower() in SUFFIXES and file.is_file()
                       and (file.suffix.lower() != '.mat' or file.name == 'annot.mat'))
        if not below:
            raise MocapError(f'{path}: no {", ".join(SUFFIXES)} in this folder')
        found.extend(below)
    # A skeleton is found by the motion that needs it.
    return [path for path in dict.fromkeys(found) if path.suffix.lower() != '.asf']


def read_clips(path: Path, options: ReadOptions = ReadOptions()) -> Iterator[Clip]:
    """Yield the recordings of one file. Raises MocapError that names the file and, where there is one, the line."""
    for clip in _read(path, options):
        yield replace(clip, subject=options.subject) if options.subject else clip


def _read(path: Path, options: ReadOptions) -> Iterator[Clip]:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise MocapError(f'{path}: there is no such file')
    if suffix == '.amc':
        yield read_asf_amc(skeleton_of(path), path, options.rate)
    elif suffix == '.bvh':
        yield read_bvh(path, options.unit, options.up)
    elif suffix == '.mat':
        yield from mpi_inf_3dhp.read_annot_mat(path)
    elif suffix == '.npz':
        names = member_names(path)
        if human36m.KEY in names:
            yield from human36m.read_human36m(path)
        elif mpi_inf_3dhp.KEY in names:
            yield from mpi_inf_3dhp.read_3dhp_npz(path)
        elif 'positions' in names:
            raise MocapError(f'{path}: these are arrays to train on already: give the file to pose3d train --data')
        else:
            raise MocapError(f'{path}: no {human36m.KEY!r} (Human3.6M) and no {mpi_inf_3dhp.KEY!r} (MPI-INF-3DHP) in '
                             f'it, only {", ".join(names[:8])}')
    else:
        raise MocapError(f'{path}: {suffix or "no suffix"!r}, expected one of {", ".join(SUFFIXES)}')


def skeleton_of(amc: Path) -> Path:
    """Return the skeleton of a motion: 05.asf for 05_12.amc, else the only one in its folder. Raises MocapError."""
    beside = sorted(file for file in amc.parent.iterdir() if file.suffix.lower() == '.asf')
    for file in beside:
        if file.stem == amc.stem or file.stem == amc.stem.split('_')[0]:
            return file
    if len(beside) == 1:
        return beside[0]
    raise MocapError(f'{amc}: its skeleton {amc.stem.split("_")[0]}.asf is not in the same folder')
