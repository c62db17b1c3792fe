"""`pose3d train parts_images`, `pose3d export parts_images`: the image network of the parts method."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.exported import tell
from pose3d_ros.cli.train import add_training_options, positive

if TYPE_CHECKING:
    from pose3d_ros.train.image_sets import ImageSet
    from pose3d_ros.train.multitask import MultiTaskSettings, Watch
    from pose3d_ros.train.multitask_joined import JoinedSettings

# Those of train/multitask.py, which would bring PyTorch with it; a test compares.
STRATEGIES = ('source_only', 'mixed', 'adapted')
STEPS, LIFT_STEPS, JOINED_STEPS = 4000, 3000, 1000
SIZE, STACKS, FEATURES, BATCH, REVERSAL = 64, 2, 32, 32, 0.3
RESEARCH_ONLY = 'Trained on MPII and Human3.6M, whose licences allow research only.'


def add_train_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train parts_images`."""
    parser = networks.add_parser(
        'parts_images', help='image network of 2D joints and pose attributes, with domain adaptation',
        description='Train the image network from images of two domains, one with 3D joints and one without, in one or '
                    'more ways, each in its own folder of --out: the same command again continues. Then the 3D network '
                    'on what it predicts, and both joined. Afterwards: pose3d evaluate parts_images --runs DIR.')
    add_image_options(parser, 'two sets of pose3d render: one with 3D joints, one of which only the 2D joints are used')
    parser.add_argument('--validation', type=Path, nargs=2, metavar='NPZ',
                        help='the same of other people, to watch it on')
    add_training_options(parser, STEPS)
    parser.add_argument('--strategies', nargs='+', choices=STRATEGIES, default=['adapted'], metavar='NAME',
                        help=f'of {", ".join(STRATEGIES)} (default adapted); --steps and --minutes count for each')
    parser.add_argument('--lift-steps', type=whole, default=LIFT_STEPS, metavar='N',
                        help='of the 3D network, after --steps of the image network; 0: leave it at that (default '
                             '%(default)s)')
    parser.add_argument('--joined-steps', type=whole, default=JOINED_STEPS, metavar='N',
                        help='of both joined, after --lift-steps; 0: leave it at that (default %(default)s)')
    parser.add_argument('--stacks', type=positive, default=STACKS, metavar='N',
                        help='hourglasses (default %(default)s)')
    parser.add_argument('--features', type=positive, default=FEATURES, metavar='N',
                        help='of the hourglasses, a multiple of 4 (default %(default)s; published: 256)')
    parser.add_argument('--batch', type=positive, default=BATCH, metavar='N',
                        help='images per step (default %(default)s)')
    parser.add_argument('--reversal', type=float, default=REVERSAL, metavar='X',
                        help='largest factor of the reversed gradient (default %(default)s)')


def add_image_options(parser: argparse.ArgumentParser, about: str, several: bool = False) -> None:
    """Add `--images`, or MPII and Human3.6M in their place."""
    parser.add_argument('--images', type=Path, nargs='+' if several else 2, metavar='NPZ', help=about)
    parser.add_argument('--mpii', type=Path, metavar='DIR', help='MPII Human Pose: the .mat and images/')
    parser.add_argument('--human36m', type=Path, metavar='DIR', help='Human3.6M: S1/Videos, S1/MyPoseFeatures, ...')
    parser.add_argument('--size', type=positive, default=SIZE, metavar='PX',
                        help='of crops of MPII and Human3.6M (default %(default)s; published: 256)')


