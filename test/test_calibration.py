"""Calibration files: ROS camera_info YAML, the project's own, the shipped sample, and files that are wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from pose3d_ros.calibration import CalibratedCamera, load_calibration, load_camera, save_calibration, save_camera
from pose3d_ros.camera import CalibrationError, Camera

SAMPLE = Path(__file__).parent.parent / 'config' / 'samples' / 'single_person.yaml'

# The source of the sample's numbers: intrinsics of 1088 x 1920 px images, refined extrinsics.
MEASURED = {
    'cam01': ((1681.244873046875, 1681.075439453125, 532.97369384375, 948.137390140625),
              (-0.000721609375, 0.002187234375, 9.5e-06, 1.078125e-05),
              (1.6799780112713505, 1.0593154172835464, -0.42589728896210677),
              (0.3531985237509429, 0.9699017346966887, 2.8877432584078373)),
    'cam02': ((1673.729614265625, 1673.79724121875, 534.494567875, 963.225891109375),
              (-0.000747609375, 0.00213728125, 1.51875e-05, 4.546875e-06),
              (1.35109770988065, 1.5969233712177984, -1.200026130300698),
              (-0.11039273707503744, 0.7760198819969403, 3.066856171381318)),
    'cam03': ((1681.598388671875, 1681.509887703125, 513.20837403125, 955.005126953125),
              (-0.000729765625, 0.00215034375, -8.46875e-06, -8.078125e-06),
              (0.8105606997049349, -2.189810241681744, 1.3838296578639302),
              (-0.789223488191911, 0.35563388363022197, 4.354969810555936)),
    'cam04': ((1675.234985359375, 1675.204223640625, 540.106201171875, 964.0302734375),
              (-0.000744265625, 0.002104171875, 4.328125e-06, 3.109375e-06),
              (1.4088423623450896, -1.3866445534832355, 0.4229744207003855),
              (0.5153218249655559, 0.036989190711088554, 4.399176205441245)),
}
WIDTHS = {'cam01': 1080, 'cam02': 1080, 'cam03': 1088, 'cam04': 1088}  # of the videos

ROS_YAML = """
image_width: 640
image_height: 480
camera_name: front
camera_matrix:
  rows: 3
  cols: 3
  data: [525.1, 0., 319.5, 0., 526.2, 239.5, 0., 0., 1.]
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.2, 0.05, 1e-04, -2e-05, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [480, 0, 320, 0, 0, 490, 240, 0, 0, 0, 1, 0]}
"""
FRONT = Camera(640, 480, 525.1, 526.2, 319.5, 239.5, 'plumb_bob', (-0.2, 0.05, 1e-4, -2e-5, 0.0))
PLACE = """
    camera_T_world:
      rotation: [0.1, -2.0, 0.3]
      translation: [0.5, 1.0, 3e-1]
