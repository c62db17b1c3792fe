"""`pose3d mocap`: downloaded motion capture into the arrays that training reads."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.figures import add_json_option, print_table, write_json
from pose3d_ros.cli.progress import progress

if TYPE_CHECKING:
    from pose3d_ros.train.arrays import SubjectSummary
    from pose3d_ros.train.readers.clip import Clip

FPS = 30.0
REASONS = {'missing': 'not finite', 'jump': 'a joint jumps', 'floor': 'an ankle far under the floor',
           'knee': 'a knee bent forwards', 'short': 'left over in pieces of less than 0.5 s'}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `mocap`."""
    parser = subparsers.add_parser(
        'mocap', help='motion capture as downloaded, into arrays to train on',
        description='Reads .asf/.amc (CMU), .bvh, data_3d_h36m.npz (Human3.6M by VideoPose3D), annot.mat and '
                    'data_*_3dhp.npz (MPI-INF-3DHP); see docs/data.md. Broken frames are cut out and counted, and so '
                    'are files that cannot be read.')
    parser.add_argument('files', type=Path, nargs='*', metavar='FILE', help='files, or folders of them')
    parser.add_argument('--procedural', type=_positive, metavar='MINUTES',
                        help='also people made by formulas, to try the training without recordings')
    parser.add_argument('--out', type=Path, required=True, metavar='NPZ', help='the arrays, for pose3d train --data')
    parser.add_argument('--split-by', choices=('subject', 'clip'), default='subject',
                        help='what goes whole into train, val or test (default: subject; clip: for a single person)')
    parser.add_argument('--val', nargs='+', default=[], metavar='SUBJECT', help='people to validate on')
    parser.add_argument('--test', nargs='+', default=[], metavar='SUBJECT', help='people to test on')
    parser.add_argument('--subject', default='', metavar='NAME', help='the person in all these files')
    parser.add_argument('--fps', type=_rate, default=FPS, metavar='HZ', help=f'of the arrays (default {FPS:g})')
    parser.add_argument('--rate', type=_rate, metavar='HZ', help='of .amc files, which do not say (default 120)')
    parser.add_argument('--unit', choices=('auto', 'm', 'cm', 'mm', 'inch', 'cmu'), default='auto',
                        help='of .bvh files (default: the one that makes a person)')
    parser.add_argument('--up', choices=('auto', 'y', 'z'), default='auto', help='the upward axis of .bvh files')
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Read, write, sum up. Returns 1 if a file could not be read; the others are written all the same."""
    from pose3d_ros.train.arrays import assign_splits, summarise, write_arrays
    from pose3d_ros.train.mocap import MocapError

    if not args.files and not args.procedural:
        raise UserError('name files to read, or --procedural MINUTES')
    try:
        clips, dropped, failed = _read_all(args)
        if args.procedural:
            clips.extend(_made_up(args.procedural, args.fps))
        if not clips:
            raise MocapError('nothing to write: no whole recording in these files')
        clips = assign_splits(clips, args.val, args.test, args.split_by)
        write_arrays(args.out, clips, args.fps)
    except MocapError as error:
        raise UserError(str(error)) from error
    rows = summarise(clips)
    _print(rows, dropped, failed)
    _advise(clips)
    print(f'{args.out}: {args.out.stat().st_size / 1e6:.1f} MB')
    if args.json:
        write_json(args.json, {
            'clips': len(clips), 'frames': sum(map(len, clips)), 'minutes': sum(row.minutes for row in rows),
            'subjects': len(rows), 'unreadable_files': len(failed),
            **{f'{split}_frames': sum(len(clip) for clip in clips if clip.split == split)
               for split in ('train', 'val', 'test')},
            **{f'dropped_{reason}_frames': dropped[reason] for reason in REASONS}})
    return 1 if failed else 0


def _read_all(args: argparse.Namespace) -> tuple[list[Clip], Counter[str], list[str]]:
    """Return the whole pieces of all files, how many frames were dropped and why, and what was wrong with files."""
    from pose3d_ros.train.mocap import MocapError
    from pose3d_ros.train.readers.clean import whole_pieces
    from pose3d_ros.train.readers.files import ReadOptions, find_files, read_clips

    given = {'unit': args.unit, 'up': args.up, 'subject': args.subject}
    options = ReadOptions(**given, **({'rate': args.rate} if args.rate else {}))
    clips: list[Clip] = []
    dropped: Counter[str] = Counter()
    failed: list[str] = []
    with progress(find_files(args.files), unit='file', disable=not args.files) as bar:
        for path in bar:
            bar.set_postfix_str(path.name, refresh=False)
            try:
                for clip in read_clips(path, options):
                    clips.extend(whole_pieces(clip, args.fps, dropped))
            except MocapError as error:
                failed.append(str(error))
                bar.write(f'left out: {error}', file=sys.stderr)
    return clips, dropped, failed


def _made_up(minutes: float, fps: float) -> list[Clip]:
    from pose3d_ros.train.procedural import CLIP_SECONDS, procedural_clips

    return procedural_clips(clips=max(round(60 * minutes / CLIP_SECONDS), 6), fps=fps)


def _print(rows: list[SubjectSummary], dropped: Counter[str], failed: list[str]) -> None:
    cells = [[row.subject, row.splits, f'{row.clips}', f'{row.frames}', f'{row.minutes:.1f}', f'{row.stature:.2f}',
              f'{100 * row.low:.1f}'] for row in rows]
    cells.append(['all', '', *(f'{sum(values)}' for values in zip(*((row.clips, row.frames) for row in rows))),
                  f'{sum(row.minutes for row in rows):.1f}', '',
                  f'{100 * sum(row.low * row.frames for row in rows) / sum(row.frames for row in rows):.1f}'])
    print_table([['subject', 'split', 'clips', 'frames', 'minutes', 'stature m', 'low %'], *cells])
    print('low: the pelvis is less than 0.27 statures above the lower ankle (sitting, crouching, lying)')
    if told := [f'{dropped[reason]} {text}' for reason, text in REASONS.items() if dropped[reason]]:
        print(f'frames of the recordings left out: {"; ".join(told)}')
    if failed:
        print(f'files left out: {len(failed)}')


def _advise(clips: list[Clip]) -> None:
    found = {clip.split for clip in clips}
    if lacking := [split for split in ('train', 'val', 'test') if split not in found]:
        print(f'nothing in {" and ".join(lacking)}: name people with --val and --test, or use --split-by clip')
    by_subject: dict[str, set[str]] = {}
    for clip in clips:
        by_subject.setdefault(clip.subject, set()).add(clip.split)
    if any(len(splits) > 1 for splits in by_subject.values()):
        print('the same person is in more than one split: figures on val and test will flatter')


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError('must be above 0, at most 600')
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError('must be 1 to 1000')
    return value
