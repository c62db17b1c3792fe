"""The paper's ablation (Table 6) on people that were never trained on, and what each variant costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose3d_ros.attributes import ATTRIBUTE_JOINTS
from pose3d_ros.nets.parts import CLASSES, PartsNet
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.loop import CHECKPOINT, CheckpointError
from pose3d_ros.train.onnx_file import write_checked
from pose3d_ros.train.parts import FEATURES, ROWS, evidence_of, folder, joint_errors, load_trained, start_errors
from pose3d_ros.train.parts_data import People

KINDS = ('hip', 'spine', 'thorax', 'shoulder', 'head', 'elbow', 'knee', 'wrist', 'ankle')  # Table 6's columns

Figures = dict[str, float]


@dataclass
class TrainedRow:
    """The trainings of one row by seed, and what their checkpoints say of them."""

    networks: dict[int, PartsNet]
    steps: int
    width: int
    lifter: str


def load_rows(runs: Path) -> dict[str, TrainedRow]:
    """Return the rows that a folder of `pose3d train parts` holds, in the order of the table.

    Raises CheckpointError, also where trainings that are compared differ in length.
    """
    rows: dict[str, TrainedRow] = {}
    lengths = set()
    for name in ROWS:
        for path in sorted(runs.glob(f'{folder(name, 0)[:-1]}*/{CHECKPOINT}')):
            if path.parent.name != folder(name, int(path.parent.name.rpartition('-')[2])):
                continue
            network, told = load_trained(path)
            row = rows.setdefault(name, TrainedRow({}, told['steps'], told['width'], told.get('lifter', '')))
            row.networks[int(told['seed'])] = network
            if not ROWS[name].refines:
                lengths.add(told['steps'])
    if len(lengths) > 1:
        raise CheckpointError(f'{runs}: trainings of {", ".join(map(str, sorted(lengths)))} steps cannot be compared; '
                              'train on, the same command continues')
    return rows


def measure(rows: Mapping[str, TrainedRow], people: People, seed: int) -> dict[str, Figures]:
    """Return the errors of each row in mm, means over its seeds, and their standard deviations (`_std`).

    Poses are compared with the pelvis at the origin and the statures known. `over_baseline`: MPJPE over the baseline's,
    the mean of the ratios of trainings with the same seed. A row that refines brings two more: what it starts from
    (`_start`), and what it makes of people of whom no attributes are known (`_unknown`).
    """
    found: dict[str, dict[int, Figures]] = {}
    for name, row in rows.items():
        told = evidence_of(ROWS[name], people, seed)
        found[name] = {number: _kinds(joint_errors(network, people, told)) for number, network in row.networks.items()}
        if ROWS[name].refines:
            found[f'{name}_start'] = {0: _kinds(start_errors(people))}
            found[f'{name}_unknown'] = {number: _kinds(joint_errors(network, people))
                                        for number, network in row.networks.items()}
    table = {}
    for name, runs in found.items():
        table[name] = {'n': float(len(people))}
        for key in next(iter(runs.values())):
            values = [run[key] for run in runs.values()]
            table[name] |= {key: statistics.fmean(values),
                            f'{key}_std': statistics.stdev(values) if values[1:] else 0.0}
        shared = [number for number in runs if number in found.get('baseline', {}) and name in ROWS]
        if shared:
            ratios = [runs[number]['mpjpe_mm'] / found['baseline'][number]['mpjpe_mm'] for number in shared]
            table[name]['over_baseline'] = statistics.fmean(ratios)
    return table


def _kinds(errors: NDArray) -> Figures:
    """Return MPJPE and the mean error per kind of joint in mm; errors (N, 17) m."""
    mean = 1000 * errors.mean(axis=0)
    return {'mpjpe_mm': float(mean.mean()), **{
        f'{kind}_mm': float(np.mean([value for joint, value in zip(HUMAN17.joints, mean) if joint.endswith(kind)]))
        for kind in KINDS}}


def parameters(network: PartsNet) -> int:
    """Return how many weights are learnt."""
    return sum(weight.numel() for weight in network.parameters())


class _Result(nn.Module):
    """The pose alone, as it would be exported."""

    def __init__(self, network: PartsNet) -> None:
        super().__init__()
        self.network = network.folded()

    def forward(self, features: Tensor, attributes: Tensor | None = None, start: Tensor | None = None) -> Tensor:
        pose: Tensor = self.network(features, attributes, start)[-1]
        return pose


def latency(networks: Mapping[str, PartsNet], seconds: float, rounds: int = 40) -> dict[str, Figures]:
    """Return what one person costs in ONNX Runtime on one thread: `latency_us`, and `latency_ratio` over the baseline.

    The variants take turns, and ratios are those of medians within a round (their median over the rounds), so that
    what else the computer does hits all alike.
    """
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1, FEATURES), dtype=np.float32)
    attributes = rng.random((1, len(ATTRIBUTE_JOINTS), CLASSES), dtype=np.float32)
    start = rng.standard_normal((1, len(HUMAN17), 3), dtype=np.float32)
    calls = {}
    with TemporaryDirectory() as place:
        for name, network in networks.items():
            shown = {'features': features} | ({'attributes': attributes} if network.told else {})
            if network.refines:
                shown['start'] = start
            session = _session(_Result(network).eval(), shown, Path(place) / f'{name}.onnx')
            calls[name] = (session, shown)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        names = list(calls)[number % len(calls):] + list(calls)[:number % len(calls)]
        for name in names:
            times[name].append(_median(*calls[name], seconds / rounds / len(calls)))
    return {name: {'latency_us': 1e6 * statistics.median(values)} | (
                {'latency_ratio': statistics.median(a / b for a, b in zip(values, times['baseline']))}
                if 'baseline' in times else {}) for name, values in times.items()}


def _session(network: nn.Module, shown: Mapping[str, NDArray], path: Path) -> onnxruntime.InferenceSession:
    example = tuple(torch.from_numpy(array) for array in shown.values())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1

    def deviation(file: Path) -> float:
        again = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
        with torch.no_grad():
            return float(np.abs(network(*example).numpy() - again.run(None, dict(shown))[0]).max())

    write_checked(network, example, path, tuple(shown), ('pose',), {}, deviation)
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def _median(session: onnxruntime.InferenceSession, shown: Mapping[str, NDArray], seconds: float) -> float:
    """Return the median time in s of a call; the first few, which find the caches cold, do not count."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 8 or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, shown)
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])
