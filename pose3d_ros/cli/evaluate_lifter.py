"""`pose3d evaluate lifter`: the lifter alone, on held-out people, virtual robot cameras, a detector's errors."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pose3d_ros.cli.engines import lifter_option
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.train import add_data_options, load_split, positive
from pose3d_ros.lift import DEFAULT_LIFTER
from pose3d_ros.runtime.engine import Wanted

if TYPE_CHECKING:
    from pose3d_ros.lift import Lifter
    from pose3d_ros.train.assess import Outcome
    from pose3d_ros.train.samples import Samples

SAMPLES = 32768
SEED = 3000
BATCH = 4096
MAIN = 'robot'   # the prefix of every figure: the robot preset of virtual cameras

FEWEST = 100     # people in a distance band that is compared with the others
EXACT_FLOOR = 0.001, 0.002    # rad, m: standard deviations of a floor that is given exactly

# Rows of one table each, and its columns.
ACCURACY = ('n', 'mpjpe_mm', 'pa_mpjpe_mm', 'pck_150', 'auc', 'mrpe_mm', 'mrpe_x_mm', 'mrpe_y_mm', 'mrpe_z_mm',
            'coverage_90')
CALIBRATION = ('n', 'coverage_50', 'coverage_90', 'coverage_95', 'nees', 'root_coverage_90', 'root_along_mm',
               'root_error_along_mm', 'root_across_mm', 'root_error_across_mm')
NOTES = f"""{MAIN}: the twelve limb joints in view, nothing known but the 2D joints. All 17 joints count.
Coverage and NEES of {MAIN} itself are over everybody in the set, in view or not ({MAIN}_whole_body has the others').
_single: without past frames. _up: the direction of gravity is known. _stature: the person's stature is known.
_ground: the floor is known exactly, people stand on it, their lower ankle in view; _ground_off: known with the errors
that a robot expects by default (0.01 rad, 2 cm); _ground_unused: the same people without it.
_population: people of other statures. _landmarks: as a detector of landmarks marks them, in input and truth.
By what is seen: the same people, whole body in view, the rest hidden. Distance is from the camera to the pelvis."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lifter`."""
    parser = subparsers.add_parser(
        'lifter', help='the lifter alone, on held-out motion capture',
        description='Held-out people as virtual robot cameras see them, with the errors of a 2D detector and people '
                    'cut by the border: errors of pose and place against distance, what is seen, and view, and how '
                    'far the covariances can be trusted.')
    add_data_options(parser)
    parser.add_argument('--model', type=lifter_option, default=DEFAULT_LIFTER, metavar='NAME|ONNX',
                        help='a lifter that ships, or a file (default: %(default)s)')
    parser.add_argument('--split', choices=('val', 'test'), default='test', help='do not tune on test (default: test)')
    parser.add_argument('--samples', type=positive, default=SAMPLES, metavar='N', help=f'default: {SAMPLES}')
    parser.add_argument('--seed', type=int, default=SEED, help=f'default: {SEED}')
    parser.add_argument('--threads', type=int, default=0, metavar='N', help='0: the runtime chooses')
    parser.add_argument('--out', type=Path, metavar='DIR', help='also write charts as PNG into this folder')
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables, write the figures and the charts."""
    from pose3d_ros.lift import Lifter
    from pose3d_ros.train.samples import EVALUATION, MARKED, POPULATION, make_samples

    mocap = load_split(args, args.split)
    lifter = Lifter.open(args.model, Wanted('cpu', threads=args.threads))
    samples, population, marked = (make_samples(mocap, args.samples, np.random.default_rng(args.seed), settings)
                                   for settings in (EVALUATION, POPULATION, MARKED))
    evaluation = Evaluation(lifter, samples, population, marked)
    figures = evaluation.figures()
    print(f'{len(samples)} views of {len(mocap)} frames, subjects {", ".join(sorted(set(mocap.subject)))} '
          f'({args.split}), seed {args.seed}')
    show(figures)
    if args.json:
        write_json(args.json, figures)
    if args.out:
        draw(evaluation, args.out)
    return 0


class Evaluation:
    """What the lifter makes of samples under various conditions. People are lifted once per condition, then grouped.

    population: samples of the same people in other sizes; marked: as a detector of landmarks marks them.
    """

    def __init__(self, lifter: Lifter, samples: Samples, population: Samples, marked: Samples) -> None:
        from pose3d_ros.records import GroundPlane
        from pose3d_ros.train.assess import on_the_floor, shown, single_frame, whole_body

        whole, floor = whole_body(samples), on_the_floor(samples)
        in_view, sized, marked = (part.where(whole_body(part)) for part in (samples, population, marked))
        self.everybody = lift(lifter, samples)
        self.samples = samples
        unknown = self.everybody.where(whole)
        self.outcomes: dict[str, Outcome] = {
            '': unknown,
            '_everybody': self.everybody,
            '_single': lift(lifter, single_frame(in_view)),
            '_up': lift(lifter, in_view, up=True),
            '_stature': lift(lifter, in_view, stature=True),
            '_everybody_stature': lift(lifter, samples, stature=True),
            '_ground': place_on_floor(lifter, samples.where(floor & whole), *EXACT_FLOOR),
            '_ground_off': place_on_floor(lifter, samples.where(floor & whole), GroundPlane.tilt_sigma,
                                          GroundPlane.height_sigma),
            '_ground_unused': self.everybody.where(floor & whole),
            '_population': lift(lifter, sized),
            '_population_stature': lift(lifter, sized, stature=True),
            '_landmarks': lift(lifter, marked),
            '_landmarks_stature': lift(lifter, marked, stature=True),
        }
        self.parts = {part: lift(lifter, shown(in_view, part))
                      for part in ('hips_and_up', 'upper_half', 'head_and_shoulders', 'one_side')}

    def figures(self) -> dict[str, float]:
        """Return all figures under flat names: `robot[_condition][.group].figure`."""
        from pose3d_ros.train.assess import by_distance, by_view

        unknown, everybody = self.outcomes[''], self.everybody
        figures = {f'{MAIN}{name}.{key}': value for name, outcome in self.outcomes.items()
                   for key, value in outcome.figures().items()}
        # What is promised of covariances holds for whoever comes along.
        for key, value in everybody.calibration().items():
            figures[f'{MAIN}_whole_body.{key}'] = figures[f'{MAIN}.{key}']
            figures[f'{MAIN}.{key}'] = value
        for part, outcome in self.parts.items():
            figures |= _named(f'{MAIN}.{part}', outcome.figures())
            figures[f'{MAIN}.{part}_mrpe_ratio'] = (figures[f'{MAIN}.{part}.mrpe_mm'] / figures[f'{MAIN}.mrpe_mm'])
        for group, chosen in by_view(unknown.truth):
            figures |= _named(f'{MAIN}.{group}', unknown.where(chosen).figures())
        held = []
        for group, chosen in by_distance(everybody.truth):
            band = everybody.where(chosen).figures()
            figures |= _named(f'{MAIN}_everybody.{group}', band)
            held += [band['coverage_90']] if band['n'] >= FEWEST else []
        figures[f'{MAIN}.worst_band_coverage_90'] = max(held, key=lambda share: abs(share - 0.9), default=float('nan'))
        for group, chosen in by_distance(unknown.truth):
            figures |= _named(f'{MAIN}.{group}', unknown.where(chosen).figures())
        return figures | self._joints()

    def _joints(self) -> dict[str, float]:
        """Return the coverage of joints that were seen themselves and of those that were inferred."""
        from pose3d_ros.lift import joint_states
        from pose3d_ros.records import JointState

        observed = joint_states(self.samples.confidence[:, 0])[0] == JointState.OBSERVED
        return {f'{MAIN}.{name}_coverage_{round(100 * share)}': self.everybody.joints_inside(share, joints)
                for name, joints in (('observed', observed), ('inferred', ~observed)) for share in (0.5, 0.9, 0.95)}


def lift(lifter: Lifter, samples: Samples, up: bool = False, stature: bool = False) -> Outcome:
    """Lift the people of samples. up, stature: whether gravity and each person's stature are given."""
    from pose3d_ros.lift import GIVEN_SIGMA
    from pose3d_ros.train.assess import Outcome

    sizes = np.empty((len(samples), 2), dtype=np.float32)
    sizes[:] = (lifter.stature, lifter.stature_sigma)
    if stature:
        sizes[:, 0], sizes[:, 1] = samples.stature, GIVEN_SIGMA
    gravity = samples.up if up else np.zeros_like(samples.up)
    told = (samples.rays, samples.confidence, samples.age, gravity, sizes, samples.landmarks)
    parts = [lifter.run(*(array[i:i + BATCH] for array in told)) for i in range(0, len(samples), BATCH)]
    position, covariance = (np.concatenate(part) for part in zip(*parts))
    return Outcome(position.astype(np.float64), covariance.astype(np.float64), samples.points.astype(np.float64))


def place_on_floor(lifter: Lifter, samples: Samples, tilt_sigma: float, height_sigma: float) -> Outcome:
    """Lift the people of samples with gravity known, and place them on the floor that each camera knows.

    tilt_sigma [rad], height_sigma [m]: how far the floor that is given is off, and is known to be.
    """
    from pose3d_ros.ground import place
    from pose3d_ros.lift import joint_states
    from pose3d_ros.records import GroundPlane
    from pose3d_ros.train.assess import Outcome

    rng = np.random.default_rng(SEED)
    up = samples.up + tilt_sigma * rng.standard_normal(samples.up.shape)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    above = samples.camera_height + height_sigma * rng.standard_normal(len(samples))
    lifted = lift(lifter, replace(samples, up=up.astype(np.float32)), up=True)
    state, confidence = joint_states(samples.confidence[:, 0])
    position, covariance = lifted.position.copy(), lifted.covariance.copy()
    for i in range(len(samples)):   # every sample has a floor of its own
        placed = place(position[i:i + 1], covariance[i:i + 1], state[i:i + 1], confidence[i:i + 1], lifter.stature,
                       lifter.stature_sigma, GroundPlane(up[i], float(above[i]), tilt_sigma, height_sigma))
        position[i], covariance[i] = placed.position[0], placed.covariance[0]
    return Outcome(position, covariance, lifted.truth)


def show(figures: Mapping[str, float]) -> None:
    """Print the tables."""
    def table(title: str, columns: Iterable[str], groups: Iterable[str]) -> None:
        columns = list(columns)
        rows = [[group, *(_shown(figures.get(f'{group}.{name}', float('nan'))) for name in columns)]
                for group in groups]
        print_table([[title, *columns], *rows])
        print()

    groups = list(dict.fromkeys(key.rpartition('.')[0] for key in figures))
    top = [group for group in groups if '.' not in group]
    table('condition', ACCURACY, top)
    table('covariance', CALIBRATION, top)
    table('what is seen', ACCURACY, [f'{MAIN}.{part}' for part in
                                     ('hips_and_up', 'upper_half', 'head_and_shoulders', 'one_side')])
    table('view', ACCURACY, [f'{MAIN}.{view}' for view in ('front', 'side', 'back')])
    for owner in (MAIN, f'{MAIN}_everybody'):
        bands = [group for group in groups if group.startswith(f'{owner}.') and group.endswith('_m')]
        table('distance', ACCURACY, bands)
        table('distance', CALIBRATION, bands)
    print_table([['ratio or share', ''], *([key, _shown(value)] for key, value in figures.items()
                                           if key.endswith('_ratio') or key.partition('.')[2].startswith(
                                               ('worst_', 'observed_', 'inferred_')))])
    print(NOTES)


def draw(evaluation: Evaluation, folder: Path) -> None:
    """Write distance.png and calibration.png."""
    from pose3d_ros.cli.chart import chart, write_chart
    from pose3d_ros.train.assess import calibration_curve, per_distance

    edges = np.arange(0.5, 11.0, 1.0)
    lines = {}
    for name, condition in (('root', ''), ('root, stature given', '_stature'), ('root, on the floor', '_ground')):
        x, pose, root = per_distance(evaluation.outcomes[condition], edges)
        lines[name] = (x, root)
        if not condition:
            lines['pose'] = (x, pose)
    write_chart(folder / 'distance.png', chart('Mean error against distance, whole body in view',
                                               'distance, m', 'mm', lines))
    curves = {'as promised': (np.array([0.0, 1.0]), np.array([0.0, 1.0])),
              'everybody': calibration_curve(evaluation.everybody),
              'whole body in view': calibration_curve(evaluation.outcomes['']),
              'on the floor': calibration_curve(evaluation.outcomes['_ground'])}
    write_chart(folder / 'calibration.png', chart('Joints inside the covariance ellipsoid', 'share promised',
                                                  'share found', curves))
    print(f'wrote {folder / "distance.png"} and {folder / "calibration.png"}')


def _named(group: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f'{group}.{key}': value for key, value in figures.items()}


def _shown(value: float) -> str:
    if not np.isfinite(value):
        return '-'
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
