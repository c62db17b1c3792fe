"""A fusion node under test on real rclpy: fed with what cameras see of a synthetic scene, its topics recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scenes
from bench import NodeBench, wait_for
from numpy.typing import NDArray
from rig import Rounds
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pose3d_ros.calibration import save_places
from pose3d_ros.camera import Camera
from pose3d_ros.fuse.views import View
from pose3d_ros.msg import People2D, People3D
from pose3d_ros.ros.convert import to_people, to_people_2d, to_stamp
from pose3d_ros.ros.fields import from_people, stamp_ns
from pose3d_ros.ros.fusion_node import FusionNode
from pose3d_ros.ros.health import Status
from pose3d_ros.ros.tf import NoTransformError

CAMERAS = ['front', 'left', 'right']
CAMERA = Camera(scenes.WIDTH, scenes.HEIGHT, scenes.FOCAL, scenes.FOCAL, scenes.WIDTH / 2, scenes.HEIGHT / 2)
RATE = 15.0
WALKERS = (Rounds((-0.9, 0.0), 0.0, 0.5), Rounds((0.9, 0.0), 1.8, 0.5, size=1.05))  # who stay in view for good


class FakeTransforms:
    """TF that knows camera_T_map of some frames. missing(frame_id, stamp_ns): whether it is not there now;

    off(frame_id, stamp_ns): how far it is wrong along the optical axis [m].
    """

    def __init__(self, poses: dict[str, NDArray]) -> None:
        self.poses, self.closed = poses, 0
        self.missing: Callable[[str, int], bool] = lambda frame_id, stamp: False
        self.off: Callable[[str, int], float] = lambda frame_id, stamp: 0.0

    def lookup(self, target: str, source: str, stamp: int) -> tuple[NDArray, NDArray]:
        if source != 'map' or target not in self.poses or self.missing(target, stamp):
            raise NoTransformError('tf_lookup', f'no transform from {source!r} to {target!r}')
        return self.poses[target][:3, :3], self.poses[target][:3, 3] + (0.0, 0.0, self.off(target, stamp))

    def close(self) -> None:
        self.closed += 1


@dataclass
class Sent:
    """What a camera reports of one frame; a test may change it before it is sent. people None: none is sent."""

    camera: str
    people_2d: People2D
    people: People3D | None


Change = Callable[[Sent], Sequence[Sent]]


def unchanged(sent: Sent) -> Sequence[Sent]:
    return [sent]


class FusionBench(NodeBench):
    """A FusionNode in a namespace of its own and CAMERAS before walkers, whose places it has from transforms, or from
    path where one is given. poses: camera_T_world by name.
    """

    def __init__(self, walkers: Sequence[Rounds] = WALKERS, path: Any = None, **parameters: Any) -> None:
        self.scene = scenes.Scene(list(walkers), scenes.ring(len(CAMERAS)), scenes.Trouble(noise=1.5), rate=RATE)
        self.poses = {name: place(0.0) for name, place in zip(CAMERAS, self.scene.cameras)}
        self.transforms = FakeTransforms({f'{name}_frame': pose for name, pose in self.poses.items()})
        if path is not None:
            save_places(path, self.poses)
            parameters = {'extrinsics_source': 'file', 'calibration': str(path), **parameters}
        super().__init__(lambda **arguments: FusionNode(lambda node: self.transforms, **arguments),
                         **{'cameras': CAMERAS, **parameters})
        self.frame, self.begin_ns = 0, 0
        self.people: list[People3D] = []
        self.markers: list[MarkerArray] = []
        self.listen(People3D, 'people', self.people.append)

    def ready(self) -> FusionBench:
        """Wait until the node works and hears the cameras."""
        publishers = [self.publisher(kind, f'{name}/{topic}') for name in CAMERAS
                      for kind, topic in ((People3D, 'people'), (People2D, 'people_2d'))]
        wait_for(lambda: self.state == 'active' and all(p.get_subscription_count() for p in publishers)
                 and self.tester.count_publishers(f'{self.namespace}/people'))
        time.sleep(0.1)  # the other direction of each match
        return self

    def settle(self) -> FusionBench:
        """Send what the cameras see until fusion knows the people well."""
        end, calm = time.monotonic() + 20, 0
        while calm < 2:
            assert time.monotonic() < end, 'fusion never came to know the people'
            came = self.play(0.4)
            errors = [scenes.error_of(person, self._truth(message))[1] for message in came
                      for person in from_people(message)]
            everybody = len(errors) == len(self.scene.walkers) * len(came) > 0
            calm = calm + 1 if everybody and np.median(errors) < 0.05 else 0
        return self

    def play(self, seconds: float, change: Change = unchanged) -> list[People3D]:
        """Send what the cameras see in real time, and return the people that came of it."""
        before, begun = len(self.people), time.monotonic()
        now_ns = self.node.get_clock().now().nanoseconds
        self.begin_ns = self.begin_ns or now_ns
        first = self.frame = max(self.frame, int((now_ns - self.begin_ns) * 1e-9 * RATE))
        while self.frame - first < seconds * RATE:
            for camera, view in zip(CAMERAS, self.scene.views(self.frame)):
                for sent in change(self._messages(camera, view)):
                    self._send(sent)
            self.frame += 1
            time.sleep(max(0.0, begun + (self.frame - first) / RATE - time.monotonic()))
        return self.people[before:]

    def _messages(self, camera: str, view: View) -> Sent:
        header = Header(stamp=to_stamp(self.begin_ns + round(1e9 * self.frame / RATE)), frame_id=f'{camera}_frame')
        return Sent(camera, to_people_2d(view.people_2d, CAMERA, header), to_people(view.people, header))

    def _send(self, sent: Sent) -> None:
        if sent.people is not None:
            self.publisher(People3D, f'{sent.camera}/people').publish(sent.people)
        self.publisher(People2D, f'{sent.camera}/people_2d').publish(sent.people_2d)

    def errors(self, messages: Sequence[People3D]) -> NDArray:
        """Return the mean distance [m] of everybody's joints from the truth, message by message.

        Asserts that each has everybody, once; but for one in five, for on a busy machine nothing may come for a while.
        """
        result: list[float] = []
        odd = []
        for message in messages:
            truth, people = self._truth(message), from_people(message)
            found = [scenes.error_of(person, truth) for person in people]
            if sorted(who for who, _ in found) == list(range(len(truth))):
                result += [error for _, error in found]
            else:
                odd.append(found)
        assert len(odd) <= 0.2 * len(messages), odd
        return np.array(result)

    def _truth(self, message: People3D) -> NDArray:
        """Return HUMAN17 of everybody (P, 17, 3) at the stamp of a message."""
        return self.scene.truth((stamp_ns(message.header.stamp) - self.begin_ns) * 1e-9 * RATE)

    def told(self, name: str) -> Status:
        """Return what the node reports now of a camera, or of 'fusion' or 'cameras'."""
        self.node.health.facts.state = self.state
        wanted = f'camera {name}' if name in CAMERAS else name
        return next(status for status in self.node.health.report(time.monotonic()) if status.name == wanted)

    def values(self, name: str) -> dict[str, str]:
        return self.told(name).values


def shifted(message: Any, seconds: float) -> Any:
    """Move the stamp of a message."""
    message.header.stamp = to_stamp(stamp_ns(message.header.stamp) + round(1e9 * seconds))
    return message
