"""What the files held when the server read them."""

from __future__ import annotations

import os
import typing as t

from ..files import digest_of


class Contents:
    """What the files held when the server read them: the truth that events are held
    against. So touching a file does nothing, and no edit is lost between two moments.
    """

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    def take(self, paths: t.Iterable[str]) -> None:
        """Take files as they are now for what the server has, if nothing is known."""
        for path in paths:
            if path not in self._digests and (found := digest_of(path)) is not None:
                self._digests[path] = found

    def tell(self, path: str, read: str | None) -> None:
        """Record what the server has read, ``None`` for a file that is not there."""
        if read is None:
            self._digests.pop(path, None)
        else:
            self._digests[path] = read

    def digest(self, path: str) -> str | None:
        """The digest that a file is compared with, ``None`` if nothing is known."""
        return self._digests.get(path)

    def differs(self, path: str) -> bool:
        """Whether a file holds something else than last time. What it holds now is
        what it is compared with from now on.
        """
        now = digest_of(path)

        if now == self._digests.get(path):
            return False

        self.tell(path, now)
        return True

    def below(self, directory: str) -> list[str]:
        """The known files below a directory that may be gone by now."""
        prefix = os.path.join(directory, "")
        return [path for path in self._digests if path.startswith(prefix)]
