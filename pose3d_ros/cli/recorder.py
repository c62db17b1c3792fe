"""The listener of `pose3d demo`: a ROS node of its own process that writes what the mono node publishes into a folder.

It talks with the process that started it in lines: JSON objects on standard output (`ready` once the publishers are
found, then `frames` so far), and the end of standard input means that no more images will be sent.
"""

from __future__ import annotations

import argparse
import json
import select
import sys
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
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
_IDLE_S = 1.0        # without a message after the last image: everything has come
_DIAGNOSTICS_S = 3.0  # diagnostics come once a second; wait at most this long for those of the last frame


class Recorder(Node):
    """Collects one run."""

    def __init__(self, recording: Recording) -> None:
        super().__init__('demo_recorder')
        self.recording = recording
        self.latency_ms: list[float] = []
        self.counts = {'people_2d': 0, 'markers': 0, 'image_annotated': 0}
        self.diagnostics: dict[str, str] = {}
        self.pending: deque[Image] = deque()
        self.first_s = self.last_s = self.diagnosed_s = 0.0
        self._stamps: set[int] = set()
        self._sent_ns: dict[int, int] = {}
        self.create_subscription(CameraInfo, 'camera_info', self._on_camera_info, _LENIENT)
        self.create_subscription(People3D, 'people', self._on_people, _ALL)
        self.create_subscription(People2D, 'people_2d', lambda message: self._count('people_2d'), _ALL)
        self.create_subscription(MarkerArray, 'markers', lambda message: self._count('markers'), _ALL)
        self.create_subscription(Image, 'image_annotated', self._on_image, _ALL)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, _ALL)

    def connected(self) -> bool:
        """Tell whether every topic has a publisher."""
        return all(self.count_publishers(topic) for topic in ('people', 'people_2d', 'markers', 'image_annotated'))

    def write_image(self) -> bool:
        """Write one of the images that wait, if its people have come; return whether there was one."""
        if not self.pending or stamp_ns(self.pending[0].header.stamp) not in self._stamps:
            return False
        message = self.pending.popleft()
        self.recording.add_image(stamp_ns(message.header.stamp), decode_image(message))
        self.counts['image_annotated'] += 1
        return True

    def summary(self) -> dict[str, Any]:
        """Return what is known about the run, besides the counts of frames."""
        duration = self.last_s - self.first_s
        stages = {key.removesuffix('_p50_ms'): float(value) for key, value in self.diagnostics.items()
                  if key.endswith('_p50_ms')}
        stages.pop('latency', None)
        return {
            'fps': round((self.recording.frames - 1) / duration, 1) if duration > 0 else None,
            'latency_ms': percentiles(self.latency_ms),
            'stage_ms': stages,
            'provider': self.diagnostics.get('provider'),
            'messages': self.counts,
        }

    def _on_camera_info(self, message: CameraInfo, info: Any) -> None:
        """Note when an image was sent: its camera_info comes right before it. (Stamps follow the footage instead.)"""
        self._sent_ns[stamp_ns(message.header.stamp)] = _received_ns(info)

    def _on_people(self, message: People3D, info: Any) -> None:
        received = _received_ns(info)
        stamp = stamp_ns(message.header.stamp)
        if stamp in self._sent_ns:
            self.latency_ms.append((received - self._sent_ns[stamp]) * 1e-6)
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self._stamps.add(stamp)
        self.recording.add_people(stamp, message.header.frame_id, from_people(message))
        _say(frames=self.recording.frames)

    def _on_image(self, message: Image) -> None:
        self.pending.append(message)

    def _count(self, topic: str) -> None:
        self.counts[topic] += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(': pipeline'):
                self.diagnostics = {value.key: value.value for value in status.values}
                self.diagnosed_s = time.monotonic()


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


def record(node: Recorder, frames: int) -> None:
    """Collect until all frames have come, or the parent says that no more will and nothing comes any more."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    ready = ended = False
    while True:
        executor.spin_once(timeout_sec=0.0 if node.pending else 0.05)
        wrote = node.write_image()
        if not ready and node.connected():
            ready = True
            _say(ready=True)
        ended = ended or _no_more()
        quiet_s = time.monotonic() - node.last_s
        complete = 0 < frames <= node.counts['image_annotated']
        if ended and not wrote and (complete or quiet_s > _IDLE_S):
            diagnosed = node.diagnosed_s > node.last_s or not node.last_s
            if diagnosed or quiet_s > _DIAGNOSTICS_S:
                return


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
    rclpy.init(args=ros_args)
    try:
        with Recording(args.out, args.fps, args.frames, partial(draw_picture, levelled=levelled)) as recording:
            node = Recorder(recording)
            record(node, args.frames)
            if not recording.frames:
                raise UserError('nothing was published on people')
            recording.finish({**node.summary(), **args.about})
            node.destroy_node()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
