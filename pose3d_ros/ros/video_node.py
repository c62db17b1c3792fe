"""Footage as a camera: publishes image + camera_info from a video file, a folder of images or a webcam."""

from __future__ import annotations

import array
import time
from collections.abc import Sequence
from typing import Any

import cv2
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from pose3d_ros.calibration import load_camera
from pose3d_ros.camera import CalibrationError, Camera
from pose3d_ros.footage import Footage, FootageError, open_footage
from pose3d_ros.footage import Image as Picture
from pose3d_ros.msg import People3D
from pose3d_ros.ros.convert import stamp_ns, to_info, to_stamp
from pose3d_ros.ros.declare import declare, values_of
from pose3d_ros.ros.images import encode_image
from pose3d_ros.ros.input import resolve_topics
from pose3d_ros.ros.managed import Spin, run
from pose3d_ros.ros.param_tables import VIDEO
from pose3d_ros.ros.params import ParameterError
from pose3d_ros.ros.publishing import RELIABLE_1, RELIABLE_5

FOLDER_RATE = 30.0    # Hz
SETTLE_S = 0.6        # from the first subscriber seen here until it sees this publisher as well
LAST_DELIVERY_S = 0.5  # for the middleware to hand over the last frame
JPEG_QUALITY = 90


class VideoNode(Node):
    """Publishes each image with its camera_info. Raises ParameterError at the start.

    In real time an image is stamped when it is published. With pace consumed, or start_at, stamps follow the footage
    from the moment it starts, however long the answers take: people move as fast as they did when they were filmed.
    Several nodes with one start_at play in step: an image comes at its time or not at all; with pace consumed, at its
    time or when the one before is done with.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__('video_node', **node_arguments)
        declare(self, VIDEO)
        self._values = values_of(self, VIDEO)
        self.footage, self.camera = _open(str(self._values['video']), str(self._values['calibration']),
                                          str(self._values['camera_name']))
        self.published = 0
        self.unanswered = 0  # frames for which no people came in time, with pace consumed
        self.left_out = 0    # frames that were too late, with start_at
        self._answered_ns = -1
        self._stamp_ns = 0   # of the last image
        self._start_ns = 0   # of the first image, with start_at
        topics = resolve_topics(self, str(self._values['image_transport']), 'raw')
        self._compressed = topics.compressed
        self._images: Publisher = self.create_publisher(CompressedImage if topics.compressed else Image, topics.image,
                                                        RELIABLE_1)
        self._infos = self.create_publisher(CameraInfo, topics.camera_info, RELIABLE_1)
        self._consumed = self._values['pace'] == 'consumed'
        if self._consumed:
            self.create_subscription(People3D, 'people', self._take_people, RELIABLE_5)

    def play(self, spin: Spin) -> int:
        """Publish until the footage ends (loop: never) or spin says to end; returns the exit code."""
        footage, rate = self.footage, float(self._values['rate']) or self.footage.fps
        if not rate and not footage.source.isdecimal():
            rate = FOLDER_RATE
        self.get_logger().info(f'{footage.source}: {footage.width} x {footage.height} px at '
                               f'{f"{rate:g} Hz" if rate else "its own pace"}, to {self._images.topic_name}')
        if not self._wait_for_subscriber(spin) or not self._wait_for_start(spin):
            return 0
        begun = time.monotonic()
        try:
            while self._play_once(spin, 1 / rate if rate else 0.0) and self._values['loop']:
                continue
        except FootageError as error:
            self.get_logger().error(str(error))
            return 1
        seconds = time.monotonic() - begun
        lost = f', {self.unanswered} of them without people in time' if self.unanswered else ''
        lost += f', and left out {self.left_out} that were late' if self.left_out else ''
        self.get_logger().info(f'published {self.published} frames in {seconds:.1f} s '
                               f'({self.published / max(seconds, 1e-6):.1f} Hz){lost}')
        spin(LAST_DELIVERY_S)
        return 0

    def _play_once(self, spin: Spin, period: float) -> bool:
        """Publish all images once; returns False when it is time to end."""
        follows = bool(period) and (self._consumed or self._start_ns > 0)  # do stamps follow the footage?
        begun_ns = self._begin(period)
        due = time.monotonic()
        for number, image in enumerate(self.footage.images()):
            stamp = begun_ns + round(1e9 * number * period)
            if self._start_ns:
                due = time.monotonic() + 1e-9 * (stamp - self._now_ns())
            if not spin(due - time.monotonic()):
                return False
            if follows and self._start_ns and self._too_late(stamp, period):
                self._leave_out(stamp)
                continue
            self._publish(image, stamp if follows else self._now_ns())
            if not self._consumed:
                due = max(due + period, time.monotonic())  # what is late is not made up for by a burst
            elif not self._wait_for_people(spin, self._stamp_ns):
                return False
        return True

    def _begin(self, period: float) -> int:
        """Return the stamp [ns] of the first image of the next round."""
        following = self._stamp_ns + round(1e9 * period)
        if self._start_ns:
            return following if self._stamp_ns else self._start_ns
        return max(self._now_ns(), following)

    def _too_late(self, stamp: int, period: float) -> bool:
        """Tell whether the others are at the next image already; with pace consumed, whether people came for this."""
        return self._answered_ns >= stamp if self._consumed else self._now_ns() >= stamp + 1e9 * period

    def _leave_out(self, stamp: int) -> None:
        self._stamp_ns = stamp
        self.left_out += 1
        if not self._consumed and self.left_out > self.published:
            self.get_logger().warning(
                f'{self.left_out} of {self.left_out + self.published} frames left out: this machine is too slow for '
                'this rate: lower it (rate), or let people set the pace (pace consumed)', throttle_duration_sec=5.0)

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _publish(self, image: Picture, stamp: int) -> None:
        """Publish one image and its camera_info; stamp in nanoseconds."""
        header = Header(stamp=to_stamp(stamp), frame_id=self._values['frame_id'])
        self._stamp_ns = stamp
        self._infos.publish(to_info(self.camera, header))
        self._images.publish(_to_jpeg(image, header) if self._compressed else encode_image(image, header))
        self.published += 1

    def _wait_for_start(self, spin: Spin) -> bool:
        """Learn start_at, once somebody has set it; returns False when it is time to end."""
        while (start := float(self.get_parameter('start_at').value)) < 0:
            if not spin(0.1):
                return False
        self._start_ns = round(1e9 * start)
        return True

    def _wait_for_subscriber(self, spin: Spin) -> bool:
        def listened_to() -> bool:
            return bool(self._images.get_subscription_count() and self._infos.get_subscription_count())

        end = time.monotonic() + float(self._values['wait_for_subscriber'])
        while not listened_to() and time.monotonic() < end:
            if not spin(0.05):
                return False
        return spin(SETTLE_S) if listened_to() else True

    def _wait_for_people(self, spin: Spin, stamp: int) -> bool:
        """Wait until people with this stamp came; returns False when it is time to end."""
        if not spin(float(self._values['consume_timeout']), lambda: self._answered_ns >= stamp):
            return False
        if self._answered_ns < stamp:
            self.unanswered += 1
            self.get_logger().warning(f'no people for frame {self.published} within '
                                      f'{self._values["consume_timeout"]} s; going on')
        return True

    def _take_people(self, people: People3D) -> None:
        self._answered_ns = stamp_ns(people.header.stamp)


def _open(video: str, calibration: str, camera_name: str) -> tuple[Footage, Camera]:
    """Return the footage and its camera. Raises ParameterError saying what is wrong with which of them."""
    try:
        footage = open_footage(video)
    except FootageError as error:
        raise ParameterError(f'video: {error}') from error
    if not calibration:
        raise ParameterError('calibration: name the file with the calibration of the camera; without it there are '
                             'no metres')
    try:
        camera = load_camera(calibration, camera_name).camera
    except (CalibrationError, OSError) as error:
        raise ParameterError(f'calibration: {error}') from error
    if (camera.width, camera.height) != (footage.width, footage.height):
        raise ParameterError(f'calibration: {calibration} is for {camera.width} x {camera.height} px, but {video} has '
                             f'{footage.width} x {footage.height}')
    return footage, camera


def _to_jpeg(image: Picture, header: Header) -> CompressedImage:
    data = array.array('B')
    data.frombytes(cv2.imencode('.jpg', image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes())
    return CompressedImage(header=header, format='bgr8; jpeg compressed bgr8', data=data)


def main(args: Sequence[str] | None = None) -> int:
    """Play the footage; returns the exit code."""
    return run(VideoNode, VideoNode.play, args)
