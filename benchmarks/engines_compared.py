"""The comparisons of engines.py that need one process: each returns figures under flat names, and all are paired."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import onnx
import torch
from paired import Series, cpu_ratio, geometric_mean, paired, ratio
from sessions import Settings, inputs_of, open_session
from torch_networks import BLAZEPOSE, LIFTERS, pair, torch_call

from pose3d_ros.cli.bench import crowd
from pose3d_ros.cli.networks import network
from pose3d_ros.detect import DetectSettings
from pose3d_ros.pipeline import Pipeline, run_together
from pose3d_ros.records import Frame
from pose3d_ros.runtime.catalogue import CATALOGUE
from pose3d_ros.runtime.engine import Wanted
from pose3d_ros.runtime.opening import open_engine
from pose3d_ros.runtime.store import ModelStore
from pose3d_ros.runtime.tflite_graph import read_graph
from pose3d_ros.runtime.tflite_to_onnx import convert

Figures = dict[str, float]
FULL = 'pose_landmark_full'
# What is changed, each alone.
VARIANTS: dict[str, dict[str, Any]] = {
    'spinning': {'spin': True}, 'one_thread': {'threads': 1}, 'no_arena': {'arena': False},
    'no_pattern': {'pattern': False}, 'flush_denormals': {'flush': True}, 'graph_extended': {'graph': 'extended'},
    'graph_basic': {'graph': 'basic'}, 'graph_as_it_is': {'graph': 'none'}}


@dataclass(frozen=True)
class Budget:
    """How much is measured. seconds: per candidate and comparison; rounds: of taking turns; all: every network and
    size, instead of a few.
    """

    seconds: float
    rounds: int
    all: bool

    def networks(self) -> tuple[str, ...]:
        """Return the networks that there are and that count here."""
        present = [name for name in BLAZEPOSE if ModelStore().ready(name)]
        return (*present, *LIFTERS) if self.all else ('pose_detection', 'lifter')

    def batches(self) -> tuple[int, ...]:
        """Return the batch sizes."""
        return (1, 2, 4, 8) if self.all else (1, 2)

    def measure(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, Series]:
        """Time calls in turns."""
        return paired(calls, self.seconds, self.rounds)


def threads_of(name: str) -> int:
    """Return the threads that a network gets in the pipeline on two cores: a lifter is too small for more than one."""
    return 1 if name in LIFTERS else min(2, len(os.sched_getaffinity(0)))


def against_torch(budget: Budget) -> Figures:
    """ONNX Runtime, opened as robots do, against PyTorch eager: same weights, same inputs, same number of threads."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in budget.networks():
            path, network = pair(name, Path(folder))
            torch.set_num_threads(threads_of(name))
            engine = open_engine(path, Wanted('cpu', threads=threads_of(name)))
            session = open_session(path, Settings(threads=1))  # to know the inputs by
            for size in budget.batches():
                inputs = inputs_of(session, size)
                series = budget.measure({'ort': partial(engine.run, inputs), 'torch': torch_call(network, inputs)})
                for who, measured in series.items():
                    figures |= {f'{who}.{name}.batch_{size}_p{share}_ms': measured.percentile(share)
                                for share in (50, 95)}
                figures[f'ort_vs_torch.{name}.batch_{size}_ratio'] = ratio(series['ort'], series['torch'])
            engine.close()
    figures['ort_vs_torch_ratio'] = geometric_mean(
        [value for key, value in figures.items() if key.endswith('.batch_1_ratio')])
    return figures


def pruned(budget: Budget) -> Figures:
    """The landmark networks with their four outputs against those with all, of which one is a segmentation."""
    figures: Figures = {}
    names = [name for name in budget.networks() if name.startswith('pose_landmark')] or [FULL]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            whole = Path(folder) / f'{name}.onnx'
            onnx.save(unpruned(name), whole)
            calls = {}
            for kind, path in (('pruned', ModelStore().path(name)), ('full', whole)):
                session = open_session(path, Settings(threads=threads_of(name)))
                calls[kind] = partial(session.run, None, inputs_of(session, 1))
            series = budget.measure(calls)
            figures |= {f'pruned.{name}.{kind}_p50_ms': measured.percentile(50) for kind, measured in series.items()}
            figures[f'pruned.{name}.ratio'] = ratio(series['pruned'], series['full'])
    figures['pruned_vs_full_ratio'] = figures.get(f'pruned.{FULL}.ratio', figures[f'pruned.{names[0]}.ratio'])
    return figures


