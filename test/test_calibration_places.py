"""Files of places alone, and the places of any calibration."""

from __future__ import annotations

from pathlib import Path

import calibration_files
import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from pose3d_ros.calibration import (
    load_calibration,
    load_lenses,
    load_places,
    save_places,
    static_transform_launch,
    static_transforms,
)
from pose3d_ros.camera import CalibrationError

SAMPLE = Path(__file__).parent.parent / 'config' / 'samples' / 'single_person.yaml'


def pose(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = Rotation.random(random_state=seed).as_matrix(), random.uniform(-5, 5, 3)
    return made


def test_places_round_trip_without_intrinsics(tmp_path):
    path, places = tmp_path / 'new' / 'places.yaml', {'front': pose(0), 'left': pose(1)}
    save_places(path, places, 'By a test.\nTwo lines.')
    assert path.read_text().startswith('# By a test.\n# Two lines.\ncameras:\n  front:\n')
    again = load_places(path)
    assert list(again) == ['front', 'left']
    for name, place in places.items():
        np.testing.assert_allclose(again[name], place, atol=1e-14)
    with pytest.raises(CalibrationError, match='camera front: is a place without intrinsics; give'):
        load_calibration(path)


def test_places_of_a_whole_calibration_are_those_of_its_cameras(tmp_path):
    whole, places = load_calibration(SAMPLE), load_places(str(SAMPLE))
    assert list(places) == list(whole)
    for name, place in places.items():
        np.testing.assert_array_equal(place, whole[name].camera_T_world)


def test_places_of_another_tool(tmp_path):
    path = tmp_path / 'chain.yaml'
    path.write_text(calibration_files.KALIBR)
    whole, places = load_calibration(path), load_places(path)
    assert list(places) == [name for name in whole if whole[name].camera_T_world is not None] != []
    for name, place in places.items():
        np.testing.assert_array_equal(place, whole[name].camera_T_world)


def test_lenses_are_those_of_the_cameras_that_have_some(tmp_path):
    whole = load_calibration(SAMPLE)
    assert load_lenses(SAMPLE) == {name: camera.camera for name, camera in whole.items()}
    name, *others = whole
    document = yaml.safe_load(SAMPLE.read_text())
    for other in others:
        document['cameras'][other] = {'camera_T_world': document['cameras'][other]['camera_T_world']}
    (tmp_path / 'mixed.yaml').write_text(yaml.safe_dump(document))
    assert load_lenses(tmp_path / 'mixed.yaml') == {name: whole[name].camera}
    document['cameras'][name]['camera_matrix']['data'] = [1.0]
    (tmp_path / 'wrong.yaml').write_text(yaml.safe_dump(document))
    with pytest.raises(CalibrationError, match=f'camera {name}'):
        load_lenses(tmp_path / 'wrong.yaml')
    (tmp_path / 'chain.yaml').write_text(calibration_files.KALIBR)
    assert list(load_lenses(tmp_path / 'chain.yaml')) == list(load_calibration(tmp_path / 'chain.yaml'))


def test_places_become_static_tf_as_cameras_do():
    assert static_transforms(load_places(SAMPLE), 'map') == static_transforms(load_calibration(SAMPLE), 'map')
    assert static_transform_launch(load_places(SAMPLE)) == static_transform_launch(load_calibration(SAMPLE))


@pytest.mark.parametrize(('text', 'reason'), [
    ('cameras: {front: {}}', 'none of the cameras has a place .camera_T_world.; .*calibrate extrinsics'),
    ('cameras: {front: 3}', 'camera front: is not a mapping'),
    ('cameras: {}', 'at least one name'),
    ('cameras: {front: {camera_T_world: }}', 'camera_T_world: is not a mapping'),
    ('cameras: {front: {camera_T_world: {rotation: [0, 0, .nan], translation: [0, 0, 0]}}}', 'three finite numbers'),
    ('cameras: {front: {camera_T_world: {rotation: [0, 0, 0], translation: [0, 9999, 0]}}}', 'must be in metres'),
    ('a: [1, 2\nb: 3\n', 'not valid YAML in line'),
    ('image_width: 3', "neither 'cameras' nor"),
    ('', 'empty'),
])
def test_a_wrong_file_is_named_with_the_reason(tmp_path, text, reason):
    path = tmp_path / 'wrong.yaml'
    path.write_text(text)
    with pytest.raises(CalibrationError, match=f'wrong.yaml: .*{reason}'):
        load_places(path)


def test_cameras_without_a_place_are_left_out(tmp_path):
    path = tmp_path / 'some.yaml'
    path.write_text('cameras:\n  a: {camera_T_world: {rotation: [0, 0, 0.5], translation: [1, 2, 3]}}\n  b: {}\n')
    assert list(load_places(path)) == ['a']
    with pytest.raises(CalibrationError, match='cannot be read'):
        load_places(tmp_path / 'none.yaml')


@pytest.mark.parametrize('broken', [np.diag([2.0, 2, 2, 1]), np.diag([1.0, 1, -1, 1]), np.full((4, 4), np.nan)])
def test_what_is_no_place_is_not_written(tmp_path, broken):
    with pytest.raises(CalibrationError, match='camera front'):
        save_places(tmp_path / 'places.yaml', {'front': broken})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_no_part_of_it(tmp_path):
    (tmp_path / 'taken').mkdir()
    with pytest.raises(OSError):
        save_places(tmp_path / 'taken', {'front': pose(0)})
    assert [path.name for path in tmp_path.iterdir()] == ['taken']
