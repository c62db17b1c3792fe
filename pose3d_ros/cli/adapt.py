"""`pose3d adapt`: the lifter learns from your own cameras, without labels."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.cli.adapt_card import write_card
from pose3d_ros.cli.adapt_report import show, verdict, write_report
from pose3d_ros.cli.bag import is_bag
from pose3d_ros.cli.engines import add_engine_options, add_lifter_option, add_model_options
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, write_json
from pose3d_ros.cli.site_clocks import check_clocks
from pose3d_ros.cli.site_views import Footage, footage_of
from pose3d_ros.cli.train import load_split, positive
from pose3d_ros.lift import DEFAULT_LIFTER, lifter_file

if TYPE_CHECKING:
    from pose3d_ros.train.adapt import Report

LIFTER, CARD, REPORT, PEOPLE = 'lifter.onnx', 'lifter.md', 'report.html', 'people.npz'
_USUAL = (('model', 'full'), ('search', 'blazepose'), ('lifter', DEFAULT_LIFTER), ('seed', 0))  # goes without saying


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `adapt`."""
    parser = subparsers.add_parser(
        'adapt', help='fine-tune the lifter to your own cameras (needs PyTorch)',
        description='Let the lifter learn from a recording of your own cameras with people walking about, seen by two '
                    'or more of them at once: no labels, only where the cameras are. A part of the recording is held '
                    'out; where the adapted lifter is no better there, the old one is kept and the report says so. '
                    f'Writes {LIFTER}, its card {CARD} and {REPORT} into --out. Interrupted, the same command goes on.')
    parser.add_argument('recordings', nargs='+', type=Path, metavar='VIDEO|BAG',
                        help='a video of each camera; or one bag, a folder or its .mcap or .db3 file')
    parser.add_argument('--calibration', type=Path, metavar='FILE',
                        help='intrinsics and places of the cameras, as of `pose3d calibrate extrinsics`; of a bag the '
                             'places are enough')
    parser.add_argument('--frame', metavar='FRAME', help='of a bag: places by its TF, in this frame (cameras may move)')
    parser.add_argument('--topics', nargs='+', default=[], metavar='TOPIC',
                        help='of a bag: People2D, or images of which camera_info is beside them (default: all of type '
                             'People2D)')
    parser.add_argument('--cameras', nargs='+', default=[], metavar='NAME',
                        help='of the videos or topics, in order (default: as these are called)')
    parser.add_argument('--offsets', nargs='+', type=float, default=[], metavar='S',
                        help='when each video begins, in seconds on a common clock (default: all at once)')
    parser.add_argument('--joints', type=Path, metavar='FILE.npz',
                        help=f'keep the people detected there, or use those that are (default: {PEOPLE} in --out)')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    add_lifter_option(parser, 'start from this one, which cannot be one of parts')
    parser.add_argument('--data', type=Path, nargs='+', metavar='NPZ',
                        help='motion capture to rehearse, so that nothing is forgotten (`pose3d mocap`; docs/data.md); '
                             'without it made-up postures are rehearsed')
    parser.add_argument('--hold-out', type=_share, default=0.4, metavar='SHARE',
                        help='of the recording, from its end, to measure on (default: %(default)s)')
    parser.add_argument('--steps', type=positive, metavar='N', help='length of the training (default: chosen)')
    parser.add_argument('--minutes', type=_minutes, default=math.inf, metavar='M', help='stop training after this time')
    parser.add_argument('--seed', type=int, default=0, help='of everything that is drawn at random (default 0)')
    add_model_options(parser)
    add_engine_options(parser)
    add_json_option(parser)
    parser.set_defaults(leave_out=[])


