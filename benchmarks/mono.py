#!/usr/bin/env python3
"""How fast one camera is served: frames per second against MediaPipe Pose, and the delay through ROS 2.

    python benchmarks/mono.py [--json FILE]

Speed: detect, track, lift and refine against MediaPipe Pose on the same frames of the sample footage (BGR, read
beforehand by all), on the same two cores, in alternating rounds; medians over the rounds. MediaPipe follows one person
and does not look for others meanwhile; so we run twice: as shipped, and with max_people 1, which does the same.

Delay: a camera node at 30 frames per second, the mono node and a listener, three processes on two cores; from the stamp
of the image to the arrival of its people.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from delay import measure_delay  # noqa: E402
from peer import VERSION, PeerError, clean_environment, peer_python  # noqa: E402

from pose3d_ros.cli.errors import UserError  # noqa: E402
from pose3d_ros.cli.figures import add_json_option, print_table, write_json  # noqa: E402
from pose3d_ros.cli.places import config_file  # noqa: E402
from pose3d_ros.cli.progress import progress  # noqa: E402
from pose3d_ros.detect import DetectSettings  # noqa: E402
from pose3d_ros.runtime.store import ModelMissing, ModelStore  # noqa: E402

HERE = Path(__file__).resolve().parent
COMPLEXITY = {'lite': '0', 'full': '1', 'heavy': '2'}


class Worker:
    """A process that runs one round over its frames whenever it is asked to."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(list(command), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL, text=True, bufsize=1)
        self.about = self._answer()

    def round(self) -> dict[str, float]:
        """Run a round: {seconds, found}."""
        assert self._process.stdin is not None
        self._process.stdin.write('\n')
        return self._answer()

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate(timeout=30)

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f'{" ".join(map(str, self._process.args))} ended without an answer; run it to see why')
        return json.loads(line)


def measure_speed(model: str, cameras: Sequence[str], rounds: int) -> dict[str, float]:
    """Run alternating rounds of both; return medians of frames per second and of the ratio within each round."""
    store = ModelStore()
    videos = [str(Path(store.path('sample')) / f'{camera}.mp4') for camera in cameras]
    calibration = str(config_file('samples/single_person.yaml'))
    workers = {
        **{name: Worker([sys.executable, str(HERE / 'speed_pose3d.py'), model, str(people), calibration, *videos],
                        dict(os.environ))
           for name, people in (('shipped', DetectSettings.max_people), ('one', 1))},
        'mediapipe': Worker([str(peer_python(store.cache_dir)), str(HERE / 'speed_mediapipe.py'), COMPLEXITY[model],
                             *videos], clean_environment()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    found = {}
    for number in progress(range(rounds + 1), desc='rounds', unit='round'):
        order = [*list(workers)[number % 3:], *list(workers)[:number % 3]]
        for name in order:
            answer = workers[name].round()
            found[name] = answer['found'] / workers[name].about['frames']
            if number:  # the first round warms up
                seconds[name].append(answer['seconds'])
    for worker in workers.values():
        worker.close()
    fps = {name: [workers[name].about['frames'] / value for value in values] for name, values in seconds.items()}
    for name, worker in workers.items():
        print(f'{name}: {worker.about["version"]}: {statistics.median(fps[name]):.1f} frames/s, '
              f'rounds {min(fps[name]):.1f} to {max(fps[name]):.1f}; a person in {100 * found[name]:.1f} % of '
              f'{worker.about["frames"]} frames')
    return {
        'fps': statistics.median(fps['shipped']),
        'fps_one_person': statistics.median(fps['one']),
        'mediapipe_fps': statistics.median(fps['mediapipe']),
        'fps_ratio_mediapipe': statistics.median(a / b for a, b in zip(fps['shipped'], fps['mediapipe'])),
        'fps_ratio_mediapipe_one_person': statistics.median(a / b for a, b in zip(fps['one'], fps['mediapipe'])),
        'person_frames_share': found['shipped'],
        'mediapipe_person_frames_share': found['mediapipe'],
    }


def main() -> int:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='full', choices=tuple(COMPLEXITY), help='default: full')
    parser.add_argument('--cameras', nargs='+', default=['cam03', 'cam04'],
                        help='of the sample (default: cam03 cam04, which see one person)')
    parser.add_argument('--rounds', type=int, default=7, help='pairs of rounds that count (default: 7)')
    parser.add_argument('--seconds', type=float, default=20.0, help='of the delay measurement (default: 20)')
    parser.add_argument('--cores', type=int, default=2, help='all processes share this many (default: 2)')
    parser.add_argument('--skip', choices=('speed', 'delay'), default='', help='leave one of the two out')
    add_json_option(parser)
    args = parser.parse_args()

    cores = sorted(os.sched_getaffinity(0))[:args.cores]
    os.sched_setaffinity(0, cores)  # every process started from here inherits it
    print(f'cores: {len(cores)}; load before: {os.getloadavg()[0]:.1f}; MediaPipe {VERSION} Pose, complexity '
          f'{COMPLEXITY[args.model]} ({args.model})', flush=True)
    figures: dict[str, float] = {'cores': len(cores)}
    try:
        if args.skip != 'speed':
            figures |= measure_speed(args.model, args.cameras, args.rounds)
        if args.skip != 'delay':
            figures |= measure_delay(args.model, args.cameras[-1], args.seconds)
    except (UserError, PeerError, ModelMissing) as error:
        print(f'mono.py: {error}')
        return 1
    print_table([['figure', 'value'], *([key, f'{value:.2f}'] for key, value in figures.items())])
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
