"""The last moments of each person's 2D joints, as lifting networks are shown them: some old frames, or even steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Windows = tuple[Floats, Floats, Floats]

# s: how old the frames of the past should be. The newest tell of speed; the oldest show the same body with other
# errors, for a detector errs alike for some tenths of a second.
AGES = (0.08, 0.22, 0.5, 1.0)
TOLERANCE = 0.4    # of its age that a frame may be older or younger
SPACING_S = 0.036  # between the frames that are kept: at 60 frames/s every third
_KEPT = 40

GAP_S = 0.35       # between frames farther apart nobody knows how a joint moved
_DENSE = 0.4       # of a step: spacing of the frames that are kept for even steps
_SAME_S = 1e-4     # s: ages that differ by less are the same
_NEVER_S = 1e6     # s: age of a frame that there is not
_AT = 1e-3         # of the way between two frames: so near to one, it is that one


class _Moments:
    """Frames of each person, newest first, at least a spacing apart. State: those frames; `reset()` forgets them."""

    def __init__(self, joints: int, spacing_s: float, kept: int, forget_s: float) -> None:
        """forget_s: after this time unseen, a person's room may be another's; no frame that old is of any use."""
        self._joints, self._spacing_s, self._kept, self._forget_ns = joints, spacing_s, kept, int(1e9 * forget_s)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._slots: dict[int, int] = {}
        self._frames = np.zeros((0, self._kept, self._joints, 3), dtype=np.float32)  # x, y, confidence; newest first
        self._stamp = np.zeros((0, self._kept), dtype=np.int64)

    @property
    def people(self) -> int:
        """How many people there is room for."""
        return len(self._stamp)

    def _ages(self, ids: Sequence[int], stamp_ns: int) -> tuple[NDArray, NDArray]:
        """Return the rows (N,) of people, and how old their frames are (N, kept) s: very old where there is none."""
        rows = np.array([self._slot(id_, ids, stamp_ns) for id_ in ids], dtype=np.intp)
        return rows, (stamp_ns - self._stamp[rows]) * 1e-9

    def _keep(self, ids: Sequence[int], rows: NDArray[np.intp], age: NDArray, newest: Floats, stamp_ns: int) -> None:
        """Take in the newest frames (N, J, 3) of those who have an id and whose last one is old enough."""
        due = (age[:, 0] >= self._spacing_s) & (np.asarray(ids) > 0)
        keep = rows[due]
        self._frames[keep, 1:], self._stamp[keep, 1:] = self._frames[keep, :-1], self._stamp[keep, :-1]
        self._frames[keep, 0], self._stamp[keep, 0] = newest[due], stamp_ns

    def _slot(self, id_: int, present: Sequence[int], stamp_ns: int) -> int:
        """Return the row of a person; a new person takes that of somebody who has long been gone, or a new row.

        present: people who are not gone, though nothing of them may be kept yet.
        """
        slot = self._slots.get(id_)
        if slot is not None:
            return slot
        long_ago = stamp_ns - self._forget_ns
        gone = [old for old, row in self._slots.items() if self._stamp[row, 0] <= long_ago and old not in present]
        if gone:
            slot = self._slots.pop(gone[0])
        else:
            slot = len(self._slots)
            self._frames, self._stamp = (np.concatenate([array, np.zeros((1, *array.shape[1:]), array.dtype)])
                                         for array in (self._frames, self._stamp))
        self._stamp[slot] = long_ago
        self._slots[id_] = slot
        return slot


class Past(_Moments):
    """A few frames of each id, as they were, of about the ages wanted."""

    def __init__(self, joints: int, ages: Sequence[float] = AGES) -> None:
        super().__init__(joints, SPACING_S, _KEPT, 4 * ages[-1])
        self._wanted = np.array(ages)

    def __call__(self, ids: Sequence[int], rays: Floats, confidence: Floats, stamp_ns: int) -> Windows:
        """Take in the newest frame: rays (N, J, 2), confidence (N, J), 0 where missing, of the people `ids` (N).

        Returns windows of T = 1 + ages frames, newest first: rays (N, T, J, 2), confidence (N, T, J), 0 for a frame
        that there is not, and age (N, T) s. People with id 0 have no past.
        """
        count, frames = len(ids), 1 + len(self._wanted)
        window = np.zeros((count, frames, self._joints, 3), dtype=np.float32)
        window[:, 0, :, :2], window[:, 0, :, 2] = rays, confidence
        shown = np.zeros((count, frames), dtype=np.float32)
        rows, age = self._ages(ids, stamp_ns)
        off = np.abs(age[:, None] - self._wanted[:, None])                              # (N, ages, kept)
        nearest = off.argmin(axis=-1)
        person, slot = np.nonzero(off.min(axis=-1) <= TOLERANCE * self._wanted)
        chosen = nearest[person, slot]
        window[person, 1 + slot] = self._frames[rows[person], chosen]
        shown[person, 1 + slot] = age[person, chosen]
        self._keep(ids, rows, age, window[:, 0], stamp_ns)
        return window[..., :2], window[..., 2], shown

    def fit(self, rays: NDArray, confidence: NDArray, age: NDArray) -> Windows:
        """Return windows of T frames from those of fewer, which are filled up with none, or of more."""
        frames = 1 + len(self._wanted)
        if age.shape[1] == frames:
            return rays, confidence, age
        fitting = []
        for array in (rays, confidence, age):
            fitting.append(np.zeros((len(age), frames, *array.shape[2:]), dtype=np.float32))
            fitting[-1][:, :age.shape[1]] = array[:, :frames]
        return fitting[0], fitting[1], fitting[2]


class EvenPast(_Moments):
    """The past of each id at even steps, whatever the camera's rate: the frames between those there are, see at_steps.

    At least two frames per step are kept where the camera gives as many.
    """

    def __init__(self, joints: int, step_s: float, frames: int) -> None:
        """step_s: s between frames of a window; frames: how many those are, with the newest."""
        reach = (frames - 1) * step_s
        # One more than fit into the reach: the newest that is kept may be about as new as the image itself.
        super().__init__(joints, _DENSE * step_s, math.ceil((frames - 1) / _DENSE) + 1, 4 * reach + 4 * GAP_S)
        self.ages: Floats = (step_s * np.arange(frames)).astype(np.float32)

    def __call__(self, ids: Sequence[int], rays: Floats, confidence: Floats, stamp_ns: int) -> Windows:
        """Take in the newest frame: rays (N, J, 2), confidence (N, J), 0 where missing, of the people `ids` (N).

        Returns windows of T frames, newest first: rays (N, T, J, 2), confidence (N, T, J), and age (N, T) s, that of
        the even steps. Before the oldest frame there is, it is repeated; of people with id 0 that is the newest.
        """
        known = np.empty((len(ids), 1 + self._kept, self._joints, 3), dtype=np.float32)
        known[:, 0, :, :2], known[:, 0, :, 2] = rays, confidence
        rows, age = self._ages(ids, stamp_ns)
        known[:, 1:] = self._frames[rows]
        window = at_steps(known, np.concatenate([np.zeros((len(ids), 1)), age], axis=1), self.ages)
        self._keep(ids, rows, age, known[:, 0], stamp_ns)
        return window[..., :2], window[..., 2], np.repeat(self.ages[None], len(ids), axis=0)

    def fit(self, rays: NDArray, confidence: NDArray, age: NDArray) -> Windows:
        """Return windows at the even steps from those of other ages, the first 0; one image is repeated T times."""
        if age.shape[1] == len(self.ages) and (np.abs(age - self.ages) < _SAME_S).all():
            return rays, confidence, age
        frames = np.concatenate([rays, confidence[..., None]], axis=-1, dtype=np.float32)
        age = np.where((confidence > 0).any(axis=-1), age, _NEVER_S)
        age[:, 0] = 0
        order = np.argsort(age, axis=1, kind='stable')
        window = at_steps(np.take_along_axis(frames, order[..., None, None], axis=1),
                          np.take_along_axis(age, order, axis=1), self.ages)
        return window[..., :2], window[..., 2], np.repeat(self.ages[None], len(age), axis=0)


def at_steps(frames: Floats, age: NDArray, wanted: NDArray) -> Floats:
    """Return frames (N, T, J, 3) (x, y, confidence; 0 where missing) of the ages wanted (T,) s, of which one is 0.

    frames (N, K, J, 3), newest first, the first with age 0; age (N, K) s, rising. A joint lies on the line between
    the frames before and after, with the lower of both confidences, where both have it and they are at most GAP_S
    apart; else it is that of the nearer one which has it. A frame more than GAP_S older than wanted counts for nothing:
    the one after it is repeated.
    """
    people = np.arange(len(frames))[:, None]
    after = (age[:, None] <= wanted[:, None]).sum(axis=-1) - 1                          # (N, T)
    before = np.minimum(after + 1, age.shape[1] - 1)
    newer, older = frames[people, after], frames[people, before]                        # (N, T, J, 3)
    since, until = age[people, before] - wanted, wanted - age[people, after]
    gap = since + until
    way = (until / np.maximum(gap, 1e-9)).astype(np.float32)[..., None]                 # from the newer to the older
    sure, sure_before = newer[..., 2], older[..., 2]
    there, there_before = sure > 0, (sure_before > 0) & (since <= GAP_S)[..., None]
    share = np.where(there & there_before & (gap <= GAP_S)[..., None], way,
                     there_before & (~there | (way > 0.5)))                             # (N, T, J), of the older
    window = newer + share[..., None] * (older - newer)
    window[..., 2] = np.where(share < _AT, sure, np.where(share > 1 - _AT, sure_before, np.minimum(sure, sure_before)))
    window[:, wanted == 0] = frames[:, :1]
    return window
