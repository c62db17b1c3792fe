"""What each camera saw, as arrays: one person's joints over time, and how fast they move in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.records import Person2D
from pose3d_ros.skeleton import LIMBS12, Skeleton, select

Floats = NDArray[np.float64]

# What all arrays of this folder hold, J = 22: the joints that every detector has, and the feet and hands of those that
# have them. Far from the rest of the body and small, they are what views agree on; the feet alone halve the error. The
# face is left out: seen from behind it is a guess.
_ENDS = tuple((f'{side}_{a}', f'{side}_{b}') for a, b in (
    ('ankle', 'heel'), ('heel', 'foot_index'), ('wrist', 'index'), ('wrist', 'pinky'), ('wrist', 'thumb'))
    for side in ('left', 'right'))
JOINTS = Skeleton('limbs22', (*LIMBS12.joints, *(end for _, end in _ENDS)), (*LIMBS12.bones, *_ENDS))
LEAST_SIGMA_PX = 2.0  # views disagree about where in the body a joint is, however sure the detector is of itself
_LEAST_CONFIDENCE = 0.3
_SLOPE_FRAMES = 3  # to either side


@dataclass(frozen=True)
class Track:
    """One person, as one camera followed him over T frames.

    stamps (T,) s, increasing, by the camera's own clock; rays (T, J, 2) normalised and undistorted, NaN where a joint
    was not seen; sigma (T, J) one standard deviation of a ray's coordinates (px / focal length).
    """

    stamps: Floats
    rays: Floats
    sigma: Floats

    @cached_property
    def slopes(self) -> Floats:
        """Velocity of the rays (T, J, 2) in 1/s: that of the line through a few frames around, 0 where there is none.

        Many frames, since the noise of a velocity pulls a time offset towards zero.
        """
        known = np.asarray(np.isfinite(self.rays).all(axis=-1))
        sums = np.zeros((5, *self.rays.shape))  # weight, t, t^2, r, t r
        for shift in range(-_SLOPE_FRAMES, _SLOPE_FRAMES + 1):
            here = np.arange(len(self.stamps))
            other = np.clip(here + shift, 0, len(here) - 1)
            time = (self.stamps[other] - self.stamps)[:, None, None]
            weight = known[other][..., None] * (here + shift == other)[:, None, None]
            weight = weight * (np.abs(time) < 3 * _SLOPE_FRAMES * self.period)
            ray = np.nan_to_num(self.rays[other])
            sums += weight * np.stack([np.ones_like(ray), time + 0 * ray, time**2 + 0 * ray, ray, time * ray])
        count, t, tt, r, tr = sums
        spread = count * tt - t**2
        return np.where(count >= 3, (count * tr - t * r) / np.where(spread > 0, spread, 1.0), 0.0)

    @cached_property
    def period(self) -> float:
        """Time between two frames [s]."""
        return float(np.median(np.diff(self.stamps))) if len(self.stamps) > 1 else 1.0

    def at(self, stamps: Floats) -> tuple[Floats, Floats, Floats]:
        """Return rays (N, J, 2), their slopes (N, J, 2) and sigma (N, J) at stamps (N,) s; NaN where there is no frame.

        That of the nearest frame, carried by its slope over at most a little more than half a frame.
        """
        position = np.clip(np.searchsorted(self.stamps, stamps), 1, max(len(self.stamps) - 1, 1))
        before, after = position - 1, np.minimum(position, len(self.stamps) - 1)
        nearest = np.where(stamps - self.stamps[before] <= self.stamps[after] - stamps, before, after)
        gap = stamps - self.stamps[nearest]
        slopes = self.slopes[nearest]
        rays = np.where((np.abs(gap) <= 0.6 * self.period)[:, None, None],
                        self.rays[nearest] + slopes * gap[:, None, None], np.nan)
        return rays, slopes, self.sigma[nearest]


@dataclass(frozen=True)
class Watched:
    """All that one camera saw. focal: px, from rays to px. tracks: the people, each under its id by its own tracker."""

    camera: str
    focal: float
    tracks: list[Track] = field(default_factory=list)

    @property
    def stamps(self) -> Floats:
        """All times (T,) s at which somebody was seen."""
        return np.unique(np.concatenate([track.stamps for track in self.tracks])) if self.tracks else np.zeros(0)

    @property
    def period(self) -> float:
        """Time between two frames [s]."""
        return min((track.period for track in self.tracks), default=1.0)


@dataclass(frozen=True)
class Sightings:
    """The people that one camera saw, S rows of one person in one frame, in the order of time.

    stamps_ns (S,) int64; ids (S,) as its tracker gave them; pixels (S, J, 2), sigma (S, J) px, confidence (S, J) 0..1
    of JOINTS; NaN for what was not seen.
    """

    stamps_ns: NDArray[np.int64]
    ids: NDArray[np.int64]
    pixels: Floats
    sigma: Floats
    confidence: Floats


def sightings(frames: Sequence[tuple[int, Sequence[Person2D]]]) -> Sightings:
    """Return the people of a camera's frames, (stamp_ns, people with ids) each."""
    rows = [(stamp_ns, person) for stamp_ns, people in frames for person in people]
    return Sightings(
        np.array([stamp_ns for stamp_ns, _ in rows], dtype=np.int64),
        np.array([person.id for _, person in rows], dtype=np.int64),
        np.array([select(person.pixels, person.skeleton, JOINTS) for _, person in rows]).reshape(-1, len(JOINTS), 2),
        *(np.array([select(getattr(person, name), person.skeleton, JOINTS, axis=-1) for _, person in rows]
                   ).reshape(-1, len(JOINTS)) for name in ('sigma', 'joint_confidence')))


def watched(name: str, camera: Camera, seen: Sightings) -> Watched:
    """Return what a camera saw as tracks. Joints that the detector hardly believes in count as not seen."""
    focal = float(np.sqrt(camera.fx * camera.fy))
    believed = (np.nan_to_num(seen.confidence) >= _LEAST_CONFIDENCE) & np.isfinite(seen.sigma)
    rays = np.where(believed[..., None], camera.undistort(seen.pixels), np.nan)
    sigma = np.where(believed, np.maximum(seen.sigma, LEAST_SIGMA_PX) / focal, 1.0)
    tracks = []
    for which in np.unique(seen.ids):
        mine = seen.ids == which
        if mine.sum() > 1:
            tracks.append(Track(seen.stamps_ns[mine] * 1e-9, rays[mine], sigma[mine]))
    return Watched(name, focal, tracks)
