"""Pages of docs/ whose tables are made from kept figures: what geometric_page.py and posenet3d_page.py share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

END = '<!-- end of figures -->\n'
Figures = Mapping[str, float]


def number(figures: Figures, name: str, digits: int = 1) -> str:
    """Return a figure as text, nothing where there is none."""
    return f'{figures[name]:.{digits}f}' if figures.get(name) is not None else ''


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], after: str = '') -> str:
    """Return a Markdown table under its title; nothing without rows."""
    if not rows:
        return ''
    lines = [head, ['---', *('---:' for _ in head[1:])], *rows]
    return f'### {title}\n\n' + ''.join(f'| {" | ".join(line)} |\n' for line in lines) + after


def filled(text: str, begin: str, tables: str, about: Mapping[str, str] | None) -> str:
    """Return a page with what lies between its two marks, begin and END, made anew.

    about: commit, date, machine and command of the figures, told below them; None tells nothing.
    """
    origin = ''
    if about:
        command = re.sub(r'\S+/(?=\w+\.npz)', '', about['command'])  # without this machine's folders
        origin = f'\nCommit {about["commit"]}, {about["date"]}, {about["machine"]}:\n`{command}`\n'
    before, rest = text.split(begin)
    return before + begin + tables + origin + END + rest.split(END)[1]


def fill(path: Path, kept: Path, made: Callable[[str, Mapping[str, Any]], str]) -> int:
    """Write a page anew; made: returns its text, of what it was and the kept figures. Returns 0, as a command does."""
    path.write_text(made(path.read_text(), json.loads(kept.read_text()) if kept.exists() else {}))
    print(f'wrote the tables of {path.name}')
    return 0
