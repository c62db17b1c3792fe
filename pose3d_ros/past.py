"""The last moments of each person's 2D joints, as the lifting network is shown them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# s: how old the frames of the past should be. The newest tell of speed; the oldest show the same body with other
# errors, for a detector errs alike for some tenths of a second.
AGES = (0.08, 0.22, 0.5, 1.0)
TOLERANCE = 0.4    # of its age that a frame may be older or younger
SPACING_S = 0.036  # between the frames that are kept: at 60 frames/s every third
_KEPT = 40


class Past:
    """Keeps the last moments of each person by id. State: those frames; `reset()` forgets them."""

    def __init__(self, joints: int, ages: Sequence[float] = AGES) -> None:
        self._joints = joints
        self._ages = np.array(ages)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._slots: dict[int, int] = {}
        self._frames = np.zeros((0, _KEPT, self._joints, 3), dtype=np.float32)  # x, y, confidence; newest first
        self._stamp = np.zeros((0, _KEPT), dtype=np.int64)

    @property
    def people(self) -> int:
        """How many people there is room for."""
        return len(self._stamp)

    def __call__(self, ids: Sequence[int], rays: NDArray[np.float32], confidence: NDArray[np.float32],
                 stamp_ns: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Take in the newest frame: rays (N, J, 2), confidence (N, J), 0 where missing, of the people `ids` (N).

        Returns windows of T = 1 + ages frames, newest first: rays (N, T, J, 2), confidence (N, T, J), 0 for a frame
        that there is not, and age (N, T) s. People with id 0 have no past.
        """
        count, frames = len(ids), 1 + len(self._ages)
        window = np.zeros((count, frames, self._joints, 3), dtype=np.float32)
        window[:, 0, :, :2], window[:, 0, :, 2] = rays, confidence
        shown = np.zeros((count, frames), dtype=np.float32)
        slots = np.array([self._slot(id_, stamp_ns) for id_ in ids])
        age = (stamp_ns - self._stamp[slots]) * 1e-9                                    # (N, kept)
        off = np.abs(age[:, None] - self._ages[:, None])                                # (N, ages, kept)
        nearest = off.argmin(axis=-1)
        person, slot = np.nonzero(off.min(axis=-1) <= TOLERANCE * self._ages)
        chosen = nearest[person, slot]
        window[person, 1 + slot] = self._frames[slots[person], chosen]
        shown[person, 1 + slot] = age[person, chosen]

        due = (age[:, 0] >= SPACING_S) & (np.asarray(ids) > 0)
        keep, newest = slots[due], window[due, 0]
        self._frames[keep, 1:], self._stamp[keep, 1:] = self._frames[keep, :-1], self._stamp[keep, :-1]
        self._frames[keep, 0], self._stamp[keep, 0] = newest, stamp_ns
        return window[..., :2], window[..., 2], shown

    def _slot(self, id_: int, stamp_ns: int) -> int:
        """Return the row of a person; a new person takes that of somebody who has long been gone, or a new row."""
        slot = self._slots.get(id_)
        if slot is not None:
            return slot
        long_ago = stamp_ns - int(4e9 * self._ages[-1])
        gone = [old for old, row in self._slots.items() if self._stamp[row, 0] <= long_ago]
        if gone:
            slot = self._slots.pop(gone[0])
        else:
            slot = len(self._slots)
            self._frames, self._stamp = (np.concatenate([array, np.zeros((1, *array.shape[1:]), array.dtype)])
                                         for array in (self._frames, self._stamp))
        self._stamp[slot] = long_ago
        self._slots[id_] = slot
        return slot
