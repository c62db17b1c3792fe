"""What lies in the cache: networks, sample footage, engines; room and permissions."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pose3d_ros.cli.doctor.findings import Finding, note, ok, problem
from pose3d_ros.cli.kept_engines import kept_engines
from pose3d_ros.cli.networks import Network
from pose3d_ros.lift import LIFTERS, lifter_file
from pose3d_ros.runtime.backend import Target
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.catalogue import CATALOGUE, DEFAULT
from pose3d_ros.runtime.manager import steps_from
from pose3d_ros.runtime.store import ModelCorrupt, ModelMissing, ModelStore

_LEAST_FREE, _SCARCE = 200 << 20, 2 << 30  # bytes: of all models; of all models with their engines and room to build


def models(store: ModelStore) -> Iterator[Finding]:
    """Look at every network, and compare it with its hash."""
    for name, entry in CATALOGUE.items():
        try:
            path = store.path(name)
        except ModelMissing as error:
            text, _, cure = str(error).rpartition(': ')
            if name in DEFAULT and entry.outputs:
                yield problem(name, text, cure)
            else:
                yield ok(name, f'not fetched, and not needed unless asked for ({cure})')
        except ModelCorrupt as error:
            text, _, cure = str(error).rpartition(': ')
            yield problem(name, text, cure)
        else:
            yield ok(name, f'{path}{_megabytes(path) if path.is_file() else ""}, sound')


def lifters() -> Iterator[Finding]:
    """Look at the lifters that come with the package, by their names."""
    for name in LIFTERS:
        path = lifter_file(name)
        if path.is_file():
            yield ok(f'lifter {name}', f'{path}{_megabytes(path)}')
        else:
            yield problem(f'lifter {name}', f'{path} is not there',
                          'the installation is incomplete: install pose3d_ros again')


def folder(path: Path) -> Iterator[Finding]:
    """Look at the cache folder: place, room, who may write into it."""
    given = os.environ.get('XDG_CACHE_HOME', '')
    if given and not os.path.isabs(given):
        yield note('XDG_CACHE_HOME', f'{given!r} is not an absolute path and is ignored', 'give an absolute path')
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if existing == path:
        yield ok('place', f'{path}, {_size(path) / 1e6:.0f} MB')
    else:
        yield ok('place', f'{path}, not there yet')
    yield from _room(existing)
    yield from _writable(existing)
    for place in (path, path / 'engines'):
        if place.exists():
            yield from permissions(place)


def permissions(path: Path) -> Iterator[Finding]:
    """Look at who may change a folder of the cache: an engine that somebody puts there runs their code."""
    status = path.stat()
    mode = f'{stat.S_IMODE(status.st_mode):04o}'
    if status.st_uid not in (os.geteuid(), 0):
        yield problem('permissions', f'{path} belongs to user {_user(status.st_uid)}, not to {_user(os.geteuid())}',
                      f'sudo chown -R {_user(os.geteuid())} {path}, or set XDG_CACHE_HOME to a folder of your own')
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield problem('permissions', f'{path} has mode {mode}: other users could replace engines, which are code',
                      f'chmod 700 {path}; after doubtful company also pose3d build-engines --clear')
    elif status.st_uid != os.geteuid():
        yield note('permissions', f'{path} belongs to root (mode {mode}): to be read only, as in an image',
                   f'where it was made with sudo by mistake: sudo chown -R {_user(os.geteuid())} {path}')
    else:
        yield ok('permissions', f'{path}: mode {mode}')


def kept(cache: EngineCache, target: Target | None, networks: Mapping[str, Path]) -> Iterator[Finding]:
    """List the engines in the cache; see kept_engines."""
    found = kept_engines(cache, target, networks)
    for engine in found:
        name = f'cached {engine.record.model}' if engine.record else 'cached'
        if engine.stale:
            yield note(name, f'{engine.text}; not used any more: {engine.stale}' if engine.record else engine.text,
                       'pose3d build-engines --clear --stale')
        elif engine.record and engine.record.given_up:
            yield note(name, engine.text, 'it runs on ONNX Runtime; to try again: '
                       f'pose3d build-engines --clear {engine.record.model}, and build it')
        else:
            yield ok(name, engine.text)
    if not found:
        yield ok('cached', 'no engines')


def unbuilt(cache: EngineCache, target: Target, networks: Sequence[Network]) -> Iterator[Finding]:
    """Name the networks whose engines the next start would have to build."""
    records = [record for _, record in cache.records()]
    keys = {each.name: cache.key(each.path, target, steps_from('auto')[0], each.most) for each in networks}
    lacking = [name for name, key in keys.items() if not any(record.belongs_to(key) for record in records)]
    if lacking:
        yield note('not built yet', f'{", ".join(lacking)}: the first start builds them, which takes minutes',
                   'pose3d build-engines')


def _room(path: Path) -> Iterator[Finding]:
    usage = shutil.disk_usage(path)
    text = f'{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB free on the disk of the cache'
    cure = 'free some space, or set XDG_CACHE_HOME to a folder on another disk'
    if usage.free < _LEAST_FREE:
        yield problem('disk', f'{text}: too little for models and engines', cure)
    elif usage.free < _SCARCE:
        yield note('disk', f'{text}: little for building engines', cure)
    else:
        yield ok('disk', text)


def _writable(path: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=path):
            yield ok('writing', 'possible')
    except OSError as error:
        yield note('writing', f'not possible in {path} ({error.strerror}): nothing can be fetched, engines are '
                              'built anew at every start',
                   'make it writable, set XDG_CACHE_HOME, or prepare all in an image (docs/engines.md)')


def _size(path: Path) -> int:
    total = 0
    for root, _, names in os.walk(path):
        for name in names:
            file = Path(root, name)
            if file.is_file() and not file.is_symlink():
                total += file.stat().st_size
    return total


def _megabytes(path: Path) -> str:
    return f', {path.stat().st_size / 1e6:.1f} MB'


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)  # in a container, often without a name
