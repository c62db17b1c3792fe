#!/usr/bin/env python3
"""How long fusion takes; how long triangulation takes and how well it does, against what others do.

    python benchmarks/fusion_speed.py [--peers] [--json FILE]

Synthetic people of 17 joints in view of four cameras around them: 5 px of noise at a focal length of 1000 px, and one
ray in ten 30 to 300 px off. The same rays for all; candidates take turns within each round, on the same cores; medians.
`dlt` is every point for itself by linear least squares from all views, as in every textbook. With --peers also
aniposelib (plain and robust) and Pose2Sim, in an environment of their own (installed once, 1 GB). Errors are printed
beside: a point missing or more than 10 cm off is lost. `fusion` is all of it (who is who, triangulation, filters) for
eight people who walk before four cameras with everything that goes wrong (test/scenes.py), measured between the others.

`speed`: the two figures that are kept: fusion, and triangulation of one person against Pose2Sim, which knows only one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'test'))

from paired import block  # noqa: E402
from peer import TRIANGULATION, PeerError, clean_environment, peer_python  # noqa: E402
from scenes import HARD, SETTLED, Scene, crowd, ring, told  # noqa: E402

from pose3d_ros.cli.figures import add_json_option, print_table, write_json  # noqa: E402
from pose3d_ros.cli.progress import progress  # noqa: E402
from pose3d_ros.fuse.triangulate import triangulate  # noqa: E402
from pose3d_ros.runtime.store import ModelStore  # noqa: E402

HERE = Path(__file__).resolve().parent
VIEWS, JOINTS = 4, 17
SIGMA, OUTLIERS, FAR = 0.005, 0.1, (0.03, 0.3)
LOST_M = 0.1
PEERS = ('anipose', 'anipose_robust', 'pose2sim')
Round = Callable[[float], tuple[list[float], NDArray]]  # seconds -> ms of each call, points (N, 3)


def scene(people: int, seed: int = 0) -> dict[str, NDArray]:
    """Return truth (N, 3) m, rays (VIEWS, N, 2), poses (VIEWS, 4, 4), prior (N, 3), covariance (N, 3, 3)."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (VIEWS, 1, 1))
    for pose, angle in zip(poses, np.linspace(0.0, 2 * np.pi, VIEWS, endpoint=False)):
        ahead = -np.array([np.cos(angle), np.sin(angle), 0.1])
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        pose[:3, :3], pose[:3, 3] = [right, np.cross(ahead, right), ahead], [0.0, 0.0, 6.0]
    truth = (rng.uniform(-2, 2, (people, 1, 3)) * [1, 1, 0] + rng.normal(0, 0.4, (people, JOINTS, 3))).reshape(-1, 3)
    local = np.einsum('vij,nj->vni', poses[:, :3, :3], truth) + poses[:, None, :3, 3]
    rays = local[..., :2] / local[..., 2:] + rng.normal(0, SIGMA, (VIEWS, len(truth), 2))
    off = rng.random(rays.shape[:2]) < OUTLIERS
    turn = rng.uniform(0, 2 * np.pi, off.sum())
    rays[off] += rng.uniform(*FAR, (off.sum(), 1)) * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    return {'truth': truth, 'rays': rays, 'poses': poses, 'prior': truth + rng.normal(0, 0.3, truth.shape),
            'covariance': np.tile(0.09 * np.eye(3), (len(truth), 1, 1))}


def dlt(rays: NDArray, poses: NDArray) -> NDArray:
    """Return the points (N, 3) of rays (V, N, 2): x P3 - P1, y P3 - P2 of all views, one point after the other."""
    points = np.empty((rays.shape[1], 3))
    for n in range(rays.shape[1]):
        rows = np.concatenate([rays[:, n, axis, None] * poses[:, 2] - poses[:, axis] for axis in (0, 1)])
        solution = np.linalg.svd(rows)[2][-1]
        points[n] = solution[:3] / solution[3]
    return points


def here(call: Callable[[], NDArray]) -> Round:
    """Return rounds of a call in this process."""
    return lambda seconds: (block(call, seconds)[0], call())


class There:
    """Rounds of a peer in a process of its own."""

    def __init__(self, python: Path, file: Path, name: str) -> None:
        self._process = subprocess.Popen(
            [str(python), str(HERE / 'triangulate_peers.py'), str(file), name], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**clean_environment(), 'MPLBACKEND': 'Agg'})

    def __call__(self, seconds: float) -> tuple[list[float], NDArray]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f'{seconds}\n')
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f'{" ".join(map(str, self._process.args))} ended without an answer; run it to see why')
        answer = json.loads(line)
        return answer['ms'], np.array(answer['points'], dtype=np.float64)

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate(timeout=60)


