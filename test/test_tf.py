"""The floor from parameters and from TF, where a buffer with the interface of tf2_ros stands in for a missing one."""

import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('geometry_msgs')
pytest.importorskip('pose3d_ros.msg')

from bench import FRAME, Bench  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import TransformStamped  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

import pose3d_ros.ros  # noqa: E402
from pose3d_ros.camera import Camera  # noqa: E402
from pose3d_ros.records import Frame, GroundPlane  # noqa: E402
from pose3d_ros.ros.floor import Floor  # noqa: E402
from pose3d_ros.ros.param_tables import MONO  # noqa: E402
from pose3d_ros.ros.params import ParameterError  # noqa: E402
from pose3d_ros.ros.tf import NoTransformError, TfUnavailableError, Transforms  # noqa: E402

VALUES = {parameter.name: parameter.default for parameter in MONO}
OPTICAL = Rotation.from_matrix([[0, -1, 0], [0, 0, -1], [1, 0, 0]])   # body axes -> optical axes


class TransformException(Exception):   # noqa: N818 - the name in tf2
    pass


class LookupException(TransformException):
    pass


class ExtrapolationException(TransformException):
    pass


@dataclass
class Buffer:
    """A camera of known place above the frame `floor`. raising: instead of an answer, while set."""

    height: float = 1.2
    pitch: float = 0.0
    roll: float = 0.0
    raising: Exception | None = None
    asked: list = field(default_factory=list)

    def clear(self):
        raise AssertionError('no clock was set back')

    def lookup_transform(self, target_frame, source_frame, time):
        self.asked.append((target_frame, source_frame, time.nanoseconds))
        if self.raising is not None:
            raise self.raising
        body = Rotation.from_euler('XYZ', [0, 0, 0.7]) * Rotation.from_euler('YX', [self.pitch, self.roll])
        to_camera = OPTICAL * body.inv()
        answer = TransformStamped()
        turn, move = answer.transform.rotation, answer.transform.translation
        turn.x, turn.y, turn.z, turn.w = to_camera.as_quat()
        move.x, move.y, move.z = -to_camera.apply([2.0, -1.0, self.height])
        return answer


class Listener:
    def __init__(self):
        self.unregistered = False

    def unregister(self):
        self.unregistered = True


def transforms(buffer, *listeners):
    return Transforms(buffer, TransformException, *listeners)


def frame(stamp_ns=5):
    return Frame(np.zeros((4, 6, 3), np.uint8), stamp_ns, Camera(6, 4, 6.0, 6.0, 3.0, 2.0), 'eye')


def never(*told):
    raise AssertionError(told)


@pytest.mark.parametrize(('pitch', 'roll'), [(0, 0), (20, 0), (-10, 30), (45, -120)])
def test_parameters_and_tf_say_the_same_of_the_same_camera(pitch, roll):
    values = {**VALUES, 'camera_height': 1.4, 'camera_pitch': float(pitch), 'camera_roll': float(roll)}
    fixed = Floor.open({**values, 'ground_source': 'parameters'}, never).under(frame(), never).ground
    buffer = Buffer(1.4, *np.radians([pitch, roll]))
    asked = Floor.open({**values, 'ground_source': 'tf', 'ground_frame': 'floor'},
                       lambda: transforms(buffer)).under(frame(7), never).ground
    np.testing.assert_allclose(fixed.up, asked.up, atol=1e-12)
    assert fixed.camera_height == pytest.approx(asked.camera_height)
    assert fixed.tilt_sigma == asked.tilt_sigma == pytest.approx(np.radians(0.6))
    assert fixed.height_sigma == asked.height_sigma == 0.02
    assert buffer.asked == [('eye', 'floor', 7)]   # at the stamp of the image


def test_signs_of_pitch_and_roll():
    np.testing.assert_allclose(GroundPlane.under_camera(1.0).up, [0, -1, 0], atol=1e-12)
    down = GroundPlane.under_camera(1.0, pitch=np.radians(30))
    assert down.height_of(np.array([0, 0, 2.0])) == pytest.approx(0.0)      # the middle of the image meets the floor
    right = GroundPlane.under_camera(1.0, roll=np.radians(30))
    assert right.up[0] < 0 and right.up[1] < 0                              # what is upright leans to the left


def test_without_a_source_there_is_no_floor():
    floor = Floor.open(VALUES, never)
    assert floor.under(frame(), never).ground is None and floor.source == 'none'


@pytest.mark.parametrize(('changed', 'complaint'), [
    ({'ground_source': 'parameters'}, 'camera_height'), ({'ground_source': 'tf', 'ground_frame': ''}, 'ground_frame')])
def test_a_source_that_lacks_something_says_what(changed, complaint):
    with pytest.raises(ParameterError, match=complaint):
        Floor.open({**VALUES, **changed}, never)


