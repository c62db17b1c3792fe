#!/usr/bin/env python3
"""What the self-check of engines would say of each network in fp16, mixed and fp32, on a GPU that rounds as they do.

    python benchmarks/half.py [--json FILE] [--most N]

No GPU is needed: the rounding is computed on the CPU (runtime/rounding.py). `worst`: the largest deviation of any
output on the bundled inputs, as a share of its tolerance; an engine passes up to 1.
"""

from __future__ import annotations

import argparse
import sys

from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.networks import at_hand
from pose3d_ros.cli.progress import progress
from pose3d_ros.runtime.check import rehearse


def main() -> int:
    """Check every network that is there, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--most', type=int, default=8, help='people (images, ...) at once, at most (default: 8)')
    add_json_option(parser)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    rows = [['network', 'precision', 'verdict', 'worst output']]
    networks = at_hand()
    for name, path in progress(networks.items(), total=len(networks), desc='half precision', unit='network'):
        for step, verdict in rehearse(path, args.most).items():
            figures[f'check.{name}.{step}_worst'] = max(verdict.deviations.values())
            rows.append([name, step, 'pass' if verdict.passed else 'FAIL', verdict.text])
    print_table(rows)
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
