"""`pose3d calibrate extrinsics`: where cameras stand, from the people that they see together."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pose3d_ros.cli.bag import is_bag
from pose3d_ros.cli.calibrate_bag import seen_in_bag
from pose3d_ros.cli.calibrate_result import check_outputs, figures, show, write
from pose3d_ros.cli.calibrate_seen import Seen
from pose3d_ros.cli.calibrate_videos import seen_in_videos
from pose3d_ros.cli.engines import add_engine_options, add_model_options
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, write_json
from pose3d_ros.fuse.extrinsics.estimate import ExtrinsicsSettings, estimate


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `calibrate extrinsics`."""
    parser = subparsers.add_parser('calibrate', help='where the cameras stand, from the people that they see together',
                                   description='Calibrate from footage of people; no board is needed.')
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    extrinsics = kinds.add_parser(
        'extrinsics', help='places of cameras with known intrinsics',
        description='Find where cameras stand, and how their clocks differ, from videos or a bag of people walking '
                    'about where two cameras or more see them. Refines the places that are given; without any it '
                    'starts from nothing. Exit status 1 and the reason where the footage does not tell.')
    extrinsics.add_argument('recordings', nargs='+', type=Path, metavar='VIDEO|BAG',
                            help='a video of each camera; or one bag, a folder or its .mcap or .db3 file')
    extrinsics.add_argument('--topics', nargs='+', default=[], metavar='TOPIC',
                            help='of the bag: People2D, or images of which camera_info is beside them (default: all '
                                 'of type People2D)')
    extrinsics.add_argument('--calibration', type=Path, metavar='FILE',
                            help='intrinsics of all cameras, and places to start from; bags bring intrinsics')
    start = extrinsics.add_mutually_exclusive_group()
    start.add_argument('--places', type=Path, metavar='FILE',
                       help='places to start from, of another file (default: those of --calibration)')
    start.add_argument('--frame', metavar='FRAME', help='start from the places in this frame that TF in the bag says')
    extrinsics.add_argument('--cameras', nargs='+', default=[], metavar='NAME',
                            help='of the videos or topics, in order (default: as these are called)')
    extrinsics.add_argument('--out', type=Path, required=True, metavar='OUT.yaml')
    extrinsics.add_argument('--from-nothing', action='store_true',
                            help='do not start from the places; they still give the world frame, and the size')
    extrinsics.add_argument('--place-sigma', type=_not_negative, default=0.03, metavar='M',
                            help='how well the places are known (default: 0.03 m); 0: a start and nothing more')
    size = extrinsics.add_mutually_exclusive_group()
    size.add_argument('--stature', type=_stature, metavar='M', help='of the person seen most: gives the size')
    size.add_argument('--baseline', nargs=3, metavar=('A', 'B', 'M'), help='cameras A and B are M metres apart')
    extrinsics.add_argument('--in-step', action='store_true', help='the cameras are synchronised: no time offsets')
    extrinsics.add_argument('--max-offset', type=_not_negative, default=0.5, metavar='S',
                            help='time offset to look for between cameras (default: 0.5 s)')
    extrinsics.add_argument('--joints', type=Path, metavar='FILE.npz',
                            help='keep the detected joints there; if it exists, use them instead of detecting')
    extrinsics.add_argument('--static-tf', type=Path, metavar='FILE.launch.py', help='also write a launch file of TF')
    extrinsics.add_argument('--parent', metavar='FRAME', help='TF frame of the world (default: --frame, or world)')
    add_model_options(extrinsics, 'heavy')
    add_engine_options(extrinsics)
    add_json_option(extrinsics)


def run(args: argparse.Namespace) -> int:
    """Calibrate, print a table and write the files. Raises ExtrinsicsError, CalibrationError and UserError."""
    settings = ExtrinsicsSettings(
        refine=not args.from_nothing, place_sigma=args.place_sigma, stature=args.stature,
        baseline=_baseline(args.baseline), clocks=not args.in_step, most_lag=args.max_offset)
    parent = args.parent or args.frame or 'world'
    check_outputs(args.out, args.static_tf, parent)  # before the long work
    seen = _seen(args, settings)
    found = estimate(seen.watched, seen.given, settings)
    show(seen, found)
    write(seen, found, args.out, args.static_tf, parent)
    if args.json:
        write_json(args.json, figures(seen, found))
    return 0


def _seen(args: argparse.Namespace, settings: ExtrinsicsSettings) -> Seen:
    """Return what the cameras saw, from wherever it was recorded."""
    if any(is_bag(path) for path in args.recordings):
        if len(args.recordings) > 1:
            raise UserError('one bag at a time: give one folder or file of a bag, or videos only')
        return seen_in_bag(args, settings)
    for path in args.recordings:
        if not path.exists():
            raise UserError(f'{path}: is not there; give a video of each camera, or a bag (a folder, .mcap or .db3)')
    for option, value in (('--topics', args.topics), ('--frame', args.frame)):
        if value:
            raise UserError(f'{option} is for bags; videos have none')
    if args.calibration is None:
        raise UserError('videos need --calibration, with the intrinsics of their cameras')
    return seen_in_videos(args, settings)


def _baseline(words: Sequence[str] | None) -> tuple[str, str, float] | None:
    if words is None:
        return None
    try:
        metres = float(words[2])
    except ValueError:
        metres = float('nan')
    if not 0 < metres < 1e3 or words[0] == words[1]:
        raise UserError(f'--baseline {" ".join(words)}: expected two cameras and their distance in metres')
    return words[0], words[1], metres


def _stature(text: str) -> float:
    value = _number(text)
    if not 0.5 <= value <= 2.5:
        raise argparse.ArgumentTypeError('expected metres, 0.5 to 2.5')
    return value


def _not_negative(text: str) -> float:
    value = _number(text)
    if not 0 <= value < np.inf:
        raise argparse.ArgumentTypeError('expected a number from 0 on')
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float('nan')
