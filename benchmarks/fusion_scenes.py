#!/usr/bin/env python3
"""How well several cameras together place people, in scenes with truth and everything that goes wrong.

    python benchmarks/fusion_scenes.py [--scenes N] [--frames N] [--json FILE]

People who walk through each other's paths before cameras on a ring (test/scenes.py): 5 px of noise, one joint in ten an
outlier, one in ten hidden, so people and exchanged sides, and stamps that differ by up to 40 ms. Beside fusion: the
mean of the cameras' mono 3D, and linear least squares, both of which are told who is who.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'test'))

from scenes import HARD, SETTLED, Scene, crowd, naive_errors, ring, told  # noqa: E402

from pose3d_ros.cli.figures import add_json_option, print_table, write_json  # noqa: E402
from pose3d_ros.cli.progress import progress  # noqa: E402

CASES = ((2, 1), (2, 4), (3, 4), (4, 1), (4, 4), (4, 8), (6, 8), (8, 8))  # cameras, people


def measure(cameras: int, people: int, scenes: int, frames: int) -> dict[str, float]:
    """Return the figures of one case; counts are per person and minute."""
    runs, averaged, plain = [], [], []
    for seed in range(scenes):
        runs.append(told(Scene(crowd(people, seed), ring(cameras), HARD, seed), frames))
        errors = naive_errors(Scene(crowd(people, seed), ring(cameras), HARD, seed), frames)
        averaged.append(errors[0])
        plain.append(errors[1])
    judged = people * scenes * (frames - SETTLED)
    return {
        'mpjpe_mm': 1e3 * float(np.mean([run.error for run in runs])),
        'limbs_mm': 1e3 * float(np.mean([np.mean(run.limb_errors) for run in runs])),
        'mono_mean_limbs_mm': 1e3 * float(np.mean(averaged)),
        'dlt_limbs_mm': 1e3 * float(np.mean(plain)),
        'coverage_90': float(np.concatenate([joints for run in runs for joints in run.inside]).mean()),
        'id_switches_per_minute': sum(run.switches for run in runs) / (judged / 25 / 60),
        'ghost_share': sum(run.ghosts for run in runs) / judged,
        'missed_share': sum(run.missed for run in runs) / judged,
        'p50_ms': float(np.median([ms for run in runs for ms in run.ms])),
    }


def main() -> int:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scenes', type=int, default=10, help='of each kind (default: 10)')
    parser.add_argument('--frames', type=int, default=75, help='of each scene, 25 per second (default: 75)')
    add_json_option(parser)
    args = parser.parse_args()
    print(f'load before: {os.getloadavg()[0]:.1f}', flush=True)
    figures: dict[str, object] = {}
    rows: list[list[str]] = []
    for cameras, people in progress(CASES, unit='case'):
        found = measure(cameras, people, args.scenes, args.frames)
        figures[f'people{people}_cameras{cameras}'] = found
        rows = rows or [['cameras', 'people', *found]]
        rows.append([str(cameras), str(people), *(f'{value:.3g}' for value in found.values())])
    print_table(rows)
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
