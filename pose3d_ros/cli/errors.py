"""The one kind of error that a sub-command raises for its user."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right. The message says what is wrong and what to do, in one line."""