def add_export_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export parts_images`."""
    parser = networks.add_parser(
        'parts_images', help='the image network of 2D joints and pose attributes',
        description='Write the averaged weights as ONNX (crops to heat maps and attributes), check the file against '
                    'PyTorch, and write the description by which pose3d uses it to find joints.')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the folder of `pose3d train`')
    parser.add_argument('--strategy', default='adapted', choices=STRATEGIES, help='default %(default)s')
    parser.add_argument('--joined', action='store_true', help='as it is after being joined with the 3D network')
    parser.add_argument('--onnx', type=Path, metavar='FILE', help='default: DIR/images_STRATEGY.onnx')


def train(args: argparse.Namespace) -> int:
    """Train one strategy after the other, until done or interrupted; the same command continues."""
    from pose3d_ros.train.image_sets import ImageSetError
    from pose3d_ros.train.loop import CheckpointError, TrainingError, limit_threads
    from pose3d_ros.train.multitask import MultiTaskSettings
    from pose3d_ros.train.multitask_joined import JoinedSettings

    if args.threads:
        limit_threads(args.threads)
    try:
        first, second = load_sets(args, args.out / 'crops', testing=False)
        print(f'{len(first)} images of {first.domain or "the first domain"} with 3D joints, {len(second)} of '
              f'{second.domain or "the second"} without')
        settings = MultiTaskSettings(size=first.size, stacks=args.stacks, features=args.features, batch=args.batch,
                                     reversal=args.reversal)
        settings = replace(settings, loop=replace(settings.loop, steps=args.steps, seed=args.seed))
        later = JoinedSettings()
        later = replace(later, lift=replace(later.lift, steps=args.lift_steps, seed=args.seed),
                        joined=replace(later.joined, steps=args.joined_steps, seed=args.seed))
        for name in dict.fromkeys(args.strategies):
            _train(args, first, second, replace(settings, strategy=name), later)
    except (CheckpointError, ImageSetError, TrainingError, ValueError) as error:
        raise UserError(str(error)) from error
    return 0


def _train(args: argparse.Namespace, first: ImageSet, second: ImageSet, settings: MultiTaskSettings,
           later: JoinedSettings) -> None:
    """Take the three steps of a strategy."""
    from pose3d_ros.train.loop import CHECKPOINT
    from pose3d_ros.train.multitask import identity_of, load_trained, train
    from pose3d_ros.train.multitask_figures import STEPS as FOLDERS
    from pose3d_ros.train.multitask_joined import load_lift, train_joined, train_lift

    folders = [args.out / settings.strategy / folder for folder in FOLDERS]
    command = _command(args, settings.strategy)
    run = train(first, second, folders[0], settings, _watch(args), args.minutes, command)
    print(f'{settings.strategy}: {run.step} steps in {run.seconds / 60:.1f} minutes: {folders[0] / CHECKPOINT}')
    if run.step < settings.loop.steps or not later.lift.steps:
        return
    run = train_lift(load_trained(folders[0] / CHECKPOINT)[0], first, folders[1], identity_of(settings), later,
                     args.minutes, command)
    print(f'{settings.strategy}: 3D network, {run.step} steps in {run.seconds / 60:.1f} minutes')
    if run.step < later.lift.steps or not later.joined.steps:
        return
    run = train_joined(load_trained(folders[0] / CHECKPOINT)[0], load_lift(folders[1] / CHECKPOINT), first, second,
                       folders[2], settings, later, args.minutes, command)
    print(f'{settings.strategy}: joined, {run.step} steps in {run.seconds / 60:.1f} minutes')


def _watch(args: argparse.Namespace) -> Watch | None:
    """Return what is logged now and then: figures of held-out people of both domains. Nothing is learnt of them."""
    if not args.validation:
        return None
    from pose3d_ros.train.image_sets import load_images
    from pose3d_ros.train.multitask_figures import image_figures

    sets = [load_images(path).where(slice(1000)) for path in args.validation]
    logged = ('mean', 'pckh', 'second')
    return lambda network: {f'{images.domain}_{name}': figures.get(name, float('nan')) for images in sets
                            for figures in [image_figures(network, images)] for name in logged}


def load_sets(args: argparse.Namespace, crops: Path, testing: bool) -> list[ImageSet]:
    """Return the sets asked for; of MPII and Human3.6M the first is the latter. Raises ImageSetError and UserError.

    crops: the folder that keeps those of MPII and Human3.6M. testing: those for testing, not for training.
    """
    from pose3d_ros.train.human36m import TESTING, TRAINING, load_human36m
    from pose3d_ros.train.image_sets import load_images, stored
    from pose3d_ros.train.mpii import load_mpii

    if bool(args.images) == bool(args.mpii or args.human36m) or bool(args.mpii) != bool(args.human36m):
        raise UserError('give --images NPZ ..., or both --mpii DIR and --human36m DIR')
    if args.images:
        return [load_images(path) for path in args.images]
    part, found = 'test' if testing else 'train', []
    makers: dict[str, Callable[..., Any]] = {
        'human36m': partial(load_human36m, args.human36m, TESTING if testing else TRAINING, args.size),
        'mpii': partial(load_mpii, args.mpii, args.size, validation=testing)}
    for name, make in makers.items():
        images, skipped = stored(crops / f'{name}_{part}_{args.size}', partial(_made, make))
        skipped.report(f'of {name}')
        found.append(images)
    return found


def _made(make: Callable[..., Any], path: Path) -> Any:
    return make(crops=path)


def _command(args: argparse.Namespace, strategy: str) -> str:
    """Return the command as it will be noted in checkpoints: without the folders of this machine."""
    data = ['--images', *(path.name for path in args.images)] if args.images else ['--mpii', '--human36m']
    words = ['pose3d train parts_images', *data, f'--strategies {strategy}']
    defaults = (('steps', STEPS), ('lift_steps', LIFT_STEPS), ('joined_steps', JOINED_STEPS), ('minutes', float('inf')),
                ('seed', 0), ('size', SIZE), ('stacks', STACKS), ('features', FEATURES), ('batch', BATCH),
                ('reversal', REVERSAL))
    words += [f'--{option.replace("_", "-")} {getattr(args, option)}' for option, default in defaults
              if getattr(args, option) != default]
    return ' '.join(words)


def export(args: argparse.Namespace) -> int:
    """Export and check."""
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError
    from pose3d_ros.train.multitask import load_trained
    from pose3d_ros.train.multitask_export import export_images
    from pose3d_ros.train.multitask_joined import load_joined
    from pose3d_ros.train.onnx_file import ExportError

    path, folder = args.onnx or args.out / f'images_{args.strategy}.onnx', args.out / args.strategy
    try:
        network, settings, command = load_trained(folder / 'multitask' / CHECKPOINT)
        if args.joined:
            network = load_joined(folder / 'joined' / CHECKPOINT).image
        extra = {'training_command': command, 'strategy': settings.strategy,
                 **({'notice': RESEARCH_ONLY} if '--mpii' in command else {})}
        deviation = export_images(network, path, extra)
    except (CheckpointError, ExportError) as error:
        raise UserError(str(error)) from error
    tell(path, deviation, f'described in {path.with_suffix(".yaml")}: pose3d run --model {path.with_suffix(".yaml")} '
                          '(its attributes are not read there)')
    return 0


def whole(text: str) -> int:
    """Return a whole number, 0 or more, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError('must be 0 or more')
    return value
