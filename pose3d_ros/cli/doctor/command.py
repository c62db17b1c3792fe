"""`pose3d doctor`: what is installed, which engines work, what is cached, what is wrong and the cure."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from pose3d_ros import __version__
from pose3d_ros.cli.doctor import installed, machine, probe, ros_environment, working_engines
from pose3d_ros.cli.doctor.findings import NOTE, OK, PROBLEM, Section, examine
from pose3d_ros.cli.figures import write_json

_COLOURS = {OK: '32', NOTE: '33', PROBLEM: '31'}
_WORDS = {OK: 'OK', NOTE: 'note', PROBLEM: 'PROBLEM'}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor`."""
    parser = subparsers.add_parser(
        'doctor', help='what is installed, which engines work, what is wrong and the cure',
        description='Examine this computer and installation. Exit status 0 where nothing is wrong, 1 where something '
                    'is. On a GPU the lifter\'s engine may have to be built first, which takes some seconds.')
    parser.add_argument('--json', metavar='FILE', help='write the findings as JSON, - for standard output instead of '
                                                       'the text')
    parser.add_argument('--brief', action='store_true', help='show only notes and problems')


def run(args: argparse.Namespace) -> int:
    """Examine, show each section as soon as it is known, and sum up."""
    started = time.monotonic()
    shown = sys.stderr if args.json == '-' else sys.stdout
    done = []
    try:
        for section in examine(sections()):
            done.append(section)
            if args.json != '-':
                _show(section, shown, args.brief)
    finally:
        probe.end_all()
    findings = [{'section': section.title, 'name': found.name, 'level': found.level, 'text': found.text,
                 'cure': found.cure} for section in done for found in section.findings]
    problems, notes = (sum(found['level'] == level for found in findings) for level in (PROBLEM, NOTE))
    if args.json:
        values = {'version': __version__, 'problems': problems, 'notes': notes,
                  'seconds': round(time.monotonic() - started, 1), 'findings': findings}
        if args.json == '-':
            print(json.dumps(values, indent=2))
        else:
            write_json(Path(args.json), values)
    if args.json != '-':
        print(f'{problems} problem{"" if problems == 1 else "s"}, {notes} note{"" if notes == 1 else "s"}')
    return 1 if problems else 0


def sections() -> list[Section]:
    """Return what is looked at, in the order in which it is shown."""
    gpus = machine.find_gpus()
    return [
        Section('Computer', lambda: machine.computer(gpus)),
        Section('Software', installed.software),
        Section('ROS', ros_environment.ros),
        Section('Engines', lambda: working_engines.engines(gpus), working_engines.LIMIT_S if gpus.any else 40.0),
        Section('Models', lambda: probe.relayed('models')),
        Section('Cache', lambda: probe.relayed('cache'))]


def _show(section: Section, stream: TextIO, brief: bool) -> None:
    findings = [found for found in section.findings if not brief or found.level != OK]
    if not findings:
        return
    print(section.title, file=stream)
    width = max(len(found.name) for found in findings)
    for found in findings:
        word = _WORDS[found.level].ljust(7)
        if _coloured(stream):
            word = f'\033[{_COLOURS[found.level]}m{word}\033[0m'
        print(f'  {word}  {found.name:<{width}}  {found.text}', file=stream)
        if found.cure:
            print(f'           {"":<{width}}  cure: {found.cure}', file=stream)
    print(file=stream, flush=True)


def _coloured(stream: TextIO) -> bool:
    return stream.isatty() and 'NO_COLOR' not in os.environ and os.environ.get('TERM') != 'dumb'
