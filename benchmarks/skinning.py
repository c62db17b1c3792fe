#!/usr/bin/env python3
"""How long a body takes from rotations and shape to its surface: BodyModel.pose of robots against PyTorch's layer.

    python benchmarks/skinning.py [--body-model FILE.npz] [--threads 2] [--json FILE]

The mannequin in poses drawn at random, one person and eight at once; both sides get the same arrays in the types that
they take, and the same number of threads, and take turns within each round. skinning_ms: the median of one person's
calls on NumPy; skinning_8_ms: of each of eight. Ratios (PyTorch over NumPy): the median over rounds.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

THREADS = 2


def main() -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--body-model', type=Path, metavar='NPZ', help='default: the mannequin that ships')
    parser.add_argument('--threads', type=int, choices=(1, 2), default=THREADS)
    parser.add_argument('--seconds', type=float, default=5.0, help='of each candidate')
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures as one flat JSON object')
    args = parser.parse_args()
    # BLAS reads these once, when NumPy is imported.
    os.environ.update({f'{library}_NUM_THREADS': str(args.threads) for library in ('OMP', 'OPENBLAS', 'MKL')})

    from pose3d_ros.cli.figures import print_table, write_json

    figures = measure(args.body_model, args.threads, args.seconds, args.rounds)
    print_table([['figure', ''], *([name, f'{value:.2f}'] for name, value in figures.items())])
    if args.json:
        write_json(args.json, figures)
    return 0


def measure(path: Path | None, threads: int, seconds: float, rounds: int) -> dict[str, float]:
    """Return the figures; both sides must give the same surface."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))

    import numpy as np
    import torch
    from paired import paired, ratio
    from scipy.spatial.transform import Rotation

    from pose3d_ros.body_model import JOINTS, MANNEQUIN, BodyModel
    from pose3d_ros.nets.body_model import BodyModel as Layer

    torch.set_num_threads(threads)
    model = BodyModel.load(path or MANNEQUIN)
    layer = Layer(model.arrays)
    rng = np.random.default_rng(0)
    figures: dict[str, float] = {}
    for people in (1, 8):
        turns = Rotation.from_rotvec(rng.normal(0, 0.4, (people * JOINTS, 3))).as_matrix()
        rotations = turns.reshape(people, JOINTS, 3, 3).astype(np.float32)
        shape = rng.normal(0, 1, (people, model.shapes)).astype(np.float32)
        given = torch.from_numpy(rotations), torch.from_numpy(shape)

        def numpy_call(rotations=rotations, shape=shape) -> object:
            return model.pose(rotations, shape)

        def torch_call(given=given) -> object:
            with torch.inference_mode():
                return layer(*given)

        np.testing.assert_allclose(numpy_call()[0], torch_call()[0].numpy(), atol=1e-4)
        series = paired({'numpy': numpy_call, 'torch': torch_call}, seconds, rounds)
        name = 'skinning' if people == 1 else f'skinning_{people}'
        figures[f'{name}_ms'] = series['numpy'].percentile(50) / people
        figures[f'{name}_p95_ms'] = series['numpy'].percentile(95) / people
        figures[f'{name}_torch_ms'] = series['torch'].percentile(50) / people
        figures[f'{name}_torch_over_numpy'] = ratio(series['torch'], series['numpy'])
    return figures


if __name__ == '__main__':
    sys.exit(main())
