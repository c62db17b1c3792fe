"""Other views of a recording: virtual cameras, and cameras whose places were found from the people alone."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from pose3d_ros.fuse.triangulate import triangulate
from pose3d_ros.train.recording import Recording, RecordingError

HEIGHTS_M = (0.5, 2.5)   # of virtual cameras above the floor
DISTANCES = (0.7, 1.3)   # of virtual cameras from the people, over that of the real ones
SIGMA_PX = 5.0           # of a detection, for triangulation
MOST_POINTS = 20000      # joints that a relative pose is taken from
FEWEST_POINTS = 100
SURE = 0.5               # confidence of joints that a relative pose is taken from


def with_virtual_views(recording: Recording, count: int, rng: np.random.Generator) -> Recording:
    """Return the recording with so many virtual cameras more (after Fang et al. 2018, from 4 to 12 views).

    They see the joints where the real cameras, triangulated, say that they are; with the mean confidence of those, and
    not at all a joint that no two agree on. Raises RecordingError where people cannot be triangulated.
    """
    world = _triangulated(recording)
    middle = np.nanmedian(world.reshape(-1, 3), axis=0)
    centers = -np.einsum('vji,vj->vi', recording.camera_T_world[:, :3, :3], recording.camera_T_world[:, :3, 3])
    away = np.linalg.norm(centers[:, :2] - middle[:2], axis=1).mean() * rng.uniform(*DISTANCES, count)
    height = np.nanquantile(world[..., 2], 0.01) + rng.uniform(*HEIGHTS_M, count)
    bearing = rng.uniform(0, 2 * np.pi, count)
    poses = looking_at(np.stack([middle[0] + away * np.cos(bearing), middle[1] + away * np.sin(bearing), height],
                                axis=-1), middle)
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
    sigma = (SIGMA_PX / recording.focal.astype(np.float64))[:, None, None]
    for start in range(0, len(recording), block):
        part = recording.where(slice(start, start + block))
        rays = np.where(part.confidence[..., None] > 0, part.rays, np.nan).astype(np.float64)
        parts.append(triangulate(np.moveaxis(rays, 1, 0), part.camera_T_world, sigma,
                                 np.moveaxis(part.confidence, 1, 0).astype(np.float64)).points)
    world = np.concatenate(parts)
    if not np.isfinite(world).any():
        raise RecordingError('no joint was seen alike by two cameras: are the places of the cameras right?')
    return world


def looking_at(centers: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Return camera_T_world (V, 4, 4) of upright cameras at centers (V, 3) m that look at target (3,) m; z is up."""
    forward = target - centers
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (len(centers), 1, 1))
    poses[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    poses[:, :3, 3] = -(poses[:, :3, :3] @ centers[..., None])[..., 0]
    return poses


def estimated_extrinsics(recording: Recording, baselines: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return camera_T_first (V, 4, 4) from 2D joints alone, as the paper does where no extrinsics are given.

    The first camera is the origin; of each other, the essential matrix by RANSAC on what both saw (rays: the
    fundamental matrix with the intrinsics divided out), decomposed, the solution with the points in front
    (cheirality). Unlike in the paper, rotation and direction are then fitted to all these joints, with less weight for
    the far-off ones: a matrix of five joints carries their errors. baselines (V,) m: distance of each camera from the
    first, which images do not tell. Raises RecordingError for a camera that shares too little with the first.
    """
    poses = np.tile(np.eye(4), (len(recording.camera_T_world), 1, 1))
    for view in range(1, len(poses)):
        both = np.argwhere((recording.confidence[:, 0] > SURE) & (recording.confidence[:, view] > SURE))
        if len(both) < FEWEST_POINTS:
            raise RecordingError(f'cameras 0 and {view} saw only {len(both)} joints together; {FEWEST_POINTS} at least')
        moment, joint = both[rng.choice(len(both), min(MOST_POINTS, len(both)), replace=False)].T
        first, other = (recording.rays[moment, each, joint].astype(np.float64) for each in (0, view))
        sigma = SIGMA_PX / float(recording.focal[view])
        essential, inliers = cv2.findEssentialMat(first, other, np.eye(3), cv2.RANSAC, 0.9999, 1.5 * sigma,
                                                  maxIters=2000)
        if essential is None or len(essential) < 3:
            raise RecordingError(f'cameras 0 and {view}: no relative pose explains what they saw')
        _, rotation, shift, _ = cv2.recoverPose(essential[:3], first, other, np.eye(3), mask=inliers)
        poses[view, :3, :3], direction = _refined(rotation, shift[:, 0], first, other, sigma)
        poses[view, :3, 3] = baselines[view] * direction
    return poses


def _refined(rotation: NDArray, shift: NDArray, first: NDArray, other: NDArray,
             sigma: float) -> tuple[NDArray, NDArray]:
    """Return rotation and unit shift fitted to rays (N, 2) of two views: Sampson distances, with Cauchy's loss."""
    a, b = (np.column_stack([rays, np.ones(len(rays))]) for rays in (first, other))
    sideways = np.linalg.svd(shift[None])[2][1:]                      # two directions across the shift

    def pose(change: NDArray) -> tuple[NDArray, NDArray]:
        moved = shift + change[3:] @ sideways
        return Rotation.from_rotvec(change[:3]).as_matrix() @ rotation, moved / np.linalg.norm(moved)

    def distances(change: NDArray) -> NDArray:
        turn, way = pose(change)
        essential = np.cross(way, turn, axisb=0, axisc=0)             # [way]x turn
        ahead, back = a @ essential.T, b @ essential
        size = np.sqrt((ahead[:, :2]**2).sum(axis=1) + (back[:, :2]**2).sum(axis=1))
        return (b * ahead).sum(axis=1) / np.maximum(size, 1e-12) / sigma

    return pose(least_squares(distances, np.zeros(5), loss='cauchy').x)


def pose_errors(estimated: NDArray, given: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far relative poses (V, 4, 4) are from others, but for the first: rotation, direction (V - 1,) deg."""
    between = estimated[1:, :3, :3] @ np.swapaxes(given[1:, :3, :3], 1, 2)
    turned = np.degrees(Rotation.from_matrix(between).magnitude())
    units = [poses[1:, :3, 3] / np.linalg.norm(poses[1:, :3, 3], axis=1, keepdims=True) for poses in (estimated, given)]
    aside = np.arctan2(np.linalg.norm(np.cross(*units), axis=1), (units[0] * units[1]).sum(axis=1))
    return turned, np.degrees(aside)


def from_first(recording: Recording) -> NDArray[np.float64]:
    """Return camera_T_first (V, 4, 4) as given."""
    return recording.camera_T_world @ np.linalg.inv(recording.camera_T_world[0])


def with_estimated_extrinsics(recording: Recording, rng: np.random.Generator) -> Recording:
    """Return the recording with the cameras where the people say that they are; of what is given, only distances."""
    baselines = np.linalg.norm(from_first(recording)[:, :3, 3], axis=1)
    return replace(recording, camera_T_world=estimated_extrinsics(recording, baselines, rng))
