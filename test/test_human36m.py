"""Human3.6M as it is distributed: videos and .cdf files, a small set of them, written here and read back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.human36m import OF_32, TESTING, TRAINING, load_human36m, positions, takes
from pose3d_ros.train.image_sets import ImageSetError

cdfwrite = pytest.importorskip('cdflib.cdfwrite', reason='reading Human3.6M needs cdflib: make train-env')

FRAMES, SIDE, FOCAL, CAMERA = 11, 240, 300.0, '54138969'


def joints_in_space(seed: int) -> np.ndarray:
    """Return joints (FRAMES, 32, 3) mm in the camera's frame, moving to the right."""
    rng = np.random.default_rng(seed)
    start = rng.uniform([-600, -600, 3800], [600, 600, 4200], (32, 3))
    return start + np.arange(FRAMES)[:, None, None] * np.array([20.0, 0, 0])


def pixels(joints: np.ndarray) -> np.ndarray:
    return joints[..., :2] / joints[..., 2:] * FOCAL + 0.5 * SIDE


def write_cdf(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = cdfwrite.CDF(str(path), cdf_spec={'Majority': 'row_major', 'Encoding': 6, 'Checksum': False}, delete=True)
    flat = values.reshape(1, len(values), -1)
    file.write_var({'Variable': 'Pose', 'Data_Type': 45, 'Num_Elements': 1, 'Rec_Vary': True, 'Var_Type': 'zVariable',
                    'Dim_Sizes': list(flat.shape[1:]), 'Dim_Vary': [True, True]}, var_data=flat)
    file.close()


def write_take(folder: Path, subject: str, action: str, seed: int) -> np.ndarray:
    """Write a take, a dot at the head of the 32 joints; return its joints (FRAMES, 32, 3) mm."""
    joints, name = joints_in_space(seed), f'{action}.{CAMERA}'
    features = folder / subject / 'MyPoseFeatures'
    write_cdf(features / 'D2_Positions' / f'{name}.cdf', pixels(joints))
    write_cdf(features / 'D3_Positions_mono' / f'{name}.cdf', joints)
    (folder / subject / 'Videos').mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(folder / subject / 'Videos' / f'{name}.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 50,
                            (SIDE, SIDE))
    assert video.isOpened()
    for moment in range(FRAMES):
        image = np.full((SIDE, SIDE, 3), 20, np.uint8)
        x, y = np.round(pixels(joints)[moment, 15]).astype(int)
        cv2.circle(image, (int(x), int(y)), 8, (0, 0, 255), -1)    # red
        video.write(image)
    video.release()
    return joints


def test_every_fifth_frame_with_its_joints(tmp_path: Path) -> None:
    joints = write_take(tmp_path, 'S1', 'Directions 1', 0)
    write_take(tmp_path, 'S9', 'Waiting', 1)
    images, skipped = load_human36m(tmp_path, TRAINING, 96, tmp_path / 'crops.npy')
    assert len(images) == 3 and skipped.count == 0 and images.domain == 'human36m'       # frames 0, 5 and 10
    assert set(images.subject) == {'S1'} and images.images.shape == (3, 96, 96, 3)
    np.testing.assert_allclose(images.joints3d, joints[[0, 5, 10]][:, OF_32] / 1000, atol=1e-6)
    for image, place in zip(images.images, images.joints2d[:, HUMAN17.index('head')]):
        x, y = np.clip(np.round(place).astype(int), 0, 95)
        assert image[y, x, 0] > 150 > 80 > image[y, x, 2]                                # RGB
    assert (images.joints2d > 0).all() and (images.joints2d < 95).all()                  # a margin about everybody
    assert len(load_human36m(tmp_path, TESTING, 96, tmp_path / 'crops.npy')[0]) == 3


def test_joints_have_the_names_they_have_there(tmp_path: Path) -> None:
    # The 32 joints of the original: 1 right hip, 6 left hip, 12 spine, 13 thorax, 15 head, 17 left shoulder, 25 right.
    values = np.arange(32.0)[None, :, None] * np.ones((4, 1, 2))
    write_cdf(tmp_path / 'a.cdf', values)
    found = positions(tmp_path / 'a.cdf', 2)[0, :, 0]
    for name, number in (('pelvis', 0), ('right_hip', 1), ('left_hip', 6), ('left_ankle', 8), ('spine', 12),
                         ('thorax', 13), ('neck', 14), ('head', 15), ('left_shoulder', 17), ('left_wrist', 19),
                         ('right_shoulder', 25), ('right_wrist', 27)):
        assert found[HUMAN17.index(name)] == number


def test_protocol() -> None:
    assert TRAINING == ('S1', 'S5', 'S6', 'S7', 'S8') and TESTING == ('S9', 'S11')


def test_takes_are_found_by_name_and_the_empty_scene_is_none(tmp_path: Path) -> None:
    for name in ('Walking 1.58860488', 'Directions.54138969', '_ALL.54138969'):
        write_cdf(tmp_path / 'S5' / 'MyPoseFeatures' / 'D2_Positions' / f'{name}.cdf', np.zeros((2, 32, 2)))
    assert [take.video.name for take in takes(tmp_path, TRAINING)] == ['Directions.54138969.mp4',
                                                                       'Walking 1.58860488.mp4']


def test_what_is_missing_or_damaged_is_left_out_and_counted(tmp_path: Path) -> None:
    for number, action in enumerate(('Directions', 'Eating', 'Greeting', 'Posing', 'Smoking')):
        write_take(tmp_path, 'S1', action, number)
    features, videos = tmp_path / 'S1' / 'MyPoseFeatures', tmp_path / 'S1' / 'Videos'
    (features / 'D3_Positions_mono' / f'Directions.{CAMERA}.cdf').unlink()
    (features / 'D2_Positions' / f'Eating.{CAMERA}.cdf').write_bytes(b'nothing')
    (videos / f'Greeting.{CAMERA}.mp4').unlink()
    (videos / f'Posing.{CAMERA}.mp4').write_bytes(b'nothing')
    images, skipped = load_human36m(tmp_path, TRAINING, 32, tmp_path / 'crops.npy')
    assert len(images) == 3 and skipped.count == 4 and 'Directions' in skipped.example


def test_a_folder_without_a_take_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImageSetError, match='no usable take of S1, S5, S6, S7, S8; expected S1/Videos'):
        load_human36m(tmp_path, TRAINING, 32, tmp_path / 'crops.npy')
    write_cdf(tmp_path / 'S1' / 'MyPoseFeatures' / 'D2_Positions' / 'a.1.cdf', np.full((2, 32, 2), np.nan))
    with pytest.raises(ImageSetError, match='joints that are not numbers'):
        load_human36m(tmp_path, TRAINING, 32, tmp_path / 'crops.npy')
    write_cdf(tmp_path / 'S1' / 'MyPoseFeatures' / 'D2_Positions' / 'a.1.cdf', np.zeros((2, 31, 2)))
    with pytest.raises(ImageSetError, match='no joints of Human3.6M'):
        load_human36m(tmp_path, TRAINING, 32, tmp_path / 'crops.npy')