def run(args: argparse.Namespace) -> int:
    """Read, train, measure, and write everything; the same command continues. Raises UserError."""
    import pose3d_ros.train.adapt  # noqa: F401 (says that PyTorch is missing before the long work)

    start = learnable(args.lifter, args.out)
    footage = footage_of(args, args.joints or args.out / PEOPLE)
    check_clocks(footage.views, _starts(args, footage))
    report = adapted(args, footage, start)
    lifter = args.out / LIFTER
    if report.adapted:
        write_card(args.out / CARD, report, args, command_of(args))
    else:  # of an earlier run, about which this report says nothing
        for stale in (lifter, args.out / CARD):
            stale.unlink(missing_ok=True)
    write_report(args.out / REPORT, report, footage, command_of(args))
    show(report)
    print(verdict(report))
    print(f'report: {args.out / REPORT}' + (f'; use it: parameter lifter:={lifter.absolute()} of the nodes, or '
                                            f'pose3d run --lifter {lifter}' if report.adapted else ''))
    if args.json:
        write_json(args.json, report.figures)
    return 0


def learnable(lifter: str, out: Path) -> Path:
    """Return the file of a lifter, by name or path, that can be trained further.

    Raises UserError for any other, and for one that would be overwritten with what comes of it.
    """
    from pose3d_ros.train.load_lifter import LifterFileError, load_lifter

    path = lifter_file(lifter)
    if path.resolve() == (out / LIFTER).resolve():
        raise UserError(f'--lifter {lifter} would be overwritten by what comes of it; give another --out')
    try:
        load_lifter(path)
    except LifterFileError as error:
        raise UserError(str(error)) from error
    return path


def _starts(args: argparse.Namespace, footage: Footage) -> list[float]:
    """Return when each video begins [s]; nothing of a bag."""
    return [] if any(is_bag(path) for path in args.recordings) else args.offsets or [0.0] * len(footage.views)


def adapted(args: argparse.Namespace, footage: Footage, lifter: Path) -> Report:
    """Return what came of adapting a lifter's file to the footage. Raises UserError."""
    from dataclasses import replace

    from pose3d_ros.train.adapt import AdaptSettings, adapt
    from pose3d_ros.train.load_lifter import LifterFileError
    from pose3d_ros.train.loop import CheckpointError, TrainingError, limit_threads
    from pose3d_ros.train.onnx_file import ExportError
    from pose3d_ros.train.read_site import read_site, strangers
    from pose3d_ros.train.site import SiteError

    if args.threads:
        limit_threads(args.threads)
    mocap = load_split(args, 'train') if args.data else None
    settings = AdaptSettings(hold_out=args.hold_out, seed=args.seed)
    if args.steps:
        settings = replace(settings, steps=args.steps)
    try:
        site = read_site(footage.views, lifter)
        print(f'{len(site)} sightings of {len(set(site.person.tolist()))} people by {len(set(site.camera.tolist()))} '
              f'cameras in {site.seconds:.1f} s')
        for name in strangers(site):
            print(f'{name}: nobody whom it sees was recognised in another camera, so that it takes no part; if people '
                  'were in view of both, its place or its clock is wrong (pose3d calibrate extrinsics)')
        return adapt(site, args.out, lifter, settings, mocap, minutes=args.minutes, command=command_of(args))
    except (SiteError, LifterFileError, CheckpointError, TrainingError, ExportError) as error:
        raise UserError(str(error)) from error


def command_of(args: argparse.Namespace) -> str:
    """Return the command as it will be noted: without the folders of this machine."""
    words = ['pose3d', 'adapt', *(path.name for path in args.recordings)]
    for name in ('calibration', 'frame', 'topics', 'cameras', 'offsets', 'lifter', 'data', 'hold_out', 'steps', 'model',
                 'search', 'seed'):
        value = getattr(args, name)
        if value in (None, [], '') or (name, value) in _USUAL:
            continue
        values = value if isinstance(value, list) else [value]
        words += [f'--{name.replace("_", "-")}',
                  *(Path(each).name if name in ('calibration', 'lifter', 'data', 'model', 'search') else str(each)
                    for each in values)]
    return shlex.join(words)


def _share(text: str) -> float:
    value = float(text)
    if not 0.05 <= value <= 0.95:
        raise argparse.ArgumentTypeError('expected a share from 0.05 to 0.95')
    return value


def _minutes(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError('expected minutes, more than 0')
    return value
