"""Pages of docs/ whose tables are made from kept figures: what geometric_page.py and posenet3d_page.py share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
