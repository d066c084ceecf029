"""The broker of a process that is alone: everything is in its memory."""

from __future__ import annotations

import collections
import time
import typing as t

from .broker import Broker, Receiver
from .history import Recovery, Stream
from .locks import new_native_lock
from .presence import Members

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .publication import Position, Publication
    from .rules import TopicOptions

#: How often streams are looked for that nobody can want any more, in seconds.
SWEEP_INTERVAL = 30.0


class MemoryBroker(Broker):
    """Knows the sockets, the histories and the members of this process only.

    No method of it waits.

    :param clock: tells the time, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def start(self, receiver: Receiver) -> None:
        super().start(receiver)
        # Held for an instant, and while a publication gets its place in the order.
        self._lock = new_native_lock()
        self._streams: dict[str, Stream] = {}
        self._next_sweep = 0.0
        self._members: dict[str, Members] = {}
        self._subscribers: collections.Counter[str] = collections.Counter()

    def publish(self, publication: Publication, options: TopicOptions) -> None:
        with self._lock:
            if options.history:
                now = self._clock()
                stream = self._stream(publication.topic, options, now)
                publication = stream.append(publication, now)

            self.receiver.receive(publication)

        self.receiver.flush()

    def subscribe(self, topics: Mapping[str, TopicOptions]) -> None:
        with self._lock:
            self._subscribers.update(topics.keys())

    def unsubscribe(self, topics: Sequence[str]) -> None:
        with self._lock:
            for topic in topics:
                self._subscribers[topic] -= 1

                if self._subscribers[topic] <= 0:
                    del self._subscribers[topic]

                    if topic in self._streams:
                        self._streams[topic].used_at = self._clock()

    def read_history(
        self,
        topic: str,
        options: TopicOptions,
        limit: int,
        since: Position | None = None,
    ) -> Recovery:
        with self._lock:
            now = self._clock()
            return self._stream(topic, options, now).read(limit, since, now)

    def join(self, topic: str, member: str, info: t.Any, socket: str) -> bool:
        with self._lock:
            members = self._members.setdefault(topic, Members())
            return members.join(member, info, socket)

    def leave(self, topic: str, member: str, socket: str) -> bool:
        with self._lock:
            members = self._members.get(topic)

            if members is None:
                return False

            is_gone = members.leave(member, socket)

            if not members:
                del self._members[topic]

            return is_gone

    def presence(self, topic: str, limit: int) -> dict[str, t.Any]:
        with self._lock:
            members = self._members.get(topic)
            return {} if members is None else members.list(limit)

    def disconnect(self, topic: str, code: int, reason: str) -> None:
        self.receiver.disconnect(topic, code, reason)

    def _stream(self, topic: str, options: TopicOptions, now: float) -> Stream:
        stream = self._streams.get(topic)

        if stream is None:
            if now >= self._next_sweep:
                self._sweep(now)

            stream = self._streams[topic] = Stream(options)

        return stream

    def _sweep(self, now: float) -> None:
        """Forget what nobody can want: names of topics come from URLs."""
        self._next_sweep = now + SWEEP_INTERVAL

        for topic, stream in list(self._streams.items()):
            if topic not in self._subscribers and stream.is_expired(now):
                del self._streams[topic]
