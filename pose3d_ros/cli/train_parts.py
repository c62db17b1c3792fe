"""`pose3d train parts`, `pose3d export parts`: body parts that depend on one another, told of pose attributes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.exported import tell
from pose3d_ros.cli.train import add_data_options, add_training_options, command_line, load_split, positive

if TYPE_CHECKING:
    from pose3d_ros.train.parts_data import People

STEPS, WIDTH, DROPOUT, BATCH, PEOPLE = 4000, 192, 0.0, 256, 600_000
# Those of train/parts.py, which would bring PyTorch with it; a test compares.
ROWS = ('plain', 'plain_l1', 'baseline', 'progressive', 'attributes', 'attributes_detector', 'refined')
DEPLOYED = 'refined'
VALIDATION, CALIBRATION, CALIBRATION_SEED = 12_000, 8192, 2000


def add_train_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train parts`."""
    parser = networks.add_parser(
        'parts', help='body parts that depend on one another, told of pose attributes',
        description='Train variants of the parts network, one after the other, each in its own folder of --out, all on '
                    'the same people (drawn once and kept there): the same command again continues. Afterwards: '
                    'pose3d evaluate parts --runs OUT, pose3d export parts --out OUT.')
    add_data_options(parser)
    add_training_options(parser, STEPS)
    parser.add_argument('--variants', nargs='+', default=[DEPLOYED], choices=ROWS, metavar='NAME',
                        help=f'of {", ".join(ROWS)} (default {DEPLOYED}); --steps and --minutes count for each')
    parser.add_argument('--repeats', type=positive, default=1, metavar='N',
                        help='trainings of each variant, with --seed and the seeds after it (default 1)')
    parser.add_argument('--people', type=positive, default=PEOPLE, metavar='N',
                        help='drawn to learn from (default %(default)s, 230 MB)')
    add_lifter_option(parser, f'whose pose {DEPLOYED} begins with')
    parser.add_argument('--width', type=positive, default=WIDTH, metavar='N',
                        help="features of a module's hidden layers (default %(default)s)")
    parser.add_argument('--dropout', type=float, default=DROPOUT, metavar='P', help='default %(default)s')
    parser.add_argument('--batch', type=positive, default=BATCH, metavar='N', help='people per step (default '
                        '%(default)s)')


