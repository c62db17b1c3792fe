"""How images of 1080x1920 px get from one process to another through ROS 2: what arrives, how late, at what cost.

Compares Fast DDS as it comes with config/fastdds.xml, without and with reuse of freed buffers (ros/compat.py).

    python benchmarks/transport.py [--seconds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

PROFILE = Path(__file__).parents[1] / 'config' / 'fastdds.xml'
WIDTH, HEIGHT, RATE = 1080, 1920, 30.0
VARIANTS = {'default': (False, False), 'profile': (True, False), 'profile_and_reuse': (True, True)}


def main() -> int:
    """Run every variant and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=5.0, help='of images per variant')
    parser.add_argument('--json', type=Path, help='write the figures to this file')
    parser.add_argument('--role', choices=('publish', 'listen'), help=argparse.SUPPRESS)
    parser.add_argument('--reuse', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        print(json.dumps({'publish': publish, 'listen': listen}[args.role](args.seconds, args.reuse)))
        return 0
    figures = {name: measure(args.seconds, *variant) for name, variant in VARIANTS.items()}
    for name, values in figures.items():
        print(f'{name:20s}' + '  '.join(f'{key} {value:.3g}' for key, value in values.items()))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + '\n')
    return 0


def measure(seconds: float, profile: bool, reuse: bool) -> dict[str, float]:
    """Return the figures of one publisher and one listener, each a process of its own."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.endswith('_DEFAULT_PROFILES_FILE') and not name.startswith('MALLOC_')}
    humble = environment.get('ROS_DISTRO') == 'humble'
    environment['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    environment.update({'ROS_LOCALHOST_ONLY': '1'} if humble else {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'})
    if profile:
        for name in ('FASTRTPS', 'FASTDDS'):  # of Fast DDS 2 (Humble, Jazzy), and 3
            environment[f'{name}_DEFAULT_PROFILES_FILE'] = str(PROFILE)
    command = [sys.executable, __file__, '--seconds', str(seconds), *(['--reuse'] if reuse else [])]
    listener, publisher = (subprocess.Popen([*command, '--role', role], stdout=subprocess.PIPE, env=environment)
                           for role in ('listen', 'publish'))
    sent, heard = (json.loads(process.communicate()[0].splitlines()[-1]) for process in (publisher, listener))
    return {**sent, **heard, 'arrived_share': heard['frames'] / (seconds * RATE)}


def publish(seconds: float, reuse: bool) -> dict[str, float]:
    """Publish images as video_node does; return what that cost."""
    import numpy as np
    import rclpy
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from pose3d_ros.ros.compat import reuse_large_buffers
    from pose3d_ros.ros.images import encode_image

    if reuse:
        reuse_large_buffers()
    rclpy.init()
    node = rclpy.create_node('transport_publisher')
    publisher = node.create_publisher(Image, 'transport', QoSProfile(depth=1))
    while not publisher.get_subscription_count():
        time.sleep(0.02)
    time.sleep(0.5)
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    count, begin, cpu = round(seconds * RATE), time.monotonic(), time.process_time()
    for number in range(count):
        time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
        publisher.publish(encode_image(image, Header(stamp=node.get_clock().now().to_msg())))
    cpu = time.process_time() - cpu
    time.sleep(1.0)
    node.destroy_node()
    rclpy.shutdown()
    return {'publisher_cpu_ms': 1e3 * cpu / count}


def listen(seconds: float, reuse: bool) -> dict[str, float]:
    """Listen as mono_node does; return how late the images were and what taking them cost."""
    import numpy as np
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    from pose3d_ros.ros.compat import reuse_large_buffers
    from pose3d_ros.ros.convert import stamp_ns

    if reuse:
        reuse_large_buffers()
    rclpy.init()
    node = rclpy.create_node('transport_listener')
    delays: list[float] = []
    node.create_subscription(Image, 'transport', lambda message: delays.append(
        (time.time_ns() - stamp_ns(message.header.stamp)) / 1e6),
        QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    while not node.count_publishers('transport'):
        rclpy.spin_once(node, timeout_sec=0.02)
    end, cpu = time.monotonic() + seconds + 2.0, time.process_time()
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    cpu = time.process_time() - cpu
    node.destroy_node()
    rclpy.shutdown()
    late = np.array(delays or [np.nan])
    return {'frames': len(delays), 'delay_p50_ms': float(np.percentile(late, 50)),
            'delay_p95_ms': float(np.percentile(late, 95)), 'listener_cpu_ms': 1e3 * cpu / max(len(delays), 1)}


if __name__ == '__main__':
    sys.exit(main())
