"""Triangulation by aniposelib and Pose2Sim, called as their own pipelines call it. Run by fusion_speed.py, in their
environment: python triangulate_peers.py SCENE.npz NAME, then one round per line of standard input (its seconds).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

IMAGE = np.array([[1000.0, 0.0, 640.0], [0.0, 1000.0, 360.0], [0.0, 0.0, 1.0]])
FAR_PX = 15.0  # Pose2Sim's default: farther off, a camera is taken away


def anipose(pixels: np.ndarray, poses: np.ndarray, robust: bool) -> Callable[[], np.ndarray]:
    """Return a call that gives the points (N, 3) of pixels (V, N, 2)."""
    import cv2
    from aniposelib.cameras import Camera, CameraGroup

    group = CameraGroup([Camera(matrix=IMAGE, dist=np.zeros(5), rvec=cv2.Rodrigues(pose[:3, :3])[0].ravel(),
                                tvec=pose[:3, 3]) for pose in poses])
    if robust:
        return lambda: group.triangulate_ransac(pixels, undistort=True)[0]
    return lambda: group.triangulate(pixels, undistort=True)


def pose2sim(pixels: np.ndarray, poses: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a call that gives the points (N, 3) of pixels (V, N, 2)."""
    from Pose2Sim.triangulation import triangulation_from_best_cameras

    settings = {'triangulation': {'reproj_error_threshold_triangulation': FAR_PX, 'min_cameras_for_triangulation': 2}}
    projections = [IMAGE @ pose[:3] for pose in poses]
    joints = [np.array([*pixels[:, n].T, np.ones(len(poses))]) for n in range(pixels.shape[1])]
    return lambda: np.array([triangulation_from_best_cameras(settings, joint, joint, projections, None)[0]
                             for joint in joints])


def main() -> None:
    """Answer every line, which says for how many seconds to go on, with the ms of each call and the points found."""
    scene, name = np.load(sys.argv[1]), sys.argv[2]
    rays, poses = scene['rays'], scene['poses']
    pixels = rays * IMAGE[[0, 1], [0, 1]] + IMAGE[:2, 2]
    call = pose2sim(pixels, poses) if name == 'pose2sim' else anipose(pixels, poses, name == 'anipose_robust')
    call()
    for line in sys.stdin:
        times, end = [], time.perf_counter() + float(line)
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            points = call()
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({'ms': times, 'points': np.asarray(points).tolist()}), flush=True)


main()
