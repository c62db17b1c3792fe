"""Listen to `people` until standard input ends, then print how long each message was under way. Run by delay.py.

Output: one JSON object {stamps_s: [...], delays_ms: [...], people: [...]}: the stamp of each image, the time from it to
the moment when a Python subscriber has its people in hand, and how many they are.
"""

from __future__ import annotations

import json
import select
import sys
import time

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile

from pose3d_ros.msg import People3D


def main() -> None:
    """Listen, then report."""
    rclpy.init()
    node = Node('listener')
    heard: dict[str, list[float]] = {'stamps_s': [], 'delays_ms': [], 'people': []}

    def on_people(message: People3D) -> None:
        now = time.time_ns()
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        heard['stamps_s'].append(stamp * 1e-9)
        heard['delays_ms'].append((now - stamp) * 1e-6)
        heard['people'].append(len(message.people))

    node.create_subscription(People3D, 'people', on_people, QoSProfile(depth=50))
    while not select.select([sys.stdin], [], [], 0)[0]:
        rclpy.spin_once(node, timeout_sec=0.1)
    print(json.dumps(heard), flush=True)
    node.destroy_node()
    rclpy.shutdown()


main()
