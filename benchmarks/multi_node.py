"""Four cameras in one process (multi_node) against a mono_node for each, on the same images, in turns.

    python benchmarks/multi_node.py [--model full] [--rates 8 40] [--seconds 6] [--rounds 2] [--json FILE]

Cameras of the sample, made smaller, are published in step at each rate. Frames per second and processor time are those
of all cameras together; latency runs from an image's stamp to the moment when a subscriber has its people.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from pose3d_ros.calibration import load_calibration
from pose3d_ros.cli.nodes import Processes, node_command, private_domain
from pose3d_ros.cli.places import config_file
from pose3d_ros.cli.video import VideoReader
from pose3d_ros.msg import People3D
from pose3d_ros.ros.compat import reuse_large_buffers
from pose3d_ros.ros.convert import stamp_ns, to_info
from pose3d_ros.ros.images import encode_image
from pose3d_ros.runtime.store import ModelStore

CAMERAS = ('cam01', 'cam02', 'cam03', 'cam04')
ARRANGEMENTS = ('mono_nodes', 'multi_node')
FRAMES = 20     # of each camera, to and fro
SMALLER = 0.5   # so that images are not most of the work
WARM_UP_S = 3.0  # the first images are searched all over
PATIENCE_S = 60.0  # until the nodes have loaded their networks


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='full', choices=('lite', 'full', 'heavy'))
    parser.add_argument('--rates', type=float, nargs='+', default=[8.0, 40.0], help='images per second of each camera')
    parser.add_argument('--seconds', type=float, default=6.0, help='for each rate and round')
    parser.add_argument('--rounds', type=int, default=2)
    parser.add_argument('--json', type=Path, help='write the figures to this file')
    parser.add_argument('--feed', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.feed:
        feed()
        return 0
    heard: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for _ in range(args.rounds):
        for arrangement in ARRANGEMENTS:
            with fed(arrangement, args.model) as (feeder, nodes):
                for rate in args.rates:
                    answer = measure(feeder, nodes, rate, args.seconds)
                    heard.setdefault((arrangement, rate), []).append(answer)
    figures = {f'{arrangement}_rate{rate:g}': summary(answers) for (arrangement, rate), answers in heard.items()}
    for rate in args.rates:
        mono, multi = (figures[f'{arrangement}_rate{rate:g}'] for arrangement in ARRANGEMENTS)
        figures[f'ratio_rate{rate:g}'] = {name: multi[name] / mono[name] for name in mono}
    width = max(map(len, figures))
    for name, values in figures.items():
        print(f'{name:{width}s}  ' + '  '.join(f'{key} {value:.3g}' for key, value in values.items()))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + '\n')
    return 0


@contextmanager
def fed(arrangement: str, model: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Start nodes and their feeder; yield it and the process numbers of the nodes, once they listen."""
    params = config_file('multi.yaml')
    with private_domain() as environment, Processes(environment) as processes:
        if arrangement == 'multi_node':
            nodes = {'multi_node': processes.start('multi_node', node_command(
                'multi_node', params, cameras=list(CAMERAS), detector_model=model))}
        else:
            nodes = {camera: processes.start(camera, node_command(
                'mono_node', params, f'/{camera}', detector_model=model)) for camera in CAMERAS}
        feeder = processes.start('feeder', [sys.executable, __file__, '--feed'], talks=True)
        assert feeder.stdout is not None
        if feeder.stdout.readline() != 'ready\n':
            raise RuntimeError('the nodes do not listen:\n' + '\n'.join(map(processes.last_words, ['feeder', *nodes])))
        yield feeder, [node.pid for node in nodes.values()]


def measure(feeder: subprocess.Popen[str], nodes: Sequence[int], rate: float, seconds: float) -> dict[str, Any]:
    """Have images published; return delays_ms and stamps_s of the people that came, and what the nodes took."""
    assert feeder.stdin is not None and feeder.stdout is not None
    before = sum(map(cpu_s, nodes))
    feeder.stdin.write(json.dumps([rate, WARM_UP_S + seconds]) + '\n')
    heard = json.loads(feeder.stdout.readline())
    return {**heard, 'seconds': seconds, 'cpu_s': sum(map(cpu_s, nodes)) - before,
            'memory_mb': sum(map(memory_mb, nodes))}


