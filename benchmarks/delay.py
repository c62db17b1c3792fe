"""The delay from an image's stamp to its people in another process, through DDS, at the rate of a camera."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from pose3d_ros.cli.nodes import Processes, node_command, private_domain, require_ros
from pose3d_ros.cli.places import config_file
from pose3d_ros.runtime.store import ModelStore

WARM_UP_S = 4.0


def measure_delay(model: str, camera: str, seconds: float, rate: float = 30.0) -> dict[str, float]:
    """Play a sample camera in a loop at `rate` frames per second; return percentiles of the delay and what was lost.

    A frame that is overtaken by a newer one before the node comes to it counts as dropped.
    """
    require_ros()
    params, video = config_file('mono.yaml'), Path(ModelStore().path('sample')) / f'{camera}.mp4'
    with private_domain() as environment, Processes(environment) as processes:
        listener = processes.start('listener', [sys.executable, str(Path(__file__).with_name('listener.py'))],
                                   talks=True)
        processes.start('mono_node', node_command('mono_node', params, detector_model=model))
        processes.start('video_node', node_command(
            'video_node', params, video=str(video), calibration=str(config_file('samples/single_person.yaml')),
            camera_name=camera, rate=rate, pace='realtime', loop=True))
        end = time.monotonic() + WARM_UP_S + seconds
        while time.monotonic() < end:
            for name in ('listener', 'mono_node', 'video_node'):
                processes.ended(name)
            time.sleep(0.2)
        processes.stop('video_node', 'mono_node')
        said, _ = listener.communicate('\n', timeout=20)
    return figures(json.loads(said), rate)


def figures(heard: dict[str, list[float]], rate: float) -> dict[str, float]:
    """Return the figures of what a listener heard after the warm-up."""
    stamps, delays, people = (np.array(heard[key]) for key in ('stamps_s', 'delays_ms', 'people'))
    settled = stamps - stamps[:1] > WARM_UP_S
    if settled.sum() < 2:
        raise RuntimeError(f'only {settled.sum()} messages came after the warm-up')
    stamps, delays, people = stamps[settled], delays[settled], people[settled]
    expected = round((stamps[-1] - stamps[0]) * rate) + 1
    print(f'{len(delays)} of {expected} frames at {rate:.0f} frames/s reached the listener, '
          f'{people.mean():.1f} people on average')
    return {**{f'latency_p{share}_ms': float(np.percentile(delays, share)) for share in (50, 95, 99)},
            'frames_dropped_share': float(max(0.0, 1 - len(delays) / expected)),
            'people_mean': float(people.mean())}
