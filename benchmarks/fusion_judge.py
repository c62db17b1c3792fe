"""What comes out of fusion, recorded in a process of its own and judged against the truth of a scene.

Run as a script it prints a line of JSON per message of `people` and of `/diagnostics`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.cli.nodes import Processes

NEAR_M = 0.6    # somebody farther from everybody is a ghost
GAP_S = 0.5     # a longer time without messages is an interruption
FRESH_S = 1.0   # after which people who were seen by a single camera first have found their place
BACK_S = 10.0   # the rig's clocks are right, or go back by this much


@dataclass(frozen=True)
class Fused:
    """A message of people. at: when it came, stamp: of it [s since the scene began]; people: joints (17, 3) by id."""

    at: float
    stamp: float
    people: dict[int, NDArray]


@dataclass(frozen=True)
class Report:
    """A line of /diagnostics that is not well; at [s since the scene began]."""

    at: float
    name: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """How fusion did for a while.

    extra_s: longest time with a person too many; missing_s: with one too few; gap_s: without any message. moved_m: the
    most that anybody's joints were farther from the truth, on average over the joints of a message, than in the median
    of the calm time (not within FRESH_S after a time without messages, when cameras come back one by one). ids: people
    whose id changed. rate_hz: messages.
    """

    extra_s: float
    missing_s: float
    gap_s: float
    moved_m: float
    ids: int
    rate_hz: float


class Judge:
    """The recording process from the side of who started it; begin_ns: when the scene began."""

    def __init__(self, processes: Processes, begin_ns: int) -> None:
        self.fused: list[Fused] = []
        self.reports: list[Report] = []
        self.told_at = 0.0      # when the fusion node last sent diagnostics
        self.values: dict[str, dict[str, str]] = {}  # that it told, by the name of the line
        self._begin_s = begin_ns * 1e-9
        process = processes.start('judge', [sys.executable, str(Path(__file__).resolve())], talks=True)
        threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()

    @property
    def now(self) -> float:
        """Seconds since the scene began."""
        return time.time() - self._begin_s

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; returns whether until() came true."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def _listen(self, lines: Any) -> None:
        for line in lines:
            said = json.loads(line)
            at = said['at'] - self._begin_s
            if 'stamp' in said:
                people = {int(id_): np.array(joints, dtype=float) for id_, joints in said['people'].items()}
                stamp = said['stamp'] - self._begin_s
                self.fused.append(Fused(at, stamp + BACK_S * round((at - stamp) / BACK_S), people))
            else:
                self.told_at = at
                self.reports += [Report(at, name, text) for name, text, _, well in said['statuses'] if not well]
                self.values |= {name: values for name, _, values, _ in said['statuses']}


def errors_of(message: Fused, truth: NDArray) -> tuple[dict[int, tuple[int, float]], int]:
    """Return the id and the mean joint error [m] by who (row of truth (P, 17, 3)), and how many people are too many."""
    found: dict[int, tuple[int, float]] = {}
    extra = 0
    for id_, joints in message.people.items():
        distances = np.nanmean(np.linalg.norm(joints - truth, axis=-1), axis=-1)
        who = int(np.argmin(distances))
        if distances[who] > NEAR_M or who in found:
            extra += 1
        if distances[who] <= NEAR_M and (who not in found or distances[who] < found[who][1]):
            found[who] = (id_, float(distances[who]))
    return found, extra


def judged(fused: Sequence[Fused], begin: float, end: float, calm: Sequence[Fused],
           truth: Callable[[float], NDArray]) -> Verdict:
    """Return how the messages that came from begin to end [s] did, against those of a calm time before."""
    usual: dict[int, list[float]] = {}
    ids: dict[int, int] = {}
    for message in calm:
        for who, (id_, error) in errors_of(message, truth(message.stamp))[0].items():
            usual.setdefault(who, []).append(error)
            ids[who] = id_
    base = {who: float(np.median(errors)) for who, errors in usual.items()}
    inside = [message for message in fused if begin <= message.at <= end]
    moved, changed = 0.0, set()
    extras, missings = [], []
    before, settled = begin, begin
    for message in inside:
        settled = message.at + FRESH_S if message.at - before > GAP_S else settled
        before = message.at
        there = truth(message.stamp)
        found, extra = errors_of(message, there)
        extras.append(extra > 0)
        missings.append(len(found) < len(there))
        if message.at >= settled:
            moved = max([moved, *(error - base[who] for who, (_, error) in found.items() if who in base)])
        changed |= {who for who, (id_, _) in found.items() if ids.get(who, id_) != id_}
    times = np.array([message.at for message in inside])
    gaps = np.diff(np.concatenate([[begin], times, [end]]))
    return Verdict(longest(times, extras), longest(times, missings), float(gaps.max()), moved, len(changed),
                   len(inside) / (end - begin))


def longest(times: NDArray, wrong: Sequence[bool]) -> float:
    """Return the longest time [s] for which every message was wrong, until the first that was not."""
    worst, since = 0.0, None
    for at, bad in zip(times, wrong):
        if since is not None:
            worst = max(worst, at - since)
        since = (at if since is None else since) if bad else None
    return float(worst)


def main() -> None:
    """Print what comes until standard input ends."""
    import rclpy  # here, so that arithmetic needs no ROS
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
    from rclpy.node import Node
    from rclpy.qos import QoSProfile

    from pose3d_ros.msg import People3D
    from pose3d_ros.ros.convert import stamp_ns

    rclpy.init()
    node = Node('judge')

    def say(**values: Any) -> None:
        print(json.dumps({'at': time.time(), **values}), flush=True)

    def on_people(message: People3D) -> None:
        joints = {person.id: [[round(value, 5) for value in (joint.position.x, joint.position.y, joint.position.z)]
                              for joint in person.joints] for person in message.people}
        say(stamp=stamp_ns(message.header.stamp) * 1e-9, people=joints)

    def on_diagnostics(message: DiagnosticArray) -> None:
        ours = [status for status in message.status if 'fusion_node' in status.name]
        if ours:
            say(statuses=[(status.name, status.message, {value.key: value.value for value in status.values},
                           status.level == DiagnosticStatus.OK) for status in ours])

    node.create_subscription(People3D, '/people', on_people, QoSProfile(depth=50))
    node.create_subscription(DiagnosticArray, '/diagnostics', on_diagnostics, QoSProfile(depth=50))
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    try:
        while not ended.is_set():
            rclpy.spin_once(node, timeout_sec=0.1)
    except KeyboardInterrupt:
        return
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
