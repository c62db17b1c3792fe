"""The listener of `pose3d demo`: a ROS node of its own process that writes what the mono node publishes into a folder.

It talks with the process that started it in lines: JSON objects on standard output (`ready` once everybody is heard and
the videos may begin, then `frames` so far), and the end of standard input means that no more images will be sent.
"""

from __future__ import annotations

import argparse
import json
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import MarkerArray

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.picture import draw_picture
from pose3d_ros.cli.recording import Recording, percentiles
from pose3d_ros.msg import People2D, People3D
from pose3d_ros.ros.convert import from_people, stamp_ns
from pose3d_ros.ros.images import decode_image

_ALL = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
_LENIENT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
_LEAD_NS = 500_000_000  # until the videos begin: all are told by then
_PATIENCE_S = 1.0    # for a video node to say that it knows its start
_IDLE_S = 1.0        # without a message after the last image: everything has come
_DIAGNOSTICS_S = 3.0  # diagnostics come once a second; wait at most this long for those of the last frame


class RecorderNode(Node):
    """What every recorder does: hear everybody, let the videos begin, and time what comes.

    players: full names of video nodes that wait for their start (start_at -1).
    """

    def __init__(self, recording: Recording, players: Sequence[str]) -> None:
        super().__init__('demo_recorder')
        self.recording = recording
        self.diagnostics: dict[str, dict[str, str]] = {}  # by the name of the status
        self.first_s = self.last_s = self.diagnosed_s = 0.0
        self.start_ns = 0  # when the videos begin
        self._sent_ns: dict[int, int] = {}
        self._came_ns: dict[int, int] = {}
        self._heard: list[Subscription] = []
        self._players = {self.create_client(SetParameters, f'{player}/set_parameters'): Future() for player in players}
        self._asked_s = -np.inf
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, _ALL)

    def hear(self, kind: type, topic: str, callback: Callable[..., None], profile: QoSProfile = _ALL) -> None:
        """Subscribe to what somebody must publish before the videos begin."""
        self._heard.append(self.create_subscription(kind, topic, callback, profile))

    def hear_camera(self, topic: str) -> None:
        """Note when an image was sent: its camera_info comes right before it. (Stamps follow the footage instead.)"""
        def on_camera_info(message: CameraInfo, info: Any) -> None:
            stamp = stamp_ns(message.header.stamp)
            self._sent_ns[stamp] = max(self._sent_ns.get(stamp, 0), _received_ns(info))

        self.hear(CameraInfo, topic, on_camera_info, _LENIENT)

    def connected(self) -> bool:
        """Tell whether every topic has a publisher, and every video node can be told to begin."""
        return (all(self.count_publishers(subscription.topic_name) for subscription in self._heard)
                and all(client.service_is_ready() for client in self._players))

    def begin(self) -> None:
        """Set one start for all videos; ask those again that do not answer."""
        self.start_ns = self.start_ns or time.time_ns() + _LEAD_NS
        if time.monotonic() - self._asked_s < _PATIENCE_S:
            return
        self._asked_s = time.monotonic()
        start = Parameter('start_at', value=1e-9 * self.start_ns).to_parameter_msg()
        for client, answer in self._players.items():
            if not answer.done():
                self._players[client] = client.call_async(SetParameters.Request(parameters=[start]))

    def came(self, message: People3D, info: Any) -> None:
        """Add people to the recording."""
        stamp = stamp_ns(message.header.stamp)
        self._came_ns[stamp] = _received_ns(info)
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.recording.add_people(stamp, message.header.frame_id, from_people(message))
        _say(frames=self.recording.frames)

    def timing(self) -> dict[str, Any]:
        """Return the rate of people, and how long they took from the (last) image of their stamp."""
        duration = self.last_s - self.first_s
        return {
            'fps': round((self.recording.frames - 1) / duration, 1) if duration > 0 else None,
            'latency_ms': percentiles([1e-6 * (came - self._sent_ns[stamp]) for stamp, came in self._came_ns.items()
                                       if stamp in self._sent_ns]),
        }

    def complete(self, frames: int) -> bool:
        """Tell whether all of so many frames have come."""
        return self.recording.frames >= frames

    def work(self) -> bool:
        """Do a piece of what waits to be done; return whether there was any."""
        return False

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {value.key: value.value for value in status.values}
        self.diagnosed_s = time.monotonic()


