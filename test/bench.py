"""A node under test on real rclpy: fed with images, its topics recorded."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import cv2
import fakes
import numpy as np
import synthetic
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pose3d_ros.camera import Camera
from pose3d_ros.msg import People2D, People3D
from pose3d_ros.ros.compat import lifecycle_state
from pose3d_ros.ros.convert import to_info, to_stamp
from pose3d_ros.ros.images import encode_image
from pose3d_ros.ros.mono_node import MonoNode
from pose3d_ros.ros.tf import Transforms

FRAME = 'camera_optical_frame'
SMALL = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
B = TypeVar('B', bound='NodeBench')
_namespaces = (f'/bench{number}' for number in itertools.count())


def picture(camera: Camera = SMALL) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (camera.height, camera.width, 3), dtype=np.uint8)


class NodeBench:
    """A node in a namespace of its own, and a tester beside it. Use as a context manager."""

    def __init__(self, make_node: Callable[..., Any], qos: QoSProfile | None = None, cli_args: list[str] | None = None,
                 **parameters: Any) -> None:
        """make_node: takes the arguments of rclpy's Node, except the name."""
        self.namespace = next(_namespaces)
        self.stamp_ns = 1_000_000_000_000
        self.node = make_node(namespace=self.namespace, cli_args=cli_args,
                              parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()])
        self.tester = Node('tester', namespace=self.namespace)
        self.qos = qos or QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        self._publishers: dict[str, Any] = {}
        self._reports: list[DiagnosticStatus] = []
        self.tester.create_subscription(DiagnosticArray, '/diagnostics', self._take_report, 10)
        self._executors = [SingleThreadedExecutor(), SingleThreadedExecutor()]
        self._threads = []
        self._done = threading.Event()
        for node, executor in zip((self.node, self.tester), self._executors):
            executor.add_node(node)
            self._threads.append(threading.Thread(target=self._spin, args=(executor,)))

    def __enter__(self: B) -> B:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        for executor in self._executors:
            executor.shutdown()
        self.node.close()
        for node in (self.node, self.tester):
            node.destroy_node()

    def _spin(self, executor: SingleThreadedExecutor) -> None:
        # Not executor.spin(): to shut an executor down while it works destroys what its last callback still triggers.
        while not self._done.is_set():
            executor.spin_once(timeout_sec=0.1)

    def _take_report(self, array: DiagnosticArray) -> None:
        self._reports += [status for status in array.status if status.hardware_id.startswith(self.namespace[1:])]

    def listen(self, kind: type, topic: str, callback: Callable[[Any], Any]) -> Any:
        return self.tester.create_subscription(kind, topic, callback, QoSProfile(depth=50))

    @property
    def state(self) -> str:
        return lifecycle_state(self.node)

    def publisher(self, kind: type, topic: str) -> Any:
        if topic not in self._publishers:
            self._publishers[topic] = self.tester.create_publisher(kind, topic, self.qos)
        return self._publishers[topic]

    def header(self, step_ns: int = 33_000_000) -> Header:
        self.stamp_ns += step_ns
        return Header(stamp=to_stamp(self.stamp_ns), frame_id=FRAME)

    def status(self, name: str) -> DiagnosticStatus:
        """Return what /diagnostics says on 'input' or 'pipeline' now."""
        wait_for(lambda: self.tester.count_publishers('/diagnostics'))
        self._reports.clear()
        end = time.monotonic() + 10
        while len(self._reports) < 2 and time.monotonic() < end:
            self.node.report()
            time.sleep(0.05)
        return next(status for status in reversed(self._reports) if status.name.endswith(': ' + name))


class Bench(NodeBench):
    """A MonoNode under test, with a stand-in for its pipeline unless open_pipeline is given."""

    def __init__(self, pipeline: Any = None, camera: Camera = SMALL, open_pipeline: Callable[..., Any] | None = None,
                 cli_args: list[str] | None = None, qos: QoSProfile | None = None,
                 listen_to_tf: Callable[[Node], Transforms] = Transforms.listen, **parameters: Any) -> None:
        self.pipeline = pipeline if pipeline is not None else fakes.FakePipeline()
        self.camera = camera
        self.opened: list[dict] = []

        def open_it(**arguments: Any) -> Any:
            self.opened.append(arguments)
            return self.pipeline

        super().__init__(partial(MonoNode, open_pipeline or open_it, listen_to_tf), qos, cli_args, **parameters)
        self.people: list[People3D] = []
        self.people_2d: list[People2D] = []
        self.markers: list[MarkerArray] = []
        self.listen(People3D, 'people', self.people.append)
        self.listen(People2D, 'people_2d', self.people_2d.append)

    @property
    def drops(self) -> dict[str, int]:
        return dict(self.node.health.drops)

    def ready(self) -> Bench:
        """Wait until the node works and sees the tester's publishers."""
        self.publisher(CameraInfo, 'camera_info')
        self.publisher(Image, 'image')
        wait_for(lambda: self.state == 'active' and self.tester.count_subscribers(f'{self.namespace}/image')
                 and self.node.count_publishers(f'{self.namespace}/people'))
        wait_for(lambda: all(p.get_subscription_count() for p in self._publishers.values()))
        wait_for(lambda: self.tester.count_publishers(f'{self.namespace}/people') == 1)
        time.sleep(0.1)  # the other direction of each match
        return self

    def send_info(self, info: CameraInfo | None = None, topic: str = 'camera_info') -> None:
        facts = self.node.health.camera
        before = facts.calibrated, facts.calibration_problem
        self.publisher(CameraInfo, topic).publish(info or to_info(self.camera, self.header(0)))
        wait_for(lambda: (facts.calibrated, facts.calibration_problem) != before or before[0], 2.0)
        time.sleep(0.05)

    def image(self, **fields: Any) -> Image:
        """Return a good image message, or one with some fields replaced."""
        message = encode_image(picture(self.camera), self.header())
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def send(self, message: Any = None, topic: str = 'image') -> Any:
        """Publish an image (a good one by default) and wait until it is worked off."""
        message = message if message is not None else self.image()
        health = self.node.health
        before = health.done + sum(health.drops.values())
        self.publisher(type(message), topic).publish(message)
        wait_for(lambda: health.done + sum(health.drops.values()) > before)
        return message

    def expect_people(self) -> People3D:
        """Send a good image and return the people that came of it."""
        before = len(self.people)
        message = self.send()
        wait_for(lambda: len(self.people) > before)
        assert self.people[-1].header == message.header
        return self.people[-1]


def compressed(bench: Bench, data: bytes | None = None, kind: str = 'jpeg') -> CompressedImage:
    """Return the picture as a compressed image message, or one with other data."""
    if data is None:
        data = cv2.imencode('.jpg' if kind == 'jpeg' else '.png', picture(bench.camera))[1].tobytes()
    return CompressedImage(header=bench.header(), format=f'bgr8; {kind} compressed bgr8', data=data)


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f'not within {seconds:g} s'
        time.sleep(0.005)


BIG = synthetic.CAMERA
