"""From one network's answer to another's about the same person, without a jump."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.skeleton import HUMAN17

FADES_S = 0.5      # in this time what two networks disagree by fades to 1/e: a robot should see nobody dash
FORGET_S = 0.5     # an id that was not seen for this time begins anew, as does one that was seen later

_PELVIS = HUMAN17.index('pelvis')


@dataclass
class _Person:
    """What is known of somebody: who placed them last, by how much the first network disagreed then with the spare one,
    and what has still to fade; both as _as_seen has people.
    """

    stamp_ns: int
    first: bool
    ahead: NDArray[np.float64] = field(default_factory=lambda: np.zeros((len(HUMAN17) + 2, 3)))
    fading: NDArray[np.float64] = field(default_factory=lambda: np.zeros((len(HUMAN17) + 2, 3)))


class Handover:
    """Lets people pass from the first network of a lifter to its spare one, and back, gradually.

    Two networks disagree above all about the distance of somebody of whom little is in view. At the image that the
    other one takes over, that difference is kept, and fades. State: each id's, for FORGET_S; `reset()` forgets it.
    """

    def __init__(self) -> None:
        self._people: dict[int, _Person] = {}

    def reset(self) -> None:
        """Forget everybody."""
        self._people = {}

    def __call__(self, ids: Sequence[int], first: NDArray, spare: NDArray, stamp_ns: int) -> NDArray[np.float64]:
        """Return how far (N, 17, 3) m to move what is taken of two answers (N, 17, 3) m about the people `ids`.

        That is the first, or the spare one where the first is NaN. People with id 0 stay, as does who is NaN in both.
        """
        self._people = {id_: person for id_, person in self._people.items()
                        if 0 <= stamp_ns - person.stamp_ns < FORGET_S * 1e9}
        moved = np.zeros(first.shape)
        for row, id_ in enumerate(ids):
            placed = [bool(np.isfinite(answer[row].sum())) for answer in (first, spare)]
            if id_ > 0 and any(placed):
                moved[row] = self._move(id_, first[row], spare[row], placed, stamp_ns)
        return moved

    def _move(self, id_: int, first: NDArray, spare: NDArray, placed: list[bool], stamp_ns: int) -> NDArray[np.float64]:
        known = self._people.setdefault(id_, _Person(stamp_ns, placed[0]))
        known.fading *= math.exp((known.stamp_ns - stamp_ns) * 1e-9 / FADES_S)
        taken = _as_seen(first if placed[0] else spare)
        ahead = taken - _as_seen(spare) if all(placed) else known.ahead
        if placed[0] != known.first:    # the same person, as the one before would have placed them now
            known.fading += known.ahead if known.first else -ahead
        known.stamp_ns, known.first, known.ahead = stamp_ns, placed[0], ahead
        return _in_space(taken + known.fading) - _in_space(taken)


def _as_seen(points: NDArray) -> NDArray[np.float64]:
    """Return a person's joints (17, 3) m as (19, 3): direction of the pelvis, log of its distance, and the joints
    against it.
    """
    root = points[_PELVIS]
    distance = max(float(np.linalg.norm(root)), 1e-3)
    return np.concatenate([[root / distance, [math.log(distance), 0, 0]], points - root])


def _in_space(seen: NDArray) -> NDArray[np.float64]:
    """Return the joints (17, 3) m of what _as_seen returns, or of sums of such: the pelvis keeps before the camera."""
    direction = seen[0] / max(float(np.linalg.norm(seen[0])), 1e-3)
    return np.asarray(math.exp(seen[1, 0]) * direction + seen[2:])