class Recorder(RecorderNode):
    """Collects one run of mono_node."""

    def __init__(self, recording: Recording, players: Sequence[str]) -> None:
        super().__init__(recording, players)
        self.counts = {'people_2d': 0, 'markers': 0, 'image_annotated': 0}
        self._pending: deque[Image] = deque()
        self._stamps: set[int] = set()
        self.hear_camera('camera_info')
        self.hear(People3D, 'people', self._on_people)
        self.hear(People2D, 'people_2d', lambda message: self._count('people_2d'))
        self.hear(MarkerArray, 'markers', lambda message: self._count('markers'))
        self.hear(Image, 'image_annotated', lambda message: self._pending.append(message))

    def complete(self, frames: int) -> bool:
        return self.counts['image_annotated'] >= frames

    def work(self) -> bool:
        """Write one of the images that wait, if its people have come; return whether there was one."""
        if not self._pending or stamp_ns(self._pending[0].header.stamp) not in self._stamps:
            return False
        message = self._pending.popleft()
        self.recording.add_image(stamp_ns(message.header.stamp), decode_image(message))
        self._count('image_annotated')
        return True

    def summary(self) -> dict[str, Any]:
        """Return what is known about the run, besides the counts of frames."""
        told = next((values for name, values in self.diagnostics.items() if name.endswith(': pipeline')), {})
        stages = {key.removesuffix('_p50_ms'): float(value) for key, value in told.items() if key.endswith('_p50_ms')}
        stages.pop('latency', None)
        return {**self.timing(), 'stage_ms': stages, 'provider': told.get('provider'), 'messages': self.counts}

    def _on_people(self, message: People3D, info: Any) -> None:
        self._stamps.add(stamp_ns(message.header.stamp))
        self.came(message, info)

    def _count(self, topic: str) -> None:
        self.counts[topic] += 1


def _received_ns(info: Any) -> int:
    """Return when the middleware had the message, which does not depend on what this process was busy with."""
    received = info.get('received_timestamp', 0) if isinstance(info, dict) else info.received_timestamp
    return int(received) or time.time_ns()


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _no_more() -> bool:
    """Tell whether the parent has closed our standard input."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable) and not sys.stdin.readline()


def collect(node: RecorderNode, frames: int) -> None:
    """Collect until all frames have come, or the parent says that no more will and nothing comes any more.

    frames: expected; 0 when not known. The videos begin once everybody is heard. Raises UserError when nothing came.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    ready = ended = worked = False
    while True:
        executor.spin_once(timeout_sec=0.0 if worked else 0.05)
        worked = node.work()
        if not ready and node.connected():
            ready = True
            _say(ready=True)
        if ready:
            node.begin()
        ended = ended or _no_more()
        quiet_s = time.monotonic() - node.last_s
        if ended and not worked and ((frames and node.complete(frames)) or quiet_s > _IDLE_S):
            diagnosed = node.diagnosed_s > node.last_s or not node.last_s
            if diagnosed or quiet_s > _DIAGNOSTICS_S:
                break
    if not node.recording.frames:
        raise UserError('nothing was published on people')


def run(record: Callable[[], None], ros_args: Sequence[str]) -> int:
    """Record with ROS up; return the exit status."""
    rclpy.init(args=ros_args)
    try:
        record()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


def main() -> int:
    """Record one run; the exit status is 0 when the folder is complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--fps', type=float, required=True, help='of the annotated video')
    parser.add_argument('--frames', type=int, required=True, help='expected; 0 when not known')
    parser.add_argument('--about', type=json.loads, default={}, help='JSON object to put into summary.json')
    parser.add_argument('--levelled', type=json.loads, default=None, help='rotation for the picture, 3 x 3')
    args, ros_args = parser.parse_known_args()
    levelled = None if args.levelled is None else np.array(args.levelled, dtype=np.float64)

    def record() -> None:
        with Recording(args.out, args.fps, args.frames, partial(draw_picture, levelled=levelled)) as recording:
            node = Recorder(recording, ['/video_node'])
            collect(node, args.frames)
            recording.finish({**node.summary(), **args.about})
            node.destroy_node()

    return run(record, ros_args)


if __name__ == '__main__':
    sys.exit(main())
