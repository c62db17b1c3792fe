"""Calibration files of other tools that are wrong: one line that names the file, the place in it and the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_files import (
    BROWN,
    FULL,
    KALIBR,
    OPENCV,
    OPENCV_PAIR,
    PAIR,
    QUALISYS_LENS,
    RIG,
    K,
    needs_toml,
    qualisys_of,
    write_opencv,
)
from calibration_files import toml_of as toml_text

from pose3d_ros.calibration import load_calibration
from pose3d_ros.camera import CalibrationError

TOML = toml_text(RIG, BROWN)
QUALISYS = qualisys_of({'front': RIG['front']})
UPSIDE = np.diag([1.0, 1.0, -1.0])


def refused(path: Path, reason: str, **options: Any) -> None:
    """Expect one line that starts with the file."""
    with pytest.raises(CalibrationError, match=reason) as caught:
        load_calibration(path, **options)
    assert str(caught.value).startswith(str(path)) and '\n' not in str(caught.value)


def text_file(folder: Path, text: str) -> Path:
    path = folder / 'wrong.txt'
    path.write_text(text)
    return path


def without(entries: dict[str, Any], *names: str, **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**entries, **changes}.items() if key not in names}


@pytest.mark.parametrize(('entries', 'reason'), [
    (without(OPENCV, 'camera_matrix'), 'neither camera_matrix nor M1 and M2 .*put into one'),
    (without(OPENCV_PAIR, 'M1', 'M2', 'D1', 'D2'), 'neither camera_matrix nor M1 and M2'),
    (without(OPENCV_PAIR, 'M2'), 'neither camera_matrix nor M1 and M2'),
    (without(OPENCV, 'image_width'), 'image_width and image_height are missing'),
    (without(OPENCV, image_width=0), 'image size must be two positive whole numbers'),
    (without(OPENCV, image_width=640.5), 'image size must be two positive whole numbers'),
    (without(OPENCV, image_width='wide'), 'image size must be two numbers'),
    (without(OPENCV, camera_matrix=K[:2]), 'camera_matrix must be 3 x 3, not 2 x 3'),
    (without(OPENCV, camera_matrix=7), 'camera_matrix is not a matrix'),
    (without(OPENCV, camera_matrix=K * (0, 1, 1)), 'camera_matrix: the camera is not calibrated'),
    (without(OPENCV, camera_matrix=K * (-1, 1, 1)), 'focal lengths .* must be positive'),
    (without(OPENCV, camera_matrix=K / 1000), 'not of the form'),
    (without(OPENCV, camera_matrix=np.diag([9.1, 9.1, 1.0])), 'too short for 1280 x 720 px: they must be in pixels'),
    (without(OPENCV, distortion_coefficients=[[1.0, 2.0, 3.0]]), 'plumb_bob takes 4 or 5'),
    (without(OPENCV, distortion_coefficients=[[0.1] * 7]), 'rational_polynomial takes'),
    (without(OPENCV, distortion_coefficients=[[np.nan] * 5]), 'not finite'),
    (without(OPENCV, fisheye_model=1), 'equidistant takes 4 distortion coefficients, not 5'),
    (without(OPENCV, distortion_model='omni'), "unknown distortion model 'omni'"),
    (without(OPENCV_PAIR, 'T'), 'of R and T one is missing'),
    (without(OPENCV_PAIR, T=np.zeros((2, 1))), 'T must be three numbers, not 2'),
    (without(OPENCV_PAIR, T=np.array([[np.nan, 0, 0]])), 'translation must be three finite'),
    (without(OPENCV_PAIR, R=np.zeros((3, 3))), 'singular or scaled'),
    (without(OPENCV_PAIR, R=2 * PAIR[:3, :3]), 'singular or scaled'),
    (without(OPENCV_PAIR, R=UPSIDE), 'is a reflection'),
    (without(OPENCV_PAIR, R=np.full((3, 3), np.inf)), 'rotation holds values that are not finite'),
    (without(OPENCV_PAIR, R=np.eye(4)), 'rotation must be 3 x 3, not 4 x 4'),
    (without(OPENCV_PAIR, T=np.array([[-120.0, 0.0, 0.0]])), 'too far for metres.*--unit mm'),
])
@pytest.mark.parametrize('suffix', ['.yml', '.xml'])
def test_opencv(tmp_path, entries, reason, suffix):
    refused(write_opencv(tmp_path / f'wrong{suffix}', entries), reason)


@pytest.mark.parametrize(('old', 'new', 'reason'), [
    ('camera_model: pinhole', 'camera_model: omni', "camera cam0: camera_model 'omni' is not supported; calib"),
    ('distortion_model: radtan', 'distortion_model: fov', "distortion_model 'fov' is not supported; known: radtan"),
    ('  camera_model: pinhole\n', '', 'camera cam0: camera_model is missing'),
    ('  distortion_model: radtan\n', '', 'camera cam0: distortion_model is missing'),
    ('[910.5, 912.25, 641.25, 355.75]', '[910.5, 912.25, 641.25]', 'intrinsics has 3 values instead of 4'),
    ('[910.5, 912.25, 641.25, 355.75]', '[0, 912.25, 641.25, 355.75]', 'not calibrated'),
    ('[910.5, 912.25, 641.25, 355.75]', '[wide, 912.25, 641.25, 355.75]', 'intrinsics: holds something that is not a'),
    ('  intrinsics: [910.5, 912.25, 641.25, 355.75]\n', '', 'cam0: intrinsics is missing'),
    ('resolution: [1280, 720]', 'resolution: [1280]', 'resolution has 1 values instead of 2'),
    ('resolution: [1280, 720]', 'resolution: [1280, -720]', 'image size must be two positive'),
    ('  distortion_coeffs: [-0.21, 0.07, 0.0015, -0.0025]\n', '', 'distortion_coeffs is missing'),
    ('[-0.21, 0.07, 0.0015, -0.0025]', '[-0.21, 0.07, 0.0015]', 'distortion_coeffs has 3 values'),
    ('  T_cn_cnm1:\n  - [0.0, 0.0, -1.0, 0.5]', '  T_unknown:\n  - [0.0, 0.0, -1.0, 0.5]', 'T_cn_cnm1 is missing'),
    ('  - [0.0, 0.0, -1.0, 0.5]\n', '', 'cam1: T_cn_cnm1 must be 4 rows of 4'),
    ('[0.0, 0.0, -1.0, 0.5]', '[0.0, 0.0, -1.0]', 'cam1: T_cn_cnm1 must be 4 rows of 4'),
    ('[0.0, 0.0, -1.0, 0.5]', '[0.0, 0.0, 1.0, 0.5]', 'cam1: T_cn_cnm1: the rotation matrix is a reflection'),
    ('[0.0, 0.0, -1.0, 0.5]', '[0.0, 1.0, 0.0, 0.5]', 'cam1: T_cn_cnm1: the rotation matrix is none, it is singular'),
    ('[0.0, 0.0, -1.0, 0.5]', '[0.0, 0.0, -1.0, 5000]', 'must be in metres'),
    ('  - [0.0, 0.0, 0.0, 1.0]\n', '  - [0.5, 0.0, 1.5, 1.0]\n', 'must end with the row 0 0 0 1'),
    ('cam2:', 'cam3:', 'the chain has gaps: cam0, cam1, cam3'),
    ('cam2:', 'cam2: 5\nother:', 'camera cam2: is not a mapping'),
])
def test_kalibr(tmp_path, old, new, reason):
    assert old in KALIBR
    refused(text_file(tmp_path, KALIBR.replace(old, new, 1)), reason)


@needs_toml
@pytest.mark.parametrize(('old', 'new', 'reason'), [
    ('size = [ 1280.0, 720.0,]', 'size = [1280.0]', 'camera front: size has 1 values instead of 2'),
    ('size = [ 1280.0, 720.0,]', 'size = [1280.5, 720.0]', 'image size must be two positive whole numbers'),
    ('size = [ 1280.0, 720.0,]', '', 'camera front: size is missing'),
    ('matrix = ', 'matrices = ', 'camera front: matrix is missing'),
    ('[0.0, 0.0, 1.0]]', '[0.0, 0.0]]', 'matrix must be 3 rows of 3'),
    ('[[910.5, 0.0', '[[0.0, 0.0', 'not calibrated'),
    ('[[910.5, 0.0', '[[910.5, 3.0', 'not of the form'),
    ('distortions = ', 'distortion = ', 'distortions is missing'),
    (str(BROWN), '[1, 2, 3]', 'distortions has 3 values instead of 4 or 5'),
    ('fisheye = false', 'fisheye = true', 'distortions has 5 values instead of 4'),
    ('fisheye = false', 'fisheye = "no"', "fisheye must be true or false, not 'no'"),
    ('rotation = ', 'rotation = [1.0, 2.0]\nrest = ', 'rotation has 2 values instead of 3'),
    ('rotation = ', 'rotation = [100.0, 2.0, 3.0]\nrest = ', 'must be in radians'),
    ('rotation = ', 'rotation = [nan, 2.0, 3.0]\nrest = ', 'rotation must be three finite'),
    ('rotation = ', 'rest = ', 'rotation is missing'),
    ('translation = ', 'rest = ', 'translation is missing'),
    ('translation = ', 'translation = [2000.0, 100.0, 900.0]\nrest = ', '2195.* long, too far for metres.*--unit mm'),
    ('translation = ', 'translation = [inf, 0.0, 0.0]\nrest = ', 'translation must be three finite'),
    ('name = "back"', 'name = "front"', "two cameras are called 'front'"),
    ('[cam_0]', '[cam_0', 'is not valid TOML'),
])
def test_toml(tmp_path, old, new, reason):
    assert old in TOML
    refused(text_file(tmp_path, TOML.replace(old, new, 1) if old != '[cam_0]' else f'# x\na = 1\n{new}\n'), reason)


@needs_toml
def test_toml_without_cameras(tmp_path):
    refused(text_file(tmp_path, '[metadata]\nerror = 0.0\n'), 'has no section of a camera')
    refused(text_file(tmp_path, 'a = 3\n'), 'has no section of a camera')


@pytest.mark.parametrize(('old', 'new', 'reason'), [
    ('serial="front"', 'serial=""', 'camera 1 has no serial of its own'),
    ('<transform ', '<place ', 'camera front: its element transform is missing'),
    ('<intrinsic ', '<lens ', 'camera front: its element intrinsic is missing'),
    ('focalLengthU="58272"', '', 'intrinsic focalLengthU must be a finite number, not None'),
    ('focalLengthU="58272"', 'focalLengthU="0"', 'not calibrated'),
    ('focalLengthU="58272"', 'focalLengthU="long"', "focalLengthU must be a finite number, not 'long'"),
    ('focalLengthU="58272"', 'focalLengthU="710.5"', 'they must be in pixels'),
    ('sensorMaxU="81919"', 'sensorMaxU="1279"', 'shows 1280 x 720 px of a sensor of 20.0 x 720.0 px.*as QTM exports'),
    ('sensorMaxV="46079"', '', 'sensorMaxV must be a finite number'),
    ('skew="0"', 'skew="2.5"', 'skew is 2.5; .* not supported'),
    ('right="1279"', 'right="0"', 'shows a video of 1 x 720 px; it is no video camera'),
    ('right="1279"', '', 'fov_video: fov_video right must be a finite number'),
    ('active="1"', 'active="1" video_resolution="big"', "video_resolution 'big' is not known"),
    (' x="', ' x="nan" was="', 'transform x must be a finite number'),
    (' x="', ' x="9e9" was="', 'must be in metres'),
    (' r11="', ' r11="7" was="', 'transform: the rotation matrix is none'),
])
def test_qualisys(tmp_path, old, new, reason):
    assert old in QUALISYS
    refused(text_file(tmp_path, QUALISYS.replace(old, new, 1)), reason)


def test_qualisys_with_a_camera_twice_or_none(tmp_path):
    twice = qualisys_of(RIG, FULL, lens=QUALISYS_LENS).replace('serial="back"', 'serial="front"')
    refused(text_file(tmp_path, twice), r"camera 2 has no serial of its own \('front'\)")
    refused(text_file(tmp_path, '<calibration></calibration>'), 'has no cameras/camera')


@pytest.mark.parametrize(('text', 'reason'), [
    ('<calibration><camera', 'is not valid XML'),
    ('<?xml version="1.0" encoding="no-such"?><calibration/>', 'is not valid XML'),
    ('<html></html>', "is XML with the root 'html'; expected calibration .Qualisys. or opencv_storage"),
    ('<opencv_storage></opencv_storage>', 'OpenCV cannot read it'),
    ('%YAML:1.0\n---\ncamera_matrix: !!opencv-matrix\n   rows: 3\n   cols: [3\n', 'OpenCV cannot read it'),
    ('K: !!opencv-matrix\n  rows: 3\n', 'OpenCV cannot read it'),
    ('made: 2024-13-45\n', 'is not valid YAML'),
    ('a: \x00\n', 'is not valid YAML .unacceptable character.* position 3'),
])
def test_files_that_are_not_whole_or_of_another_kind(tmp_path, text, reason, capfd):
    refused(text_file(tmp_path, text), reason)
    assert capfd.readouterr().err == ''  # the one line is all the user sees


def test_what_a_file_says_itself_cannot_be_said(tmp_path):
    for text in (KALIBR, QUALISYS):
        refused(text_file(tmp_path, text), 'say their unit; leave --unit out', unit_m=1e-3)
        refused(text_file(tmp_path, text), 'say their size; leave --size out', size=(1280, 720))
    refused(text_file(tmp_path, TOML), 'say their size; leave --size out', size=(1280, 720))
    path = write_opencv(tmp_path / 'sized.yml', OPENCV)
    refused(path, 'is for 1280 x 720 px, not 640 x 360; leave --size out', size=(640, 360))
    assert list(load_calibration(path, size=(1280, 720))) == ['sized']
