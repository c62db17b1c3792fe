"""MediaPipe in an environment of its own: its wheel wants other versions of NumPy and protobuf than this package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = '0.10.14'
# What Pose needs, and no more: the wheel's own list brings 600 MB of JAX, which only its model maker uses.
PACKAGES = (f'mediapipe=={VERSION}', 'numpy==1.26.4', 'protobuf==4.25.9', 'absl-py==2.5.1', 'attrs==26.1.0',
            'flatbuffers==25.12.19', 'opencv-python-headless==4.11.0.86', 'matplotlib==3.11.2', 'contourpy==1.3.3',
            'cycler==0.12.1', 'fonttools', 'kiwisolver', 'packaging', 'pillow', 'pyparsing', 'python-dateutil', 'six')


class PeerError(RuntimeError):
    """MediaPipe cannot be installed here; the message says why."""


def peer_python(cache_dir: Path) -> Path:
    """Return the interpreter of the MediaPipe environment, making it first if need be. Raises PeerError."""
    folder = cache_dir / 'peers' / f'mediapipe-{VERSION}'
    python, ready = folder / 'bin' / 'python', folder / 'ready'
    if ready.exists() and ready.read_text() == '\n'.join(PACKAGES):
        return python
    if sys.version_info[:2] > (3, 12):
        raise PeerError(f'MediaPipe {VERSION} has no wheel for Python {sys.version_info.major}.{sys.version_info.minor}'
                        '; run this benchmark with Python 3.9 to 3.12')
    print(f'[peer] installing MediaPipe {VERSION} into {folder}', file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    for command in ([sys.executable, '-m', 'venv', str(folder)],
                    [str(python), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps',
                     *PACKAGES]):
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError(f'{" ".join(command[:4])} ... failed: {done.stderr.strip()[-500:]}')
    ready.write_text('\n'.join(PACKAGES))
    return python


def clean_environment() -> dict[str, str]:
    """Return the environment without what points Python and the loader at this package's own environment."""
    return {key: value for key, value in os.environ.items()
            if key not in ('PYTHONPATH', 'LD_LIBRARY_PATH', 'VIRTUAL_ENV', 'PYTHONHOME')}
