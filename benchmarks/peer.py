"""Other people's tools in environments of their own: they want other versions of NumPy and protobuf than we do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

VERSION = '0.10.14'


class Peer(NamedTuple):
    """What is installed, without what it asks for besides: name of its folder, packages, Pythons it has wheels for."""

    name: str
    packages: tuple[str, ...]
    pythons: tuple[tuple[int, int], tuple[int, int]]


# What Pose needs, and no more: the wheel's own list brings 600 MB of JAX, which only its model maker uses.
MEDIAPIPE = Peer(f'mediapipe-{VERSION}', (
    f'mediapipe=={VERSION}', 'numpy==1.26.4', 'protobuf==4.25.9', 'absl-py==2.5.1', 'attrs==26.1.0',
    'flatbuffers==25.12.19', 'opencv-python-headless==4.11.0.86', 'matplotlib==3.11.2', 'contourpy==1.3.3',
    'cycler==0.12.1', 'fonttools', 'kiwisolver', 'packaging', 'pillow', 'pyparsing', 'python-dateutil', 'six'),
    ((3, 9), (3, 12)))
# What the triangulation of both needs; aniposelib does it in JAX.
TRIANGULATION = Peer('triangulation-1', (
    'aniposelib==0.8.0', 'pose2sim==0.10.49', 'numpy==2.4.6', 'scipy==1.17.1', 'pandas==3.1.1', 'jax==0.10.2',
    'jaxlib==0.10.2', 'ml_dtypes==0.6.0', 'opt_einsum==3.4.0', 'numba==0.68.1', 'llvmlite==0.50.0',
    'opencv-contrib-python==5.0.0.93', 'matplotlib==3.11.2', 'contourpy==1.3.3', 'cycler==0.12.1', 'anytree==2.13.0',
    'c3d==0.6.0', 'rtoml==0.14.0', 'toml==0.10.2', 'tqdm==4.70.1', 'fonttools', 'kiwisolver', 'packaging', 'pillow',
    'pyparsing', 'python-dateutil', 'tzdata'), ((3, 11), (3, 13)))


class PeerError(RuntimeError):
    """A peer cannot be installed here; the message says why."""


def peer_python(cache_dir: Path, peer: Peer = MEDIAPIPE) -> Path:
    """Return the interpreter of a peer's environment, making it first if need be. Raises PeerError."""
    folder = cache_dir / 'peers' / peer.name
    python, ready = folder / 'bin' / 'python', folder / 'ready'
    if ready.exists() and ready.read_text() == '\n'.join(peer.packages):
        return python
    oldest, newest = peer.pythons
    if not oldest <= sys.version_info[:2] <= newest:
        raise PeerError(f'{peer.name} has no wheel for Python {sys.version_info.major}.{sys.version_info.minor}; run '
                        f'this benchmark with Python 3.{oldest[1]} to 3.{newest[1]}')
    print(f'[peer] installing {peer.name} into {folder}', file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    for command in ([sys.executable, '-m', 'venv', str(folder)],
                    [str(python), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps',
                     *peer.packages]):
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError(f'{" ".join(command[:4])} ... failed: {done.stderr.strip()[-500:]}')
    ready.write_text('\n'.join(peer.packages))
    return python


def clean_environment() -> dict[str, str]:
    """Return the environment without what points Python and the loader at this package's own environment."""
    return {key: value for key, value in os.environ.items()
            if key not in ('PYTHONPATH', 'LD_LIBRARY_PATH', 'VIRTUAL_ENV', 'PYTHONHOME')}
