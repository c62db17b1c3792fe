"""Figures as a flat JSON object, and how they are shown in a terminal."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pose3d_ros.cli.errors import UserError


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json FILE`."""
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures as one flat JSON object')


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write a JSON object at once or not at all; NaN becomes null. Raises UserError where it cannot be written."""
    partial = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(_without_nan(values), indent=2, allow_nan=False) + '\n')
        partial.replace(path)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error


def _without_nan(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells, the first row as the heading; the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for position, row in enumerate(rows):
        cells = [cell.ljust(width) if column == 0 else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(row, widths))]
        print('  '.join(cells).rstrip())
        if position == 0:
            print('  '.join('-' * width for width in widths))
    sys.stdout.flush()
