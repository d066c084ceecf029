"""The latest publications of a topic, with their positions."""

from __future__ import annotations

import collections
import dataclasses
import secrets
import typing as t

from .publication import Position

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from .publication import Publication
    from .rules import TopicOptions


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What a subscriber gets of a topic's history."""

    #: What was published, the oldest first.
    publications: Sequence[Publication]
    #: Where the newest publication of the topic is, or its epoch begins.
    position: Position
    #: Whether these are all publications since the position that was asked for.
    recovered: bool


class Stream:
    """The history of one topic, in memory.

    :param options: how much is kept, and for how long.
    """

    def __init__(self, options: TopicOptions) -> None:
        self._options = options
        self._epoch = secrets.token_hex(8)
        self._offset = 0
        # With the time of each, in the terms of 'time.monotonic()'.
        self._entries: collections.deque[tuple[float, Publication]] = collections.deque(
            maxlen=options.history
        )
        #: When the stream was last written or read.
        self.used_at = 0.0

    @property
    def position(self) -> Position:
        """The position of the newest publication."""
        return Position(self._epoch, self._offset)

    def append(self, publication: Publication, now: float) -> Publication:
        """Give a publication its position, and keep it.

        :return: the publication with its position.
        """
        self._expire(now)
        self._offset += 1
        publication = dataclasses.replace(publication, place=self.position)
        self._entries.append((now, publication))
        return publication

    def read(self, limit: int, since: Position | None, now: float) -> Recovery:
        """Read the newest publications, or all after a position.

        :param limit: how many to read at most, unless ``since`` can be recovered.
        """
        self._expire(now)
        is_recovered = since is not None and self._has_all_after(since)
        count = len(self._entries)

        if since is not None and is_recovered:
            first = count - (self._offset - since.offset)
        else:
            first = max(0, count - limit)

        publications = [entry[1] for entry in self._entries][first:]
        return Recovery(publications, self.position, is_recovered)

    def is_expired(self, now: float) -> bool:
        """Whether nobody can want the stream any more."""
        return now - self.used_at >= self._options.ttl

    def _has_all_after(self, position: Position) -> bool:
        missed = self._offset - position.offset
        return position.epoch == self._epoch and 0 <= missed <= len(self._entries)

    def _expire(self, now: float) -> None:
        self.used_at = now
        oldest = now - self._options.ttl

        while self._entries and self._entries[0][0] <= oldest:
            self._entries.popleft()
