"""The model store: fetch the networks and the sample footage once, check them, and hand out their paths.

Everything lies under one folder. An entry is a file or folder `target` and beside it `target.json`, which records the
SHA-256 of every file that belongs to it; a network keeps its source file too, so that a later version of this package
can convert it again without a network. The record is removed before any file is replaced and written last: a process
that is killed at any moment leaves a complete entry or a missing one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pose3d_ros.runtime.catalogue import CATALOGUE, CONVERTER_VERSION, Entry, Package
from pose3d_ros.runtime.download import FetchError, Say, download, take

Downloader = Callable[[Package, Path, Say], Path]


class ModelMissing(FileNotFoundError):  # noqa: N818
    """The model is not in the cache; the message names the command that gets it."""


class ModelCorrupt(ValueError):  # noqa: N818
    """The cached file is not the one that was installed; the message names the cure."""


def default_cache_dir() -> Path:
    """Return $XDG_CACHE_HOME/pose3d_ros, or ~/.cache/pose3d_ros."""
    base = os.environ.get('XDG_CACHE_HOME', '')
    return (Path(base) if os.path.isabs(base) else Path.home() / '.cache') / 'pose3d_ros'


def _say_on_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class ModelStore:
    """The networks and files of the catalogue, in a cache folder (made with mode 0700 when it does not exist).

    cache_dir: None for the user's own. downloader, catalogue: other sources, for tests and mirrors. say: takes lines of
    progress. Safe to use from several processes at once.
    """

    def __init__(self, cache_dir: Path | str | None = None, *, downloader: Downloader = download,
                 catalogue: Mapping[str, Entry] = CATALOGUE, say: Say = _say_on_stderr) -> None:
        self.cache_dir = Path(cache_dir) if cache_dir is not None else default_cache_dir()
        self._downloader = downloader
        self._catalogue = catalogue
        self._say = say

    def path(self, name: str) -> Path:
        """Return the path of a ready file or folder, after checking its SHA-256. Fetches nothing.

        Raises ModelMissing, ModelCorrupt, and ValueError for a name that is not in the catalogue.
        """
        return self._verified(self._entry(name))[0]

    def ready(self, name: str) -> bool:
        """Tell whether path(name) would succeed. Raises ModelCorrupt when the entry was altered."""
        try:
            self.path(name)
        except ModelMissing:
            return False
        return True

    def record(self, name: str) -> dict[str, Any]:
        """Return what is known about a fetched entry: source, hashes, licence, converter, check."""
        return self._verified(self._entry(name))[1]

    def fetch(self, *names: str, force: bool = False) -> dict[str, Path]:
        """Get entries that are not there yet (force: all of them, anew) and return their paths by name.

        Raises FetchError (network, npm, hash, disk; nothing installed), ModelCorrupt without force, ValueError.
        """
        entries = [self._entry(name) for name in names]
        if force or not all(self.ready(name) for name in names):
            with self._lock():
                # Again under the lock: another process may just have finished the same work.
                missing = [entry for entry in entries if force or not self.ready(entry.name)]
                for package in dict.fromkeys(entry.package for entry in missing):
                    self._fetch_package(package, [entry for entry in missing if entry.package == package], force)
        return {name: self.path(name) for name in names}

    def _verified(self, entry: Entry) -> tuple[Path, dict[str, Any]]:
        """Return target and record of a complete, unaltered entry."""
        record = self._read_record(entry)
        cure = f"run 'pose3d fetch {entry.name}'"
        if record is None or not all((self.cache_dir / file).is_file() for file in entry.files):
            raise ModelMissing(f'{entry.name} is not in {self.cache_dir}: {cure}')
        if record['source_sha256'] != _source_hashes(entry) or record['converter_version'] != _converter(entry):
            raise ModelMissing(f'{entry.name} was fetched for another version of this package: {cure}')
        for file in entry.files:
            if _file_hash(self.cache_dir / file) != record['sha256'].get(file):
                raise ModelCorrupt(f"{self.cache_dir / file} was altered or damaged: "
                                   f"run 'pose3d fetch --force {entry.name}'")
        return self.cache_dir / entry.target, record

    def _fetch_package(self, package: Package, entries: list[Entry], force: bool) -> None:
        with tempfile.TemporaryDirectory(prefix='tmp-', dir=self.cache_dir, ignore_cleanup_errors=True) as work:
            contents = {entry.name: None if force else self._sources_at_hand(entry) for entry in entries}
            if None in contents.values():
                folder = Path(work) / 'download'
                folder.mkdir()
                archive = self._downloader(package, folder, self._say)
                contents = {entry.name: {member.name: take(archive, member) for member in entry.members}
                            for entry in entries}
            for entry in entries:
                self._install(entry, contents[entry.name] or {}, Path(work))

    def _sources_at_hand(self, entry: Entry) -> dict[str, bytes] | None:
        """Return the content of an entry's source files when all are in the cache already, unaltered."""
        contents = {}
        for member in entry.members:
            file = self.cache_dir / entry.folder / member.name
            if not file.is_file() or _file_hash(file) != member.sha256:
                return None
            contents[member.name] = file.read_bytes()
        return contents

    def _install(self, entry: Entry, contents: dict[str, bytes], work: Path) -> None:
        """Put an entry in place: first complete in the work folder (same file system), then by renaming."""
        record: dict[str, Any] = {
            'name': entry.name, 'source': f'{entry.package} ({entry.package.manager})', 'licence': entry.licence,
            'source_sha256': _source_hashes(entry), 'converter_version': _converter(entry)}
        files = {f'{entry.folder}/{name}': content for name, content in contents.items()}
        if entry.outputs:
            started = time.monotonic()
            files[entry.target], difference = convert_and_check(entry, contents[entry.members[0].name])
            record['largest_difference'] = difference
            check = 'not compared, as no reference interpreter is installed' if difference is None else (
                f'differs from the reference by {difference:.1g} of the output range')
            self._say(f'{entry.name}: converted in {time.monotonic() - started:.1f} s; {check}')
        record['sha256'] = {relative: hashlib.sha256(content).hexdigest() for relative, content in files.items()}

        fresh = {relative: work / str(number) for number, relative in enumerate(files)}
        for relative, content in files.items():
            _write(fresh[relative], content)
        (self.cache_dir / entry.folder).mkdir(exist_ok=True)
        self._record_file(entry).unlink(missing_ok=True)
        for relative, file in fresh.items():
            os.replace(file, self.cache_dir / relative)
        _write(work / 'record', json.dumps(record, indent=1).encode())
        os.replace(work / 'record', self._record_file(entry))
        self._say(f'{entry.name}: ready at {self.cache_dir / entry.target}')

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the cache for writing; other processes wait. The operating system releases it when a process dies."""
        try:
            if not self.cache_dir.exists():
                self.cache_dir.parent.mkdir(parents=True, exist_ok=True)
                self.cache_dir.mkdir(mode=0o700, exist_ok=True)
            lock = (self.cache_dir / '.lock').open('w')
        except OSError as error:
            raise FetchError(f'cannot write to {self.cache_dir} ({error.strerror}): make it writable, or set '
                             'XDG_CACHE_HOME to another folder') from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say('another process is fetching into the same cache; waiting for it')
                fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in self.cache_dir.glob('tmp-*'):  # of processes that were killed: only a lock holder has one
                shutil.rmtree(leftover, ignore_errors=True)
            try:
                yield
            except OSError as error:
                if error.filename is None and error.errno is None:
                    raise
                raise FetchError(f'cannot write to {self.cache_dir}: {error}; free some space or set XDG_CACHE_HOME '
                                 'to another folder') from error

    def _entry(self, name: str) -> Entry:
        if name not in self._catalogue:
            raise ValueError(f'nothing is called {name!r}; known: {", ".join(self._catalogue)}')
        return self._catalogue[name]

    def _record_file(self, entry: Entry) -> Path:
        return self.cache_dir / f'{entry.target}.json'

    def _read_record(self, entry: Entry) -> dict[str, Any] | None:
        file = self._record_file(entry)
        try:
            record = json.loads(file.read_bytes())
            if not (isinstance(record['sha256'], dict) and {'source_sha256', 'converter_version'} <= record.keys()):
                raise ValueError('keys are missing')
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise ModelMissing(f'{file} cannot be read by this user: correct its permissions, or set XDG_CACHE_HOME to '
                               'another folder') from error
        except (ValueError, KeyError, TypeError) as error:
            raise ModelCorrupt(f"{file} was damaged ({error}): run 'pose3d fetch --force {entry.name}'") from error
        return record


def _source_hashes(entry: Entry) -> dict[str, str]:
    return {member.path: member.sha256 for member in entry.members}


def _converter(entry: Entry) -> str | None:
    return CONVERTER_VERSION if entry.outputs else None


def convert_and_check(entry: Entry, content: bytes) -> tuple[bytes, float | None]:
    """Return the ONNX file and its largest difference from the reference interpreter (None where not installed)."""
    try:
        from pose3d_ros.runtime.parity import largest_difference
        from pose3d_ros.runtime.tflite_to_onnx import convert
    except ImportError as error:
        raise FetchError(f'converting needs more packages ({error}): '
                         "run 'pip install onnx onnxruntime tflite'") from error
    model = convert(content, inputs=['image'], outputs=entry.outputs, metadata={
        **entry.metadata, 'name': entry.name, 'licence': entry.licence, 'source': str(entry.package),
        'source_file': entry.members[0].name, 'source_sha256': entry.members[0].sha256})
    converted = model.SerializeToString(deterministic=True)
    difference = largest_difference(content, converted, entry.outputs)
    if difference is not None and not difference < 1e-3:
        raise FetchError(f'{entry.name}: the converted network differs from the reference by {difference:.2g} of the '
                         'output range; nothing was installed. Please report this with your onnxruntime version')
    return converted, difference


def _file_hash(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open('rb') as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write(file: Path, content: bytes) -> None:
    with file.open('wb') as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
