"""`pose3d render`: pictures of people with known joints, to train and test image networks without footage."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, write_json
from pose3d_ros.cli.progress import progress
from pose3d_ros.cli.train import add_data_options, load_split, positive

if TYPE_CHECKING:
    from pose3d_ros.train.render.people import Pictures

COUNT, SIZE = 2000, 64
SHEETS = ('.png', '.jpg', '.jpeg')
DOMAINS = ('studio', 'street')     # those of train/render/shots.py, which needs OpenCV and SciPy to import


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `render`."""
    parser = subparsers.add_parser(
        'render', help='pictures of people posed by motion capture, with their joints',
        description='Bodies of capsules in clothes, posed by motion capture, each cut out as a top-down network sees '
                    'people. studio: one room, few clothes, one light, four cameras. street: any clothes, light and '
                    'background, things in front, blur, noise, JPEG. The same seed gives the same pictures.')
    add_data_options(parser)
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train', help='default %(default)s')
    parser.add_argument('--domain', choices=DOMAINS, required=True, help='what the pictures look like')
    parser.add_argument('--count', type=positive, default=COUNT, metavar='N', help='pictures (default %(default)s)')
    parser.add_argument('--size', type=_side, default=SIZE, metavar='PX', help='of a side (default %(default)s)')
    parser.add_argument('--seed', type=_seed, default=0, help='of everything that is drawn at random (default 0)')
    parser.add_argument('--out', type=Path, required=True, metavar='NPZ', help='pictures and joints')
    parser.add_argument('--picture', type=Path, metavar='PNG', help='also a sheet of the first pictures, to look at')
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Render, write, say what there is."""
    import numpy as np

    from pose3d_ros.train.render.files import save_pictures
    from pose3d_ros.train.render.people import render_people

    if args.picture and args.picture.suffix.lower() not in SHEETS:
        raise UserError(f'{args.picture}: the sheet is a .png or .jpg')
    mocap = load_split(args, args.split)
    started = time.perf_counter()
    pictures = render_people(mocap, args.domain, args.count, args.size, args.seed, _bar)
    spent = time.perf_counter() - started
    subject = np.array(mocap.subject)[mocap.clip[pictures.frame]]
    try:
        save_pictures(args.out, pictures, subject, domain=args.domain, split=args.split, seed=args.seed,
                      command=_command(args))
    except OSError as error:
        raise UserError(f'cannot write {error.filename or args.out}: {error.strerror or error}') from error
    figures = {'pictures': len(pictures), 'people': len(set(subject)), 'ms_per_picture': 1000 * spent / len(pictures),
               'file_mb': args.out.stat().st_size / 1e6, 'visible_share': float(pictures.visible.mean()),
               'hidden_share': float(pictures.hidden.mean())}
    print(f'{args.out}: {len(pictures)} pictures ({args.domain}) of {figures["people"]} people, '
          f'{figures["file_mb"]:.1f} MB; {100 * figures["visible_share"]:.0f} % of the joints in the picture, '
          f'{100 * figures["hidden_share"]:.0f} % behind something; {figures["ms_per_picture"]:.1f} ms each')
    if args.picture:
        _write_sheet(args.picture, pictures)
    if args.json:
        write_json(args.json, figures)
    return 0


def _bar(batches: Iterator[Pictures], count: int) -> Iterator[Pictures]:
    with progress(batches, total=count, unit='batch') as bar:
        yield from bar


def _write_sheet(path: Path, pictures: Pictures) -> None:
    import cv2

    from pose3d_ros.train.render.files import contact_sheet

    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), contact_sheet(pictures)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85]):
        raise UserError(f'cannot write {path}')
    print(f'{path}: the first pictures, and below each its joints (left orange, right blue)')


def _command(args: argparse.Namespace) -> str:
    """Return the command as it is noted in the file: without the folders of this machine."""
    words = ['pose3d render --data', *(path.name for path in args.data)]
    if args.leave_out:
        words += ['--leave-out', *args.leave_out]
    words += [f'--{name} {getattr(args, name)}' for name in ('split', 'domain', 'count', 'size', 'seed')]
    return ' '.join(words)


def _side(text: str) -> int:
    value = int(text)
    if not 16 <= value <= 512:
        raise argparse.ArgumentTypeError('must be 16 to 512')
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError('must be 0 or more')
    return value