def add_export_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export parts`."""
    parser = networks.add_parser(
        'parts', help='the lifter that knows pose attributes',
        description='Write the averaged weights together with a window lifter as one ONNX file, with covariances '
                    'calibrated on the validation split of --data, and check the file against PyTorch.')
    add_data_options(parser)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the folder of `pose3d train parts`')
    parser.add_argument('--variant', default=DEPLOYED, choices=ROWS, metavar='NAME', help='default %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='which of its trainings (default 0)')
    add_lifter_option(parser, f'where place, covariances and what {DEPLOYED} begins with come from')
    parser.add_argument('--onnx', type=Path, metavar='FILE', help='default: DIR/parts.onnx')


def add_lifter_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--lifter`."""
    parser.add_argument('--lifter', type=Path, metavar='ONNX', help=f'{what} (default: the window lifter that ships)')


def train(args: argparse.Namespace) -> int:
    """Train one variant after the other, until done or interrupted; the same command continues."""
    from pose3d_ros.train import parts
    from pose3d_ros.train.load_lifter import LifterFileError, fingerprint
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, LoopSettings, TrainingError, limit_threads
    from pose3d_ros.train.parts_data import PeopleError

    if not 0 <= args.dropout < 1:
        raise UserError(f'--dropout {args.dropout:g}: expected 0 or more, and less than 1')
    if args.threads:
        limit_threads(args.threads)
    shown: dict[bool, tuple[People, People]] = {}
    try:
        for seed in range(args.seed, args.seed + args.repeats):
            for name in dict.fromkeys(args.variants):
                refines = parts.ROWS[name].refines
                if refines not in shown:
                    shown[refines] = _people(args, refines)
                settings = parts.PartsSettings(width=args.width, dropout=args.dropout, batch=args.batch,
                                               lifter=fingerprint(args.lifter) if refines else '')
                out = args.out / parts.folder(name, seed)
                loop = LoopSettings(steps=args.steps, learning_rate=parts.LEARNING_RATE, seed=seed)
                run = parts.train(name, *shown[refines], out, settings, loop, args.minutes, _command(args, name, seed))
                print(f'{name}, seed {seed}: {run.step} steps in {run.seconds / 60:.1f} minutes: {out / CHECKPOINT}')
    except (CheckpointError, LifterFileError, PeopleError, TrainingError) as error:
        raise UserError(str(error)) from error
    return 0


def _people(args: argparse.Namespace, refines: bool) -> tuple[People, People]:
    """Return the people of --out to learn from, drawn if there are none yet, and others to watch it.

    refines: what a lifter makes of them is wanted too. Raises LifterFileError, PeopleError, UserError.
    """
    import numpy as np

    from pose3d_ros.train.load_lifter import fingerprint, load_lifter
    from pose3d_ros.train.parts import VALIDATION_SEED
    from pose3d_ros.train.parts_data import KNOW_UP, PEOPLE_SEED, USES, draw, kept
    from pose3d_ros.train.samples import EVALUATION, SampleSettings

    lifter = load_lifter(args.lifter)[0] if refines else None

    def make() -> People:
        mocap = load_split(args, 'train')
        print(f'drawing {args.people} people from {len(mocap)} frames of {len(set(mocap.subject))} subjects ...')
        return draw(mocap, args.people, np.random.default_rng(PEOPLE_SEED), SampleSettings(), USES,
                    mocap.frame_weights(), KNOW_UP, lifter)

    identity = {'data': [path.name for path in args.data], 'leave_out': args.leave_out, 'people': args.people}
    if refines:
        identity['lifter'] = fingerprint(args.lifter)
    people = kept(args.out / ('people_refined.npz' if refines else 'people.npz'), identity, make)
    watched = draw(load_split(args, 'val'), VALIDATION, np.random.default_rng(VALIDATION_SEED), EVALUATION,
                   lifter=lifter)
    print(f'{len(people)} people to train on, {len(watched)} to watch it')
    return people, watched


def _command(args: argparse.Namespace, name: str, seed: int) -> str:
    defaults = (('steps', STEPS), ('minutes', float('inf')), ('people', PEOPLE), ('width', WIDTH),
                ('dropout', DROPOUT), ('batch', BATCH))
    return f'{command_line(args, defaults)} --variants {name}' + (f' --seed {seed}' if seed else '')


def export(args: argparse.Namespace) -> int:
    """Calibrate, export, check."""
    import numpy as np

    from pose3d_ros.train import export_parts, parts
    from pose3d_ros.train.load_lifter import LifterFileError, fingerprint, load_lifter
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError
    from pose3d_ros.train.onnx_file import ExportError
    from pose3d_ros.train.samples import POPULATION, make_samples

    try:
        network, told = parts.load_trained(args.out / parts.folder(args.variant, args.seed) / CHECKPOINT)
        window, metadata = load_lifter(args.lifter)
    except (CheckpointError, LifterFileError) as error:
        raise UserError(str(error)) from error
    if network.refines and told['lifter'] != fingerprint(args.lifter):
        raise UserError(f'{args.variant} was trained to refine another lifter; give that one with --lifter')
    lifter = export_parts.make_lifter(window, network)
    samples = make_samples(load_split(args, 'val'), CALIBRATION, np.random.default_rng(CALIBRATION_SEED), POPULATION)
    stature = (float(json.loads(metadata['stature'])[0]), float(json.loads(metadata['stature'])[1]))
    factors = export_parts.calibrate(lifter, samples, parts.sample_evidence(args.variant, samples, CALIBRATION_SEED),
                                     stature)
    path = args.onnx or args.out / 'parts.onnx'
    extra = {'data': ' '.join(file.name for file in args.data) + (
                 f' without {" ".join(args.leave_out)}' if args.leave_out else ''),
             'training_command': told['command'], 'lifter': metadata.get('training_command', '')}
    try:
        difference = export_parts.export(lifter, path, extra, stature)
    except ExportError as error:
        raise UserError(str(error)) from error
    tell(path, difference, f"calibrated on the validation split: the lifter's standard deviations times "
                           f'{factors.min():.2f} to {factors.max():.2f}')
    return 0
