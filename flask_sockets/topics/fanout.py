"""The sockets of this process, by topic, and how they get what is published.

What is published to a topic in one turn of the loop is joined, and given to each socket
in one call. No subscriber is waited for: a connection takes ready frames into the
kernel or into its outbox, or says that it can't.

The subscribers of a topic are in groups (:mod:`.groups`). One loop over a flat list
serves those of a group that are live. When that is done is up to the lane of the group
(:mod:`.lane`).
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
import threading
import typing as t

from ..wire import frames
from ..wire.writer import Offer, offer_all
from .groups import Batch, Flat, Group, Waiting
from .lane import Lane
from .locks import new_native_lock
from .rules import Overflow

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .history import Recovery
    from .publication import Position, Publication
    from .subscriber import Subscriber

#: How much may wait to be delivered before publishers have to wait, in bytes.
MAX_PENDING = 2**20

#: After which time a subscription of a thread begins to deliver, in seconds, if nothing
#: tells before that it is no context manager.
OPENING_DELAY = 0.05

#: What a client is told that reads too slowly (RFC 6455 section 7.4.1, and the registry
#: at https://www.iana.org/assignments/websocket/websocket.xhtml: "try again later").
TOO_SLOW = (1013, "reading too slowly")


@dataclasses.dataclass
class Stats:
    """What was counted since the start."""

    #: Publications of this process.
    published: int = 0
    #: Publications that were given to a socket, once for each socket.
    delivered: int = 0
    #: Publications that a socket didn't get, as its outbox was full.
    dropped: int = 0
    #: Sockets that were closed since their outbox was full.
    closed_as_slow: int = 0


class Fanout:
    """All subscribers of one app in this process.

    :param max_outbox: how much may wait for one of them, in bytes.
    :param on_closed: called when the connection of one is closed, on its scheduler. It
        must not block.
    """

    def __init__(
        self, max_outbox: int, on_closed: Callable[[Subscriber], None]
    ) -> None:
        self.on_closed = on_closed
        self.stats = Stats()
        #: Tells this process from all others.
        self.process_id = secrets.token_hex(8)
        # A message of the largest size has to fit.
        self._max_outbox = max_outbox + frames.MAX_HEADER_SIZE
        # Held for an instant only, to look at or change who is subscribed and what is
        # pending. A connection is never called under it.
        self._mutex = new_native_lock()
        self._groups: dict[str, list[Group]] = {}
        self._lanes: dict[object, Lane] = {}
        # The subscribers that publish, by id.
        self._senders: dict[str, Subscriber] = {}
        self._subscription_count = 0

    @property
    def subscription_count(self) -> int:
        """How many subscriptions there are: a socket has one for each of its topics."""
        return self._subscription_count

    @property
    def topic_count(self) -> int:
        """How many topics have subscribers."""
        return len(self._groups)

    @property
    def is_full(self) -> bool:
        """Whether publishers have to wait."""
        return any(lane.size > MAX_PENDING for lane in list(self._lanes.values()))

    # Who is subscribed

    def add(
        self,
        subscriber: Subscriber,
        topic: str,
        *,
        is_enveloped: bool,
        overflow: Overflow,
    ) -> None:
        """Subscribe a socket. What is published waits until :meth:`open` is called."""
        transport = subscriber.connection.transport

        with self._mutex:
            lane = self._lanes.get(transport.scheduler)

            if lane is None:
                lane = Lane(transport, self.deliver, self.end_turn)
                self._lanes[transport.scheduler] = lane

            groups = self._groups.setdefault(topic, [])

            for group in groups:
                if group.lane is lane and group.is_enveloped == is_enveloped:
                    break
            else:
                group = Group(topic, lane, is_enveloped, overflow)
                groups.append(group)
                lane.group_count += 1

            group.waiting[subscriber] = Waiting(subscriber)
            subscriber.groups[topic] = group
            subscriber.lane = lane
            self._subscription_count += 1

    def put_before(self, subscriber: Subscriber, topic: str, read: Recovery) -> bool:
        """Let a socket that waits have what was published before it subscribed.

        What was received meanwhile and is in the history as well comes once, or not at
        all if the socket has got it before.

        :return: whether there was room for all of it. If not, the oldest are left out.
        """
        with self._mutex:
            group = subscriber.groups.get(topic)
            waiting = None if group is None else group.waiting.get(subscriber)

            if group is None or waiting is None:
                return True  # The socket has ended.

            kept = waiting.take()
            later = [entry for entry in kept if _is_after(entry[0], read.position)]
            frames = [(p.place, group.encode(p)) for p in read.publications] + later
            room = self._max_outbox - subscriber.size
            first = len(frames)

            while first > 0 and room >= len(frames[first - 1][1]):
                first -= 1
                room -= len(frames[first][1])

            for entry in frames[first:]:
                waiting.add(*entry)

            return first == 0

    def open(self, subscriber: Subscriber, topics: Iterable[str]) -> None:
        """Give a socket what waits for it, and from then on what is published.

        Called by a thread that isn't that of the socket's hub, this is done there soon.
        """
        scheduler = subscriber.connection.transport.scheduler
        scheduler.run_or_call_soon(
            functools.partial(self._open_all, subscriber, tuple(topics))
        )

    def _open_all(self, subscriber: Subscriber, topics: Iterable[str]) -> None:
        for topic in topics:
            group = subscriber.groups.get(topic)

            if group is not None:
                self._open(subscriber, group)

    def _open(self, subscriber: Subscriber, group: Group) -> None:
        lane = group.lane
        lane.turn.acquire()

        try:
            batch = self._make_live(subscriber, group)

            for part in batch.cut() if batch.entries else ():
                waiting = group.waiting.get(subscriber)
                is_ending = waiting is not None and waiting.is_ending

                if is_ending or subscriber in group.live:
                    self._offer(group, part, Flat.of([subscriber]), batch)
        finally:
            lane.turn.release()

        self.end_turn(lane)

    def _make_live(self, subscriber: Subscriber, group: Group) -> Batch:
        """Let a socket have with the others what is published from now on, unless it is
        about to be closed.

        Called by whoever holds the turn of the lane.

        :return: what waited for it, which it is to get first.
        """
        batch = Batch()

        while True:
            # What the others are still to get waits for this one already.
            self.deliver(group.lane)

            with self._mutex:
                if group in group.lane.pending:
                    continue  # Another thread has published something meanwhile.

                waiting = group.waiting.get(subscriber)

                if waiting is not None:  # Not opened before, and still subscribed.
                    for _, frame in waiting.take():
                        batch.add(frame)

                    if not waiting.is_ending:
                        del group.waiting[subscriber]
                        group.live[subscriber] = None
                        group.flat = None

                return batch

    def remove(self, subscriber: Subscriber, topics: Iterable[str]) -> list[str]:
        """End the subscription of a socket. It gets nothing more.

        :return: the topics of those that it was subscribed to.
        """
        removed = []

        with self._mutex:
            for topic in topics:
                group = subscriber.groups.pop(topic, None)

                if group is not None:
                    self._remove(subscriber, group)
                    removed.append(topic)

            if not subscriber.groups:
                self._senders.pop(subscriber.id, None)

        return removed

    def _remove(self, subscriber: Subscriber, group: Group) -> None:
        self._subscription_count -= 1
        waiting = group.waiting.pop(subscriber, None)

        if waiting is not None:
            waiting.take()
        elif subscriber in group.live:
            del group.live[subscriber]
            group.flat = None  # The list would keep the connection in memory.

        if group.live or group.waiting:
            return

        groups = self._groups[group.topic]
        groups.remove(group)

        if not groups:
            del self._groups[group.topic]

        lane = group.lane
        lane.group_count -= 1

        if not lane.group_count:
            for scheduler, other in list(self._lanes.items()):
                if other is lane:
                    del self._lanes[scheduler]

    def add_sender(self, subscriber: Subscriber) -> None:
        """Leave a socket out of the publications that it sends."""
        if subscriber.groups and subscriber.id not in self._senders:
            with self._mutex:
                self._senders[subscriber.id] = subscriber

    def close(self, topic: str, code: int, reason: str) -> None:
        """Close all sockets that are subscribed to a topic, behind what was published
        to it before. They get nothing of it that is published later.
        """
        with self._mutex:
            for group in self._groups.get(topic, ()):
                lane = group.lane
                lane.pending.setdefault(group, Batch()).is_last = True

                for waiting in group.waiting.values():
                    waiting.is_ending = True

                lane.ending += [
                    (subscriber, group, code, reason)
                    for subscriber in (*group.live, *group.waiting)
                ]

        self.flush()

    # What is published

    def count_published(self) -> int:
        """Count a publication of this process, and say how many there were."""
        with self._mutex:
            self.stats.published += 1
            return self.stats.published

    def receive(self, publication: Publication) -> None:
        """Take a publication, to be delivered after :meth:`flush`."""
        with self._mutex:
            groups = self._groups.get(publication.topic)

            if groups is None:
                return

            sender = self._senders.get(publication.sender)
            frames: dict[bool, bytes] = {}

            for group in groups:
                frame = frames.get(group.is_enveloped)

                if frame is None:
                    frame = frames[group.is_enveloped] = group.encode(publication)

                if group.live:
                    lane = group.lane
                    batch = lane.pending.get(group)

                    if batch is None:
                        batch = lane.pending[group] = Batch()

                    if not batch.is_last:
                        batch.add(frame, sender)
                        lane.size += len(frame)

                for waiting in group.waiting.values():
                    if waiting.subscriber is not sender:
                        self._keep(group, waiting, publication.place, frame)

    def _keep(
        self, group: Group, waiting: Waiting, position: Position | None, frame: bytes
    ) -> None:
        """Keep a publication for one that gets nothing now."""
        subscriber = waiting.subscriber

        if waiting.is_ending:
            return

        if waiting.is_behind:
            self.stats.dropped += waiting.drop(len(waiting.entries))

        if subscriber.size + len(frame) > self._max_outbox:
            if group.overflow is Overflow.DROP:
                self.stats.dropped += 1
                return

            if group.overflow is Overflow.LATEST:
                self.stats.dropped += waiting.drop(len(waiting.entries))

        if subscriber.size + len(frame) > self._max_outbox:
            group.lane.slow.append(subscriber)
        else:
            waiting.add(position, frame)

    def flush(self) -> None:
        """See to it that what was received is delivered."""
        for lane in list(self._lanes.values()):
            if lane.has_work():
                lane.call()

    def settle(self, subscriber: Subscriber) -> None:
        """Deliver what is pending before something else is sent to a socket.

        Called by a thread that isn't that of the socket's hub, this is done there soon:
        the hub also sends what such a thread sends, and later.
        """
        scheduler = subscriber.connection.transport.scheduler
        scheduler.run_or_call_soon(functools.partial(self._settle, subscriber))

    def _settle(self, subscriber: Subscriber) -> None:
        opening, subscriber.opening = subscriber.opening, ()
        self._open_all(subscriber, opening)
        lane = subscriber.lane

        if lane is not None and lane.has_work():
            lane.drain()

    def open_later(self, subscriber: Subscriber, topics: Iterable[str]) -> None:
        """Open topics of a socket soon, unless :meth:`hold` is called for them.

        There is always the time for that: between the end of 'subscribe()' and the
        beginning of a 'with' block greenlets don't switch. Threads do. There, whatever
        the handler does next with the socket tells that there is no such block.
        """
        subscriber.opening += tuple(topics)
        transport = subscriber.connection.transport

        if transport.scheduler.is_hub:
            transport.call_soon(subscriber.settle)
            return

        timer = threading.Timer(OPENING_DELAY, subscriber.settle)
        timer.daemon = True
        timer.start()

    def hold(self, subscriber: Subscriber, topics: Iterable[str]) -> None:
        """Don't open topics before :meth:`open` is called."""
        held = set(topics)
        subscriber.opening = tuple(o for o in subscriber.opening if o not in held)

    def deliver(self, lane: Lane) -> None:
        """Deliver what is pending. Called by whoever holds the turn of the lane."""
        with self._mutex:
            pending, lane.pending, lane.size = lane.pending, {}, 0
            slow, lane.slow = lane.slow, []
            ending, lane.ending = lane.ending, []
            lane.is_called = False

        for subscriber in slow:
            self._close_as_slow(subscriber)

        for group, batch in pending.items():
            for part in batch.cut() if batch.entries else ():
                flat = group.flat

                if flat is None:
                    with self._mutex:
                        flat = group.flat = Flat.of(group.live)

                self._offer(group, part, flat, batch)

        if ending:
            self._end(lane, ending)

    def _end(
        self, lane: Lane, ending: Iterable[tuple[Subscriber, Group, int, str]]
    ) -> None:
        """Give nothing more of a topic to those that are about to be closed."""
        with self._mutex:
            for subscriber, group, code, reason in ending:
                if subscriber in group.live:
                    del group.live[subscriber]
                    group.flat = None
                    group.waiting[subscriber] = Waiting(subscriber)

                if (waiting := group.waiting.get(subscriber)) is not None:
                    waiting.is_ending = True

                lane.ended.append((subscriber, code, reason))

    def _offer(self, group: Group, part: Batch, flat: Flat, batch: Batch) -> None:
        """Give a part of a batch to subscribers."""
        if part.has_senders:
            senders = part.for_senders()

            for subscriber, (data, count) in senders.items():
                if count and subscriber in group.live:
                    self._offer_to(group, Flat.of([subscriber]), data, count, batch)

            flat = flat.without(senders)

        self._offer_to(group, flat, part.join(), len(part.entries), batch)

    def _offer_to(
        self, group: Group, flat: Flat, data: bytes, count: int, batch: Batch
    ) -> None:
        """Give some frames of a batch to subscribers."""
        refused = offer_all(flat.writers, data, count, self._max_outbox)
        self.stats.delivered += count * (len(flat.writers) - len(refused))

        for place, answer in refused:
            if answer is Offer.FULL:
                self._overflow(group, flat.subscribers[place], count, batch)

    def _overflow(
        self, group: Group, subscriber: Subscriber, count: int, batch: Batch
    ) -> None:
        """Do what the topic wants for a subscriber whose outbox is full."""
        if group.overflow is Overflow.CLOSE:
            self._close_as_slow(subscriber)
            return

        self.stats.dropped += count

        if group.overflow is Overflow.DROP:
            return

        with self._mutex:
            if subscriber not in group.live:
                return  # Not subscribed any more.

            del group.live[subscriber]
            group.flat = None
            waiting = group.waiting[subscriber] = Waiting(subscriber, is_behind=True)
            newest = batch.frames_for(subscriber)[-1]
            self.stats.dropped -= 1
            self._keep(group, waiting, None, newest)
            group.lane.behind.append((subscriber, group))

    def end_turn(self, lane: Lane) -> None:
        """Do what may call the lane again, when its turn has ended."""
        if not lane.behind and not lane.ended:
            return

        with self._mutex:
            behind, lane.behind = lane.behind, []
            ended = lane.take_ended()

        for subscriber, group in behind:
            # There may be room already.
            subscriber.connection.writer.when_room(
                functools.partial(self._open, subscriber, group)
            )

        for subscriber, code, reason in ended:
            subscriber.settle()
            subscriber.go_away(code, reason)

        if lane.ended:
            lane.alarm.set(lane.next_ending)

    def _close_as_slow(self, subscriber: Subscriber) -> None:
        if subscriber.connection.closed is None:
            self.stats.closed_as_slow += 1
            subscriber.go_away(*TOO_SLOW)


def _is_after(position: Position | None, last: Position) -> bool:
    return (
        position is None
        or position.epoch != last.epoch
        or position.offset > last.offset
    )
