"""The people of several cameras, brought together: one row per person and moment, one column per camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.extrinsics.pairs import LEAST_SHARE, common, essential_of, shares
from pose3d_ros.fuse.extrinsics.tracks import JOINTS, Floats, Watched
from pose3d_ros.fuse.sides import exchanged_views, with_sides
from pose3d_ros.fuse.triangulate import triangulate

_MOST_VIEWS_FOR_SIDES = 8
GATE = 4.0  # sigmas
_SPARE = 10  # moments that are looked at for each one that is used


@dataclass(frozen=True)
class Together:
    """N rows (a person at a moment) in V cameras.

    rays, slopes (V, N, J, 2), sigma (V, N, J): as of a Track, the rays NaN where a camera does not see a joint; person
    (N,) which person; stamp (N,) s by the first camera's clock.
    """

    rays: Floats
    slopes: Floats
    sigma: Floats
    person: NDArray[np.intp]
    stamp: Floats

    def looser(self, slack: float) -> Together:
        """Return the same for cameras whose angles are known to one standard deviation of slack [rad] only."""
        return replace(self, sigma=np.hypot(self.sigma, slack))

    def shifted(self, offsets: Floats) -> Together:
        """Return the rays as they would be that much later (V,) s in each camera."""
        return replace(self, rays=self.rays + self.slopes * offsets[:, None, None, None])


def people(cameras: Sequence[Watched], poses: Floats, offsets: Floats,
           slack: float = 0.0) -> list[list[tuple[int, int]]]:
    """Return who is seen by several cameras: for each person, the tracks (camera, track).

    poses (V, 4, 4) camera_T_world, offsets (V,) s: what each clock shows more than the first.
    slack [rad]: one standard deviation of the angles of the poses.
    """
    candidates = []
    for a, b in combinations(range(len(cameras)), 2):
        relative = poses[b] @ np.linalg.inv(poses[a])
        if np.linalg.norm(relative[:3, 3]) < 1e-9:
            continue
        essential = essential_of(relative)
        for i, one in enumerate(cameras[a].tracks):
            for j, other in enumerate(cameras[b].tracks):
                share = shares(essential, *common(one, other, float(offsets[b] - offsets[a])), slack)
                if np.isfinite(share).sum() >= 12 and np.nanmean(share) >= LEAST_SHARE:
                    candidates.append((float(np.nansum(share)), (a, i), (b, j)))
    groups: dict[tuple[int, int], frozenset[tuple[int, int]]] = {}
    for _, first, second in sorted(candidates, reverse=True):
        merged = groups.get(first, frozenset([first])) | groups.get(second, frozenset([second]))
        if not any(_at_once(cameras, *pair) for pair in combinations(merged, 2)):
            groups.update(dict.fromkeys(merged, merged))
    return [sorted(group) for group in sorted(set(groups.values()), key=sorted)]


def gather(cameras: Sequence[Watched], groups: Sequence[Sequence[tuple[int, int]]], offsets: Floats,
           most_frames: int) -> Together:
    """Return what the cameras saw of these people at moments spread over the recording, most_frames at most.

    Moments are those of the first camera's clock at which the most cameras see somebody.
    """
    period = min(camera.period for camera in cameras)
    stamps = np.concatenate([camera.stamps - offset for camera, offset in zip(cameras, offsets)])
    grid = np.unique(np.round(stamps / period)) * period
    grid = grid[np.linspace(0, len(grid) - 1, min(len(grid), _SPARE * most_frames)).astype(int)]
    rows = []
    for person, group in enumerate(groups):
        seen = np.full((len(cameras), len(grid), len(JOINTS), 5), np.nan)
        for camera, track in group:
            rays, slopes, sigma = cameras[camera].tracks[track].at(grid + offsets[camera])
            here = np.isfinite(rays).any(axis=(1, 2))
            seen[camera, here] = np.concatenate([rays, slopes, sigma[..., None]], axis=-1)[here]
        rows.append((person, seen))
    views = np.array([(np.isfinite(seen[..., 0]).sum(axis=2) >= 4).sum(axis=0) for _, seen in rows])  # (G, T)
    usable = np.flatnonzero((views >= 2).any(axis=0))
    chosen = usable[np.unique(np.linspace(0, len(usable) - 1, min(len(usable), most_frames)).round().astype(int))
                    ] if len(usable) else usable
    parts, who, when = [], [], []
    for person, seen in rows:
        mine = chosen[views[person, chosen] >= 2]
        parts.append(seen[:, mine])
        who.append(np.full(len(mine), person))
        when.append(grid[mine])
    block = np.concatenate(parts, axis=1) if parts else np.zeros((len(cameras), 0, len(JOINTS), 5))
    return Together(block[..., :2], np.nan_to_num(block[..., 2:4]), np.nan_to_num(block[..., 4], nan=1.0),
                    np.concatenate(who) if who else np.zeros(0, dtype=np.intp),
                    np.concatenate(when) if when else np.zeros(0))


def with_right_sides(together: Together, poses: Floats, slack: float = 0.0) -> Together:
    """Return the same with left and right exchanged back where the views contradict each other (up to 8 cameras)."""
    if len(poses) > _MOST_VIEWS_FOR_SIDES or not len(together.person):
        return together
    result = {name: np.array(getattr(together, name)) for name in ('rays', 'slopes', 'sigma')}
    for person in np.unique(together.person):
        mine = np.flatnonzero(together.person == person)
        exchanged = exchanged_views(together.rays[:, mine], poses, np.hypot(together.sigma[:, mine], slack),
                                    JOINTS, gate=GATE)
        for values in result.values():
            values[:, mine] = with_sides(values[:, mine], exchanged, JOINTS)
    return replace(together, **result)


def points_of(together: Together, poses: Floats) -> Floats:
    """Return the joints (N, J, 3) m in space, NaN where fewer than two cameras agree."""
    return triangulate(together.rays, poses, together.sigma, gate=GATE).points


def _at_once(cameras: Sequence[Watched], one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two tracks are of one camera and at the same time: they cannot be one person."""
    if one[0] != other[0] or one == other:
        return False
    tracks = cameras[one[0]].tracks
    return bool(np.intersect1d(tracks[one[1]].stamps, tracks[other[1]].stamps).size)
