"""TF where tf2 is not installed: a tree of frames, filled from /tf and /tf_static."""

from __future__ import annotations

import contextlib
import time

from geometry_msgs.msg import TransformStamped
from rclpy.executors import InvalidHandle  # it lives elsewhere in every version
from rclpy.node import Node
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from pose3d_ros.ros.compat import waiting_messages
from pose3d_ros.ros.frame_tree import (
    ConnectivityException,
    ExtrapolationException,
    FrameTree,
    LookupException,
    TransformException,
)
from pose3d_ros.ros.tf import TF_QOS, TF_STATIC_QOS

__all__ = ['Buffer', 'ConnectivityException', 'ExtrapolationException', 'LookupException', 'TransformException',
           'TransformListener']  # named as in tf2_ros


class Buffer(FrameTree):
    """The tree, asked as a buffer of tf2_ros."""

    def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
        """Return what takes points of the source to the target frame at a time. Raises TransformException."""
        quaternion, translation = self.lookup(target_frame, source_frame, time.nanoseconds)
        found = TransformStamped(child_frame_id=source_frame)
        found.header.stamp, found.header.frame_id = time.to_msg(), target_frame
        turn, move = found.transform.rotation, found.transform.translation
        turn.x, turn.y, turn.z, turn.w = quaternion
        move.x, move.y, move.z = translation
        return found


class TransformListener:
    """Fills a buffer from /tf and /tf_static by the executor of a node, until unregister()."""

    def __init__(self, buffer: Buffer, node: Node) -> None:
        self._buffer, self._node = buffer, node
        self._moving = node.create_subscription(TFMessage, '/tf', self._take_all, TF_QOS)
        self._static = node.create_subscription(TFMessage, '/tf_static', lambda message: self._take(message, True),
                                                TF_STATIC_QOS)

    def unregister(self) -> None:
        """Stop listening."""
        for subscription in (self._moving, self._static):
            self._node.destroy_subscription(subscription)

    def _take_all(self, message: TFMessage) -> None:
        """Take in a message of /tf and all that wait behind it.

        An executor hands over one message of each topic in turn. /tf, where everybody publishes, has many times more
        than others: on a busy machine its queue would stay full, and the newest that is known be a second old.
        """
        self._take(message, False)
        with contextlib.suppress(InvalidHandle):  # another thread has just called unregister()
            for later in waiting_messages(self._moving):
                self._take(later, False)

    def _take(self, message: TFMessage, static: bool) -> None:
        now_s = time.monotonic()
        for transform in message.transforms:
            if problem := self._buffer.put(transform, static, now_s):
                self._node.get_logger().warning(f'TF: ignored: {problem}', throttle_duration_sec=10.0)
