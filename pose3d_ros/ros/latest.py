"""A mailbox that holds one thing: the newest."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class Latest(Generic[T]):
    """Hands the newest item from one thread to another; an older one that was not taken is gone.

    So a slow taker works on what is new, and nothing ever queues up.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Leave an item. Returns True when it took the place of one that nobody had taken."""
        with self._changed:
            overwritten = self._item is not None
            self._item = None if self._closed else item
            self._changed.notify()
        return overwritten

    def take(self) -> T | None:
        """Wait for an item and return it; None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            item, self._item = self._item, None
        return item

    def close(self) -> None:
        """Let the taker go home: whoever waits in take() gets None, now and later."""
        with self._changed:
            self._closed, self._item = True, None
            self._changed.notify_all()
