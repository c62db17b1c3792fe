"""The one kind of error of this folder."""

from __future__ import annotations


class ExtrinsicsError(ValueError):
    """A recording from which the places of the cameras cannot be had. The message says why, and what would do."""
