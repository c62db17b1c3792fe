"""Fake mono nodes: what cameras around people who walk would publish, live over DDS, with faults at any moment.

Every camera is a process of its own (`python test/rig.py front ...`), as mono nodes are. The cameras are not genlocked:
their exposures are spread over the period. A camera computes for LATENCY_S before it publishes. Faults are switched by
lines of JSON on standard input, which name fields of Faults; `Rig` starts the cameras and speaks to them.
"""

from __future__ import annotations

import argparse
import heapq
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from scenes import FOCAL, HEIGHT, WIDTH, Scene, Trouble, human17, ring
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from synthetic import body

from pose3d_ros.calibration import CalibratedCamera
from pose3d_ros.calibration.own import save_calibration
from pose3d_ros.camera import Camera
from pose3d_ros.cli.nodes import Processes
from pose3d_ros.msg import People2D, People3D
from pose3d_ros.ros.convert import to_people, to_people_2d, to_stamp

CAMERAS = ('front', 'left', 'back', 'right')
CAMERA = Camera(WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)
FRAME = 'map'
RATE = 20.0        # Hz, unless said otherwise
LATENCY_S = 0.03   # from exposure to publication
LEAD_S = 0.02      # a scene is drawn so long before it is due
TROUBLE = Trouble(noise=3.0)


@dataclass(frozen=True)
class Rounds:
    """Somebody who walks round and round: about center (2,) m, starting at angle [rad], with speed m/s."""

    center: tuple[float, float]
    angle: float
    radius: float = 0.9
    speed: float = 0.7
    size: float = 1.0

    def joints(self, seconds: float) -> NDArray:
        """Return BLAZEPOSE33 joints (33, 3) in the world."""
        angle = self.angle + self.speed / self.radius * seconds
        outward = np.array([np.cos(angle), np.sin(angle), 0.0])
        ahead, left = np.array([-outward[1], outward[0], 0.0]), -outward
        points = self.size * body(2 * np.pi * 0.9 * seconds + self.angle)  # x left, y up, z ahead
        at = np.array([*self.center, 0.0]) + self.radius * outward
        return at + points[:, :1] * left + points[:, 1:2] * (0, 0, 1) + points[:, 2:] * ahead


PEOPLE = (Rounds((-1.1, 0.0), 0.0), Rounds((-1.1, 0.0), np.pi, size=0.92), Rounds((1.1, 0.0), 1.8, size=1.08))


def truth(seconds: float) -> NDArray:
    """Return HUMAN17 of everybody (P, 17, 3) m in the common frame, so long after the rig's beginning."""
    return np.stack([human17(walker.joints(seconds)) for walker in PEOPLE])


def places(cameras: int = len(CAMERAS)) -> list[NDArray]:
    """Return camera_T_world (4, 4) of each camera."""
    return [place(0.0) for place in ring(cameras)]


