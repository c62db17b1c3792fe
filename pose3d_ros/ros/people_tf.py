"""People as TF frames: body_<id> at the pelvis of each (REP-155), x out of the chest, z up the spine."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from std_msgs.msg import Header

from pose3d_ros.pelvis import pelvis_frame
from pose3d_ros.records import Person3D
from pose3d_ros.ros.tf import TF_QOS, tf_message


class PeopleTf:
    """Publishes the frames of people on /tf.

    TF has one tree, and every camera counts its people from 1: the namespace of the topics stands before the name, so
    the people of /front/people are front/body_1, front/body_2 ..., those of /people body_1, body_2 ...
    """

    def __init__(self, node: Node, prefix: str = '') -> None:
        """prefix: of the node's topics of these people, as 'front/'. Raises TfUnavailableError without tf2_msgs."""
        self._node, self._message = node, tf_message()
        self._names = f'{node.get_namespace().strip("/")}/{prefix}body_'.lstrip('/')
        self._publisher = node.create_publisher(self._message, '/tf', copy(TF_QOS))

    def publish(self, people: Sequence[Person3D], header: Header) -> None:
        """Publish the frames of those whose pelvis is known; header: stamp and frame of their joints."""
        transforms = [transform for person in people
                      if (transform := _transform(person, header, f'{self._names}{person.id}')) is not None]
        if transforms and header.frame_id:
            self._publisher.publish(self._message(transforms=transforms))

    def destroy(self) -> None:
        """Remove the publisher."""
        self._node.destroy_publisher(self._publisher)


def _transform(person: Person3D, header: Header, name: str) -> TransformStamped | None:
    """Return the pelvis in the frame of the joints; None while its position or rotation is not known."""
    pelvis = pelvis_frame(person)
    quaternion = pelvis.quaternion
    if not (np.isfinite(pelvis.position).all() and np.isfinite(quaternion).all()):
        return None
    found = TransformStamped(header=header, child_frame_id=name)
    turn, move = found.transform.rotation, found.transform.translation
    turn.x, turn.y, turn.z, turn.w = quaternion.tolist()
    move.x, move.y, move.z = pelvis.position.tolist()
    return found
