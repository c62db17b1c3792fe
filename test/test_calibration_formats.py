"""Calibration files of other tools: what they give is what OpenCV, or the definition of the format, says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from calibration_files import (
    BROWN,
    FISHEYE,
    KALIBR,
    OPENCV,
    OPENCV_PAIR,
    PAIR,
    QUALISYS_LENS,
    RATIONAL,
    RIG,
    SIZE,
    K,
    needs_toml,
    points,
    pose,
    projected,
    qualisys_of,
    toml_of,
    write_opencv,
)

from pose3d_ros.calibration import CalibratedCamera, load_calibration, load_camera
from pose3d_ros.camera import CalibrationError, Camera

SHIPPED = Path(__file__).parents[1] / 'config' / 'samples' / 'single_person.yaml'


def text_file(folder: Path, text: str, name: str = 'calibration.txt') -> Path:
    """Write text under a name that says nothing of the format."""
    path = folder / name
    path.write_text(text)
    return path


def assert_projects(calibrated: CalibratedCamera, distortion: list[float], *, fisheye: bool = False) -> None:
    """Compare 200 projections with OpenCV's."""
    assert (calibrated.camera.width, calibrated.camera.height) == SIZE
    np.testing.assert_allclose(calibrated.camera.project(points()), projected(points(), distortion, fisheye=fisheye),
                               rtol=0, atol=1e-7)


def assert_places(cameras: dict[str, CalibratedCamera], places: dict[str, np.ndarray], atol: float = 1e-12) -> None:
    """Compare names and places."""
    assert list(cameras) == list(places)
    for name, place in places.items():
        np.testing.assert_allclose(cameras[name].camera_T_world, place, rtol=0, atol=atol)


@pytest.mark.parametrize('suffix', ['.yml', '.xml', '.json'])
@pytest.mark.parametrize(('changes', 'distortion', 'fisheye'), [
    ({}, BROWN, False),
    ({'distortion_coefficients': [RATIONAL]}, RATIONAL, False),
    ({'distortion_coefficients': [BROWN[:4]]}, BROWN[:4], False),
    ({'distortion_coefficients': np.array(FISHEYE)[:, None], 'fisheye_model': 1}, FISHEYE, True),
])
def test_a_camera_as_opencv_writes_it(tmp_path, suffix, changes, distortion, fisheye):
    path = write_opencv(tmp_path / f'left{suffix}', {**OPENCV, **changes})
    cameras = load_calibration(path.rename(tmp_path / 'left.calibration'))  # by content, not by name
    assert list(cameras) == ['left'] and cameras['left'].camera_T_world is None
    assert_projects(cameras['left'], distortion, fisheye=fisheye)


def test_names_and_forms_that_scripts_give_opencv_files(tmp_path):
    path = write_opencv(tmp_path / 'a.yml', {'camera_name': 'door', 'K': K, 'D': [BROWN], 'image_size': [[1280, 720]]})
    assert_projects(load_calibration(path)['door'], BROWN)
    path = write_opencv(tmp_path / 'b.yml', {'mtx': K, 'dist': np.array(FISHEYE)[:, None],
                                             'distortion_model': 'fisheye'})
    with pytest.raises(CalibrationError, match=r'image_width and image_height are missing; .*--size'):
        load_calibration(path)
    assert_projects(load_calibration(path, size=SIZE)['b'], FISHEYE, fisheye=True)
    path = write_opencv(tmp_path / 'c.yml', {'cameraMatrix': K, 'image_width': 1280, 'image_height': 720})
    assert_projects(load_calibration(path)['c'], [0.0] * 4)