def moved(pose: NDArray, by: Sequence[float]) -> NDArray:
    """Return camera_T_world of a camera that was pushed: by = metres to its right, degrees about the vertical."""
    turned = pose.copy()
    turned[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec([0, 0, np.radians(by[1])]).as_matrix()
    center = -pose[:3, :3].T @ pose[:3, 3] + by[0] * pose[0, :3]
    turned[:3, 3] = -turned[:3, :3] @ center
    return turned


@dataclass(frozen=True)
class Faults:
    """What is wrong with a camera. delay: s until its messages arrive; drop: share of them that never do; silent: none
    does; stamp: s by which its clock is ahead; nan_rays: 1: rays are NaN though the pixels are there; same_ids: 1:
    everybody has one id; few_joints: 1: people of 10 joints under the name of 33; knocked: (m, degrees) by which the
    camera was pushed, which nobody says; tf: 1 as it is, 0: none; tf_off: (m, degrees) by which TF is wrong, in
    tf_off_share of its messages.
    """

    delay: float = 0.0
    drop: float = 0.0
    silent: int = 0
    stamp: float = 0.0
    nan_rays: int = 0
    same_ids: int = 0
    few_joints: int = 0
    knocked: tuple[float, float] = (0.0, 0.0)
    tf: int = 1
    tf_off: tuple[float, float] = (0.0, 0.0)
    tf_off_share: float = 1.0


@dataclass(order=True)
class _Due:
    at_ns: int
    number: int
    publish: Callable[[], None] = field(compare=False)


class FakeMono(Node):
    """Publishes what a mono node would: people_2d and people in its namespace, and the camera's TF."""

    def __init__(self, name: str, number: int, cameras: int, begin_ns: int, rate: float, tf: bool) -> None:
        super().__init__('mono_node', namespace=name)
        self.faults = Faults()
        self._name, self._begin_ns, self._pose = name, begin_ns, places(cameras)[number]
        self._phase, self._rate = number / cameras, rate
        self._scene = Scene(PEOPLE, [lambda _: moved(self._pose, self.faults.knocked)], TROUBLE, number, rate)
        self._rng = np.random.default_rng(100 + number)
        self._people = self.create_publisher(People3D, 'people', QoSProfile(depth=5))
        self._people_2d = self.create_publisher(People2D, 'people_2d', QoSProfile(depth=5))
        self._tf = None
        if tf:
            from tf2_msgs.msg import TFMessage  # not there before the first `make build`
            self._tf_message, self._tf = TFMessage, self.create_publisher(TFMessage, '/tf', QoSProfile(depth=100))

    def play(self, faults: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        """Publish until faults ends (None)."""
        waiting: list[_Due] = []
        frame = int((time.time_ns() - self._begin_ns) * 1e-9 * self._rate) + 1
        while True:
            exposure_ns = self._begin_ns + round((frame + self._phase) / self._rate * 1e9)
            while time.time_ns() < exposure_ns - LEAD_S * 1e9:
                while waiting and waiting[0].at_ns <= time.time_ns():
                    heapq.heappop(waiting).publish()
                while not faults.empty():
                    if (change := faults.get()) is None:
                        return
                    self.faults = replace(self.faults, **change)
                time.sleep(0.001)
            for n, (after_s, publish) in enumerate(self._drawn(frame, exposure_ns)):
                heapq.heappush(waiting, _Due(exposure_ns + round(after_s * 1e9), 3 * frame + n, publish))
            frame += 1

    def _drawn(self, frame: int, exposure_ns: int) -> list[tuple[float, Callable[[], None]]]:
        """Return what is to be published of a frame, and how long after its exposure [s]."""
        faults = self.faults
        view = self._scene.views(frame + self._phase)[0]
        header = Header(stamp=to_stamp(exposure_ns + round(faults.stamp * 1e9)), frame_id=f'{self._name}_optical')
        people_2d = to_people_2d(view.people_2d, CAMERA, header)
        people = to_people(view.people, header)
        _spoil(people_2d, people, faults)
        after = LATENCY_S + self._rng.uniform(0, 0.005)
        gone = self._rng.random(2) < faults.drop
        due: list[tuple[float, Callable[[], None]]] = []
        for message, publisher, lost in ((people, self._people, gone[0]), (people_2d, self._people_2d, gone[1])):
            if not (lost or faults.silent):
                due.append((after + faults.delay, partial(publisher.publish, message)))
        if self._tf is not None and faults.tf:
            wrong = self._rng.random() < faults.tf_off_share
            transform = _transform(moved(self._pose, faults.tf_off) if wrong else self._pose, header)
            due.append((0.0, partial(self._tf.publish, self._tf_message(transforms=[transform]))))
        return due


def _spoil(people_2d: People2D, people: People3D, faults: Faults) -> None:
    for person in people_2d.people:
        if faults.same_ids:
            person.id = 1
        for joint in person.joints if faults.nan_rays else ():
            joint.ray_x = joint.ray_y = float('nan')
        if faults.few_joints:
            person.joints = person.joints[:10]
    for person in people.people:
        if faults.same_ids:
            person.id = 1
        if faults.few_joints:
            person.joints = person.joints[:10]


def _transform(pose: NDArray, header: Header) -> TransformStamped:
    """Return the TF of a camera, from the common frame to its optical frame, of camera_T_world."""
    transform = TransformStamped(header=Header(stamp=header.stamp, frame_id=FRAME), child_frame_id=header.frame_id)
    moves, turns = transform.transform.translation, transform.transform.rotation
    moves.x, moves.y, moves.z = (-pose[:3, :3].T @ pose[:3, 3]).tolist()
    turns.x, turns.y, turns.z, turns.w = Rotation.from_matrix(pose[:3, :3].T).as_quat().tolist()
    return transform


class Rig:
    """The cameras as processes, from the side of who starts them. begin_ns: when the scene begins."""

    def __init__(self, processes: Processes, rate: float = RATE, tf: bool = False,
                 cameras: Sequence[str] = CAMERAS) -> None:
        self.cameras, self._processes, self._rate, self._tf = tuple(cameras), processes, rate, tf
        self.begin_ns = time.time_ns()
        self._pipes: dict[str, subprocess.Popen[str]] = {}
        for name in self.cameras:
            self.start(name)

    def start(self, name: str) -> None:
        """Start a camera (again)."""
        command = [sys.executable, str(Path(__file__).resolve()), name, '--number', str(self.cameras.index(name)),
                   '--cameras', str(len(self.cameras)), '--begin-ns', str(self.begin_ns),
                   '--rate', str(self._rate)]
        command += ['--tf'] if self._tf else []
        self._pipes[name] = self._processes.start(name, command, talks=True)

    def kill(self, name: str) -> None:
        """End a camera without a goodbye."""
        camera = self._pipes[name]
        camera.kill()
        camera.wait()
        camera.stdin.close()
        camera.stdout.close()

    def tell(self, *names: str, **faults: Any) -> None:
        """Switch fields of Faults of some cameras, of all where none is named."""
        for name in names or self.cameras:
            self._pipes[name].stdin.write(json.dumps(faults) + '\n')
            self._pipes[name].stdin.flush()

    def heal(self, *names: str) -> None:
        """Make cameras well again, all where none is named."""
        self.tell(*names, **asdict(Faults()))


def save_places(path: Path, cameras: Sequence[str] = CAMERAS) -> None:
    """Write the calibration file of the rig."""
    save_calibration(path, {name: CalibratedCamera(CAMERA, pose) for name, pose in zip(cameras, places(len(cameras)))})


def main() -> None:
    """Be a camera until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('name')
    parser.add_argument('--number', type=int, required=True)
    parser.add_argument('--cameras', type=int, required=True)
    parser.add_argument('--begin-ns', type=int, required=True)
    parser.add_argument('--rate', type=float, required=True)
    parser.add_argument('--tf', action='store_true')
    args = parser.parse_args()
    faults: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            faults.put(json.loads(line))
        faults.put(None)

    threading.Thread(target=listen, daemon=True).start()
    rclpy.init()
    node = FakeMono(args.name, args.number, args.cameras, args.begin_ns, args.rate, args.tf)
    try:
        node.play(faults)
    except KeyboardInterrupt:
        return
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
