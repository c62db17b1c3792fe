"""What the nodes publish for every frame."""

from __future__ import annotations

from copy import copy

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pose3d_ros.draw import draw_people
from pose3d_ros.msg import People2D, People3D
from pose3d_ros.pipeline import Result
from pose3d_ros.records import Frame
from pose3d_ros.ros.convert import to_people, to_people_2d, to_stamp
from pose3d_ros.ros.images import encode_image
from pose3d_ros.ros.markers import SkeletonMarkers
from pose3d_ros.ros.people_tf import PeopleTf
from pose3d_ros.skeleton import Skeleton

RELIABLE_5 = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE)
RELIABLE_1 = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)


class Output:
    """Publishes people and people_2d always, and what is for the eye only while somebody looks."""

    def __init__(self, node: Node, skeleton: Skeleton, prefix: str = '', publish_tf: bool = False) -> None:
        """skeleton: of the people in the image; their joints are named also when nobody is there.

        prefix: of the topics, as 'front/' for `front/people`. publish_tf: people as TF frames too; raises
        TfUnavailableError where TF cannot be used.
        """
        self._tf = PeopleTf(node, prefix) if publish_tf else None
        self._node, self._skeleton = node, skeleton
        self._people = self._publisher(People3D, f'{prefix}people', RELIABLE_5)
        self._people_2d = self._publisher(People2D, f'{prefix}people_2d', RELIABLE_5)
        self._markers = self._publisher(MarkerArray, f'{prefix}markers', RELIABLE_5)
        self._annotated = self._publisher(Image, f'{prefix}image_annotated', RELIABLE_1)
        self._to_markers = SkeletonMarkers()
        self._header = Header()

    def publish(self, frame: Frame, result: Result) -> None:
        """Publish what was found in a frame, with the stamp and frame of its image. People go first."""
        header = self._header = Header(stamp=to_stamp(frame.stamp_ns), frame_id=frame.frame_id)
        self._people.publish(to_people(result.people, header))
        self._people_2d.publish(to_people_2d(result.people_2d, frame.camera, header, self._skeleton))
        if self._tf is not None:
            self._tf.publish(result.people, header)
        if self._markers.get_subscription_count():
            self._markers.publish(self._to_markers(result.people, header))
        if self._annotated.get_subscription_count():
            self._annotated.publish(encode_image(draw_people(frame.image, result.people_2d, result.people), header))

    def clear(self) -> None:
        """Take everything off show."""
        removals = self._to_markers.clear(self._header)
        if removals.markers:
            self._markers.publish(removals)

    def destroy(self) -> None:
        """Remove the publishers."""
        for publisher in (self._people, self._people_2d, self._markers, self._annotated):
            self._node.destroy_publisher(publisher)
        if self._tf is not None:
            self._tf.destroy()

    def _publisher(self, kind: type, topic: str, qos: QoSProfile) -> Publisher:
        # A copy, because rclpy writes the user's overrides for this topic into it.
        return self._node.create_publisher(kind, topic, copy(qos),
                                           qos_overriding_options=QoSOverridingOptions.with_default_policies())
