#!/usr/bin/env python3
"""How long lifting takes: one person and eight, the whole call and the network alone, against the published width.

    python benchmarks/lift.py [--json FILE]

Every round times each candidate once back to back (many calls) and once paced like a camera's frames, with a pause
before every call; candidates take turns, and the median over all calls counts. The lifter runs as it ships, on one
thread. The baseline is the network of AbsPoseLifter as published (one linear layer, two residual blocks of two, batch
norm; 4096 wide) on the same 13 joints, with random weights, and the same at 1024, each on all cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pose3d_ros.camera import Camera
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.progress import progress
from pose3d_ros.lift import DEFAULT_LIFTER, INPUTS, Lifter
from pose3d_ros.records import Person2D, Person3D
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.opening import open_engine
from pose3d_ros.skeleton import BLAZEPOSE33, HUMAN17

PUBLISHED, NARROW = 4096, 1024
FRAME_S = 1 / 30
CAMERA = Camera(1280, 720, 900.0, 900.0, 640.0, 360.0)


def published_network(width: int, joints_in: int = len(INPUTS), joints_out: int = len(HUMAN17)) -> onnx.ModelProto:
    """Return AbsPoseLifter's network (section 3.2) with random weights: (N, 2 J + 3) to (N, 3 K - 2)."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values.astype(np.float32), f'w{len(weights)}'))
        return weights[-1].name

    def add(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [f'x{len(nodes)}'], **attributes))
        return nodes[-1].output[0]

    def linear(x: str, rows: int, columns: int) -> str:
        matrix = rng.standard_normal((columns, rows), dtype=np.float32) / np.float32(np.sqrt(rows))
        return add('Gemm', x, weight(matrix), weight(np.zeros(columns)), transB=1)

    def activated(x: str) -> str:
        ones, zeros = (weight(np.full(width, value)) for value in (1.0, 0.0))
        return add('Relu', add('BatchNormalization', x, ones, zeros, zeros, ones))

    hidden = linear('features', 2 * joints_in + 3, width)
    for _ in range(2):
        inner = hidden
        for _ in range(2):
            inner = linear(activated(inner), width, width)
        hidden = add('Add', hidden, inner)
    result = linear(activated(hidden), width, 3 * joints_out - 2)
    graph = helper.make_graph(
        nodes, 'published', [helper.make_tensor_value_info('features', TensorProto.FLOAT, ['N', 2 * joints_in + 3])],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, ['N', 3 * joints_out - 2])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)


def people(count: int) -> list[Person2D]:
    """Return people with all joints in view, side by side; where the joints lie does not change the time."""
    rng = np.random.default_rng(1)
    joints = len(BLAZEPOSE33)
    found = []
    for number in range(count):
        pixels = rng.uniform((10, 100), (110, 600), (joints, 2)) + (150 * (number % 8), 0)
        found.append(Person2D(BLAZEPOSE33, pixels, CAMERA.undistort(pixels), np.full(joints, 2.0), np.full(joints, 0.9),
                              np.zeros(joints), np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]), 0.9,
                              number + 1))
    return found


def lift_next(lifter: Lifter, crowd: list[Person2D], stamps: Iterator[int]) -> list[Person3D]:
    """Lift people of the next frame of a video."""
    return lifter(crowd, CAMERA, next(stamps))


def candidates(lifter: Lifter, folder: Path, threads: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, by the name of its figure."""
    stamps: Iterator[int] = iter(range(0, sys.maxsize, round(1e9 * FRAME_S)))
    found: dict[str, Callable[[], object]] = {}
    for count in (1, 8):
        found[f'lift_{count}'] = partial(lift_next, lifter, people(count), stamps)
        inputs = {name: np.full([size or count for size in shape], 0.5, dtype=np.float32)
                  for name, shape in lifter.engine.input_shapes.items()}
        found[f'network_{count}'] = partial(lifter.engine.run, inputs)
    for width in (PUBLISHED, NARROW):
        path = folder / f'published_{width}.onnx'
        onnx.save(published_network(width), path)
        engine = open_engine(path, Wanted('cpu', threads=threads))
        for count in (1, 8):
            features = {'features': np.full((count, 2 * len(INPUTS) + 3), 0.5, dtype=np.float32)}
            found[f'width_{width}_{count}'] = partial(engine.run, features)
    return found


def measure(what: dict[str, Callable[[], object]], rounds: int, calls: int, paced_calls: int) -> dict[str, float]:
    """Return the median time of each candidate in ms, `_ms` back to back and `_paced_ms` with pauses between."""
    times: dict[str, list[float]] = {f'{name}{kind}_ms': [] for kind in ('', '_paced') for name in what}
    for number in progress(range(rounds), desc='rounds', unit='round'):
        names = list(what)
        for name in names[number % len(names):] + names[:number % len(names)]:
            for _ in range(20):
                what[name]()
            for kind, count, pause in (('', calls, 0.0), ('_paced', paced_calls, FRAME_S)):
                for _ in range(count):
                    if pause:
                        time.sleep(pause)
                    start = time.perf_counter()
                    what[name]()
                    times[f'{name}{kind}_ms'].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default=DEFAULT_LIFTER, metavar='NAME|ONNX',
                        help='a lifter that ships, or a file (default: %(default)s)')
    parser.add_argument('--cores', type=int, default=2, help='that may be used (default: 2)')
    parser.add_argument('--rounds', type=int, default=7, help='default: 7')
    parser.add_argument('--calls', type=int, default=300, help='back to back, per round (default: 300)')
    parser.add_argument('--paced-calls', type=int, default=30, help='per round (default: 30)')
    add_json_option(parser)
    args = parser.parse_args()

    cores = sorted(os.sched_getaffinity(0))[:args.cores]
    os.sched_setaffinity(0, cores)
    print(f'cores: {len(cores)}; load before: {os.getloadavg()[0]:.1f}', flush=True)
    lifter = Lifter.open(args.model, Wanted('cpu'))
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(candidates(lifter, Path(folder), len(cores)), args.rounds, args.calls, args.paced_calls)
    for count in (1, 8):
        for against in (PUBLISHED, NARROW):
            figures[f'lift_{count}_share_of_width_{against}'] = (
                figures[f'lift_{count}_ms'] / figures[f'width_{against}_{count}_ms'])
        figures[f'width_{PUBLISHED}_over_{NARROW}_{count}'] = (
            figures[f'width_{PUBLISHED}_{count}_ms'] / figures[f'width_{NARROW}_{count}_ms'])
    figures['lift_cores'] = len(cores)
    print_table([['figure', 'value'], *([key, f'{value:.3f}'] for key, value in figures.items())])
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
