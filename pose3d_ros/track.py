"""Identity over time: association of 2D people to tracks, ids that are never reused, left and right kept apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pose3d_ros.handedness import Handedness, HandednessSettings
from pose3d_ros.records import Person2D, PersonState


@dataclass(frozen=True)
class TrackSettings:
    """How people are followed.

    confirm_frames: sightings before a person counts as TRACKED. max_lost_s: an unseen person keeps the id this long
    [s]. min_similarity: least match of a detection to a track, 0..1. velocity_gain: share of a velocity innovation
    taken over per frame, 0..1. swap_guard: correct exchanged left and right. handedness: how.
    """

    confirm_frames: int = 3
    max_lost_s: float = 2.0
    min_similarity: float = 0.15
    velocity_gain: float = 0.4
    swap_guard: bool = True
    handedness: HandednessSettings = HandednessSettings()


# Joints vary this much about a constant-velocity guess, as a share of the person's size; it grows while unseen.
_JOINT_TOLERANCE = 0.12
_TOLERANCE_GROWTH = 1.5  # per second unseen
# A walking body keeps its direction for about this long once it is out of sight; limbs do not at all.
_VELOCITY_MEMORY_S = 1.0


# A joint that jumps farther than this share of the person's size, or of which the detector is less sure than this, is
# not believed for as long as this [s].
_JUMP = 0.12
_DOUBTFUL = 0.3
_DISBELIEF_S = 0.2


@dataclass
class _Track:
    """One person followed through the image.

    pixels, velocity: (J, 2) px and px/s, NaN for joints out of view. believed_ns (J,): when a joint was last where it
    was expected.
    """

    id: int
    person: Person2D
    pixels: NDArray[np.float64]
    velocity: NDArray[np.float64]
    believed_ns: NDArray[np.int64]
    stamp_ns: int
    handedness: Handedness
    sightings: int = 1

    def predict(self, stamp_ns: int) -> NDArray[np.float64]:
        """Return the joints (J, 2) px expected at a later time.

        Between two frames each joint goes on as it moved. Over a longer gap limbs swing back, so that what goes on is
        the mean motion of the body, and that fades as well.
        """
        gap = _seconds(stamp_ns - self.stamp_ns)
        body = _median(self.velocity)
        own = np.where(np.isnan(self.velocity), body, self.velocity)
        limb_memory = np.exp(-gap / 0.1)
        travelled = _VELOCITY_MEMORY_S * (1 - np.exp(-gap / _VELOCITY_MEMORY_S))
        return self.pixels + travelled * (limb_memory * own + (1 - limb_memory) * body)

    def update(self, person: Person2D, predicted: NDArray[np.float64], stamp_ns: int, gain: float) -> None:
        """Take over a new sighting (already with the right left and right)."""
        gap = max(_seconds(stamp_ns - self.stamp_ns), 1e-3)
        seen = np.isfinite(person.pixels[:, 0])
        innovation = person.pixels - predicted
        allowed = _JUMP * (1 + _TOLERANCE_GROWTH * gap) * _size(person.box)
        jumps = np.linalg.norm(innovation, axis=-1) > allowed
        doubted = (jumps | (person.joint_confidence < _DOUBTFUL)) & np.isfinite(predicted[:, 0])
        coasts = seen & doubted & (stamp_ns - self.believed_ns < _DISBELIEF_S * 1e9)
        follows = seen & ~jumps & np.isfinite(predicted[:, 0])
        known = np.nan_to_num(self.velocity)
        velocity = np.where(follows[:, None], known + gain * np.nan_to_num(innovation) / gap, 0.0)
        # A joint that has left the view keeps no stale position: it would drag matching and swap detection with it.
        self.pixels = np.where(coasts[:, None], predicted, person.pixels)
        self.velocity = np.where(seen[:, None], np.where(coasts[:, None], known, velocity), np.nan)
        self.believed_ns = np.where(seen & ~coasts, stamp_ns, self.believed_ns)
        self.person, self.stamp_ns, self.sightings = person, stamp_ns, self.sightings + 1


class Tracker:
    """Gives people their ids. State: the tracks; `reset()` forgets them, ids go on counting.

    Counters: ids_made; swaps_corrected (sightings whose left and right were exchanged back, wholly or in part).
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self.ids_made = 0
        self.swaps_corrected = 0
        self._tracks: list[_Track] = []

    def reset(self) -> None:
        """Forget everybody, as after a jump in time. Ids already given are not given again."""
        self._tracks = []

    def check(self, stamp_ns: int) -> None:
        """Raise ValueError for a time before that of people who are followed: reset first."""
        newest = max((track.stamp_ns for track in self._tracks), default=stamp_ns)
        if stamp_ns < newest:
            raise ValueError(f'time went back by {_seconds(newest - stamp_ns):.3f} s: call reset() first')

    def __call__(self, people: list[Person2D], stamp_ns: int) -> list[Person2D]:
        """Return the people of this frame, in the order given, with id, state and corrected left and right.

        stamp_ns: exposure time; it must not lie before that of the previous call (ValueError: reset first).
        """
        self.check(stamp_ns)
        self._tracks = [track for track in self._tracks
                        if _seconds(stamp_ns - track.stamp_ns) <= self.settings.max_lost_s]
        predicted = [track.predict(stamp_ns) for track in self._tracks]
        matches = self._match(people, predicted, stamp_ns)
        return [self._follow(person, matches.get(position), predicted, stamp_ns)
                for position, person in enumerate(people)]

    def _match(self, people: list[Person2D], predicted: list[NDArray[np.float64]], stamp_ns: int) -> dict[int, int]:
        """Return {person: track} by the best total similarity (Hungarian method)."""
        if not people or not predicted:
            return {}
        similarity = np.array([
            [_similarity(person, expected, track.person, _seconds(stamp_ns - track.stamp_ns))
             for track, expected in zip(self._tracks, predicted, strict=True)] for person in people])
        rows, columns = linear_sum_assignment(-similarity)
        return {int(row): int(column) for row, column in zip(rows, columns, strict=True)
                if similarity[row, column] >= self.settings.min_similarity}

    def _follow(self, person: Person2D, match: int | None, predicted: list[NDArray[np.float64]],
                stamp_ns: int) -> Person2D:
        """Continue the matched track with this sighting, or start a new one."""
        settings = self.settings
        if match is None:
            self.ids_made += 1
            track = _Track(self.ids_made, person, person.pixels, np.full_like(person.pixels, np.nan),
                           np.full(len(person.skeleton), stamp_ns), stamp_ns, Handedness(settings.handedness))
            self._tracks.append(track)
        else:
            track = self._tracks[match]
            expected = predicted[match]
            if settings.swap_guard:
                decision = track.handedness.judge(person, expected, _seconds(stamp_ns - track.stamp_ns))
                if decision.relabel_track:
                    expected = expected[person.skeleton.mirror]
                    track.velocity = track.velocity[person.skeleton.mirror]
                    track.believed_ns = track.believed_ns[person.skeleton.mirror]
                if decision.exchange.any():
                    self.swaps_corrected += 1
                    person = person.mirrored(decision.exchange)
            track.update(person, expected, stamp_ns, settings.velocity_gain)
        state = PersonState.TRACKED if track.sightings >= settings.confirm_frames else PersonState.TENTATIVE
        return replace(person, id=track.id, state=state)


