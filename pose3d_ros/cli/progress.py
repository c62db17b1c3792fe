"""The progress bar of the sub-commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """Return a bar of tqdm on standard error; in a log, where it cannot redraw itself, it speaks every five seconds."""
    return tqdm(items, file=sys.stderr, mininterval=0.2 if sys.stderr.isatty() else 5.0, **options)
