#!/usr/bin/env python3
"""What ONNX Runtime gives on the CPU, and what its settings were chosen by.

    python benchmarks/engines.py [--json FILE] [--quick] [--sections NAME...]

bench: each network and the pipeline as `pose3d bench` measures them. torch: against PyTorch eager, same weights, inputs
and threads; the BlazePose networks in PyTorch come from their ONNX files, operator by operator (onnx_in_torch.py),
channels last, which is what PyTorch is fastest with. pruned: four outputs of the landmark networks against all five.
settings: each changed alone. nodes: two nodes' engines on the same two cores, with and without spinning threads.
batching: one call for several people or cameras against several calls.

Every ratio is time over time, so that less than 1 says that the first named is faster. Both sides take turns in the
same rounds; the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from engines_compared import Budget, Figures, against_torch, batching, pruned, settings  # noqa: E402
from engines_nodes import nodes  # noqa: E402
from torch_networks import BLAZEPOSE  # noqa: E402

from pose3d_ros.cli.bench.command import Report, Subject, flat_figures, measure, show, subject_of  # noqa: E402
from pose3d_ros.cli.bench.worker import PIPELINE  # noqa: E402
from pose3d_ros.cli.figures import add_json_option, print_table, write_json  # noqa: E402
from pose3d_ros.cli.progress import progress  # noqa: E402
from pose3d_ros.runtime.store import ModelStore  # noqa: E402

FULL_BUDGET, QUICK_BUDGET = Budget(1.4, 7, True), Budget(0.05, 2, False)
BENCH_S = 75.0


def bench(budget: Budget) -> Figures:
    """Return what `pose3d bench` measures on the CPU."""
    report = Report()
    names = [*(name for name in BLAZEPOSE if ModelStore().ready(name)), 'lifter'] if budget.all else ['lifter']
    subjects = [subject_of(name, budget.batches()) for name in names]
    if budget.all:
        subjects.append(Subject(PIPELINE, 'full', budget.batches()))
    measure(subjects, ('cpu',), 'fp32', 0, BENCH_S if budget.all else 0.2, report)
    show(report)
    return {name: value for name, value in flat_figures(report).items() if isinstance(value, float)}


SECTIONS: dict[str, Callable[[Budget], Figures]] = {
    'bench': bench, 'torch': against_torch, 'pruned': pruned, 'settings': settings, 'nodes': nodes,
    'batching': batching}


def figures_of(budget: Budget, sections: Sequence[str]) -> Figures:
    """Return the figures of the sections."""
    figures: Figures = {'cores': len(os.sched_getaffinity(0)), 'load_before': os.getloadavg()[0]}
    for name in progress(sections, desc='sections', unit='section'):
        start = time.monotonic()
        found = SECTIONS[name](budget)
        figures |= found
        print(f'\n{name}: {time.monotonic() - start:.0f} s; load {os.getloadavg()[0]:.1f}')
        if name != 'bench':
            print_table([['figure', 'value'], *([key, f'{value:.3f}'] for key, value in found.items())])
    return figures


def main() -> int:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cores', type=int, default=2, help='that may be used (default: 2)')
    parser.add_argument('--quick', action='store_true', help='a few calls of a few networks: to see that it works')
    parser.add_argument('--sections', nargs='+', choices=tuple(SECTIONS), default=list(SECTIONS))
    add_json_option(parser)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.cores])
    figures = figures_of(QUICK_BUDGET if args.quick else FULL_BUDGET, args.sections)
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
