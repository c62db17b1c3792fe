"""What the nodes publish for every frame."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pose3d_ros.draw import draw_people
from pose3d_ros.msg import People2D, People3D
from pose3d_ros.pipeline import Result
from pose3d_ros.records import Frame, Person3D
from pose3d_ros.ros.bodies_output import Bodies, BodiesOutput
from pose3d_ros.ros.convert import to_people, to_people_2d, to_stamp
from pose3d_ros.ros.images import encode_image
from pose3d_ros.ros.markers import SkeletonMarkers
from pose3d_ros.ros.people_tf import PeopleTf
from pose3d_ros.ros.publishing import RELIABLE_1, RELIABLE_5, publisher
from pose3d_ros.skeleton import Skeleton


class PeopleOutput:
    """Publishes people in space: as people, as TF frames where asked for, and as markers while somebody looks."""

    def __init__(self, node: Node, prefix: str = '', publish_tf: bool = False) -> None:
        """prefix: of the topics, as 'front/' for `front/people`. publish_tf: people as TF frames too; raises
        TfUnavailableError where TF cannot be used.
        """
        self._tf = PeopleTf(node, prefix) if publish_tf else None
        self._node = node
        self._people = publisher(node, People3D, f'{prefix}people', RELIABLE_5)
        self._markers = publisher(node, MarkerArray, f'{prefix}markers', RELIABLE_5)
        self._to_markers = SkeletonMarkers()
        self._header = Header()

    def publish(self, people: Sequence[Person3D], header: Header) -> None:
        """Publish the people of a moment, who may be none, for whoever works with them."""
        self._people.publish(to_people(people, header))
        if self._tf is not None:
            self._tf.publish(people, header)

    def show(self, people: Sequence[Person3D], header: Header) -> None:
        """Publish them for the eye."""
        self._header = header
        if self._markers.get_subscription_count():
            self._markers.publish(self._to_markers(people, header))

    def clear(self) -> None:
        """Take everything off show."""
        removals = self._to_markers.clear(self._header)
        if removals.markers:
            self._markers.publish(removals)

    def destroy(self) -> None:
        """Remove the publishers."""
        for each in (self._people, self._markers):
            self._node.destroy_publisher(each)
        if self._tf is not None:
            self._tf.destroy()


class Output:
    """Publishes people, people_2d and bodies always, and what is for the eye only while somebody looks."""

    def __init__(self, node: Node, skeleton: Skeleton, prefix: str = '', publish_tf: bool = False,
                 bodies: Bodies | None = None) -> None:
        """skeleton: of the people in the image; their joints are named also when nobody is there.

        prefix, publish_tf: as in PeopleOutput, which may raise TfUnavailableError. bodies: None where the lifter gives
        none, and there are no topics of them.
        """
        self._node, self._skeleton = node, skeleton
        self._space = PeopleOutput(node, prefix, publish_tf)
        self._bodies = BodiesOutput(node, bodies, prefix) if bodies is not None else None
        self._people_2d = publisher(node, People2D, f'{prefix}people_2d', RELIABLE_5)
        self._annotated = publisher(node, Image, f'{prefix}image_annotated', RELIABLE_1)

    def publish(self, frame: Frame, result: Result) -> None:
        """Publish what was found in a frame, with the stamp and frame of its image. People go first."""
        header = Header(stamp=to_stamp(frame.stamp_ns), frame_id=frame.frame_id)
        self._space.publish(result.people, header)
        if self._bodies is not None:
            self._bodies.publish(result.people, header)
        self._people_2d.publish(to_people_2d(result.people_2d, frame.camera, header, self._skeleton))
        self._space.show(result.people, header)
        if self._bodies is not None:
            self._bodies.show(result.people, header)
        if self._annotated.get_subscription_count():
            self._annotated.publish(encode_image(draw_people(frame.image, result.people_2d, result.people), header))

    def clear(self) -> None:
        """Take everything off show."""
        self._space.clear()
        if self._bodies is not None:
            self._bodies.clear()

    def destroy(self) -> None:
        """Remove the publishers."""
        self._space.destroy()
        if self._bodies is not None:
            self._bodies.destroy()
        for each in (self._people_2d, self._annotated):
            self._node.destroy_publisher(each)
