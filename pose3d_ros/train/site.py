"""What the cameras of one site saw of people, as the lifter is shown it: nothing but 2D and where the cameras were.

A sample is one person in one image: the lifter's inputs there, and where the other cameras saw the same person's joints
at that moment.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.triangulate import triangulate
from pose3d_ros.lift import INPUTS

LANDMARK_M = 0.03   # m, two cameras mean different points of the body by the same joint, by about this much
USUAL_M = 4.0       # m, of people from the cameras that watch a place
_PER_SAMPLE = ('camera', 'person', 'stamp_ns', 'first_ns', 'last_ns', 'rays', 'confidence', 'age', 'up', 'landmarks',
               'seen_rays', 'seen_confidence', 'seen_sigma', 'poses')


class SiteError(ValueError):
    """A recording that nothing can be learnt from; the message says why and what to do."""


@dataclass(frozen=True)
class SiteRecording:
    """N samples of V cameras; J = 13 input joints, T frames of a window (newest first).

    cameras (V): names; focal (V,) px. Of each sample: camera (N,) index of the camera; person (N,), the same number for
    the same person in all cameras; stamp_ns (N,) of the image; first_ns, last_ns (N,): the oldest and the newest image
    that what the cameras saw comes from. What the lifter is shown: rays (N, T, J, 2), confidence (N, T, J),
    age (N, T) s, up (N, 3), landmarks (N, 1). What every camera saw at that moment, interpolated in time: seen_rays
    (N, V, J, 2), seen_confidence (N, V, J), 0 where not seen, seen_sigma (N, V, J) of rays; poses (N, V, 4, 4):
    camera_T_world then. The entry of the sample's own camera is what it detected itself.
    """

    cameras: tuple[str, ...]
    focal: NDArray[np.float32]
    camera: NDArray[np.int64]
    person: NDArray[np.int64]
    stamp_ns: NDArray[np.int64]
    first_ns: NDArray[np.int64]
    last_ns: NDArray[np.int64]
    rays: NDArray[np.float32]
    confidence: NDArray[np.float32]
    age: NDArray[np.float32]
    up: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    seen_rays: NDArray[np.float32]
    seen_confidence: NDArray[np.float32]
    seen_sigma: NDArray[np.float32]
    poses: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.camera)

    @property
    def seconds(self) -> float:
        """How long the recording is."""
        return float(self.stamp_ns.max() - self.stamp_ns.min()) * 1e-9 if len(self) else 0.0

    def where(self, chosen: NDArray | slice) -> SiteRecording:
        """Return some of the samples."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _PER_SAMPLE})

    def split(self, held_out: float) -> tuple[SiteRecording, SiteRecording]:
        """Return the samples before and after a moment, the later part being `held_out` (0..1) of the time.

        Nothing of one part is in the other: a sample with rays of another camera that were interpolated from images on
        both sides is in neither, and what windows of the later part show of the time before is taken out of them.
        Raises SiteError where one of them is empty.
        """
        if not 0 < held_out < 1:
            raise SiteError(f'{held_out:g} of the recording held out; give a share between 0 and 1')
        start, end = int(self.first_ns.min()), int(self.last_ns.max())
        cut = start + round((1 - held_out) * (end - start))
        parts = self.where(self.last_ns < cut), self.where(self.first_ns >= cut).without_past(cut)
        for part, name in zip(parts, ('first', 'last')):
            if not len(part):
                raise SiteError(f'the {name} part of the recording ({self.seconds:.1f} s in all) shows nobody to two '
                                'cameras; record longer, with people in view of several cameras all along')
        return parts

    def without_past(self, start_ns: int) -> SiteRecording:
        """Return the samples as if nothing had been seen before a moment."""
        older = np.round(self.age * 1e9).astype(np.int64) > (self.stamp_ns - start_ns)[:, None]
        return replace(self, rays=np.where(older[..., None, None], np.float32(0), self.rays),
                       confidence=np.where(older[..., None], np.float32(0), self.confidence),
                       age=np.where(older, np.float32(0), self.age))

    def across(self) -> NDArray[np.bool_]:
        """Return which joints (N, V, J) another camera than the sample's own saw."""
        seen = self.seen_confidence > 0
        seen[np.arange(len(self)), self.camera] = False
        return seen

    def reference(self) -> NDArray[np.float64]:
        """Return the joints (N, J, 3) m in the optical frame, from all cameras together; NaN where too few saw them."""
        rays = np.where(self.seen_confidence[..., None] > 0, self.seen_rays, np.nan).astype(np.float64)
        points = np.full((len(self), len(INPUTS), 3), np.nan)
        for poses, chosen in self._still():
            found = triangulate(rays[chosen].swapaxes(0, 1), poses, _loose(self.seen_sigma[chosen]),
                                self.seen_confidence[chosen].swapaxes(0, 1).astype(np.float64)).points
            own = poses[self.camera[chosen]]
            points[chosen] = found @ own[:, :3, :3].swapaxes(1, 2) + own[:, None, :3, 3]
        return points

    def _still(self) -> list[tuple[NDArray, NDArray[np.intp]]]:
        """Return poses (V, 4, 4) and the samples taken with them: one group where no camera moves."""
        flat = np.round(self.poses.reshape(len(self), -1), 6)
        _, first, group = np.unique(flat, axis=0, return_index=True, return_inverse=True)
        group = group.ravel()
        order = np.argsort(group, kind='stable')
        return [(self.poses[index], rows) for index, rows in
                zip(first, np.split(order, np.flatnonzero(np.diff(group[order])) + 1))]

    def fingerprint(self) -> str:
        """Return what tells this recording from another."""
        digest = hashlib.sha256(' '.join(self.cameras).encode())
        for name in ('stamp_ns', 'person', 'rays', 'seen_rays', 'poses'):
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()[:16]


def _loose(sigma: NDArray) -> NDArray[np.float64]:
    """Return sigmas (V, N, J) of (N, V, J) that allow for what cameras mean by a joint, at a usual distance."""
    return np.hypot(sigma.swapaxes(0, 1), LANDMARK_M / USUAL_M).astype(np.float64)
