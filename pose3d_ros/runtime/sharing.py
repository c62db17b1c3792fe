"""What several users share is released when the last of them lets go."""

from __future__ import annotations

from collections.abc import Callable


class Shared:
    """Knows the users of something, such as networks. release: called when nobody uses it any more."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._users: set[object] = set()

    def use(self, user: object) -> None:
        """Count an object as a user."""
        self._users.add(user)

    def let_go(self, user: object) -> None:
        """Count an object as a user no more; to do so twice does no harm."""
        if user in self._users:
            self._users.remove(user)
            if not self._users:
                self._release()
