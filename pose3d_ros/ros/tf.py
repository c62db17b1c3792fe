"""TF as arrays: by tf2_ros where it is installed, else by a buffer of this package."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

# Those of tf2_ros: what is static reaches those who come later too.
TF_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
TF_STATIC_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE,
                           durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TfUnavailableError(Exception):
    """TF cannot be used here; the text gives the reason and the cure."""


class NoTransformError(Exception):
    """A transform that is not there at the time asked for. cause: a short name to count by; the text says what is."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class Buffer(Protocol):
    """What is needed of a buffer; tf2_ros.Buffer and transform_buffer.Buffer are such."""

    def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> Any: ...

    def clear(self) -> None: ...


def tf_message() -> Any:
    """Return the class of the messages of /tf. Raises TfUnavailableError where they are not installed."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError as error:
        raise TfUnavailableError(
            f'TF needs the messages tf2_msgs, which cannot be imported here ({error}): install '
            'ros-$ROS_DISTRO-tf2-msgs and source the ROS 2 installation (in a checkout without one: make build, and '
            '. scripts/env.sh)') from error
    return TFMessage


class Transforms:
    """Looks transforms up at a given time, and never waits for one."""

    def __init__(self, buffer: Buffer, missing: type[Exception], *listeners: Any) -> None:
        """missing: what the buffer raises for a transform that it has not; listeners: what keeps the buffer up to date,
        until unregister().
        """
        self._buffer, self._missing, self._listeners = buffer, missing, listeners

    @classmethod
    def listen(cls, node: Node) -> Transforms:
        """Listen to /tf and /tf_static by the executor of the node.

        Raises TfUnavailableError where there is neither tf2_ros nor tf2_msgs.
        """
        try:
            import tf2_ros as tf
        except ImportError as missing:
            try:
                from pose3d_ros.ros import transform_buffer as tf
            except ImportError as error:
                raise TfUnavailableError(
                    f'TF needs the Python package tf2_ros, or the messages tf2_msgs; neither can be imported here '
                    f'({missing}; {error}): install ros-$ROS_DISTRO-tf2-ros-py and source the ROS 2 installation (in '
                    'a checkout without one: make build, and . scripts/env.sh)') from error
        buffer = tf.Buffer()

        def jumped(jump: TimeJump) -> None:
            node.get_logger().info('TF: the clock was set back or exchanged; moving frames are forgotten')
            buffer.clear()

        # A buffer of tf2_ros minds no simulated clock: when a bag starts again, it would refuse all that is said.
        backwards = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        jumps = node.get_clock().create_jump_callback(backwards, post_callback=jumped)
        return cls(buffer, tf.TransformException, tf.TransformListener(buffer, node), jumps)

    def lookup(self, target: str, source: str, stamp_ns: int) -> tuple[Array, Array]:
        """Return rotation (3, 3) and translation (3,) m that take points of frame source to frame target at stamp_ns.

        Raises NoTransformError when TF does not know them, or not at this time.
        """
        if stamp_ns <= 0:  # tf2 would answer with the latest transform, whenever that was
            raise NoTransformError('no_stamp', f'what comes in {target!r} has no stamp ({stamp_ns} ns); the driver of '
                                               'the camera must set that of its images')
        try:
            found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns)).transform
        except self._missing as error:
            kind = type(error).__name__.removesuffix('Exception').lower() or 'unknown'
            raise NoTransformError(f'tf_{kind}', f'no transform from {source!r} to {target!r}: {error}') from error
        turn, move = found.rotation, found.translation
        quaternion, translation = np.array([turn.x, turn.y, turn.z, turn.w]), np.array([move.x, move.y, move.z])
        if not (np.isfinite(translation).all() and abs(np.linalg.norm(quaternion) - 1) < 0.01):
            raise NoTransformError('tf_invalid', f'the transform from {source!r} to {target!r} is none: quaternion '
                                                 f'{quaternion.tolist()}, translation {translation.tolist()}')
        return Rotation.from_quat(quaternion).as_matrix(), translation

    def close(self) -> None:
        """Stop listening."""
        for listener in self._listeners:
            listener.unregister()
        self._listeners = ()
