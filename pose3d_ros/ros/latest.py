"""A mailbox that holds one thing of each sender: the newest."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

S = TypeVar('S', bound=Hashable)
T = TypeVar('T')


class Latest(Generic[S, T]):
    """Hands the newest item of each sender from one thread to another; an older one that was not taken is gone.

    So a slow taker works on what is new, and nothing ever queues up.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: dict[S, T] = {}
        self._closed = False

    def put(self, sender: S, item: T) -> bool:
        """Leave an item. Returns True when it took the place of one of this sender that nobody had taken."""
        with self._changed:
            overwritten = sender in self._items
            if not self._closed:
                self._items[sender] = item
            self._changed.notify()
        return overwritten

    def take(self) -> dict[S, T] | None:
        """Wait for an item and return all there are, by sender; None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items)
            items, self._items = self._items, {}
            return None if self._closed else items

    def close(self) -> None:
        """Let the taker go home: whoever waits in take() gets None, now and later."""
        with self._changed:
            self._closed, self._items = True, {}
            self._changed.notify_all()
