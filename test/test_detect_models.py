"""The detector with the real networks on real footage: a man balancing on a beam, seen by four cameras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pose3d_ros.camera import Camera
from pose3d_ros.detect import Detector, regions, together
from pose3d_ros.detect.blazepose import BlazePoseReader
from pose3d_ros.records import Frame, Person2D
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.opening import open_engine
from pose3d_ros.runtime.store import ModelStore
from pose3d_ros.skeleton import BLAZEPOSE33, LIMBS12

LIMBS = BLAZEPOSE33.indices(LIMBS12.joints)
# Middle of the man's hips in the first frame of each camera, px, read off the pictures.
HIPS = {'cam01': (420, 735), 'cam02': (575, 760), 'cam03': (635, 905), 'cam04': (395, 980)}


@pytest.fixture(scope='module')
def detector(models_dir: Path) -> Detector:
    return Detector.open('full', Wanted('cpu', threads=1))


@pytest.fixture
def images(sample_dir: Path) -> Callable[[str, int], list[NDArray[np.uint8]]]:
    def read(camera: str, count: int) -> list[NDArray[np.uint8]]:
        video = cv2.VideoCapture(str(sample_dir / f'{camera}.mp4'))
        return [video.read()[1] for _ in range(count)]
    return read


def frame_of(image: NDArray[np.uint8]) -> Frame:
    height, width = image.shape[:2]
    return Frame(np.ascontiguousarray(image), 0, Camera(width, height, height, height, width / 2, height / 2))


def man(found: list[Person2D]) -> Person2D:
    return max(found, key=lambda person: person.box[3] - person.box[1])


@pytest.mark.parametrize('camera', HIPS)
def test_the_man_is_found_at_once_and_followed(detector, images, camera):
    detector.reset()
    middle = np.array(HIPS[camera], float)
    for image in images(camera, 8):
        found = detector(frame_of(image))
        person = man(found)
        hips = person.pixels[BLAZEPOSE33.indices(['left_hip', 'right_hip'])].mean(axis=0)
        assert np.linalg.norm(hips - middle) < 40.0
        middle = hips
        assert 600 < person.box[3] - person.box[1] < 1100 and person.confidence > 0.9
        assert np.isfinite(person.pixels).all() and (person.sigma > 0.5).all() and np.median(person.sigma) < 12.0
        order = person.pixels[BLAZEPOSE33.indices(['nose', 'left_hip', 'left_knee', 'left_ankle']), 1]
        assert (np.diff(order) > 0).all()
        assert len(found) <= (2 if camera in ('cam01', 'cam02') else 1)  # a woman stands in the back of these two


def test_four_cameras_at_once_see_what_each_sees_alone(models_dir, images):
    cameras = Detector.open_group(4, 'full', Wanted('cpu', threads=1))
    alone = Detector.open('full', Wanted('cpu', threads=1))
    views = [[frame_of(image) for image in images(camera, 5)] for camera in HIPS]
    found = [together(cameras, frames) for frames in zip(*views, strict=True)]
    for number, frames in enumerate(views):
        alone.reset()
        for frame, people in zip(frames, found, strict=True):
            for person, expected in zip(people[number], alone(frame), strict=True):
                np.testing.assert_allclose(person.pixels, expected.pixels, atol=0.1)
                np.testing.assert_allclose(person.joint_confidence, expected.joint_confidence, atol=1e-3)
    for camera in (*cameras, alone):
        camera.close()


def test_joints_turn_with_the_image(models_dir, images):
    """A turned image with its region turned alike is the same crop: so are the joints, but for resampling."""
    read = BlazePoseReader(open_engine(ModelStore().path('pose_landmark_full'), Wanted('cpu', threads=1)))
    [image] = images('cam03', 1)
    height, width = image.shape[:2]
    region = np.array([[635.0, 905.0, 1080.0, 0.05]])
    [upright] = read([(image, region)])
    turned_image = cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)  # (x, y) goes to (height - 1 - y, x)
    turned_region = np.array([[height - 1 - 905.0, 635.0, 1080.0, 0.05 + np.pi / 2]])
    [turned] = read([(turned_image, turned_region)])
    expected = np.stack([height - 1 - upright.pixels[0, :, 1], upright.pixels[0, :, 0]], axis=-1)
    assert np.linalg.norm(turned.pixels[0] - expected, axis=-1).max() < 2.0
    np.testing.assert_allclose(turned.depth, upright.depth, atol=5.0)
    assert width == 1088


def test_joints_scale_with_the_image(detector, images):
    [image] = images('cam04', 1)
    detector.reset()
    large = man(detector(frame_of(image)))
    detector.reset()
    half = man(detector(frame_of(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))))
    difference = np.linalg.norm(2.0 * half.pixels + 0.5 - large.pixels, axis=1)[LIMBS]
    assert np.median(difference) < 8.0
    assert 0.35 < np.median(half.sigma / large.sigma) < 0.7


def test_a_mirrored_image_gives_the_mirrored_person(detector, images):
    [image] = images('cam03', 1)
    detector.reset()
    person = man(detector(frame_of(image)))
    detector.reset()
    mirrored = man(detector(frame_of(image[:, ::-1])))
    back = mirrored.pixels[BLAZEPOSE33.mirror]
    back[:, 0] = image.shape[1] - 1 - back[:, 0]
    assert np.median(np.linalg.norm(back - person.pixels, axis=1)[LIMBS]) < 15.0


@pytest.mark.parametrize('camera, part', [
    ('cam03', np.s_[:, 720:]), ('cam03', np.s_[1400:]), ('cam04', np.s_[:, 800:]), ('cam02', np.s_[1200:]),
    ('cam01', np.s_[1300:])])
def test_nobody_is_found_where_nobody_is(detector, images, camera, part):
    [image] = images(camera, 1)
    detector.reset()
    for _ in range(16):
        assert detector(frame_of(image[part])) == []


def test_half_a_man_at_the_border_has_half_his_joints(detector, images):
    [image] = images('cam03', 1)
    cut = image[:, 640:]  # to the right of the middle of his hips
    detector.reset()
    person = man(detector(frame_of(cut)))
    known = np.isfinite(person.pixels[:, 0])
    assert 0 < known.sum() < 33 and (person.pixels[known] >= -0.5).all()
    np.testing.assert_array_equal(np.isfinite(person.joint_confidence), known)


def test_uncertainty_tells_seen_from_hidden(models_dir, images):
    """With the legs behind a plain board, their joints lose confidence and gain sigma; the arms keep theirs."""
    read = BlazePoseReader(open_engine(ModelStore().path('pose_landmark_full'), Wanted('cpu', threads=1)))
    [image] = images('cam03', 1)
    region = regions.from_circle(np.array([[635.0, 905.0]]), np.array([[650.0, 460.0]]), regions.FOLLOWED_MARGIN)
    [free] = read([(image, region)])
    image[970:] = 60
    [hidden] = read([(image, region)])
    knees, shoulders = (BLAZEPOSE33.indices([f'left_{joint}', f'right_{joint}']) for joint in ('ankle', 'shoulder'))
    assert (hidden.confidence[0, knees] < 0.6 * free.confidence[0, knees]).all()
    assert (hidden.sigma[0, knees] > 1.5 * free.sigma[0, knees]).all()
    assert (hidden.confidence[0, shoulders] > 0.8).all()
