"""Other views of a recording: virtual cameras, and cameras whose places were found from the people alone."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pose3d_ros.fuse.triangulate import triangulate
from pose3d_ros.train.recording import Recording, RecordingError
from pose3d_ros.train.virtual_camera import optical_axes
from pose3d_ros.train.filming import about_up

HEIGHTS_M = (0.5, 2.5)   # of virtual cameras above the floor
DISTANCES = (0.7, 1.3)   # of virtual cameras from the people, over that of the real ones
SIGMA_PX = 5.0           # of a detection, for triangulation
MOST_POINTS = 4000       # joints that an essential matrix is taken from


def with_virtual_views(recording: Recording, count: int, rng: np.random.Generator) -> Recording:
    """Return the recording with so many virtual cameras more (after Fang et al. 2018, from 4 to 12 views).

    They see the joints where the real cameras, triangulated, say that they are; with the mean confidence of those, and
    not at all a joint that no two agree on. Raises RecordingError where people cannot be triangulated.
    """
    world = _triangulated(recording)
    middle = np.nanmedian(world.reshape(-1, 3), axis=0)
    centers = -np.einsum('vji,vj->vi', recording.camera_T_world[:, :3, :3], recording.camera_T_world[:, :3, 3])
    away = np.linalg.norm(centers[:, :2] - middle[:2], axis=1).mean() * rng.uniform(*DISTANCES, count)
    floor = np.nanquantile(world[..., 2], 0.01)
    height, bearing = floor + rng.uniform(*HEIGHTS_M, count), rng.uniform(0, 2 * np.pi, count)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = optical_axes(np.arctan2(middle[2] - height, away), np.zeros(count)) @ about_up(-bearing - np.pi)
    where = np.stack([middle[0] + away * np.cos(bearing), middle[1] + away * np.sin(bearing), height], axis=-1)
    poses[:, :3, 3] = -(poses[:, :3, :3] @ where[..., None])[..., 0]
    local = np.einsum('vij,fkj->fvki', poses[:, :3, :3], world) + poses[:, None, :3, 3]
    seen = np.isfinite(local[..., 2]) & (local[..., 2] > 0.1)
    rays = np.where(seen[..., None], local[..., :2] / np.where(seen, local[..., 2], 1)[..., None], 0)
    confidence = np.where(seen, recording.confidence.mean(axis=1)[:, None], 0)
    return replace(recording, rays=np.concatenate([recording.rays, rays.astype(np.float32)], axis=1),
                   confidence=np.concatenate([recording.confidence, confidence.astype(np.float32)], axis=1),
                   focal=np.append(recording.focal, np.full(count, recording.focal.mean())).astype(np.float32),
                   camera_T_world=np.concatenate([recording.camera_T_world, poses]))


def _triangulated(recording: Recording, block: int = 4096) -> NDArray[np.float64]:
    """Return joints (F, 17, 3) m in the world, NaN where no two views agree."""
    parts = []
    sigma = (SIGMA_PX / recording.focal)[:, None, None]
    for start in range(0, len(recording), block):
        part = recording.where(slice(start, start + block))
        rays = np.where(part.confidence[..., None] > 0, part.rays, np.nan).astype(np.float64)
        parts.append(triangulate(np.moveaxis(rays, 1, 0), part.camera_T_world, sigma,
                                 np.moveaxis(part.confidence, 1, 0).astype(np.float64)).points)
    world = np.concatenate(parts)
    if not np.isfinite(world).any():
        raise RecordingError('no joint was seen alike by two cameras: are the places of the cameras right?')
    return world


def estimated_extrinsics(recording: Recording, baselines: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return camera_T_first (V, 4, 4) from 2D joints alone, as the paper does where no extrinsics are given.

    The first camera is the origin; of each other, the essential matrix by RANSAC on what both saw, decomposed, the
    solution with the points in front (cheirality). baselines (V,) m: distance of each camera from the first, which
    the images do not tell. Raises RecordingError for a camera that shares too little with the first.
    """
    poses = np.tile(np.eye(4), (len(recording.camera_T_world), 1, 1))
    for view in range(1, len(poses)):
        both = np.argwhere((recording.confidence[:, 0] > 0.5) & (recording.confidence[:, view] > 0.5))
        if len(both) < 100:
            raise RecordingError(f'cameras 0 and {view} saw only {len(both)} joints together')
        moment, joint = both[rng.choice(len(both), min(MOST_POINTS, len(both)), replace=False)].T
        first, other = (recording.rays[moment, each, joint].astype(np.float64) for each in (0, view))
        threshold = 1.5 * SIGMA_PX / float(recording.focal[view])
        essential, inliers = cv2.findEssentialMat(first, other, np.eye(3), cv2.RANSAC, 0.9999, threshold, maxIters=2000)
        _, rotation, shift, _ = cv2.recoverPose(essential[:3], first, other, np.eye(3), mask=inliers)
        poses[view, :3, :3], poses[view, :3, 3] = rotation, baselines[view] * shift[:, 0]
    return poses
