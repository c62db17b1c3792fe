"""How the nodes publish: quality of service, and that users can change it."""

from __future__ import annotations

from copy import copy

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

RELIABLE_5 = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE)
RELIABLE_1 = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)


def publisher(node: Node, kind: type, topic: str, qos: QoSProfile) -> Publisher:
    """Return a publisher whose QoS the user can override."""
    # A copy, because rclpy writes the user's overrides for this topic into it.
    return node.create_publisher(kind, topic, copy(qos),
                                 qos_overriding_options=QoSOverridingOptions.with_default_policies())
