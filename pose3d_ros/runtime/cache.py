"""Built engines on the disk: found again by what they were built from and for, and trusted only when unaltered.

An engine is two files: NAME.plan and NAME.json, its record, which holds the SHA-256 of the plan. The record is removed
before a plan is replaced and written last, so that a process that is killed at any moment leaves a complete engine or
none. Loading an engine runs its code. Therefore the folder belongs to the user alone, and what lies in a folder that
others can write to is not read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import stat
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from pose3d_ros.runtime.backend import Target
from pose3d_ros.runtime.download import Say
from pose3d_ros.runtime.engine_record import Key, Record, target_name
from pose3d_ros.runtime.store import default_cache_dir

_LOG = logging.getLogger(__name__)
_POLL_S = 0.1
_PROBE = 'probe'
_HERE: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # locks where no file can be one
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ENTER = stat.S_IXGRP | stat.S_IXOTH


class EngineCache:
    """The engines of a folder, by default $XDG_CACHE_HOME/pose3d_ros/engines; made with mode 0700 when it is needed.

    say: takes a line for what had to be discarded. Safe to use from several processes and threads at once.
    """

    def __init__(self, folder: Path | str | None = None, *, say: Say = _LOG.warning) -> None:
        self.folder = Path(folder) if folder is not None else default_cache_dir() / 'engines'
        self._say = say

    def key(self, model: Path, target: Target, precision: str, most: int) -> Key:
        """Return what an engine is found by. precision: the one that is tried first. Raises OSError.

        most is rounded up to a power of two: a few people more or less are no reason for another build.
        """
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        return Key(model.stem, digest, target, precision, 1 << (most - 1).bit_length())

    def plan_file(self, key: Key) -> Path:
        """Return where the engine lies, or would."""
        return self.folder / f'{key.name}.plan'

    def unsafe(self) -> str:
        """Return why nothing may be read from the folder, with the cure; '' where it may or where there is none."""
        try:
            status = self.folder.stat()
        except OSError:
            return ''
        if status.st_uid not in (os.geteuid(), 0):
            return (f'{self.folder} belongs to another user, who could put code into it: remove it, or set '
                    'XDG_CACHE_HOME to a folder of your own')
        if status.st_mode & _OTHERS_WRITE:
            return f"other users can write to {self.folder}, and an engine is code: run 'chmod go-w {self.folder}'"
        return ''

    def why_not(self) -> str:
        """Return why engines cannot be kept, with the cure; '' when they can. Makes the folder."""
        try:
            self._make_folder()
            with self._new_file(_PROBE):
                return ''
        except OSError as error:
            return self._cannot_keep(error)

    def find(self, key: Key, say: Say | None = None) -> tuple[bytes, Record] | None:
        """Return a kept engine and its record; None where there is none. b'' for an engine that was given up.

        What is damaged, altered or another engine's is discarded, and said.
        """
        if self.unsafe():
            return None
        try:
            for last in (False, True):
                try:
                    return self._read(key)
                except ValueError as error:
                    if last:  # the first time another process may just have been replacing it
                        (say or self._say)(f'{key.model}: the engine in {self.plan_file(key)} is discarded: {error}')
                        self.discard(key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            (say or self._say)(f'{key.model}: the engine in {self.plan_file(key)} cannot be read: {error}')
        return None

    def keep(self, key: Key, plan: bytes, record: Record) -> str:
        """Write an engine (b'': only the record of one that was given up). Returns why it could not be kept, or ''.

        Hold the key's lock.
        """
        record_file, plan_file = self.record_file(key), self.plan_file(key)
        try:
            self._make_folder()
            # Both are whole before anything is replaced: a full disk leaves what was there.
            with self._new_file(key.name, plan) as fresh_plan, \
                    self._new_file(key.name, record.to_json()) as fresh_record:
                record_file.unlink(missing_ok=True)
                if plan:
                    os.replace(fresh_plan, plan_file)
                else:
                    plan_file.unlink(missing_ok=True)
                os.replace(fresh_record, record_file)
            self._sync_folder()
        except OSError as error:
            return self._cannot_keep(error)
        return ''

    def discard(self, key: Key) -> None:
        """Remove an engine and its record, where they can be removed."""
        for file in (self.record_file(key), self.plan_file(key)):
            with contextlib.suppress(OSError):  # of a read-only cache: the record stays as wrong as it is
                file.unlink()

    def records(self) -> list[tuple[Path, Record]]:
        """Return the records of all kept engines with the files they lie in; what cannot be read is left out."""
        found = []
        for file in sorted(self.folder.glob('*.json')) if not self.unsafe() else ():
            with contextlib.suppress(OSError, ValueError):  # find() says and discards it when it is needed
                found.append((file, Record.from_json(file.read_bytes())))
        return found

    def timing(self, target: Target) -> bytes:
        """Return what earlier builds learned about a processor, b'' where there is nothing (or it was altered)."""
        if self.unsafe():
            return b''
        try:
            digest, _, content = self._read_private(self._timing_file(target)).partition(b'\n')
        except (OSError, ValueError):
            return b''
        return content if digest == hashlib.sha256(content).hexdigest().encode() else b''

    def keep_timing(self, key: Key, content: bytes) -> None:
        """Write what a build learned; only worth some time, so that a failure is not told. Hold the key's lock."""
        digest = hashlib.sha256(content).hexdigest().encode()
        with contextlib.suppress(OSError):  # keep(), which follows, tells the same
            self._make_folder()
            with self._new_file(key.name, digest + b'\n' + content) as fresh:
                os.replace(fresh, self._timing_file(key.target))

    @contextlib.contextmanager
    def lock(self, key: Key, say: Say | None = None, beat: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold an engine for building; others wait, are told so, and call beat() meanwhile, which may raise.

        The operating system releases it when the process dies. In a folder that cannot be written to it holds within
        this process only: two processes then build the same engine, and nothing worse.
        """
        with self._locked(f'{key.name}.lock', say or self._say, beat,
                          f'{key.model}: another process is building this engine; waiting for it') as held:
            if held:
                for pattern in (f'{key.name}.*.tmp', f'{_PROBE}.*.tmp'):  # of processes that were killed
                    for leftover in self.folder.glob(pattern):
                        leftover.unlink(missing_ok=True)
            yield

    @contextlib.contextmanager
    def turn(self, key: Key, say: Say | None = None, beat: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the processor for building: builds side by side spoil each other's timing and need twice the memory."""
        with self._locked(f'{target_name(key.target)}.lock', say or self._say, beat,
                          f'{key.model}: another engine is being built on this {key.target.device}; waiting for it'):
            yield

    @contextlib.contextmanager
    def _locked(self, name: str, say: Say, beat: Callable[[], None], text: str) -> Iterator[bool]:
        try:
            self._make_folder()
            handle = os.open(self.folder / name, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            _probe(handle)
        except OSError:
            here = _HERE[name]
            _acquire(lambda: here.acquire(blocking=False), say, beat, text)
            try:
                yield False
            finally:
                here.release()
            return
        try:
            _acquire(lambda: _try_lock(handle), say, beat, text)
            yield True
        finally:
            os.close(handle)

    def _read(self, key: Key) -> tuple[bytes, Record]:
        record = Record.from_json(self._read_private(self.record_file(key)))
        if not record.belongs_to(key):
            raise ValueError('its record is that of another model, GPU, version or setting')
        if record.given_up:
            return b'', record
        try:
            plan = self._read_private(self.plan_file(key))
        except FileNotFoundError as error:
            raise ValueError('there is a record and no engine') from error
        if hashlib.sha256(plan).hexdigest() != record.plan_sha256:
            raise ValueError('it is not the one that was built (SHA-256)')
        return plan, record

    def _read_private(self, file: Path) -> bytes:
        """Return the content of a file that nobody else could have written."""
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), 'rb') as stream:
            status = os.fstat(stream.fileno())
            reachable = self.folder.stat().st_mode & _OTHERS_ENTER  # in a closed folder a file's own mode is no matter
            if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
                raise ValueError('it belongs to another user')
            if status.st_mode & _OTHERS_WRITE and reachable:
                raise ValueError('other users can write to it')
            return stream.read()

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.parent.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.folder.parent, self.folder):
                folder.mkdir(mode=0o700, exist_ok=True)
        if reason := self.unsafe():
            raise PermissionError(reason)

    @contextlib.contextmanager
    def _new_file(self, name: str, content: bytes = b'') -> Iterator[Path]:
        """Give a file with a content that has reached the disk; removed at the end where it still has its name."""
        file = self.folder / f'{name}.{secrets.token_hex(4)}.tmp'
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, 'wb') as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            yield file
        finally:
            file.unlink(missing_ok=True)

    def _sync_folder(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _cannot_keep(self, error: OSError) -> str:
        if error.errno is None:  # ours, of unsafe(): a whole sentence
            return str(error)
        return (f'cannot write to {self.folder} ({error.strerror}): free some space or make it writable, or set '
                'XDG_CACHE_HOME to another folder')

    def record_file(self, key: Key) -> Path:
        """Return where the record lies, or would."""
        return self.folder / f'{key.name}.json'

    def _timing_file(self, target: Target) -> Path:
        return self.folder / f'{target_name(target)}.timing'


def _acquire(attempt: Callable[[], bool], say: Say, beat: Callable[[], None], text: str) -> None:
    waiting = False
    while not attempt():
        if not waiting:
            waiting = True
            say(text)
        beat()
        time.sleep(_POLL_S)


def _probe(handle: int) -> None:
    """Raise OSError, and close the file, where it is on a disk without locks, as some over the network."""
    try:
        if _try_lock(handle):
            fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError:
        os.close(handle)
        raise


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
