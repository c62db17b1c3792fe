"""Places of cameras from a file and from TF."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')

from pose3d_ros.calibration import save_places  # noqa: E402
from pose3d_ros.camera import CalibrationError  # noqa: E402
from pose3d_ros.ros.params import ParameterError  # noqa: E402
from pose3d_ros.ros.places import Places  # noqa: E402
from pose3d_ros.ros.tf import NoTransformError, TfUnavailableError  # noqa: E402


def pose(seed: int) -> np.ndarray:
    made = np.eye(4)
    made[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    made[:3, 3] = np.random.default_rng(seed).uniform(-5, 5, 3)
    return made


class FakeTransforms:
    """Knows camera frame `eye`, which moves along the x of frame map with 1 m/s."""

    def __init__(self):
        self.closed = 0

    def lookup(self, target, source, stamp_ns):
        if target != 'eye':
            raise NoTransformError('tf_lookup', f'no transform from {source!r} to {target!r}')
        return np.eye(3), np.array([-stamp_ns / 1e9, 0.0, 0.0])

    def close(self):
        self.closed += 1


def never():
    raise AssertionError('nobody listens to TF')


def values(source='tf', calibration='', frame='map'):
    return {'extrinsics_source': source, 'calibration': str(calibration), 'frame': frame}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'places.yaml'
    save_places(path, {'front': pose(0), 'left_optical_frame': pose(1)})
    return path


def test_a_file_is_asked_by_camera_then_by_frame(file):
    places = Places.open(values('file', file), never)
    np.testing.assert_allclose(places.lookup('front', 'left_optical_frame', 1), pose(0), atol=1e-12)
    np.testing.assert_allclose(places.lookup('left', 'left_optical_frame', 2), pose(1), atol=1e-12)
    with pytest.raises(NoTransformError, match="no place of camera 'right' .frame 'eye'.* front, left_.*cal") as told:
        places.lookup('right', 'eye', 3)
    assert told.value.cause == 'no_place' and places.source == f'file {file}'
    places.close()


def test_places_change_while_running_and_a_broken_file_changes_nothing(file):
    places = Places.open(values('file', file), never)
    mine = pose(2)
    places.update({'right': mine, 'front': pose(3)})
    assert places.source == f'file {file}, changed since by calibration'
    mine[0, 3] = np.nan   # what was given is not shared,
    places.lookup('front', '', 1)[:] = np.nan   # nor what is handed out
    np.testing.assert_allclose(places.lookup('right', '', 1), pose(2), atol=1e-12)
    np.testing.assert_allclose(places.lookup('front', '', 1), pose(3), atol=1e-12)
    np.testing.assert_allclose(places.lookup('left_optical_frame', '', 1), pose(1), atol=1e-12)
    file.write_text('cameras: {front: 3}')
    with pytest.raises(CalibrationError, match='front'):
        places.reload()
    np.testing.assert_allclose(places.lookup('front', '', 1), pose(3), atol=1e-12)
    save_places(file, {'front': pose(4)})
    places.reload()
    np.testing.assert_allclose(places.lookup('front', '', 1), pose(4), atol=1e-12)
    with pytest.raises(NoTransformError):
        places.lookup('right', '', 1)


def test_tf_is_asked_at_the_stamp_for_the_common_frame():
    transforms = FakeTransforms()
    places = Places.open(values(frame='map'), lambda: transforms)
    for stamp_ns in (0, 2_500_000_000):
        expected = np.eye(4)
        expected[0, 3] = -stamp_ns / 1e9
        np.testing.assert_array_equal(places.lookup('front', 'eye', stamp_ns), expected)
    assert places.source == 'TF, frame map'
    with pytest.raises(NoTransformError) as told:
        places.lookup('front', 'ear', 1)
    assert told.value.cause == 'tf_lookup'
    with pytest.raises(NoTransformError, match="'front' has no frame_id.*driver") as told:
        places.lookup('front', '', 1)
    assert told.value.cause == 'no_frame_id'
    for change in (places.reload, lambda: places.update({'front': pose(0)})):
        with pytest.raises(ParameterError, match='extrinsics_source is tf'):
            change()
    places.close()
    assert transforms.closed == 1


def test_what_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(ParameterError, match='calibration: name the file'):
        Places.open(values('file'), never)
    with pytest.raises(CalibrationError, match='cannot be read'):
        Places.open(values('file', tmp_path / 'none.yaml'), never)
    with pytest.raises(ParameterError, match='frame: name'):
        Places.open(values(frame=''), never)

    def unavailable():
        raise TfUnavailableError('no TF here')

    with pytest.raises(TfUnavailableError):
        Places.open(values(), unavailable)
