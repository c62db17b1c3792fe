"""One's own networks in the whole chain: a drawn image in, people in 3D out, without BlazePose."""

from __future__ import annotations

from dataclasses import replace

import blob_networks as blobs
import numpy as np
import own_files
import pytest
import synthetic
from blob_networks import Person

from pose3d_ros.camera import Camera
from pose3d_ros.detect import Detector, DetectSettings
from pose3d_ros.detect.description import DescriptionError
from pose3d_ros.pipeline import Pipeline
from pose3d_ros.records import Frame
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.skeleton import BLAZEPOSE33, COCO17, LIMBS12

CPU = Wanted(runtime='cpu', threads=1)
FRAME_NS = 33_000_000


@pytest.fixture(scope='module')
def described(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = own_files.export_all(tmp_path_factory.mktemp('own_networks'))
    return (str(own_files.write(folder, own_files.HEAT, name='joints')),
            str(own_files.write(folder, own_files.boxes('yolov8'), name='people')))


def in_space(x: float, z: float) -> np.ndarray:
    """Return the joints (17, 3) m of COCO17 of a person who stands at x, z in front of a level camera."""
    joints = synthetic.placed(synthetic.body(), x, z)
    return joints[BLAZEPOSE33.indices(COCO17.joints)]


def image_of(joints: np.ndarray, camera: Camera) -> np.ndarray:
    """Return an image of a person whose joints (17, 3) m are drawn where the camera sees them."""
    pixels = camera.project(joints)
    height = np.ptp(pixels[:, 1]) / 0.91
    person = Person(*pixels[COCO17.indices(['left_hip', 'right_hip'])].mean(axis=0), height)
    moved = (pixels - [person.x, person.y]) / height
    original = blobs.TEMPLATE.copy()
    try:
        blobs.TEMPLATE[:] = moved
        return blobs.paint([person], camera.width, camera.height)
    finally:
        blobs.TEMPLATE[:] = original


def test_people_are_found_and_followed_to_a_pixel(described: tuple[str, str]) -> None:
    with_settings = DetectSettings(search_period=4)
    detector = Detector.open(described[0], CPU, settings=with_settings, search=described[1])
    try:
        for step in range(6):
            drawn = [Person(220 + 6 * step, 240, 260), Person(470 - 4 * step, 260, 200)]
            people = detector(blobs.frame(drawn, stamp_ns=step * FRAME_NS))
            assert len(people) == 2
            for person in people:
                assert person.skeleton is COCO17 and person.confidence > 0.9
                error = min(np.abs(person.pixels - other.joints).max() for other in drawn)
                assert error < 1.0
        assert detector.counters['found'] == 2 and detector.counters['lost'] == 0
        assert set(detector.engines) == {'search', 'landmarks'}
    finally:
        detector.close()


def test_a_joint_that_is_not_seen_is_missing_and_half_a_body_is_somebody(described: tuple[str, str]) -> None:
    detector = Detector.open(described[0], CPU, search=described[1])
    try:
        drawn = Person(320, 455, 380, without=('left_wrist',))  # down to above the knees in the image
        person, = detector(blobs.frame([drawn]))
        missing = [name for name, (x, _) in zip(COCO17.joints, person.pixels) if np.isnan(x)]
        assert set(missing) == {'left_wrist', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle'}
        for values in (person.sigma, person.joint_confidence, person.rays[:, 0]):
            np.testing.assert_array_equal(np.isnan(values), np.isnan(person.pixels[:, 0]))
    finally:
        detector.close()


def test_from_image_to_metres(described: tuple[str, str]) -> None:
    camera = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)
    pipeline = Pipeline.open(described[0], CPU, search=described[1], stature=1.75)
    try:
        truth = in_space(0.3, 3.5)
        frame = Frame(image_of(truth, camera), 0, camera)
        for step in range(4):
            result = pipeline(replace(frame, stamp_ns=step * FRAME_NS))
        person, = result.people
        seen, = result.people_2d
        assert np.abs(seen.pixels - camera.project(truth)).max() < 1.0
        found = np.array([person.joint(name) for name in LIMBS12.joints])
        expected = truth[COCO17.indices(LIMBS12.joints)]
        assert np.linalg.norm(found - expected, axis=1).mean() < 0.35, 'm; a drawn body, not a human one'
        assert abs(found.mean(axis=0) - expected.mean(axis=0))[2] < 0.35
    finally:
        pipeline.close()


def test_a_group_of_cameras_reads_all_joints_in_one_call(described: tuple[str, str]) -> None:
    from pose3d_ros.detect.detector import together

    detectors = Detector.open_group(2, described[0], CPU, search=described[1])
    try:
        calls, engine = [], detectors[0].engines['landmarks']
        run = engine.run
        engine.run = lambda inputs: calls.append(len(next(iter(inputs.values())))) or run(inputs)
        drawn = [[Person(220, 240, 260)], [Person(400, 250, 240), Person(150, 240, 200)]]
        for _ in range(2):
            found = together(detectors, [blobs.frame(people) for people in drawn])
            assert [len(people) for people in found] == [1, 2]
        assert calls == [3, 3]
    finally:
        for detector in detectors:
            detector.close()


def test_exchanged_descriptions_are_told(described: tuple[str, str]) -> None:
    with pytest.raises(DescriptionError, match="kind is 'boxes', expected 'joints'"):
        Detector.open(described[1], CPU, search=described[1])
    with pytest.raises(DescriptionError, match="kind is 'joints', expected 'boxes'"):
        Detector.open(described[0], CPU, search=described[0])