@pytest.mark.parametrize(('error', 'cause'), [
    (LookupException('"odom" does not exist'), 'tf_lookup'),
    (ExtrapolationException('into the future'), 'tf_extrapolation'), (TransformException('?'), 'tf_transform')])
def test_a_missing_transform_is_told_with_its_cause_and_costs_no_frame(error, cause):
    buffer, told = Buffer(raising=error), []
    floor = Floor(transforms=transforms(buffer), ground_frame='odom')
    got = floor.under(frame(), lambda *what: told.append(what))
    assert got.ground is None and got.stamp_ns == 5
    assert told[0][0] == cause and str(error) in told[0][1] and "'odom' to 'eye'" in told[0][1]
    with pytest.raises(NoTransformError):
        transforms(buffer).lookup('eye', 'odom', 5)


@pytest.mark.parametrize('broken', ['rotation.w', 'translation.x'])
def test_a_transform_that_is_none_is_not_believed(broken):
    class Broken(Buffer):
        def lookup_transform(self, target_frame, source_frame, time):
            answer = super().lookup_transform(target_frame, source_frame, time)
            part, name = broken.split('.')
            setattr(getattr(answer.transform, part), name, float('nan'))
            return answer

    told = []
    got = Floor(transforms=transforms(Broken()), ground_frame='odom').under(frame(), lambda *what: told.append(what))
    assert got.ground is None and told[0][0] == 'tf_invalid'


def test_another_error_of_the_buffer_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        Floor(transforms=transforms(Buffer(raising=ZeroDivisionError())), ground_frame='odom').under(frame(), never)


def test_a_camera_below_its_floor_is_not_believed():
    told = []
    got = Floor(transforms=transforms(Buffer(-0.3)), ground_frame='map').under(frame(), lambda *what: told.append(what))
    assert got.ground is None and told[0][0] == 'camera_below_floor' and '0.30 m' in told[0][1]


def test_closing_ends_listening():
    listener = Listener()
    floor = Floor(transforms=transforms(Buffer(), listener), ground_frame='odom')
    floor.close()
    floor.close()
    assert listener.unregistered


def test_without_tf2_the_node_says_how_to_get_it_and_can_go_without(ros, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)   # as if it were not installed
    monkeypatch.setitem(sys.modules, 'tf2_msgs', None)
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', None)
    monkeypatch.delitem(sys.modules, 'pose3d_ros.ros.transform_buffer', raising=False)
    monkeypatch.delattr(pose3d_ros.ros, 'transform_buffer', raising=False)
    with pytest.raises(TfUnavailableError, match='tf2-ros-py'):
        Transforms.listen(None)
    with Bench(autostart=False, ground_source='tf') as bench:
        bench.node.trigger_configure()
        assert bench.state == 'unconfigured' and bench.opened == []
        status = bench.status('pipeline')
        assert status.level == DiagnosticStatus.ERROR and 'tf2-ros-py' in status.message
    with Bench(ground_source='none') as bench:
        bench.ready().send_info()
        bench.expect_people()
        assert bench.pipeline.frames[-1].ground is None


def test_frames_get_their_floor_from_parameters(ros):
    with Bench(ground_source='parameters', camera_height=1.1, camera_pitch=15.0, stature=1.72) as bench:
        bench.ready().send_info()
        bench.expect_people()
        plane = bench.pipeline.frames[-1].ground
        np.testing.assert_allclose(plane.up, GroundPlane.under_camera(1.1, np.radians(15)).up)
        assert plane.camera_height == 1.1 and bench.opened[0]['stature'] == 1.72
        values = {pair.key: pair.value for pair in bench.status('pipeline').values}
        assert values['ground'] == 'parameters'


def test_no_tf_is_not_no_people(ros):
    buffer, listener = Buffer(), Listener()
    with Bench(listen_to_tf=lambda node: transforms(buffer, listener), ground_source='tf',
               ground_frame='odom') as bench:
        bench.ready().send_info()
        bench.expect_people()
        assert bench.pipeline.frames[-1].ground.camera_height == pytest.approx(1.2)
        assert buffer.asked[-1] == (FRAME, 'odom', bench.stamp_ns)
        buffer.raising = ExtrapolationException('into the future')
        assert len(bench.expect_people().people) == 1
        assert bench.pipeline.frames[-1].ground is None
        status = bench.status('pipeline')
        values = {pair.key: pair.value for pair in status.values}
        assert status.level == DiagnosticStatus.WARN and 'into the future' in status.message
        assert values['without_floor.tf_extrapolation'] == '1' and values['ground'] == 'TF, frame odom'
        assert bench.drops == {}
        bench.node.trigger_deactivate()
        bench.node.trigger_cleanup()
        assert listener.unregistered
