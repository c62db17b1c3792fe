#!/usr/bin/env python3
"""How well several cameras together place people, in scenes with truth and everything that goes wrong.

    python benchmarks/fusion_scenes.py [--scenes N] [--frames N] [--json FILE]

People who walk through each other's paths before cameras on a ring (test/scenes.py): 5 px of noise, one joint in ten an
outlier, one in ten hidden, so people and exchanged sides, and stamps that differ by up to 40 ms; once with a camera
that rides past at 1 m/s, once with nothing but noise. Beside fusion: the mean of the cameras' mono 3D, and linear least
squares, both of which are told who is who. Coverage: the share of limbs within their 90 % ellipsoids, also by the
number of cameras that saw the person.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'test'))

from scenes import HARD, SETTLED, Place, Scene, Told, Trouble, crowd, looking, naive_errors, ring, told  # noqa: E402

from pose3d_ros.cli.figures import add_json_option, print_table, write_json  # noqa: E402
from pose3d_ros.cli.progress import progress  # noqa: E402

RATE = 25


@dataclass(frozen=True)
class Case:
    """So many people before so many cameras, of which the last may ride; what goes wrong."""

    cameras: int
    people: int
    trouble: Trouble = HARD
    rides: bool = False

    @property
    def name(self) -> str:
        """The key of its figures."""
        extra = '_riding' if self.rides else '' if self.trouble is HARD else '_noise_only'
        return f'people{self.people}_cameras{self.cameras}{extra}'

    def scene(self, seed: int) -> Scene:
        """Return a scene of this kind."""
        places: list[Place] = ring(self.cameras)
        if self.rides:
            places[-1] = riding
        return Scene(crowd(self.people, seed), places, self.trouble, seed, RATE)


CASES = (Case(2, 1), Case(2, 4), Case(3, 4), Case(4, 1), Case(4, 4), Case(4, 8), Case(6, 4), Case(8, 4), Case(8, 8),
         Case(4, 4, rides=True), Case(4, 4, Trouble()))


def riding(seconds: float) -> NDArray[np.float64]:
    """Return the place of a camera that passes the people at 1 m/s, looking at them."""
    return looking(np.array([4.0, -3.0 + seconds, 1.2]), np.array([0.0, 0.0, 1.0]))


def measure(case: Case, scenes: int, frames: int) -> tuple[dict[str, float], list[Told]]:
    """Return the figures of one case, counts per person and minute, and the runs."""
    runs, averaged, plain = [], [], []
    for seed in range(scenes):
        runs.append(told(case.scene(seed), frames))
        errors = naive_errors(case.scene(seed), frames)
        averaged.append(errors[0])
        plain.append(errors[1])
    judged = case.people * scenes * (frames - SETTLED)
    return {
        'mpjpe_mm': 1e3 * float(np.mean([run.error for run in runs])),
        'limbs_mm': 1e3 * float(np.mean([np.mean(run.limb_errors) for run in runs])),
        'mono_mean_limbs_mm': 1e3 * float(np.mean(averaged)),
        'dlt_limbs_mm': 1e3 * float(np.mean(plain)),
        'coverage_90': coverage(runs),
        'id_switches_per_minute': sum(run.switches for run in runs) / (judged / RATE / 60),
        'ghost_share': sum(run.ghosts for run in runs) / judged,
        'missed_share': sum(run.missed for run in runs) / judged,
        'p50_ms': float(np.median([ms for run in runs for ms in run.ms])),
    }, runs


def coverage(runs: list[Told], cameras: int | None = None) -> float:
    """Return the share of joints within their 90 % ellipsoids, of people seen by so many cameras, if told."""
    joints = [inside for run in runs for inside, seen in zip(run.inside, run.cameras, strict=True)
              if cameras is None or seen == cameras]
    return float(np.concatenate(joints).mean()) if joints else np.nan


def main() -> int:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scenes', type=int, default=10, help='of each kind (default: 10)')
    parser.add_argument('--frames', type=int, default=75, help=f'of each scene, {RATE} per second (default: 75)')
    add_json_option(parser)
    args = parser.parse_args()
    print(f'load before: {os.getloadavg()[0]:.1f}', flush=True)
    found: dict[str, dict[str, float]] = {}
    everything: list[Told] = []
    for case in progress(CASES, unit='case'):
        found[case.name], runs = measure(case, args.scenes, args.frames)
        everything += runs
    names = list(next(iter(found.values())))
    print_table([['scene', *names]] + [[key, *(f'{value:.3g}' for value in row.values())]
                                       for key, row in found.items()])
    overall = {'coverage_90': coverage(everything)}
    overall |= {f'coverage_90_seen_by_{n}': coverage(everything, n) for n in range(9)}
    overall |= {f'mpjpe_cameras{n}_mm': found[f'people4_cameras{n}']['mpjpe_mm'] for n in (2, 3, 4, 6, 8)}
    overall = {name: value for name, value in overall.items() if np.isfinite(value)}
    overall |= {name: max(row[name] for row in found.values())
                for name in ('id_switches_per_minute', 'ghost_share', 'missed_share')}
    print_table([['all scenes', 'value']] + [[name, f'{value:.3f}'] for name, value in overall.items()])
    if args.json:
        write_json(args.json, {'synthetic': overall, **found})
    return 0


if __name__ == '__main__':
    sys.exit(main())
