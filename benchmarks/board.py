"""The static board in front of the sample's cameras: how well its points fit places of the cameras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from pose3d_ros.cli.sample_reference import View
from pose3d_ros.fuse.triangulate import triangulate

CORNERS = Path(__file__).resolve().parents[1] / 'test' / 'data' / 'board_corners.yaml'
_WIDTH, _MIDDLE = 1088, 960  # px: of the pictures, and the row that the videos' scale leaves where it is


def board_pixels(views: Sequence[View], path: Path = CORNERS) -> NDArray[np.float64]:
    """Return the points of the board (V, P, 2) in pixels of the views' videos, NaN where hidden."""
    points = [point for group in yaml.safe_load(path.read_text(encoding='utf-8')).values() for point in group.values()]
    seen = np.array([[point.get(view.name, (np.nan, np.nan)) for point in points] for view in views], dtype=np.float64)
    scale = np.array([_WIDTH / view.camera.width for view in views])[:, None]
    return np.stack([seen[..., 0] / scale, (seen[..., 1] + _MIDDLE * (scale - 1)) / scale], axis=-1)


def board_rms_px(views: Sequence[View], poses: NDArray[np.float64]) -> float:
    """Return the RMS distance [px] of the board's points from where they are, triangulated with poses (V, 4, 4)."""
    rays = np.array([view.camera.undistort(pixels) for view, pixels in zip(views, board_pixels(views))])
    focal = np.array([np.sqrt(view.camera.fx * view.camera.fy) for view in views])[:, None]
    residual = triangulate(rays, poses, 1 / focal, gate=np.inf).residual * focal  # no point is left out
    return float(np.sqrt(np.nanmean(residual**2)))