@pytest.mark.parametrize('suffix', ['.yml', '.xml'])
def test_a_stereo_pair_as_opencv_writes_it(tmp_path, suffix):
    cameras = load_calibration(write_opencv(tmp_path / f'pair{suffix}', OPENCV_PAIR))
    assert_places(cameras, {'camera1': np.eye(4), 'camera2': PAIR})
    assert_projects(cameras['camera1'], BROWN)
    assert_projects(cameras['camera2'], RATIONAL)
    vector = {**OPENCV_PAIR, 'R': np.array([[0.02, -0.15, 0.01]]), 'T': PAIR[:3, 3] * 1000}
    path = write_opencv(tmp_path / f'vector{suffix}', vector)
    with pytest.raises(CalibrationError, match=r'120\.\d* long.*millimetres.*--unit mm'):
        load_calibration(path)
    assert_places(load_calibration(path, unit_m=1e-3), {'camera1': np.eye(4), 'camera2': PAIR})
    apart = {name: value for name, value in OPENCV_PAIR.items() if name not in 'RTQ'}
    cameras = load_calibration(write_opencv(tmp_path / f'apart{suffix}', apart))
    assert [camera.camera_T_world for camera in cameras.values()] == [None, None]


def test_a_camera_chain_of_kalibr(tmp_path):
    cameras = load_calibration(text_file(tmp_path, KALIBR))
    cam1 = np.array([[0, 0, -1, 0.5], [0, 1, 0, 0], [1, 0, 0, 1.5], [0, 0, 0, 1.0]])
    cam2 = np.array([[1, 0, 0, -0.25], [0, 0, -1, 0], [0, 1, 0, 0.75], [0, 0, 0, 1.0]])
    assert_places(cameras, {'cam0': np.eye(4), 'cam1': cam1, 'cam2': cam2 @ cam1})
    assert_projects(cameras['cam0'], BROWN[:4])
    assert_projects(cameras['cam1'], FISHEYE, fisheye=True)
    assert_projects(cameras['cam2'], [0.0] * 4)
    # by the words of the format: T_cn_cnm1 takes the point of one camera into the next
    point = np.array([0.3, -0.2, 4.0, 1.0])
    np.testing.assert_allclose(cameras['cam2'].camera_T_world @ point, cam2 @ (cam1 @ point))


def test_one_camera_of_kalibr_and_the_first_line_of_opencv(tmp_path):
    alone = load_calibration(text_file(tmp_path, '%YAML:1.0\n---\n' + KALIBR.partition('cam1:')[0]))
    assert list(alone) == ['cam0'] and alone['cam0'].camera_T_world is None
    assert_projects(alone['cam0'], BROWN[:4])


@needs_toml
@pytest.mark.parametrize(('distortion', 'fisheye'), [(BROWN, False), (BROWN[:4], False), (RATIONAL, False),
                                                     (FISHEYE, True)])
def test_the_toml_of_pose2sim_and_aniposelib(tmp_path, distortion, fisheye):
    cameras = load_calibration(text_file(tmp_path, '# a comment\n\n' + toml_of(RIG, distortion, fisheye=fisheye)))
    assert_places(cameras, RIG)
    for camera in cameras.values():
        assert_projects(camera, distortion, fisheye=fisheye)


@needs_toml
def test_toml_in_millimetres_without_names_or_places(tmp_path):
    path = text_file(tmp_path, toml_of(RIG, BROWN, unit_m=1e-3))
    with pytest.raises(CalibrationError, match=r'camera front: translation is 28.* long.*--unit mm'):
        load_calibration(path)
    assert_places(load_calibration(path, unit_m=1e-3), RIG)
    path = text_file(tmp_path, toml_of(RIG, BROWN))
    with pytest.raises(CalibrationError, match='front and back stand .* mm apart'):
        load_calibration(path, unit_m=1e-3)
    bare = '\n'.join(line for line in path.read_text().splitlines()
                     if not line.startswith(('name', 'rotation', 'translation', 'fisheye')))
    cameras = load_calibration(text_file(tmp_path, bare))
    assert list(cameras) == ['cam_0', 'cam_1'] and cameras['cam_0'].camera_T_world is None
    assert_projects(cameras['cam_1'], BROWN)


def test_toml_without_a_reader_names_the_cure(tmp_path, monkeypatch):
    monkeypatch.setattr('pose3d_ros.calibration.toml_cameras._PARSER', 'no_such_reader_of_toml')
    with pytest.raises(CalibrationError, match='pip install no_such_reader_of_toml'):
        load_calibration(text_file(tmp_path, toml_of(RIG, BROWN)))


