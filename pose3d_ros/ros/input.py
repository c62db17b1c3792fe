"""The images of one camera with its camera_info, from topics to frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pose3d_ros.camera import CalibrationError, Camera
from pose3d_ros.records import Frame
from pose3d_ros.ros.convert import camera_from_info, stamp_ns
from pose3d_ros.ros.images import ImageError, decode_compressed, decode_image


@dataclass(frozen=True)
class Topics:
    """Full names. image: what is subscribed; camera_info: beside the base image; rectified: what the images are.

    name: what the node calls the image, by which it is remapped.
    """

    image: str
    camera_info: str
    compressed: bool
    rectified: bool
    name: str


def resolve_topics(node: Node, transport: str, rectification: str, prefix: str = '') -> Topics:
    """Return the topics of a camera after remapping. prefix: of its names, as 'front/' for `front/image`.

    `camera_info` lies beside `image`, wherever that was remapped to, unless it was remapped itself.
    """
    name = f'{prefix}image'
    base = node.resolve_topic_name(name)
    parent, _, last = base.rpartition('/')
    info = node.resolve_topic_name(f'{prefix}camera_info')
    if info == node.resolve_topic_name(f'{prefix}camera_info', only_expand=True):
        info = f'{parent}/camera_info'
    compressed = transport == 'compressed'
    rectified = 'rect' in last if rectification == 'auto' else rectification == 'rectified'
    return Topics(f'{base}/compressed' if compressed else base, info, compressed, rectified, name)


class CameraInput:
    """Listens to image and camera_info. State: the last camera_info; problem: why it was refused, else ''."""

    def __init__(self, node: Node, topics: Topics, reliability: str, max_pixels: int) -> None:
        self.topics = topics
        self.camera: Camera | None = None
        self.problem = ''
        self._max_pixels = max_pixels
        self._last_info = ''
        self._node = node
        self._reliability = (ReliabilityPolicy.RELIABLE if reliability == 'reliable'
                             else ReliabilityPolicy.BEST_EFFORT)
        self._subscriptions: list[Subscription] = []

    def listen(self, on_image: Callable[[Any], None],
               on_camera: Callable[[Camera | None, Camera | None], None]) -> None:
        """Subscribe. on_image: for every image message; on_camera: for every other calibration, with the one before.

        Both are called by the executor.
        """
        newest = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=self._reliability)
        # camera_info comes from a reliable or a best-effort publisher; best effort listens to both.
        info = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._subscriptions = [
            self._node.create_subscription(CameraInfo, self.topics.camera_info,
                                           lambda message: self._take_info(message, on_camera), info),
            self._node.create_subscription(CompressedImage if self.topics.compressed else Image, self.topics.image,
                                           on_image, newest)]

    def to_frame(self, message: Any) -> Frame:
        """Return the frame of an image message. Raises ImageError with the cause and the cure."""
        camera = self.camera  # once: the executor may replace it meanwhile
        if camera is None:
            raise ImageError('not_calibrated' if self.problem else 'no_camera_info',
                             self.problem or f'no camera_info on {self.topics.camera_info} yet')
        decode = decode_compressed if self.topics.compressed else decode_image
        image = decode(message, self._max_pixels)
        height, width = image.shape[:2]
        if (width, height) != (camera.width, camera.height):
            raise ImageError('size_mismatch', f'images on {self.topics.image} have {width} x {height} px, but '
                             f'{self.topics.camera_info} is for {camera.width} x {camera.height}: load the '
                             'calibration of this resolution into the driver, or let it scale or crop both')
        return Frame(image, stamp_ns(message.header.stamp), camera, message.header.frame_id)

    def why_silent(self) -> str:
        """Return a likely cause for images that do not come, and the cure."""
        publishers = self._node.get_publishers_info_by_topic(self.topics.image)
        if not publishers:
            return f'nobody publishes there: start the camera, or remap `{self.topics.name}` to its topic'
        wanted = 'sensor_msgs/msg/CompressedImage' if self.topics.compressed else 'sensor_msgs/msg/Image'
        if all(publisher.topic_type != wanted for publisher in publishers):
            return (f'its type is {publishers[0].topic_type}, not {wanted}: set image_transport, or remap '
                    f'`{self.topics.name}`')
        if self._reliability == ReliabilityPolicy.RELIABLE and all(
                publisher.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for publisher in publishers):
            return 'its publisher is best effort: set image_reliability to best_effort'
        return ('it has a publisher, but nothing arrives: is the camera running? Large images need more shared memory '
                'than DDS takes by itself (config/fastdds.xml), or image_transport compressed')

    def destroy(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _take_info(self, info: CameraInfo, on_camera: Callable[[Camera | None, Camera | None], None]) -> None:
        """Take over a calibration when it is new; the same one comes with every image."""
        roi = info.roi
        values = repr((info.width, info.height, info.distortion_model, info.k.tolist(), list(info.d), info.p.tolist(),
                       info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height))
        if values == self._last_info:  # as text, because NaN does not equal itself
            return
        self._last_info, before = values, self.camera
        try:
            self.camera = camera_from_info(info, self.topics.rectified, self.topics.camera_info)
            self.problem = ''
        except CalibrationError as error:
            self.camera, self.problem = None, str(error)
        on_camera(self.camera, before)
