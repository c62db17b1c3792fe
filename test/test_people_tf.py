"""People as TF frames, over real DDS."""

from __future__ import annotations

import sys
from dataclasses import replace

import fakes
import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs')
pytest.importorskip('pose3d_ros.msg')

from bench import FRAME, Bench, wait_for  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from pose3d_ros.pelvis import pelvis_frame  # noqa: E402
from pose3d_ros.ros.convert import to_stamp  # noqa: E402
from pose3d_ros.ros.people_tf import PeopleTf  # noqa: E402
from pose3d_ros.ros.tf import TF_QOS, NoTransformError, Transforms  # noqa: E402

T0 = 1000 * 10**9


class Hearing:
    """A node that listens to TF. Use as a context manager."""

    def __init__(self) -> None:
        self.node = Node('hearing')
        self.transforms = Transforms.listen(self.node)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)

    def __enter__(self) -> Hearing:
        return self

    def __exit__(self, *_: object) -> None:
        self.transforms.close()
        self.executor.shutdown()
        self.node.destroy_node()

    def found(self, target: str, source: str, stamp_ns: int) -> tuple[np.ndarray, np.ndarray] | None:
        self.executor.spin_once(timeout_sec=0.02)
        try:
            return self.transforms.lookup(target, source, stamp_ns)
        except NoTransformError:
            return None


def header(stamp_ns: int = T0, frame_id: str = 'map') -> Header:
    return Header(stamp=to_stamp(stamp_ns), frame_id=frame_id)


@pytest.mark.parametrize(('namespace', 'prefix', 'name'), [
    ('', '', 'body_7'), ('/front', '', 'front/body_7'), ('', 'left/', 'left/body_7'), ('/a/b', 'c/', 'a/b/c/body_7')])
def test_the_frames_of_people_are_found_by_another_node(ros, namespace, prefix, name):
    person = fakes.standing(x=0.5, heading=0.7, id=7)
    talker = Node('talker', namespace=namespace)
    people_tf = PeopleTf(talker, prefix)
    with Hearing() as hearing:
        wait_for(lambda: talker.count_subscribers('/tf'))
        got = []

        def arrived():
            people_tf.publish([person], header())
            got[:] = hearing.found('map', name, T0) or []
            return got

        wait_for(arrived)
        expected = pelvis_frame(person)
        np.testing.assert_allclose(got[0], expected.rotation, atol=1e-9)
        np.testing.assert_allclose(got[1], expected.position, atol=1e-9)
        people_tf.destroy()
        wait_for(lambda: not hearing.node.count_publishers('/tf'))
    talker.destroy_node()


class Recorder:
    """A node's publisher that keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[TFMessage] = []

    def get_namespace(self) -> str:
        return '/'

    def create_publisher(self, kind: type, topic: str, qos: object) -> Recorder:
        assert (kind, topic, qos) == (TFMessage, '/tf', TF_QOS)
        return self

    def publish(self, message: TFMessage) -> None:
        self.sent.append(message)


def test_only_people_with_a_known_pelvis_have_a_frame():
    node = Recorder()
    people_tf = PeopleTf(node)
    without_hips = fakes.standing(id=2, missing=('left_hip', 'right_hip', 'pelvis'))
    without_trunk = fakes.standing(id=3, missing=('spine', 'thorax', 'left_shoulder', 'right_shoulder'))
    nowhere = replace(fakes.standing(id=4), position=np.full((17, 3), np.nan))
    people_tf.publish([without_hips, fakes.standing(id=1), without_trunk, nowhere], header())
    transform, = node.sent[0].transforms
    assert transform.child_frame_id == 'body_1' and transform.header == header()
    people_tf.publish([without_hips], header())   # nothing to say,
    people_tf.publish([], header())
    people_tf.publish([fakes.standing()], header(frame_id=''))   # or nowhere to say it of
    assert len(node.sent) == 1


def test_a_mono_node_publishes_them_when_asked_to(ros):
    with Bench() as bench:
        bench.ready().send_info()
        bench.expect_people()
        assert not bench.tester.count_publishers('/tf')
    with Bench(publish_tf=True) as bench:
        heard = []
        bench.listen(TFMessage, '/tf', heard.append)
        bench.ready().send_info()
        wait_for(lambda: bench.expect_people() and heard)
        transform, = heard[-1].transforms
        assert transform.header.frame_id == FRAME
        assert transform.child_frame_id == f'{bench.namespace[1:]}/body_1'
        bench.node.trigger_deactivate()
        bench.node.trigger_cleanup()
        wait_for(lambda: not bench.tester.count_publishers('/tf'))


def test_without_tf2_msgs_a_node_that_should_publish_tf_says_why_it_does_not_start(ros, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', None)
    with Bench(autostart=False, publish_tf=True) as bench:
        bench.node.trigger_configure()
        assert bench.state == 'unconfigured' and bench.opened == []
        status = bench.status('pipeline')
        assert status.level == DiagnosticStatus.ERROR and 'tf2-msgs' in status.message
