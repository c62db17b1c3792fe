"""What the fusion node publishes of every set: people, and while somebody looks, markers."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pose3d_ros.msg import People3D
from pose3d_ros.records import Person3D
from pose3d_ros.ros.convert import to_people, to_stamp
from pose3d_ros.ros.markers import SkeletonMarkers
from pose3d_ros.ros.output import RELIABLE_5


class FusionOutput:
    """Publishes fused people in their common frame. State: the markers on show."""

    def __init__(self, node: Node, frame: str) -> None:
        self._node, self._header = node, Header(frame_id=frame)
        self._people = self._publisher(People3D, 'people')
        self._markers = self._publisher(MarkerArray, 'markers')
        self._to_markers = SkeletonMarkers()

    def publish(self, people: Sequence[Person3D], stamp_ns: int) -> None:
        """Publish the people of a moment, who may be none. People go first."""
        header = self._header = Header(stamp=to_stamp(stamp_ns), frame_id=self._header.frame_id)
        self._people.publish(to_people(people, header))
        if self._markers.get_subscription_count():
            self._markers.publish(self._to_markers(people, header))

    def clear(self) -> None:
        """Take everything off show."""
        removals = self._to_markers.clear(self._header)
        if removals.markers:
            self._markers.publish(removals)

    def destroy(self) -> None:
        """Remove the publishers."""
        for publisher in (self._people, self._markers):
            self._node.destroy_publisher(publisher)

    def _publisher(self, kind: type, topic: str) -> Publisher:
        # A copy, because rclpy writes the user's overrides for this topic into it.
        return self._node.create_publisher(kind, topic, copy(RELIABLE_5),
                                           qos_overriding_options=QoSOverridingOptions.with_default_policies())
