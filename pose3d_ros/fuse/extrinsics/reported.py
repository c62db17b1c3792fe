"""What a camera reported of people as rays, message by message: kept for a while, then made into tracks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.fuse.extrinsics.tracks import JOINTS, Sightings, Watched, watched
from pose3d_ros.records import Person2D, PersonState
from pose3d_ros.skeleton import select

_BACK_NS = 10**9  # stamps that go back further are those of a clock that was set back, not of messages in disorder


class Reported:
    """The people of one camera, of the last window_s seconds and at most `most` sightings. add() fills it.

    Memory: some 600 bytes per sighting. What was carried on by motion, and people without an id, are left out; what
    came before the clock was set back is forgotten.
    """

    def __init__(self, camera: str, window_s: float = float('inf'), most: int = 1_000_000) -> None:
        self.camera = camera
        self.focal = 1.0
        self._window_s = window_s
        self._rows: deque[tuple[int, int, NDArray[np.float32]]] = deque(maxlen=most)  # stamp, id, (J, 4)
        self._newest = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, stamp_ns: int, people: Sequence[Person2D], focal: float) -> None:
        """Take the people of one image; focal: px, what turns a sigma in pixels into one of rays.

        Raises ValueError for a focal length that is none.
        """
        if not 0 < focal < np.inf:
            raise ValueError(f'the focal length is {focal} px; expected a positive number')
        if stamp_ns < self._newest - _BACK_NS:
            self.clear()
        self._newest, self.focal = max(self._newest, stamp_ns), focal
        for person in people:
            if person.id > 0 and person.state != PersonState.PREDICTED:
                joints = np.column_stack([person.rays, person.sigma, person.joint_confidence])
                self._rows.append((stamp_ns, person.id, select(joints, person.skeleton, JOINTS).astype(np.float32)))
        while self._rows and (self._newest - self._rows[0][0]) * 1e-9 > self._window_s:
            self._rows.popleft()

    def copy(self) -> Reported:
        """Return what there is now, for another thread."""
        twin = Reported(self.camera)
        twin.focal, twin._rows = self.focal, self._rows.copy()
        return twin

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self._newest = 0

    def sightings(self) -> Sightings:
        """Return what there is, in the order of time; pixels are those of camera_of(focal)."""
        rows = {(stamp, id_): joints for stamp, id_, joints in self._rows}  # of what came twice, one
        keys = sorted(rows)
        joints = np.array([rows[key] for key in keys], dtype=np.float64).reshape(-1, len(JOINTS), 4)
        joints[~np.isfinite(joints).all(axis=-1)] = np.nan
        return Sightings(np.array([stamp for stamp, _ in keys], dtype=np.int64),
                         np.array([id_ for _, id_ in keys], dtype=np.int64),
                         joints[..., :2] * self.focal, joints[..., 2], joints[..., 3])

    def watched(self) -> Watched:
        """Return the tracks."""
        return watched(self.camera, camera_of(self.focal), self.sightings())


def camera_of(focal: float) -> Camera:
    """Return the camera whose pixels are rays times the focal length: a stand-in where only the rays are known."""
    return Camera(1, 1, focal, focal, 0.0, 0.0)
