"""Places of all cameras from pairs of them: the best-connected pairs, one after the other.

A pair leaves its distance open. Along the chain it follows from the bones: those of one person, as followed by the
camera that two pairs share, are equally long in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from pose3d_ros.fuse.extrinsics.errors import ExtrinsicsError
from pose3d_ros.fuse.extrinsics.pairs import Pair, common, relative_pose
from pose3d_ros.fuse.extrinsics.tracks import JOINTS, Floats, Watched
from pose3d_ros.fuse.triangulate import triangulate

BONES = JOINTS.bone_indices  # (B, 2)


def all_pairs(cameras: Sequence[Watched], most_lag: float) -> dict[tuple[int, int], Pair]:
    """Return the relative pose of every two cameras that see enough together."""
    found = {(a, b): relative_pose(cameras[a], cameras[b], most_lag)
             for a, b in combinations(range(len(cameras)), 2)}
    return {key: pair for key, pair in found.items() if pair is not None}


def chained(cameras: Sequence[Watched], pairs: Mapping[tuple[int, int], Pair]) -> tuple[Floats, Floats]:
    """Return camera_T_first (V, 4, 4), in units of their own, and the offsets of the clocks (V,) s.

    Raises ExtrinsicsError where some cameras have nothing in common with the others.
    """
    poses, offsets = np.tile(np.eye(4), (len(cameras), 1, 1)), np.zeros(len(cameras))
    bones: dict[tuple[int, int], Floats] = {}  # of the tracks (camera, track), in the units of the chain
    placed = {0}
    while len(placed) < len(cameras):
        edges = [(pair.score, a, b) for (a, b), pair in pairs.items() if (a in placed) != (b in placed)]
        if not edges:
            raise ExtrinsicsError(_apart(cameras, placed))
        _, a, b = max(edges)
        pair = pairs[a, b]
        known, new = (a, b) if a in placed else (b, a)
        b_T_a, lengths = pair.b_T_a.copy(), _bones_of(cameras, (a, b), pair)
        ratios = [bones[key] / lengths[key] for key in lengths if key[0] == known and key in bones]
        scale = float(np.nanmedian(np.concatenate(ratios))) if ratios and np.isfinite(ratios).any() else np.nan
        if len(placed) == 1:
            scale = 1.0
        if not np.isfinite(scale):
            pairs = {key: other for key, other in pairs.items() if key != (a, b)}
            continue
        b_T_a[:3, 3] *= scale
        poses[new] = (b_T_a if new == b else np.linalg.inv(b_T_a)) @ poses[known]
        offsets[new] = offsets[known] + (pair.lag if new == b else -pair.lag)
        for key, length in lengths.items():
            bones.setdefault(key, length * scale)
        placed.add(new)
    return poses, offsets


def _bones_of(cameras: Sequence[Watched], names: tuple[int, int], pair: Pair) -> dict[tuple[int, int], Floats]:
    """Return the bone lengths (B,) of the people of a pair, by track (camera, track), in units of its distance."""
    a, b = names
    lengths = {}
    for i, j in pair.matches:
        rays_a, rays_b, sigma_a, sigma_b = common(cameras[a].tracks[i], cameras[b].tracks[j], pair.lag)
        points = triangulate(np.stack([rays_a, rays_b]), np.stack([np.eye(4), pair.b_T_a]),
                             np.stack([sigma_a, sigma_b])).points
        each = np.linalg.norm(points[:, BONES[:, 0]] - points[:, BONES[:, 1]], axis=-1)
        enough = np.isfinite(each).sum(axis=0) >= 3
        median = np.full(len(BONES), np.nan)
        median[enough] = np.nanmedian(each[:, enough], axis=0)
        lengths[a, i] = lengths[b, j] = median
    return lengths


def _apart(cameras: Sequence[Watched], placed: set[int]) -> str:
    left = ', '.join(camera.camera for position, camera in enumerate(cameras) if position not in placed)
    there = ', '.join(cameras[position].camera for position in sorted(placed))
    return (f'no common view: what {left} and {there} see at the same time does not connect them; record people who '
            'walk where two cameras see them at once')
