"""Recordings that do not tell where the cameras are: refused, with the reason and what would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from pose3d_ros.fuse.extrinsics.adjust import places_of
from pose3d_ros.fuse.extrinsics.errors import ExtrinsicsError
from pose3d_ros.fuse.extrinsics.pairs import LEAST_FRAMES, LEAST_JOINTS, Pair, common, essential_of, parallax, shares
from pose3d_ros.fuse.extrinsics.tracks import Floats, Watched

_LEAST_MOTION = 0.1    # of a person's size in the image
_LEAST_WIDTH = 0.03    # of the joints in the image, across over along
_LEAST_DEPTH = 0.01    # of the joints in space, over their distance: 3 cm at 3 m
_LEAST_BASELINE = 0.03  # over the distance of the people
_LEAST_AGREEING = 0.5  # of the joints of each camera
_LEAST_PARALLAX = 2.5  # standard deviations of a joint in two cameras
_ENOUGH = 200           # frames of a person to tell motion by
_SHARE_OF_PLANE = 0.95  # of the joints that fit a relative pose, also fit a plane


def check_watched(cameras: Sequence[Watched]) -> None:
    """Raise ExtrinsicsError for too little, nobody who moves, or joints in one line."""
    for camera in cameras:
        frames = sum(int((np.isfinite(track.rays[..., 0]).sum(axis=1) >= 4).sum()) for track in camera.tracks)
        joints = sum(int(np.isfinite(track.rays[..., 0]).sum()) for track in camera.tracks)
        if frames < LEAST_FRAMES or joints < LEAST_JOINTS:
            raise ExtrinsicsError(f'{camera.camera}: too few frames with people ({frames}, {joints} joints); at least '
                                  f'{LEAST_FRAMES} frames are needed, and a minute is better')
    if max(_motion(camera) for camera in cameras) < _LEAST_MOTION:
        raise ExtrinsicsError('nobody moves: one posture in one place says too little; walk about and use the arms')
    if all(_width(np.concatenate([track.rays.reshape(-1, 2) for track in camera.tracks])) < _LEAST_WIDTH
           for camera in cameras):
        raise ExtrinsicsError('all joints are nearly in one line: record whole people who move about')


def check_pairs(cameras: Sequence[Watched], pairs: Mapping[tuple[int, int], Pair]) -> None:
    """Raise ExtrinsicsError where cameras stand in one place, or where everything they see lies in one plane."""
    planes = []
    for (a, b), pair in pairs.items():
        i, j = pair.matches[0]
        rays_a, rays_b, sigma_a, sigma_b = common(cameras[a].tracks[i], cameras[b].tracks[j], pair.lag)
        share = shares(essential_of(pair.b_T_a), rays_a, rays_b, sigma_a, sigma_b)
        good = np.nan_to_num(share) > 0.5
        if good.sum() < LEAST_JOINTS / 2:
            continue
        noise = float(np.median(np.hypot(sigma_a, sigma_b)[good]))
        if parallax(rays_a[good], rays_b[good]) < _LEAST_PARALLAX * noise:
            raise ExtrinsicsError(f'{cameras[a].camera} and {cameras[b].camera} stand in nearly the same place: the '
                                  'baseline is too short; move them apart, or leave one out')
        plane, inside = cv2.findHomography(rays_a[good], rays_b[good], cv2.RANSAC, 2 * noise)
        edge_on = min(_width(rays_a[good]), _width(rays_b[good])) < _LEAST_WIDTH
        planes.append(edge_on or (plane is not None and float(inside.mean()) > _SHARE_OF_PLANE))
    if planes and all(planes):
        raise ExtrinsicsError('all joints are nearly in one plane: walk towards the cameras as well as across')


def check_result(cameras: Sequence[Watched], poses: Floats, points: Floats, agreeing: Floats) -> None:
    """Raise ExtrinsicsError for a result that cannot be right.

    poses (V, 4, 4) camera_T_world, points (N, J, 3) in the world, NaN where no cameras agree; agreeing (V,) share of
    each camera's joints that fit.
    """
    known = points[np.isfinite(points).all(axis=-1)]
    worst = int(np.argmin(agreeing))
    if len(known) < LEAST_JOINTS or agreeing[worst] < _LEAST_AGREEING:
        raise ExtrinsicsError(
            f'the cameras do not agree: only {100 * agreeing[worst]:.0f} % of the joints of {cameras[worst].camera} '
            'fit the others; are the videos of the same moments, and the intrinsics those of these images?')
    depth = float(np.median(np.linalg.norm(known[:, None] - places_of(poses), axis=-1)))
    spread = np.linalg.svd(known - known.mean(axis=0), compute_uv=False) / np.sqrt(len(known)) / depth
    if spread[1] < _LEAST_DEPTH or spread[2] < _LEAST_DEPTH:
        shape = 'line' if spread[1] < _LEAST_DEPTH else 'plane'
        raise ExtrinsicsError(f'all joints are nearly in one {shape}: walk towards the cameras as well as across')
    for a in range(len(cameras)):
        for b in range(a):
            if np.linalg.norm(np.diff(places_of(poses[[a, b]]), axis=0)) < _LEAST_BASELINE * depth:
                raise ExtrinsicsError(
                    f'{cameras[b].camera} and {cameras[a].camera} stand in nearly the same place: the baseline is too '
                    'short; move them apart, or leave one out')


def _motion(camera: Watched) -> float:
    """Return how far the joints of the liveliest person go in the image, over the person's size there."""
    motion = []
    for track in camera.tracks:
        rays = track.rays[np.isfinite(track.rays[..., 0]).sum(axis=1) >= 4]
        rays = rays[:, np.isfinite(rays[..., 0]).sum(axis=0) >= LEAST_FRAMES]
        rays = rays[np.isfinite(rays[..., 0]).any(axis=1)]
        rays = rays[::len(rays) // _ENOUGH + 1]
        if rays.size:
            reach = np.diff(np.nanpercentile(rays, [5, 95], axis=0), axis=0)[0]  # (J, 2)
            low, high = np.nanpercentile(rays, [2, 98], axis=1)
            size = float(np.nanmedian(np.linalg.norm(high - low, axis=-1)))
            motion.append(float(np.median(np.linalg.norm(reach, axis=-1))) / max(size, 1e-9))
    return max(motion, default=0.0)


def _width(rays: Floats) -> float:
    """Return how wide the cloud of rays (N, 2) in the image is across, over along."""
    rays = rays[np.isfinite(rays).all(axis=1)]
    spread = np.linalg.svd(rays - rays.mean(axis=0), compute_uv=False)
    return float(spread[1] / max(spread[0], 1e-12))
