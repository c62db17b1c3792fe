"""What cameras report of people, from topics to the thread that fuses: People2D with the People3D of the same stamp."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from pose3d_ros.msg import People2D, People3D
from pose3d_ros.ros.fields import stamp_ns

JOIN_S = 0.02      # the 3D of an image comes together with its 2D: later than this it is not waited for,
MISSED_S = 1.0     # nor from a camera that has sent none for so long
KEPT = 3           # newest 3D messages of a camera
NEWEST = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=2, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class Report:
    """What a camera reported of one image: a People2D, the People3D of the same stamp or None, and when it came [s of
    a steady clock]."""

    camera: str
    people_2d: Any
    people: Any | None
    at: float


class Reports:
    """Hands reports from the executor to one other thread: of each camera the newest that is complete.

    now: seconds of a steady clock. State: messages that wait for their counterpart, or to be taken.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._fresh = self._closed = False
        self._waiting: dict[str, tuple[Any, float, float]] = {}  # People2D, when it came, and until when it may wait
        self._people: dict[str, deque[tuple[int, Any]]] = {}
        self._people_at: dict[str, float] = {}

    def put_2d(self, camera: str, message: Any, now: float) -> bool:
        """Take in a People2D. Returns True when it took the place of one that nobody had taken."""
        with self._changed:
            before = self._waiting.get(camera)
            # Whoever takes another's place does not wait anew, or a fast camera without 3D would wait for ever.
            self._waiting[camera] = message, now, now + JOIN_S if before is None else before[2]
            self._wake()
        return before is not None

    def put_3d(self, camera: str, message: Any, now: float) -> None:
        """Take in a People3D."""
        with self._changed:
            self._people.setdefault(camera, deque(maxlen=KEPT)).append((stamp_ns(message.header.stamp), message))
            self._people_at[camera] = now
            if camera in self._waiting:
                self._wake()

    def wait(self, seconds: float | None) -> bool:
        """Wait until something new came, or for so long; returns False once this is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._fresh or self._closed, seconds)
            self._fresh = False
            return not self._closed

    def due(self, now: float) -> float | None:
        """Return in how many seconds a report can be taken at the latest, None when none waits."""
        with self._changed:
            waits = [max(0.0, end - now) for _, _, end in self._waiting.values()]
        return min(waits, default=None)

    def take(self, now: float) -> list[Report]:
        """Return the reports that are complete, or will not be."""
        with self._changed:
            reports = []
            for camera, (message, at, end) in list(self._waiting.items()):
                stamp, kept = stamp_ns(message.header.stamp), self._people.get(camera, ())
                people = next((people for other, people in kept if other == stamp), None)
                coming = kept and kept[-1][0] < stamp and now - self._people_at[camera] < MISSED_S
                if people is None and coming and now < end:
                    continue
                del self._waiting[camera]
                reports.append(Report(camera, message, people, at))
            return reports

    def close(self) -> None:
        """Let the taker go home: whoever waits gets False, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wake(self) -> None:
        self._fresh = True
        self._changed.notify_all()


class FusionInput:
    """Listens to CAMERA/people_2d and CAMERA/people of some cameras. topics: the full name of each one's people_2d."""

    def __init__(self, node: Node, cameras: Sequence[str]) -> None:
        self._node = node
        self.topics = {camera: node.resolve_topic_name(f'{camera}/people_2d') for camera in cameras}
        self._subscriptions: list[Subscription] = []

    def listen(self, on_2d: Callable[[str, Any], None], on_3d: Callable[[str, Any], None]) -> None:
        """Subscribe. on_2d, on_3d: called by the executor with the camera and every message."""
        for camera in self.topics:
            self._subscribe(People3D, f'{camera}/people', partial(on_3d, camera))
            self._subscribe(People2D, f'{camera}/people_2d', partial(on_2d, camera))

    def _subscribe(self, kind: type, topic: str, callback: Callable[[Any], None]) -> None:
        self._subscriptions.append(self._node.create_subscription(
            kind, topic, callback, copy(NEWEST),  # a copy, because rclpy writes the user's overrides into it
            qos_overriding_options=QoSOverridingOptions.with_default_policies()))

    def why_silent(self, camera: str) -> str:
        """Return the likely cause of a camera's silence, and the cure."""
        publishers = self._node.get_publishers_info_by_topic(self.topics[camera])
        if not publishers:
            return (f'nobody publishes it: run mono_node in namespace {camera} (or multi_node), or correct the '
                    'parameter cameras')
        wanted = 'pose3d_ros/msg/People2D'
        if all(publisher.topic_type != wanted for publisher in publishers):
            return f'its type is {publishers[0].topic_type}, not {wanted}: remap {camera}/people_2d'
        return 'it has a publisher, but nothing arrives: see the diagnostics of that node, and the network'

    def destroy(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
