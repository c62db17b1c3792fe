"""`pose3d record`: motion capture filmed by the cameras of a laboratory, as a detector would see it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, write_json
from pose3d_ros.cli.train import add_data_options, load_split, positive

TAKES, CAMERAS, ERRORS, OCCLUSION = 3, 4, 'blazepose_full', 2.0
NO_ERRORS = 'none'
NEAREST_M = 0.8   # of people to a camera: nearer, they are not seen whole


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `record`."""
    parser = subparsers.add_parser(
        'record', help='film motion capture with virtual cameras: 2D to train on without labels',
        description="Every clip is filmed by the cameras of a laboratory, with a detector's errors, larger and less "
                    'sure where the body hides a joint from a camera. --out gets the 2D joints, the confidences and '
                    'where the cameras stand, and no 3D pose; the true ones go to --truth, for evaluation. Then: '
                    'pose3d train geometric.')
    add_data_options(parser)
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train', help='default %(default)s')
    parser.add_argument('--out', type=Path, required=True, metavar='NPZ', help='the recording, 2D only')
    parser.add_argument('--truth', type=Path, metavar='NPZ', help='where the true joints go; not kept without it')
    parser.add_argument('--takes', type=positive, default=TAKES, metavar='N',
                        help='how often each clip is filmed, with other bodies elsewhere (default %(default)s)')
    parser.add_argument('--cameras', type=positive, default=CAMERAS, metavar='N', help='default %(default)s')
    parser.add_argument('--heights', type=float, nargs=2, metavar=('LOW', 'HIGH'),
                        help='of the cameras, in m, spread over them (default: all 1.5)')
    parser.add_argument('--distances', type=float, nargs=2, metavar=('NEAR', 'FAR'),
                        help='of the cameras from the middle, in m, spread over them (default: all 5)')
    parser.add_argument('--errors', default=ERRORS, metavar='NAME',
                        help="of the detector: one of the package, a .json of `pose3d evaluate errors --save`, or "
                             f"'{NO_ERRORS}' (default %(default)s)")
    parser.add_argument('--occlusion', type=_factor, default=OCCLUSION, metavar='X',
                        help='errors of joints that the body hides, over those of others (default %(default)s)')
    parser.add_argument('--memory', type=_factor, default=0.0, metavar='S',
                        help='how long an error of the detector lasts, in s: it falls to 1/e in this time (default 0: '
                             'drawn anew in every frame)')
    parser.add_argument('--seed', type=int, default=0, help='of everything that is drawn at random (default 0)')
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Film, write, say what there is."""
    import numpy as np

    from pose3d_ros.train.error_fit import ErrorModelError, load_errors
    from pose3d_ros.train.filming import Film, make_film
    from pose3d_ros.train.recording import RecordingError, save_truth

    if args.truth and args.truth.resolve() == args.out.resolve():
        raise UserError('--truth and --out are the same file; whoever trains must not find the truth in the recording')
    film = replace(Film(), takes=args.takes, cameras=args.cameras, occlusion=args.occlusion,
                   memory_s=args.memory)
    if args.heights:
        film = replace(film, height_m=tuple(args.heights))
    if args.distances:
        film = replace(film, distance_m=tuple(args.distances))
    nearest = min(film.distance_m) - film.area_m
    if not nearest >= NEAREST_M:
        raise UserError(f'--distances {min(film.distance_m):g}: people stand up to {film.area_m:g} m from the middle; '
                        f'cameras must be {film.area_m + NEAREST_M:g} m away at least')
    mocap = load_split(args, args.split)
    try:
        errors = None if args.errors == NO_ERRORS else load_errors(args.errors)
        recording, truth = make_film(mocap, film, errors, np.random.default_rng(args.seed))
        recording.save(args.out)
        if args.truth:
            save_truth(args.truth, truth)
    except (ErrorModelError, RecordingError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f'cannot write {error.filename or args.out}: {error.strerror or error}') from error
    unsure = float((recording.confidence < film.hidden_confidence[1]).mean())
    figures = {'moments': len(recording), 'cameras': args.cameras, 'minutes': len(recording) / mocap.fps / 60,
               'hidden_share': unsure}
    print(f'{args.out}: {len(recording)} moments ({figures["minutes"]:.1f} minutes) of {len(set(mocap.subject))} '
          f'people seen by {args.cameras} cameras; {100 * unsure:.0f} % of the joints hidden by the '
          'body; no 3D poses in it')
    print(f'{args.truth}: the true joints, for evaluation' if args.truth else 'the true joints were not kept (--truth)')
    if args.json:
        write_json(args.json, figures)
    return 0


def _factor(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError('must be 0 to 100')
    return value