def _seconds(duration_ns: int) -> float:
    return duration_ns * 1e-9


def _similarity(person: Person2D, expected: NDArray[np.float64], last: Person2D, gap: float) -> float:
    """Return 0..1: keypoint similarity to the expected joints, times how well the size agrees, plus box overlap.

    Left and right may be exchanged in the detection without harm: the better of both labellings counts.
    """
    size = _size(last.box)
    tolerance = _JOINT_TOLERANCE * (1 + _TOLERANCE_GROWTH * gap) * size
    keypoints = max(_keypoint_similarity(pixels, expected, tolerance)
                    for pixels in (person.pixels, person.pixels[person.skeleton.mirror]))
    ratio = _size(person.box) / size if size > 0 else 1.0
    same_size = float(np.exp(-0.5 * (np.log(max(ratio, 1e-6)) / (0.35 * (1 + gap))) ** 2))
    overlap = box_overlap(person.box, last.box + np.tile(_median(expected - last.pixels), 2))
    return 0.7 * keypoints * same_size + 0.3 * overlap


def _keypoint_similarity(a: NDArray[np.float64], b: NDArray[np.float64], tolerance: float) -> float:
    """Return the mean over the joints known in both (J, 2) of exp(-d^2 / 2 tolerance^2); 0 with none in common."""
    distance = np.linalg.norm(a - b, axis=-1)
    common = np.isfinite(distance)
    if not common.any() or tolerance <= 0:
        return 0.0
    return float(np.exp(-0.5 * (distance[common] / tolerance) ** 2).mean())


def _size(box: NDArray[np.float64]) -> float:
    """Return the side [px] of the square with the area of a box (4,)."""
    return float(np.sqrt(max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)))


def box_overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return intersection over union of two boxes (4,) x0 y0 x1 y1."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if not (width > 0 and height > 0):
        return 0.0
    shared = float(width * height)
    return shared / (_size(a) ** 2 + _size(b) ** 2 - shared)


def _median(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median (2,) of the known vectors (J, 2), zero when none is known."""
    known = vectors[np.isfinite(vectors[:, 0])]
    return np.median(known, axis=0) if len(known) else np.zeros(2)
