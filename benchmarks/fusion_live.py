#!/usr/bin/env python3
"""How late fused people are, with everything on this machine: four cameras, their networks, DDS and fusion.

    python benchmarks/fusion_live.py [--model full] [--one-process] [--rate 8] [--seconds 20] [--json FILE]

The four sample videos play in step, in a loop, as cameras at `rate` frames per second; a mono_node for each (or one
multi_node for all) finds the people, fusion_node fuses them with the shipped calibration. Latency: from the newest
stamp of a set (that of the fused message, when the image was published) to the moment when a Python subscriber in
another process has the message. The networks of four cameras, the video players and DDS share the cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np  # noqa: E402
from fusion_judge import Fused, Judge  # noqa: E402

from pose3d_ros.cli.errors import UserError  # noqa: E402
from pose3d_ros.cli.figures import add_json_option, print_table, write_json  # noqa: E402
from pose3d_ros.cli.nodes import Processes, node_command, private_domain, require_ros  # noqa: E402
from pose3d_ros.cli.places import config_file  # noqa: E402
from pose3d_ros.runtime.store import ModelMissing, ModelStore  # noqa: E402

CAMERAS = ('cam01', 'cam02', 'cam03', 'cam04')
CALIBRATION = 'samples/single_person.yaml'
WARM_UP_S, START_S = 5.0, 90.0


def measure(model: str, one_process: bool, rate: float, seconds: float) -> dict[str, float]:
    """Run everything for a while; return the figures. Raises UserError where nothing comes."""
    with private_domain() as environment, Processes(environment) as processes:
        judge = Judge(processes, time.time_ns())
        for name, command in commands(model, one_process, rate).items():
            processes.start(name, command)
        if not judge.wait(START_S, lambda: len(judge.fused) > 0):
            raise UserError(f'no fused people within {START_S:.0f} s. Last words of fusion_node:\n'
                            f'{processes.last_words("fusion_node")}')
        judge.wait(WARM_UP_S)
        begin = judge.now
        judge.wait(seconds)
        end = judge.now
        for name in commands(model, one_process, rate):
            processes.ended(name)
        heard = [message for message in judge.fused if begin <= message.at <= end]
        cameras = [values for name, values in judge.values.items() if name.endswith(': fusion')]
    return figures(heard, end - begin) | told(cameras[0] if cameras else {})


def commands(model: str, one_process: bool, rate: float) -> dict[str, list[str]]:
    """Return the commands of all nodes, by name."""
    params, calibration = config_file('multi.yaml'), str(config_file(CALIBRATION))
    sample = Path(ModelStore().path('sample'))
    nodes = {'fusion_node': node_command('fusion_node', params, cameras=list(CAMERAS), extrinsics_source='file',
                                         calibration=calibration, frame='world')}
    if one_process:
        nodes['multi_node'] = node_command('multi_node', params, cameras=list(CAMERAS), detector_model=model)
    for camera in CAMERAS:
        if not one_process:
            nodes[f'mono_{camera}'] = node_command('mono_node', params, f'/{camera}', detector_model=model)
        nodes[f'video_{camera}'] = node_command(
            'video_node', params, f'/{camera}', video=str(sample / f'{camera}.mp4'), calibration=calibration,
            camera_name=camera, frame_id=f'{camera}_optical', rate=rate, loop=True, start_at=round(time.time()) + 10.0,
            wait_for_subscriber=60.0)
    return nodes


def figures(heard: Sequence[Fused], seconds: float) -> dict[str, float]:
    """Return what the messages of a time of so many seconds say. Raises UserError where there are too few."""
    if len(heard) < 2:
        raise UserError(f'only {len(heard)} fused messages came in {seconds:.0f} s')
    latency = 1e3 * np.array([message.at - message.stamp for message in heard])
    return {**{f'latency_p{share}_ms': float(np.percentile(latency, share)) for share in (50, 95, 99)},
            'sets_per_s': len(heard) / seconds,
            'people_mean': float(np.mean([len(message.people) for message in heard]))}


def told(values: dict[str, str]) -> dict[str, float]:
    """Return what fusion_node itself says of the views of a set, and of the time fusion takes."""
    return {name: float(values[name]) for name in ('views_per_set', 'fuse_p50_ms', 'fuse_p95_ms') if name in values}


def main() -> int:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', nargs='+', default=['full'], choices=('lite', 'full', 'heavy'),
                        help='default: full; the figures of the first are called live')
    parser.add_argument('--one-process', action='store_true', help='one multi_node instead of a mono_node per camera')
    parser.add_argument('--rate', type=float, default=8.0, help='frames/s of each camera (default: 8)')
    parser.add_argument('--seconds', type=float, default=20.0, help='that count (default: 20)')
    parser.add_argument('--cores', type=int, default=2, help='all processes share this many (default: 2)')
    add_json_option(parser)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.cores])  # inherited by every process
    print(f'cores: {len(os.sched_getaffinity(0))}; load before: {os.getloadavg()[0]:.1f}', flush=True)
    result: dict[str, dict[str, Any]] = {}
    try:
        require_ros()
        for number, model in enumerate(args.model):
            name = f'live_{model}' if number else 'live'
            result[name] = {'model': model, 'rate_hz': args.rate, 'one_process': args.one_process,
                            **measure(model, args.one_process, args.rate, args.seconds)}
    except (UserError, ModelMissing) as error:
        print(f'fusion_live.py: {error}', file=sys.stderr)
        return 1
    for name, values in result.items():
        print_table([[name, 'value'], *([key, f'{value:.2f}' if isinstance(value, float) else str(value)]
                                        for key, value in values.items())])
    if args.json:
        write_json(args.json, result)
    return 0


if __name__ == '__main__':
    sys.exit(main())