def measure(candidates: dict[str, Round], truth: NDArray, rounds: int, seconds: float) -> dict[str, float]:
    """Return median ms, median error in mm and lost share of each candidate, and its time over ours."""
    times: dict[str, list[list[float]]] = {name: [] for name in candidates}
    points: dict[str, NDArray] = {}
    names = list(candidates)
    for number in progress(range(rounds), desc='rounds', unit='round'):
        for name in names[number % len(names):] + names[:number % len(names)]:
            ms, points[name] = candidates[name](seconds)
            times[name].append(ms)
    figures: dict[str, float] = {}
    for name in names:
        error = np.linalg.norm(points[name] - truth, axis=-1)
        figures[f'{name}_ms'] = statistics.median(value for values in times[name] for value in values)
        figures[f'{name}_error_mm'] = 1e3 * float(np.nanmedian(error))
        figures[f'{name}_lost_share'] = float(np.mean(~(error < LOST_M)))
        if name not in ('ours', 'ours_with_prior'):
            figures[f'ratio_{name}'] = statistics.median(
                statistics.median(other) / statistics.median(own) for other, own in zip(times[name], times['ours']))
    return figures


def measure_people(people: int, peers: Path | None, rounds: int, seconds: float) -> dict[str, float]:
    """Return the figures for so many people; peers: the interpreter of their environment."""
    given = scene(people)
    candidates: dict[str, Round] = {
        'ours': here(lambda: triangulate(given['rays'], given['poses'], SIGMA).points),
        'ours_with_prior': here(lambda: triangulate(given['rays'], given['poses'], SIGMA, prior=given['prior'],
                                                    prior_covariance=given['covariance']).points),
        'dlt': here(partial(dlt, given['rays'], given['poses'][:, :3])),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'scene.npz'
        np.savez(file, **given)
        others = {name: There(peers, file, name) for name in PEERS} if peers else {}
        try:
            return measure({**candidates, **others}, given['truth'], rounds, seconds)
        finally:
            for other in others.values():
                other.close()


def fusion_ms(people: int, frames: int = 60) -> list[float]:
    """Return the ms of each call of Fuser for so many people in view of VIEWS cameras."""
    return told(Scene(crowd(people), ring(VIEWS), HARD), frames).ms[SETTLED:]


def main() -> int:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--peers', action='store_true', help='also against aniposelib and Pose2Sim')
    parser.add_argument('--cores', type=int, default=2, help='all processes share this many (default: 2)')
    parser.add_argument('--rounds', type=int, default=7, help='default: 7')
    parser.add_argument('--seconds', type=float, default=0.3, help='of each candidate in each round (default: 0.3)')
    add_json_option(parser)
    args = parser.parse_args()

    cores = sorted(os.sched_getaffinity(0))[:args.cores]
    os.sched_setaffinity(0, cores)
    print(f'cores: {len(cores)}; load before: {os.getloadavg()[0]:.1f}', flush=True)
    figures: dict[str, object] = {'cores': len(cores)}
    rows = [['people', 'figure', 'value']]
    try:
        peers = peer_python(ModelStore().cache_dir, TRIANGULATION) if args.peers else None
        fusion: list[float] = []
        for people in (1, 8):
            fusion += fusion_ms(8)
            found = measure_people(people, peers, args.rounds, args.seconds)
            figures[f'people{people}_cameras{VIEWS}'] = found
            rows += [[str(people), name, f'{value:.3f}'] for name, value in found.items()]
        fusion += fusion_ms(8)
        kept = {f'people8_cameras{VIEWS}_ms': statistics.median(fusion),
                f'people8_cameras{VIEWS}_p95_ms': float(np.percentile(fusion, 95))}
        one = figures[f'people1_cameras{VIEWS}']
        if isinstance(one, dict) and 'ratio_pose2sim' in one:
            kept['ratio_pose2sim'] = one['ratio_pose2sim']
        figures['speed'] = kept
        rows += [['8' if name.startswith('people8') else '1', f'speed.{name}', f'{value:.3f}']
                 for name, value in kept.items()]
    except PeerError as error:
        print(f'fusion_speed.py: {error}')
        return 1
    print_table(rows)
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
