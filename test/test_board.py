"""The independent check of `pose3d calibrate extrinsics`: a static board in front of the sample's cameras."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose3d_ros.cli.calibrate_videos import cameras_of
from pose3d_ros.cli.evaluate_sample import CALIBRATION, REFERENCE_MODEL, load_views
from pose3d_ros.cli.places import config_file
from pose3d_ros.fuse.extrinsics.estimate import estimate
from pose3d_ros.fuse.extrinsics.tracks import sightings, watched

sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks'))

import board  # noqa: E402
import extrinsics  # noqa: E402

VIEWS = load_views(config_file(CALIBRATION))
POSES = np.array([view.camera_T_world for view in VIEWS])


def test_each_point_is_seen_by_two_cameras_or_more_and_inside_their_images() -> None:
    pixels = board.board_pixels(VIEWS)
    assert (np.isfinite(pixels[..., 0]).sum(axis=0) >= 2).all()
    sizes = np.array([(view.camera.width, view.camera.height) for view in VIEWS])[:, None]
    assert np.all(np.isnan(pixels) | ((pixels > 0) & (pixels < sizes)))


def test_pictures_that_are_as_wide_as_calibrated_keep_their_pixels_and_narrower_videos_do_not() -> None:
    pixels = board.board_pixels(VIEWS)
    assert pixels[2, 0] == pytest.approx((516.5, 1091.2))  # cam03: 1088 px wide
    assert pixels[0, 0] == pytest.approx((319.6 * 1080 / 1088, (1337.9 - 960) * 1080 / 1088 + 960))  # cam01: 1080


def test_the_reference_fits_the_board_and_a_turned_camera_does_not() -> None:
    assert board.board_rms_px(VIEWS, POSES) < 2.0
    turned = POSES.copy()
    turned[1, :3] = Rotation.from_rotvec((0, 0.01, 0)).as_matrix() @ POSES[1, :3]
    assert board.board_rms_px(VIEWS, turned) > 3.0  # 17 px of one camera in four


@pytest.mark.slow
def test_refined_on_people_the_places_fit_the_board(sample_dir: Path, models_dir: Path) -> None:
    if not (models_dir / f'pose_landmark_{REFERENCE_MODEL}.onnx').exists():
        pytest.skip('needs the heavy model: `pose3d fetch` where npm is installed')
    shipped = {name: camera.camera_T_world for name, camera in cameras_of(
        config_file(CALIBRATION), sample_dir / 'Calib.qca.txt', [Path(view.name) for view in VIEWS], []).items()}
    assert board.board_rms_px(VIEWS, np.array(list(shipped.values()))) > 8.0
    cameras = [watched(view.name, view.camera, sightings(frames))
               for view, frames in zip(VIEWS, extrinsics.detect(VIEWS, sample_dir))]
    assert board.board_rms_px(VIEWS, estimate(cameras, shipped).camera_T_world) < 3.5