"""


@pytest.mark.parametrize('name', MEASURED)
def test_the_sample_holds_the_measured_calibration_in_pixels_of_the_videos(name):
    (fx, fy, cx, cy), distortion, rotation, translation = MEASURED[name]
    loaded = load_camera(SAMPLE, name)
    assert (loaded.camera.width, loaded.camera.height) == (WIDTHS[name], 1920)
    assert loaded.camera.model == 'plumb_bob' and loaded.camera.distortion == distortion
    np.testing.assert_allclose(loaded.camera_T_world[:3, :3], Rotation.from_rotvec(rotation).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(loaded.camera_T_world[:3, 3], translation, atol=1e-12)

    points = np.random.default_rng(0).uniform([-0.8, -1.5, 2.5], [0.8, 1.5, 5.0], (200, 3))
    calibrated = Camera(1088, 1920, fx, fy, cx, cy, 'plumb_bob', distortion).project(points)
    u, v = loaded.camera.project(points).T
    if WIDTHS[name] == 1080:  # the rule: from the pixels of the video to those of the calibrated images
        u, v = u * 1088 / 1080, v * 1088 / 1080 - (1088 / 1080 - 1) * 960
    np.testing.assert_allclose(np.column_stack((u, v)), calibrated, rtol=0, atol=1e-9)


def test_the_sample_cameras_stand_around_the_person_and_look_down_a_little():
    cameras = load_calibration(SAMPLE)
    assert list(cameras) == ['cam01', 'cam02', 'cam03', 'cam04']
    for calibrated in cameras.values():
        world_T_camera = np.linalg.inv(calibrated.camera_T_world)
        forward, down, place = world_T_camera[:3, 2], world_T_camera[:3, 1], world_T_camera[:3, 3]
        assert 1.5 < place[2] < 2.5 and 2.0 < np.hypot(*place[:2]) < 5.0
        assert down[2] < -0.8 and -0.6 < forward[2] < 0.0
        assert np.dot(forward[:2], -place[:2]) > 0


def test_a_camera_info_file_of_ros(tmp_path):
    path = tmp_path / 'front.yaml'
    path.write_text(ROS_YAML)
    cameras = load_calibration(path)
    assert list(cameras) == ['front']
    assert cameras['front'] == CalibratedCamera(FRONT, None)
    assert load_camera(path) == load_camera(path, 'front') == cameras['front']
    assert load_camera(str(path)).camera == FRONT
    path.write_text(ROS_YAML.replace('camera_name: front\n', ''))
    assert list(load_calibration(path)) == ['front']  # the file's name


@pytest.mark.parametrize('camera', [
    FRONT, Camera(640, 480, 500.0, 500.0, 320.0, 240.0),
    Camera(1280, 800, 560.0, 561.0, 642.0, 398.0, 'rational_polynomial', (9.2, 4.1, 2e-4, -1e-4, 0.12, 9.5, 6.9, 0.8)),
    Camera(848, 800, 286.0, 286.5, 424.0, 402.0, 'equidistant', (-0.0077, 0.0419, -0.0397, 1 / 3))])
def test_camera_files_round_trip_to_the_last_bit(tmp_path, camera):
    path = tmp_path / 'new' / 'camera.yaml'
    save_camera(path, camera, 'left')
    stored = yaml.safe_load(path.read_text())
    assert stored['camera_name'] == 'left' and stored['projection_matrix']['cols'] == 4
    assert stored['distortion_coefficients']['rows'] == 1 and stored['rectification_matrix']['data'][::4] == [1.0] * 3
    again = load_camera(path).camera
    assert again == (camera if camera.model != 'pinhole' else replace(again, model='plumb_bob', distortion=(0.0,) * 5))
    save_camera(path, again, 'left')
    assert yaml.safe_load(path.read_text()) == stored
    assert [file.name for file in path.parent.iterdir()] == ['camera.yaml']


def test_a_calibration_of_several_cameras_round_trips(tmp_path):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([1.5, -1.0, 2.0]).as_matrix()
    pose[:3, 3] = (0.1, -2.0, 3.0)
    path = tmp_path / 'all.yaml'
    save_calibration(path, {'a': CalibratedCamera(FRONT, pose), 'b': CalibratedCamera(FRONT)}, 'By a test.\n\nTwo.')
    assert path.read_text().startswith('# By a test.\n#\n# Two.\ncameras:\n')
    again = load_calibration(path)
    assert list(again) == ['a', 'b'] and again['b'] == CalibratedCamera(FRONT, None) and again['a'].camera == FRONT
    np.testing.assert_allclose(again['a'].camera_T_world, pose, atol=1e-15)


def test_the_sample_file_is_as_this_module_writes_it(tmp_path):
    cameras = load_calibration(SAMPLE)
    save_calibration(tmp_path / 'again.yaml', cameras)
    written, shipped = (yaml.safe_load(path.read_text()) for path in (tmp_path / 'again.yaml', SAMPLE))
    for name, entry in shipped['cameras'].items():
        place, again = entry.pop('camera_T_world'), written['cameras'][name].pop('camera_T_world')
        np.testing.assert_allclose(again['rotation'] + again['translation'], place['rotation'] + place['translation'],
                                   atol=1e-12)
    assert written == shipped


def indented(text: str) -> str:
    return 'cameras:\n  front:\n' + ''.join(f'    {line}\n' for line in text.strip().splitlines())


@pytest.mark.parametrize(('text', 'reason'), [
    ('', 'empty'),
    ('- 1\n- 2\n', 'not a mapping'),
    ('a: [1, 2\nb: 3\n', 'not valid YAML in line'),
    ('a: !!python/object/apply:os.getcwd []', 'not valid YAML'),
    ('\x00', 'not valid YAML'),
    ('image_width: 640\n', "neither 'cameras' nor 'camera_matrix'"),
    ('cameras: {}\n', 'at least one name'),
    ('cameras: [1]\n', 'at least one name'),
    ('cameras: {front: 3}\n', 'camera front: is not a mapping'),
    (ROS_YAML.replace('image_width: 640', ''), 'camera front: image_width must be a positive whole number.*None'),
    (ROS_YAML.replace('480', '480.5', 1), 'image_height must be a positive whole number.*480.5'),
    (ROS_YAML.replace('image_width: 640', 'image_width: -640'), 'image_width must be'),
    (ROS_YAML.replace(', 0., 0., 1.]', ', 0., 0.]'), 'camera_matrix says 3 x 3, but has 8 values'),
    (ROS_YAML.replace('525.1', 'wide'), 'camera_matrix: holds something that is not a number'),
    (ROS_YAML.replace('525.1', '.nan'), 'K holds values that are not finite'),
    (ROS_YAML.replace('525.1', '0'), 'not calibrated'),
    (ROS_YAML.replace('plumb_bob', 'brown'), "unknown distortion model 'brown'"),
    (ROS_YAML.replace('plumb_bob', '[1]'), 'distortion_model is not a name'),
    (ROS_YAML.replace('data: [525', 'values: [525'), 'camera_matrix is missing or not of the form'),
    (ROS_YAML.replace('{rows: 1, cols: 5, data: [-0.2, 0.05, 1e-04, -2e-05, 0]}', '{data: 7}'), 'not a list'),
    (ROS_YAML.replace('cols: 5, data: [-0.2, 0.05, 1e-04, -2e-05, 0]', 'cols: 3, data: [1, 2, 3]'), 'not 3'),
    (indented(ROS_YAML) + PLACE.replace('0.1, -2.0, 0.3', '0.1, -2.0'), 'camera_T_world: rotation must be three'),
    (indented(ROS_YAML) + PLACE.replace('0.1, -2.0', '0.1, -200.0'), 'must be in radians'),
    (indented(ROS_YAML) + PLACE.replace('0.5, 1.0', '500.0, 1000.0'), 'must be in metres'),
    (indented(ROS_YAML) + PLACE.replace('0.5, 1.0', '.inf, 1.0'), 'translation must be three finite'),
    (indented(ROS_YAML) + PLACE.replace('translation', 'position'), 'translation: is not a list'),
    (indented(ROS_YAML) + '    camera_T_world: 3\n', 'camera_T_world: is not a mapping'),
])
def test_a_wrong_file_is_named_with_the_reason(tmp_path, text, reason):
    path = tmp_path / 'wrong.yaml'
    path.write_text(text)
    with pytest.raises(CalibrationError, match=f'wrong.yaml: .*{reason}'):
        load_calibration(path)


def test_a_correct_place_is_read(tmp_path):
    path = tmp_path / 'place.yaml'
    path.write_text(indented(ROS_YAML) + PLACE)
    pose = load_camera(path).camera_T_world
    np.testing.assert_allclose(pose[:3, 3], (0.5, 1.0, 0.3))
    np.testing.assert_allclose(Rotation.from_matrix(pose[:3, :3]).as_rotvec(), (0.1, -2.0, 0.3))
    assert pose[3].tolist() == [0.0, 0.0, 0.0, 1.0]


def test_missing_files_and_names(tmp_path):
    with pytest.raises(CalibrationError, match=r'none\.yaml: cannot be read \(No such file'):
        load_camera(tmp_path / 'none.yaml')
    with pytest.raises(CalibrationError, match='cannot be read'):
        load_camera(tmp_path)
    (tmp_path / 'binary.yaml').write_bytes(b'\xff\xfe\xfd')
    with pytest.raises(CalibrationError, match=r'binary\.yaml: is not a text file'):
        load_camera(tmp_path / 'binary.yaml')
    with pytest.raises(CalibrationError, match="no camera 'cam05'; it has: cam01, cam02, cam03, cam04"):
        load_camera(SAMPLE, 'cam05')
    with pytest.raises(CalibrationError, match='several cameras, name one of: cam01'):
        load_camera(SAMPLE)
