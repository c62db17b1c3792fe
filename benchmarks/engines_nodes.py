"""Two nodes' engines on the same cores: what becomes of throughput and of the slowest calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from engines_compared import FULL, Budget, Figures, network_file
from sessions import Settings

FRAME_S = 1 / 30
KINDS = {'chosen': Settings(), 'spinning': Settings(spin=True), 'one_thread': Settings(threads=1),
         'no_arena': Settings(arena=False)}


class Node:
    """An engine in a process of its own (engines_node.py)."""

    def __init__(self, model: Path, settings: Settings) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name('engines_node.py')), str(model),
             json.dumps(asdict(settings))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=dict(os.environ))
        self.about = self.answer()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.communicate(timeout=30)

    def ask(self, seconds: float, pause_s: float) -> None:
        """Let it work for so many seconds, with a pause before each call."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({'seconds': seconds, 'pause_s': pause_s}) + '\n')

    def answer(self) -> dict[str, Any]:
        """Wait for what came of it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f'{" ".join(map(str, self._process.args))} ended without an answer; run it to see why')
        return dict(json.loads(line))


def nodes(budget: Budget) -> Figures:
    """Measure one node alone and two at once, back to back and paced like a camera's frames, with each setting."""
    seconds = budget.seconds / 4 if budget.all else 0.1
    model = network_file(FULL if budget.all else 'lifter')
    rounds: dict[str, list[Figures]] = {kind: [] for kind in KINDS}
    figures: Figures = {}
    with ExitStack() as running:
        both = {kind: [running.enter_context(Node(model, settings)) for _ in range(2)]
                for kind, settings in KINDS.items()}
        for kind, (first, _) in both.items():
            figures[f'nodes.{kind}.memory_mb'] = first.about['memory_mb']
        for number in range(budget.rounds):
            for kind in [*KINDS][number % len(KINDS):] + [*KINDS][:number % len(KINDS)]:
                rounds[kind].append(one_round(both[kind], seconds))
    for kind, measured in rounds.items():
        figures |= {f'nodes.{kind}.{name}': float(np.median([each[name] for each in measured]))
                    for name in measured[0]}
    for kind in list(KINDS)[1:]:
        for name in ('two_calls_per_s', 'two_paced_p95_ms', 'two_paced_cpu_ms'):
            figures[f'nodes_vs_chosen.{kind}.{name}_ratio'] = float(np.median(
                [a[name] / b[name] for a, b in zip(rounds[kind], rounds['chosen'])]))
    return figures


def one_round(both: Sequence[Node], seconds: float) -> Figures:
    """Return the figures of one node alone and of both at once."""
    figures: Figures = {}
    for pace, pause_s in (('', 0.0), ('paced_', FRAME_S)):
        for who, busy in (('one', both[:1]), ('two', both)):
            answers = _together(busy, seconds * (2 if pause_s else 1), pause_s)
            times = [value for answer in answers for value in answer['ms']]
            if not pause_s:
                figures[f'{who}_calls_per_s'] = sum(len(answer['ms']) / (1e-3 * sum(answer['ms']))
                                                    for answer in answers)
            figures[f'{who}_{pace}p50_ms'], figures[f'{who}_{pace}p95_ms'] = (
                float(np.percentile(times, share)) for share in (50, 95))
            figures[f'{who}_{pace}cpu_ms'] = float(np.mean([answer['cpu_ms'] for answer in answers]))
    figures['two_vs_one_throughput_ratio'] = figures['two_calls_per_s'] / figures['one_calls_per_s']
    return figures


def _together(busy: Sequence[Node], seconds: float, pause_s: float) -> list[dict[str, Any]]:
    for node in busy:
        node.ask(seconds, pause_s)
    return [node.answer() for node in busy]