def unpruned(name: str) -> onnx.ModelProto:
    """Return a network of the store with all the outputs of its source, those not in use under the source's names."""
    entry = CATALOGUE[name]
    store = ModelStore()
    store.path(name)
    content = (store.cache_dir / entry.folder / entry.members[0].name).read_bytes()
    graph = read_graph(content)
    names = [graph.tensors[index].name for index in graph.outputs]
    return convert(content, inputs=['image'], outputs={name: entry.outputs.get(name, name) for name in names},
                   metadata=entry.metadata)


def settings(budget: Budget) -> Figures:
    """Each setting of ONNX Runtime changed alone, against the chosen ones: time, and processor time of all threads."""
    figures: Figures = {}
    for name in ('pose_detection', FULL, 'lifter') if budget.all else ('lifter',):
        path = network_file(name)
        chosen = Settings(threads=threads_of(name))
        kinds: dict[str, Settings] = {'chosen': chosen}
        for kind, change in VARIANTS.items():
            kinds[kind] = replace(chosen, **change)
        if chosen.threads == 1:
            kinds['two_threads'] = replace(chosen, threads=2)
            del kinds['one_thread'], kinds['spinning']  # a single thread waits for nobody
        calls = {}
        for kind, each in kinds.items():
            session = open_session(path, each)
            calls[kind] = partial(session.run, None, inputs_of(session, 1))
        series = budget.measure(calls)
        figures[f'settings.{name}.p50_ms'] = series['chosen'].percentile(50)
        for kind in list(kinds)[1:]:
            figures[f'settings.{name}.{kind}.ratio'] = ratio(series[kind], series['chosen'])
            figures[f'settings.{name}.{kind}.cpu_ratio'] = cpu_ratio(series[kind], series['chosen'])
    return figures


def batching(budget: Budget) -> Figures:
    """One call for four people (tiles) against four calls, one for two against two, and two cameras together."""
    figures: Figures = {}
    for name in ('pose_detection', FULL, 'lifter') if budget.all else ('lifter',):
        engine = open_engine(network_file(name), Wanted('cpu', threads=threads_of(name)))
        session = open_session(network_file(name), Settings(threads=1))
        inputs = {size: inputs_of(session, size) for size in (1, 2, 4)}
        series = budget.measure({
            **{f'batch_{size}': partial(engine.run, inputs[size]) for size in (2, 4)},
            **{f'{size}_calls': partial(repeat, partial(engine.run, inputs[1]), size) for size in (2, 4)}})
        for size in (2, 4):
            figures[f'batching.{name}.batch_{size}_vs_{size}_calls_ratio'] = ratio(series[f'batch_{size}'],
                                                                                     series[f'{size}_calls'])
        engine.close()
    return {**figures, **two_cameras(budget)}


def two_cameras(budget: Budget) -> Figures:
    """Two cameras with one person each: pipelines of one group in one call, against one after the other."""
    figures: Figures = {}
    frames = crowd.frames(1)
    wanted = Wanted('cpu', threads=threads_of(FULL))
    group, single = (Pipeline.open_group(2, engines=wanted) for _ in range(2))
    stamps = count(0, 33_333_333)

    def scene() -> list[Frame]:
        stamp = next(stamps)
        return [replace(frames[(stamp // 33_333_333 + shift) % len(frames)], stamp_ns=stamp) for shift in (0, 3)]

    def together() -> object:
        return run_together(group, scene())

    def in_turn() -> object:
        return [pipeline(frame) for pipeline, frame in zip(single, scene())]

    series = budget.measure({'together': together, 'in_turn': in_turn})
    figures['two_cameras.together_p50_ms'] = series['together'].percentile(50)
    figures['two_cameras.in_turn_p50_ms'] = series['in_turn'].percentile(50)
    figures['two_cameras.together_ratio'] = ratio(series['together'], series['in_turn'])
    for pipeline in (*group, *single):
        pipeline.close()
    return figures


def repeat(call: Callable[[], Any], times: int) -> None:
    """Call several times."""
    for _ in range(times):
        call()


def network_file(name: str) -> Path:
    """Return the file of a network of the store, or of the lifter that ships."""
    return network(name, DetectSettings.max_people, cameras=1).path
