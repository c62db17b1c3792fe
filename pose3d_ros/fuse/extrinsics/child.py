"""The estimation in a process of its own, so that whoever asks for it goes on undisturbed.

The two talk in .npz: what was seen over the child's standard input, the result over its standard output.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from pose3d_ros.fuse.extrinsics.errors import ExtrinsicsError
from pose3d_ros.fuse.extrinsics.estimate import Agreement, Extrinsics, ExtrinsicsSettings, estimate
from pose3d_ros.fuse.extrinsics.tracks import Floats, Track, Watched

LIMIT_S = 600.0  # a robot that is busy leaves it little time
_NICENESS = 10  # the robot comes first
_ONE_THREAD = dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'), '1')
_TRACK = ('stamps', 'rays', 'sigma')
_ARRAYS = ('camera_T_world', 'offsets', 'shift', 'turn')


class Child:
    """A process that waits to be asked once. end() may be called from another thread."""

    def __init__(self) -> None:
        """Raises OSError where no process can be started."""
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # the same modules, wherever they are
        self._process = subprocess.Popen(
            [sys.executable, '-m', __name__], cwd='/', env={**os.environ, **_ONE_THREAD, 'PYTHONPATH': path},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True)  # Ctrl-C is the parent's to handle

    def estimate(self, cameras: Sequence[Watched], given: Mapping[str, Floats],
                 settings: ExtrinsicsSettings) -> Extrinsics:
        """Return the places, as estimate() does, and from nothing where given ones are no start.

        Raises ExtrinsicsError, also for a child that ends without a word.
        """
        try:
            out, noise = self._process.communicate(_asked(cameras, given, settings), LIMIT_S)
        except subprocess.TimeoutExpired:
            self.end()
            self._process.communicate()
            raise ExtrinsicsError(f'the estimation took more than {LIMIT_S:.0f} s and was ended; record less at once, '
                                  'or relieve the computer') from None
        try:
            return _answered(out)
        except ExtrinsicsError:
            raise
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
            last = ' '.join(noise.decode(errors='replace').strip().splitlines()[-1:])
            raise ExtrinsicsError('the estimation ended without a result: ' +
                                  (last or f'exit status {self._process.returncode}')) from None

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()


def _asked(cameras: Sequence[Watched], given: Mapping[str, Floats], settings: ExtrinsicsSettings) -> bytes:
    arrays: dict[str, Any] = {f'given/{name}': pose for name, pose in given.items()}
    for number, camera in enumerate(cameras):
        for name in _TRACK:
            arrays.update({f'{number}/{track}/{name}': getattr(each, name)
                           for track, each in enumerate(camera.tracks)})
    about = {'settings': asdict(settings), 'given': list(given),
             'cameras': [(camera.camera, camera.focal, len(camera.tracks)) for camera in cameras]}
    return _packed(arrays, about)


def _answered(data: bytes) -> Extrinsics:
    """Return the result. Raises the child's ExtrinsicsError, and what reading raises where there is none."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        about = json.loads(str(file['about']))
        if 'refused' in about:
            raise ExtrinsicsError(about['refused'])
        before, after = (Agreement(file[f'{when}/per_camera_px'], about[when], file[f'{when}/joints'],
                                   file[f'{when}/agreeing']) for when in ('before', 'after'))
        poses, offsets, shift, turn = (file[name] for name in _ARRAYS)
        return Extrinsics(poses, offsets, before, after, shift, turn, about['people'], about['frames'])


def _packed(arrays: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
    return out.getvalue()


def _estimated(cameras: Sequence[Watched], given: Mapping[str, Floats], settings: ExtrinsicsSettings) -> Extrinsics:
    """Return the places, found from nothing where those that are given are no start: a camera was knocked away."""
    try:
        return estimate(cameras, given, settings)
    except ExtrinsicsError as error:
        try:
            return estimate(cameras, given, replace(settings, refine=False))
        except ExtrinsicsError:
            raise error from None


def main() -> None:
    """Read what was seen, estimate, and write the result."""
    os.nice(_NICENESS)
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as file:
        about = json.loads(str(file['about']))
        cameras = [Watched(name, focal, [Track(*(file[f'{number}/{track}/{key}'] for key in _TRACK))
                                         for track in range(tracks)])
                   for number, (name, focal, tracks) in enumerate(about['cameras'])]
        given = {name: file[f'given/{name}'] for name in about['given']}
    settings = about['settings']
    settings['baseline'] = tuple(settings['baseline']) if settings['baseline'] else None
    try:
        found = _estimated(cameras, given, ExtrinsicsSettings(**settings))
    except ExtrinsicsError as error:
        sys.stdout.buffer.write(_packed({}, {'refused': str(error)}))
        return
    arrays = {name: getattr(found, name) for name in _ARRAYS}
    for when in ('before', 'after'):
        agreement = getattr(found, when)
        arrays.update({f'{when}/{field.name}': getattr(agreement, field.name) for field in fields(Agreement)
                       if field.name != 'median_px'})
    sys.stdout.buffer.write(_packed(arrays, {
        'people': found.people, 'frames': found.frames, 'before': found.before.median_px,
        'after': found.after.median_px}))


if __name__ == '__main__':
    main()
