"""The subscribers of a topic that get the same bytes, and what they get together.

A group has those that one scheduler serves. Most of them are *live*. The others are
*waiting*: they get nothing now, and what is published is kept for them. They wait
because they are about to get the history first, or because their outbox is full and
their topic wants them to get the newest publication once it isn't.
"""

from __future__ import annotations

import itertools
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from ..wire.writer import Writer
    from .lane import Lane
    from .publication import Position, Publication
    from .rules import Overflow
    from .subscriber import Subscriber

#: How much is given to a connection in one call, in bytes, if it is several frames.
MAX_BATCH = 2**17


class Waiting:
    """What is kept for a subscriber that gets nothing now."""

    __slots__ = ("entries", "is_behind", "is_ending", "subscriber")

    def __init__(self, subscriber: Subscriber, is_behind: bool = False) -> None:
        self.subscriber = subscriber
        #: Whether only the newest publication is wanted.
        self.is_behind = is_behind
        #: Whether it gets nothing more of the topic, as it is about to be closed.
        self.is_ending = False
        self.entries: list[tuple[Position | None, bytes]] = []

    def add(self, position: Position | None, frame: bytes) -> None:
        self.entries.append((position, frame))
        self.subscriber.size += len(frame)

    def drop(self, count: int) -> int:
        """Drop the oldest ones, and say how many that were."""
        dropped = self.entries[: max(0, count)]
        del self.entries[: len(dropped)]
        self.subscriber.size -= sum(len(frame) for _, frame in dropped)
        return len(dropped)

    def take(self) -> list[tuple[Position | None, bytes]]:
        """Take all that was kept."""
        entries = self.entries[:]
        self.drop(len(entries))
        return entries


class Flat:
    """Subscribers, and in the same places what writes to them."""

    __slots__ = ("subscribers", "writers")

    def __init__(self, subscribers: list[Subscriber], writers: list[Writer]) -> None:
        self.subscribers = subscribers
        self.writers = writers

    @classmethod
    def of(cls, subscribers: Iterable[Subscriber]) -> Flat:
        """Find the writers of subscribers."""
        listed = list(subscribers)
        return cls(listed, [subscriber.connection.writer for subscriber in listed])

    def without(self, some: Collection[Subscriber]) -> Flat:
        """All but some of the subscribers."""
        kept = [subscriber not in some for subscriber in self.subscribers]
        return Flat(
            list(itertools.compress(self.subscribers, kept)),
            list(itertools.compress(self.writers, kept)),
        )


class Group:
    """The subscribers of a topic that get the same bytes from the same scheduler."""

    __slots__ = ("flat", "is_enveloped", "lane", "live", "overflow", "topic", "waiting")

    def __init__(
        self, topic: str, lane: Lane, is_enveloped: bool, overflow: Overflow
    ) -> None:
        self.topic = topic
        self.lane = lane
        self.is_enveloped = is_enveloped
        self.overflow = overflow
        self.live: dict[Subscriber, None] = {}
        self.waiting: dict[Subscriber, Waiting] = {}
        #: The live ones as lists, or ``None`` if they have changed.
        self.flat: Flat | None = None

    def encode(self, publication: Publication) -> bytes:
        """Make the frame that these subscribers get."""
        if self.is_enveloped:
            return publication.encode_envelope()

        return publication.encode()


class Batch:
    """Frames for the subscribers of a group, and who has sent each of them."""

    __slots__ = ("entries", "has_senders", "is_last")

    def __init__(self) -> None:
        self.entries: list[tuple[bytes, Subscriber | None]] = []
        #: Whether the subscribers are closed then, and get nothing more.
        self.is_last = False
        #: Whether not everybody gets everything.
        self.has_senders = False

    def add(self, frame: bytes, sender: Subscriber | None = None) -> None:
        """Add a frame for all subscribers but its sender."""
        self.entries.append((frame, sender))

        if sender is not None:
            self.has_senders = True

    def cut(self) -> Iterator[Batch]:
        """Divide the batch into some that aren't too large."""
        if sum(len(frame) for frame, _ in self.entries) <= MAX_BATCH:
            yield self
            return

        part, size = Batch(), 0

        for frame, sender in self.entries:
            if part.entries and size + len(frame) > MAX_BATCH:
                yield part
                part, size = Batch(), 0

            part.add(frame, sender)
            size += len(frame)

        yield part

    def join(self) -> bytes:
        """The bytes for everybody who hasn't sent any of them."""
        if len(self.entries) == 1:
            return self.entries[0][0]

        return b"".join([frame for frame, _ in self.entries])

    def frames_for(self, subscriber: Subscriber) -> list[bytes]:
        """The frames that one subscriber hasn't sent."""
        return [frame for frame, sender in self.entries if sender is not subscriber]

    def for_senders(self) -> dict[Subscriber, tuple[bytes, int]]:
        """What those get who don't get everything, and how many messages that is."""
        senders = {sender for _, sender in self.entries if sender is not None}
        frames = {sender: self.frames_for(sender) for sender in senders}
        return {sender: (b"".join(f), len(f)) for sender, f in frames.items()}