def summary(answers: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the figures of some rounds; the first seconds of each do not count, but for processor time."""
    delays = [np.array(answer['delays_ms'])[np.array(answer['stamps_s']) >= WARM_UP_S] for answer in answers]
    together = np.concatenate(delays)
    if len(together) < 2:
        raise RuntimeError(f'only {len(together)} messages came after the warm-up')
    frames = sum(len(answer['delays_ms']) for answer in answers)
    return {'frames_per_s': len(together) / sum(answer['seconds'] for answer in answers),
            **{f'latency_p{share}_ms': float(np.percentile(together, share)) for share in (50, 95)},
            'cpu_ms_per_frame': 1e3 * sum(answer['cpu_s'] for answer in answers) / frames,
            'memory_mb': float(np.mean([answer['memory_mb'] for answer in answers]))}


def cpu_s(process: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def memory_mb(process: int) -> float:
    """Return the memory of a process; what it shares with others counts in part."""
    lines = Path(f'/proc/{process}/smaps_rollup').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('Pss:')) / 1024


class Feeder:
    """Publishes the cameras, and listens to the people that come of them."""

    def __init__(self) -> None:
        self._node = rclpy.create_node('feeder')
        self._heard: list[tuple[int, float]] = []  # stamp [ns], delay [ms]
        self._infos: dict[str, CameraInfo] = {}
        self._images: dict[str, list[Image]] = {}
        self._publishers: dict[str, tuple[Publisher, Publisher]] = {}
        for name, calibrated in load_calibration(config_file('samples/single_person.yaml')).items():
            camera = calibrated.camera
            video = VideoReader(ModelStore().path('sample') / f'{name}.mp4').frames(camera)
            size = (round(SMALLER * camera.width), round(SMALLER * camera.height))
            self._images[name] = [encode_image(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA),
                                               Header(frame_id=name)) for frame, _ in zip(video, range(FRAMES))]
            self._infos[name] = to_info(camera.resized(*size), Header(frame_id=name))
            self._publishers[name] = (self._node.create_publisher(CameraInfo, f'{name}/camera_info', 1),
                                      self._node.create_publisher(Image, f'{name}/image', 1))
            self._node.create_subscription(People3D, f'{name}/people', self._hear, 50)
        self._done = threading.Event()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def ready(self) -> bool:
        """Wait until somebody listens to every topic; False when nobody does for long."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if all(publisher.get_subscription_count() for pair in self._publishers.values() for publisher in pair):
                time.sleep(0.5)  # the other direction of each match
                return True
            time.sleep(0.05)
        return False

    def play(self, rate: float, seconds: float) -> dict[str, list[float]]:
        """Publish all cameras so many times per second; return stamps_s since the begin and delays_ms of people."""
        self._heard.clear()
        begin, begin_ns = time.monotonic(), time.time_ns()
        for number in range(round(rate * seconds)):
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
            place = number % (2 * FRAMES)
            for name, (info, image) in self._publishers.items():
                message = self._images[name][min(place, 2 * FRAMES - 1 - place)]
                message.header.stamp = self._infos[name].header.stamp = self._node.get_clock().now().to_msg()
                info.publish(self._infos[name])
                image.publish(message)
        time.sleep(1.0)
        heard = self._heard.copy()
        return {'stamps_s': [1e-9 * (stamp - begin_ns) for stamp, _ in heard], 'delays_ms': [late for _, late in heard]}

    def close(self) -> None:
        """End the thread and leave ROS."""
        self._done.set()
        self._listener.join()
        self._node.destroy_node()

    def _hear(self, message: People3D) -> None:
        stamp = stamp_ns(message.header.stamp)
        self._heard.append((stamp, 1e-6 * (time.time_ns() - stamp)))

    def _listen(self) -> None:
        while not self._done.is_set():
            rclpy.spin_once(self._node, timeout_sec=0.1)


def feed() -> None:
    """Play the cameras as standard input asks, [rate, seconds] in each line, and answer with what was heard."""
    reuse_large_buffers()
    rclpy.init()
    feeder = Feeder()
    if feeder.ready():
        print('ready', flush=True)
        for line in sys.stdin:
            print(json.dumps(feeder.play(*json.loads(line))), flush=True)
    feeder.close()
    rclpy.shutdown()


if __name__ == '__main__':
    sys.exit(main())