def test_a_calibration_of_qualisys(tmp_path):
    for region in ((0, 1279, 0, 719), None):
        cameras = load_calibration(text_file(tmp_path, qualisys_of(RIG, region)))
        assert_places(cameras, RIG)
        for camera in cameras.values():
            assert_projects(camera, BROWN)


def test_the_video_of_qualisys_may_be_a_part_of_the_sensor_or_scaled(tmp_path):
    whole = projected(points(), BROWN)
    part = load_calibration(text_file(tmp_path, qualisys_of(RIG, (100, 1099, 40, 639))))['front'].camera
    assert (part.width, part.height) == (1000, 600)
    np.testing.assert_allclose(part.project(points()), whole - (100, 40), rtol=0, atol=1e-7)
    half = load_calibration(text_file(tmp_path, qualisys_of(RIG, camera='video_resolution="540p"')))['front'].camera
    assert (half.width, half.height) == (640, 360)
    # cv2.resize to half: the edges of the images stay edges, so pixel 0 takes the place of pixels 0 and 1
    np.testing.assert_allclose(half.project(points()), (whole + 0.5) / 2 - 0.5, rtol=0, atol=1e-7)
    unsaid = load_calibration(text_file(tmp_path, qualisys_of(RIG, camera='video_resolution="N/A"')))['front']
    assert_projects(unsaid, BROWN)


def test_cameras_of_qualisys_that_are_switched_off_are_left_out(tmp_path):
    text = qualisys_of(RIG).replace('active="1"', 'active="0"', 1)
    assert list(load_calibration(text_file(tmp_path, text))) == ['back']
    with pytest.raises(CalibrationError, match='none of its 2 cameras is active'):
        load_calibration(text_file(tmp_path, text.replace('active="1"', 'active="0"')))


def test_the_qualisys_file_of_the_sample_is_the_shipped_one_before_the_rule_of_the_resolutions(sample_dir):
    read, shipped = load_calibration(sample_dir / 'Calib.qca.txt'), load_calibration(SHIPPED)
    assert list(read) == list(shipped)
    for name, calibrated in read.items():
        camera, ours = calibrated.camera, shipped[name].camera
        assert (camera.width, camera.height) == (1088, 1920)
        s = 1088 / ours.width  # the rule at the head of config/samples/single_person.yaml
        intrinsics = (camera.fx / s, camera.fy / s, camera.cx / s, (camera.cy + 960 * (s - 1)) / s)
        np.testing.assert_allclose(intrinsics, (ours.fx, ours.fy, ours.cx, ours.cy), rtol=0, atol=1e-9)
        # there the distortion is as Pose2Sim reads it, divided by the 64 of the subpixels
        np.testing.assert_allclose(np.array(camera.distortion) / 64, (*ours.distortion, 0.0), rtol=0, atol=1e-15)
        # the shipped places are refined ones: some millimetres and tenths of a degree away
        turn = calibrated.camera_T_world[:3, :3] @ shipped[name].camera_T_world[:3, :3].T
        assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) < 1.0
        places = [np.linalg.inv(pose_)[:3, 3] for pose_ in (calibrated.camera_T_world, shipped[name].camera_T_world)]
        assert np.linalg.norm(places[0] - places[1]) < 0.02


def test_a_rotation_whose_digits_are_cut_off_is_made_one_again(tmp_path):
    place = pose((1.2, -0.4, 0.3), (0.5, -0.25, 2.75))
    rounded = {**OPENCV_PAIR, 'R': np.round(place[:3, :3], 4)}
    rotation = load_calibration(write_opencv(tmp_path / 'rounded.yml', rounded))['camera2'].camera_T_world[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), rtol=0, atol=1e-14)
    np.testing.assert_allclose(rotation, place[:3, :3], rtol=0, atol=2e-4)


def test_lens_of_qualisys_without_distortion_is_a_pinhole_in_effect(tmp_path):
    lens = {key: value for key, value in QUALISYS_LENS.items() if 'Distortion' not in key}
    camera = load_camera(text_file(tmp_path, qualisys_of({'a': RIG['front']}, lens=lens))).camera
    np.testing.assert_allclose(camera.project(points()), Camera(*SIZE, 910.5, 912.25, 641.25, 355.75).project(points()))
