"""A trained network of heat maps, on real footage, through a description: BlazePose's own, read by its heat alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import own_files
import pytest

from pose3d_ros.camera import Camera
from pose3d_ros.detect import Detector
from pose3d_ros.detect.blazepose import BlazePoseReader
from pose3d_ros.detect.own import open_reader
from pose3d_ros.records import Frame
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.opening import open_engine
from pose3d_ros.skeleton import BLAZEPOSE33, LIMBS12

AUXILIARY = ['hip_middle', 'body_circle', 'shoulder_middle', 'upper_circle', 'left_palm', 'right_palm']
CPU = Wanted(runtime='cpu')
LIMBS = BLAZEPOSE33.indices(LIMBS12.joints)


@pytest.fixture()
def described(models_dir: Path, tmp_path: Path) -> str:
    return str(own_files.write(tmp_path, {
        'kind': 'joints', 'file': str(models_dir / 'pose_landmark_full.onnx'),
        'input': {'size': [256, 256], 'range': [0, 1]},
        'head': {'type': 'heatmap', 'outputs': 'heatmap', 'values': 'logit'},
        'crop': {'turned': True, 'padding': 1.25}, 'joints': [*BLAZEPOSE33.joints, *AUXILIARY],
        'confidence': {'unseen': 0.1, 'sure': 0.6}}, name='blazepose_heat'))


def test_a_trained_network_is_followed_on_the_footage_as_by_its_own_reader(described: str, sample_dir: Path) -> None:
    video = cv2.VideoCapture(str(sample_dir / 'cam03.mp4'))
    detectors = [Detector.open(model, CPU) for model in (described, 'full')]
    try:
        distances, sizes = [], []
        for number in range(15):
            image = video.read()[1]
            height, width = image.shape[:2]
            frame = Frame(image, number * 16_666_667, Camera(width, height, 1680.0, 1680.0, width / 2, height / 2))
            people, expected = (detector(frame) for detector in detectors)
            assert len(people) == len(expected) == 1
            distances.append(np.linalg.norm(people[0].pixels[LIMBS] - expected[0].pixels[LIMBS], axis=1))
            sizes.append(np.ptp(expected[0].box.reshape(2, 2), axis=0).max())
        share = np.array(distances) / np.array(sizes)[:, None]
        assert np.nanmedian(share) < 0.015 and np.isfinite(share).mean() > 0.85
        assert detectors[0].counters['lost'] == 0
    finally:
        video.release()
        for detector in detectors:
            detector.close()


def test_in_the_same_crop_both_read_the_same_to_a_fraction_of_a_pixel(described: str, models_dir: Path,
                                                                      sample_dir: Path) -> None:
    own, theirs = open_reader(described, CPU), BlazePoseReader(open_engine(models_dir / 'pose_landmark_full.onnx', CPU))
    video = cv2.VideoCapture(str(sample_dir / 'cam03.mp4'))
    region, apart = np.array([[627.0, 885.0, 1150.0, 0.35]]), []  # about the man in the first frame
    for _ in range(10):
        image = video.read()[1]
        (mine,), (other,) = own([(image, region)]), theirs([(image, region)])
        apart.append(np.linalg.norm(mine.pixels[0, LIMBS] - other.pixels[0, LIMBS], axis=1) / (region[0, 2] / 256))
        region = other.next_regions()
    video.release()
    assert np.median(apart) < 0.2 and np.percentile(apart, 90) < 0.6, 'px of the crop'
    own.engine.close()
    theirs.engine.close()
