"""How well one camera's people agree with the reference: who is found, under which id, which way round, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.records import Person2D, Person3D
from pose3d_ros.skeleton import LIMBS12, select
from pose3d_ros.train.metrics import mblstd, mpjpe, mpjve, mrpe, pa_mpjpe

Floats = NDArray[np.float64]

# Shares of the subject's size in the image (the diagonal of the box around the reference's joints).
_ON_SUBJECT = 0.1    # a person whose joints lie nearer than this on average is taken to be the subject
_SWAP_MARGIN = 0.03  # the mirrored labelling must be nearer by this to count; less cannot be told apart

HIPS = LIMBS12.indices(['left_hip', 'right_hip'])
_ARMS = LIMBS12.indices([name for name in LIMBS12.joints if name.endswith(('shoulder', 'elbow', 'wrist'))])
_LEGS = np.setdiff1d(np.arange(len(LIMBS12)), _ARMS)


@dataclass(frozen=True)
class Scores:
    """V cameras (one, before they are added up), one model, T frames. Counts, so that cameras can be added up.

    single: frames with exactly one person on the subject; found: with at least one. swapped and decidable: frames in
    which the sides are the wrong way round, and in which that can be told; raw_*: the same of the detector alone,
    before the guard; parts_*: the same of arms and legs, each by itself. predicted, truth (V, T, 12, 3) m: the joints,
    NaN in frames without a 3D person on the subject.
    """

    frames: int
    found: int
    single: int
    id_switches: int
    swapped: int
    decidable: int
    raw_swapped: int
    raw_decidable: int
    parts_swapped: int
    parts_decidable: int
    predicted: Floats
    truth: Floats

    def figures(self) -> dict[str, float]:
        """Return the figures of section "what is printed" in mm and shares; NaN where there is nothing to count."""
        roots = [points[:, :, HIPS].mean(axis=2).reshape(-1, 3) for points in (self.predicted, self.truth)]
        lifted = np.isfinite(self.predicted).any(axis=(-2, -1))
        return {
            'person_share': _share(self.single, self.frames),
            'id_switches': self.id_switches,
            'swap_share': _share(self.swapped, self.decidable),
            'raw_swap_share': _share(self.raw_swapped, self.raw_decidable),
            'part_swap_share': _share(self.parts_swapped, self.parts_decidable),
            'mpjpe_mm': 1e3 * mpjpe(self.predicted, self.truth, HIPS.tolist()),
            'pa_mpjpe_mm': 1e3 * pa_mpjpe(self.predicted, self.truth),
            'mrpe_mm': 1e3 * mrpe(*roots),
            'mpjve_mm': 1e3 * mpjve(self.predicted, self.truth, HIPS.tolist()),
            'mblstd_mm': 1e3 * mblstd(self.predicted),
            'frames_3d_share': _share(int(lifted.sum()), self.frames),
        }


def add_up(parts: Sequence[Scores]) -> Scores:
    """Return the scores of several cameras together, every frame counting alike."""
    counts = {name: sum(getattr(part, name) for part in parts) for name in (
        'frames', 'found', 'single', 'id_switches', 'swapped', 'decidable', 'raw_swapped', 'raw_decidable',
        'parts_swapped', 'parts_decidable')}
    longest = max(part.predicted.shape[1] for part in parts)
    predicted, truth = (np.concatenate([_padded(getattr(part, name), longest) for part in parts])
                        for name in ('predicted', 'truth'))
    return Scores(**counts, predicted=predicted, truth=truth)


def _padded(points: Floats, frames: int) -> Floats:
    """Return sequences (V, T, 12, 3) with frames of NaN at their end."""
    return np.pad(points, ((0, 0), (0, frames - points.shape[1]), (0, 0), (0, 0)), constant_values=np.nan)


def score(pixels: Floats, points: Floats, detected: Sequence[Sequence[Person2D]],
          tracked: Sequence[Sequence[Person2D]], lifted: Sequence[Sequence[Person3D]]) -> Scores:
    """Compare one camera's people with the reference.

    pixels (T, 12, 2) px and points (T, 12, 3) m: the reference's limb joints in this camera. detected: people before
    tracking, tracked: with ids, lifted: in space; one list per frame.
    """
    found = single = switches = 0
    last_id: int | None = None
    sides, raw_sides, parts = _Sides(), _Sides(), _Sides(_ARMS, _LEGS)
    predicted, truth = np.full((2, *points.shape), np.nan)
    for frame, expected in enumerate(pixels):
        raw_sides.count(nearest(detected[frame], expected), expected)
        there = on_subject(tracked[frame], expected)
        if not there:
            continue
        subject = there[0]
        found, single = found + 1, single + (len(there) == 1)
        switches += last_id is not None and subject.id != last_id
        last_id = subject.id
        sides.count(subject, expected)
        parts.count(subject, expected)
        for person in lifted[frame]:
            if person.id == subject.id:
                predicted[frame] = select(person.position, person.skeleton, LIMBS12)
                truth[frame] = points[frame]
    return Scores(len(pixels), found, single, switches, sides.swapped, sides.decidable, raw_sides.swapped,
                  raw_sides.decidable, parts.swapped, parts.decidable, predicted[None],
                  truth[None])


def on_subject(people: Sequence[Person2D], expected: Floats) -> list[Person2D]:
    """Return the people whose joints lie on the expected ones (12, 2) px, whichever way round; the nearest first."""
    distances = [(_distance(person, expected), order, person) for order, person in enumerate(people)]
    return [person for distance, _, person in sorted(distances, key=lambda entry: entry[:2])
            if distance < _ON_SUBJECT * size_of(expected)]


def nearest(people: Sequence[Person2D], expected: Floats) -> Person2D | None:
    """Return the person on the subject, if there is one."""
    there = on_subject(people, expected)
    return there[0] if there else None


def is_swapped(joints: Floats, expected: Floats, part: NDArray[np.intp] | slice = slice(None)) -> bool | None:
    """Say whether joints (12, 2) px have their sides exchanged against the expected ones; None where it cannot be told.

    It can be told where exchanging the sides of the reference itself moves the joints by more than twice the margin.
    part: the joints to go by.
    """
    margin = _SWAP_MARGIN * size_of(expected)
    exchanged, target = joints[LIMBS12.mirror][part], expected[part]
    if not _mean_distance(expected[LIMBS12.mirror][part], target) > 2 * margin:
        return None
    given, mirrored = _mean_distance(joints[part], target), _mean_distance(exchanged, target)
    return None if np.isnan(given) or np.isnan(mirrored) else bool(mirrored + margin < given)


def size_of(expected: Floats) -> float:
    """Return the diagonal [px] of the box around the known joints (12, 2); NaN when none is known."""
    known = expected[np.isfinite(expected).all(axis=-1)]
    return float(np.linalg.norm(np.ptp(known, axis=0))) if len(known) else float('nan')


class _Sides:
    """Counts frames (and in each, parts of the body) with exchanged sides among those where it can be told."""

    def __init__(self, *parts: NDArray[np.intp]) -> None:
        self.swapped = self.decidable = 0
        self._parts = parts or (np.arange(len(LIMBS12)),)

    def count(self, person: Person2D | None, expected: Floats) -> None:
        if person is None:
            return
        joints = select(person.pixels, person.skeleton, LIMBS12)
        for part in self._parts:
            swapped = is_swapped(joints, expected, part)
            self.decidable += swapped is not None
            self.swapped += swapped is True


def _distance(person: Person2D, expected: Floats) -> float:
    """Return the mean distance [px] of the limb joints, for the better of both labellings; inf if under 4 are known."""
    joints = select(person.pixels, person.skeleton, LIMBS12)
    distances = [_mean_distance(labelled, expected) for labelled in (joints, joints[LIMBS12.mirror])]
    return min((value for value in distances if not np.isnan(value)), default=float('inf'))


def _mean_distance(a: Floats, b: Floats) -> float:
    """Return the mean distance of the joints known in both (J, 2); NaN with fewer than four."""
    distance = np.linalg.norm(a - b, axis=-1)
    known = np.isfinite(distance)
    return float(distance[known].mean()) if known.sum() >= 4 else float('nan')


def _share(count: int, of: int) -> float:
    return count / of if of else float('nan')
