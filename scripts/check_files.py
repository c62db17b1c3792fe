#!/usr/bin/env python3
"""Check files for what no linter looks at:    scripts/check_files.py [FILE...]   (without files: all that git tracks)

Text ends with one newline, has no trailing blanks, tabs (but in makefiles), merge marks or Windows line ends; YAML and
XML parse; nothing is larger than 20 MB. Prints one line for each finding; exit status 1 when there are any.
"""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import yaml

MAX_BYTES = 20_000_000
MAY_HAVE_TABS = {'Makefile'}


def findings(path: Path) -> Iterator[str]:
    """Yield what is wrong with a file."""
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        yield f'{path}: {len(raw) / 1e6:.0f} MB; large files belong into the model store'
    if b'\0' in raw[:8192] or not raw:
        return
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        yield f'{path}: neither UTF-8 text nor binary ({error.reason})'
        return
    if not text.endswith('\n') or text.endswith('\n\n'):
        yield f'{path}: does not end with exactly one newline'
    for number, line in enumerate(text.split('\n'), 1):
        if line != line.rstrip():
            yield f'{path}:{number}: trailing blanks'
        if '\t' in line and path.name not in MAY_HAVE_TABS:
            yield f'{path}:{number}: tab'
        if line.startswith(('<<<<<<< ', '>>>>>>> ')):
            yield f'{path}:{number}: merge mark'
    yield from _syntax_errors(path, text)


def _syntax_errors(path: Path, text: str) -> Iterator[str]:
    try:
        if path.suffix in ('.yaml', '.yml', '.rviz'):
            list(yaml.safe_load_all(text))
        elif path.suffix == '.xml':
            ElementTree.fromstring(text)
    except (yaml.YAMLError, ElementTree.ParseError) as error:
        yield f'{path}: {" ".join(str(error).split())}'


def main(names: list[str]) -> int:
    """Check the files and return the exit status."""
    if not names:
        listing = subprocess.run(['git', 'ls-files', '-z'], capture_output=True, text=True, check=True).stdout
        names = [name for name in listing.split('\0') if name]
    found = [finding for name in names if Path(name).is_file() for finding in findings(Path(name))]
    print(*found, sep='\n', end='\n' if found else '')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
