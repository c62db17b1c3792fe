"""`pose3d evaluate mocap`: the lifter alone, on held-out people, virtual robot cameras, a detector's errors."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.train import add_data_options, load_split

if TYPE_CHECKING:
    from pose3d_ros.lift import Lifter
    from pose3d_ros.train.samples import Samples

SAMPLES = 32768
SEED = 3000
BATCH = 4096


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `mocap`."""
    parser = subparsers.add_parser(
        'mocap', help='the lifting network alone, on held-out motion capture',
        description='Held-out people as virtual robot cameras see them, with the errors of a 2D detector and people '
                    'cut by the border: mean errors in mm, depth error (median, relative), share of the joints inside '
                    'their 90 %% ellipsoid.')
    add_data_options(parser)
    parser.add_argument('--model', type=Path, metavar='ONNX', help='default: the weights that come with the package')
    parser.add_argument('--split', choices=('val', 'test'), default='test', help='do not tune on test')
    parser.add_argument('--samples', type=int, default=SAMPLES, metavar='N')
    parser.add_argument('--seed', type=int, default=SEED)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    from pose3d_ros.lift import Lifter
    from pose3d_ros.train.samples import EVALUATION, POPULATION, make_samples

    mocap = load_split(args, args.split)
    lifter = Lifter.open(args.model, runtime='cpu')
    figures: dict[str, float] = {}
    for prefix, settings in (('', EVALUATION), ('population.', POPULATION)):
        samples = make_samples(mocap, args.samples, np.random.default_rng(args.seed), settings)
        figures |= {prefix + name: value for name, value in evaluate(lifter, samples).items()}
    names = list(dict.fromkeys(key.rsplit('.', 1)[-1] for key in figures))
    groups = list(dict.fromkeys(key.rpartition('.')[0] for key in figures))
    rows = [[group or 'all', *(f'{figures[f"{group}.{name}" if group else name]:.3g}' for name in names)]
            for group in groups]
    print_table([['', *names], *rows])
    if args.json:
        write_json(args.json, figures)
    return 0


def evaluate(lifter: Lifter, samples: Samples) -> dict[str, float]:
    """Return the figures of all samples and, as group.name, of groups of them; NaN for an empty group."""
    from pose3d_ros.train.calibrate import lifted
    from pose3d_ros.train.metrics import coverage, mpjpe, mrpe, pa_mpjpe

    parts = [lifter.engine.run({'rays': samples.rays[i:i + BATCH], 'confidence': samples.confidence[i:i + BATCH]})
             for i in range(0, len(samples), BATCH)]
    relative, depth = (np.concatenate([part[name] for part in parts]) for name in ('relative', 'depth'))
    result = lifted(samples, relative, depth, lifter.uncertainty)
    off = np.abs(depth / samples.depth - 1)
    figures: dict[str, float] = {}
    for group, chosen in _groups(samples):
        error = result.position[chosen] - samples.points[chosen]
        values = {
            'mpjpe_mm': 1000 * mpjpe(relative[chosen], samples.relative[chosen]),
            'pa_mpjpe_mm': 1000 * pa_mpjpe(relative[chosen], samples.relative[chosen]),
            'mrpe_mm': 1000 * mrpe(result.position[chosen, 0], samples.points[chosen, 0]),
            'depth_error': float(np.nanmedian(off[chosen])) if chosen.any() else float('nan'),
            'coverage_90': coverage(error, result.covariance[chosen]),
        }
        figures |= {f'{group}.{name}' if group else name: value for name, value in values.items()}
    return figures


def _groups(samples: Samples) -> Iterator[tuple[str, NDArray]]:
    """Yield name and members of groups: everybody, by what is seen, by distance."""
    from pose3d_ros.train.samples import INPUTS

    seen = samples.confidence > 0
    legs = [INPUTS.index(f'{side}_{joint}') for side in ('left', 'right') for joint in ('knee', 'ankle')]
    yield '', np.ones(len(samples), dtype=np.bool_)
    yield 'whole_body', np.all(seen, axis=1)
    yield 'no_knees_or_ankles', np.logical_not(seen[:, legs].any(axis=1))
    distance = np.linalg.norm(samples.points[:, 0], axis=-1)
    for near, far in ((0, 2), (2, 4), (4, 7), (7, 20)):
        yield f'{near}_to_{far}_m', (distance >= near) & (distance < far)
