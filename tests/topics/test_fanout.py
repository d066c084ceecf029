"""How publications reach connections, and what becomes of those that don't read."""

from __future__ import annotations

import functools
import gc
import threading
import time
import typing as t

import gevent
import pytest

from flask_sockets.topics.fanout import Fanout
from flask_sockets.topics.groups import MAX_BATCH
from flask_sockets.topics.history import Recovery
from flask_sockets.topics.lane import Lane
from flask_sockets.topics.publication import Kind, Position, Publication
from flask_sockets.topics.rules import Overflow
from flask_sockets.topics.subscriber import Subscriber
from flask_sockets.wire.writer import offer_all

from ..wire import CLOSE, PATIENCE, Flavour, Frame, Greenlets, Peer, Threads, flavours

KIB = 1024
MIB = 1024 * KIB


class Sockets:
    """Subscribers with a connection each, and one fan-out."""

    def __init__(self, flavour: Flavour, max_outbox: int = MIB) -> None:
        self.flavour = flavour
        self.fanout = Fanout(max_outbox, self._end)
        self.ended: list[Subscriber] = []
        self._number = 0

    def subscribe(
        self,
        *topics: str,
        overflow: Overflow = Overflow.CLOSE,
        is_enveloped: bool = False,
        is_open: bool = True,
        is_watched: bool = True,
        **options: t.Any,
    ) -> tuple[Subscriber, Peer]:
        ws, peer = self.flavour.connect(**options)
        self._number += 1
        subscriber = Subscriber(ws.connection, self.fanout, self._number)
        subscriber.accept()
        if is_watched:
            subscriber.watch()
        for topic in topics:
            self.fanout.add(
                subscriber, topic, is_enveloped=is_enveloped, overflow=overflow
            )
        if is_open:
            self.fanout.open(subscriber, topics)
        return subscriber, peer

    def _end(self, subscriber: Subscriber) -> None:
        self.fanout.remove(subscriber, list(subscriber.groups))
        self.ended.append(subscriber)

    def publish(
        self, topic: str, *payloads: bytes, sender: Subscriber | None = None
    ) -> None:
        """Publish what is to be delivered in one turn."""
        if sender is not None:
            self.fanout.add_sender(sender)
        for payload in payloads:
            sender_id = "" if sender is None else sender.id
            self.fanout.receive(Publication(topic, Kind.BINARY, payload, sender_id))
        self.fanout.flush()

    def turn(self) -> None:
        """Let what was published be delivered."""
        self.flavour.sleep(0)


@pytest.fixture
def sockets(flavour: Flavour, monkeypatch: pytest.MonkeyPatch) -> Sockets:
    # Each turn delivers what was published, however long the one before has taken.
    monkeypatch.setattr("flask_sockets.topics.lane.MAX_TURN_TIME", 0)
    return Sockets(flavour)


def read(peer: Peer, count: int) -> list[bytes]:
    return [peer.read().payload for _ in range(count)]


def read_until_quiet(peer: Peer, last: bytes) -> list[bytes]:
    """Read up to a message that comes in the end."""
    payloads: list[bytes] = []
    while not payloads or payloads[-1] != last:
        payloads.append(peer.read().payload)
    return payloads


# Order, and who gets what


def test_subscribers_get_what_is_published_in_order(sockets: Sockets) -> None:
    peers = [sockets.subscribe("a")[1] for _ in range(3)]
    other = sockets.subscribe("b")[1]
    sockets.publish("a", b"1", b"2")
    sockets.publish("b", b"x")
    sockets.publish("a", b"3")
    for peer in peers:
        assert read(peer, 3) == [b"1", b"2", b"3"]
    assert read(other, 1) == [b"x"]


def test_what_is_published_in_one_turn_is_counted_for_each_socket(
    sockets: Sockets,
) -> None:
    for _ in range(3):
        sockets.subscribe("a")
    sockets.publish("a", *[b"x"] * 5)
    sockets.turn()
    assert sockets.fanout.stats.delivered == 15


def test_a_sender_is_left_out_of_its_own_only(sockets: Sockets) -> None:
    one, one_peer = sockets.subscribe("a")
    two, two_peer = sockets.subscribe("a")
    three = sockets.subscribe("a", is_enveloped=True)[1]
    for payload, sender in [(b"1", one), (b"2", two), (b"3", None), (b"4", one)]:
        sockets.publish("a", payload, sender=sender)
    assert read(one_peer, 2) == [b"2", b"3"]
    assert read(two_peer, 3) == [b"1", b"3", b"4"]
    assert len(read(three, 4)) == 4
    sockets.turn()
    assert sockets.fanout.stats.delivered == 9


def test_a_sender_that_gets_nothing_at_all_is_no_obstacle(sockets: Sockets) -> None:
    one, peer = sockets.subscribe("a")
    sockets.publish("a", b"1", b"2", sender=one)
    sockets.publish("a", b"3")
    assert read(peer, 1) == [b"3"]


class BusyFanout(Fanout):
    """Another thread publishes something right after each delivery."""

    def __init__(self, sockets: Sockets) -> None:
        super().__init__(MIB, sockets.fanout.on_closed)
        self.payloads: list[bytes] = []

    def deliver(self, lane: Lane) -> None:
        super().deliver(lane)
        if self.payloads:
            publication = Publication("a", Kind.BINARY, self.payloads.pop(0))
            thread = threading.Thread(target=self.receive, args=(publication,))
            thread.start()
            thread.join(PATIENCE)


def test_what_is_published_while_a_socket_is_opened_comes_once(
    sockets: Sockets,
) -> None:
    sockets.fanout = fanout = BusyFanout(sockets)
    sockets.subscribe("a")
    opened, peer = sockets.subscribe("a", is_open=False)
    fanout.payloads += [b"1", b"2"]
    fanout.open(opened, ["a"])
    sockets.publish("a", b"3")
    assert read(peer, 3) == [b"1", b"2", b"3"]


def test_more_than_a_batch_holds_comes_in_order(sockets: Sockets) -> None:
    peer = sockets.subscribe("a")[1]
    payloads = [bytes([n]) * (MAX_BATCH // 5) for n in range(18)]
    reader = sockets.flavour.spawn(read, peer, len(payloads))
    sockets.publish("a", *payloads)
    assert reader.result() == payloads


def test_a_hub_that_takes_long_delivers_together_what_comes_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flask_sockets.topics.lane.MAX_TURN_TIME", 10)
    batches: list[bytes] = []

    def deliver_slowly(writers: t.Any, data: bytes, *args: t.Any) -> t.Any:
        batches.append(data)
        if len(batches) == 1:
            time.sleep(2)
        return offer_all(writers, data, *args)

    monkeypatch.setattr("flask_sockets.topics.fanout.offer_all", deliver_slowly)
    for flavour in flavours(Greenlets):
        sockets = Sockets(flavour)
        peer = sockets.subscribe("a")[1]
        for number in range(10):
            sockets.publish("a", b"%d" % number)
            sockets.turn()
        assert read(peer, 10) == [b"%d" % number for number in range(10)]
    # The first one was alone, as nothing was known yet.
    assert [len(batch) for batch in batches] == [3, 27]


def test_a_socket_with_compression_gets_the_same_frames(flavour: Flavour) -> None:
    sockets = Sockets(flavour)
    peer = sockets.subscribe("a", deflate=True)[1]
    sockets.publish("a", b"x" * 1000)
    assert peer.read() == Frame(2, b"x" * 1000)


def test_one_order_for_the_sockets_of_all_hubs_and_threads() -> None:
    """Greenlets in two threads, threads, and publishers that are neither."""
    fanout = Fanout(16 * MIB, lambda _: None)
    count, publishers = 300, 3
    ready, results = threading.Barrier(4), []

    def serve(cls: type[Flavour]) -> None:
        for flavour in flavours(cls):
            sockets = Sockets(flavour)
            sockets.fanout = fanout
            peer = sockets.subscribe("a")[1]
            ready.wait(PATIENCE)
            results.append(read(peer, count * publishers))

    def publish(number: int) -> None:
        for n in range(count):
            publication = Publication("a", Kind.BINARY, b"%d-%d" % (number, n))
            with order:
                fanout.receive(publication)
            fanout.flush()

    order = threading.Lock()
    servers = [
        threading.Thread(target=serve, args=(cls,))
        for cls in (Threads, Greenlets, Greenlets)
    ]
    for thread in servers:
        thread.start()
    ready.wait(PATIENCE)
    threads = [threading.Thread(target=publish, args=(n,)) for n in range(publishers)]
    for thread in threads:
        thread.start()
    for thread in threads + servers:
        thread.join(PATIENCE)
    assert len(results) == 3
    assert results[0] == results[1] == results[2]


# Waiting


def test_nothing_is_sent_before_a_subscription_is_opened(sockets: Sockets) -> None:
    subscriber, peer = sockets.subscribe("a", is_open=False)
    live = sockets.subscribe("a")[1]
    sockets.publish("a", b"1")
    assert read(live, 1) == [b"1"]
    subscriber.connection.writer.offer(b"\x82\x04snap", 1, MIB)
    sockets.publish("a", b"2")
    sockets.fanout.open(subscriber, ["a"])
    sockets.publish("a", b"3")
    assert read(peer, 4) == [b"snap", b"1", b"2", b"3"]


def test_a_thread_that_is_not_the_hubs_can_open_a_subscription() -> None:
    for flavour in flavours(Greenlets):
        sockets = Sockets(flavour)
        subscriber, peer = sockets.subscribe("a", is_open=False)
        sockets.publish("a", b"1")
        threadpool = gevent.get_hub().threadpool
        threadpool.apply(sockets.fanout.open, (subscriber, ["a"]))
        assert read(peer, 1) == [b"1"]
        sockets.publish("a", b"2")
        threadpool.apply(subscriber.settle)
        assert read(peer, 1) == [b"2"]


def test_history_comes_before_what_waits_and_nothing_comes_twice(
    sockets: Sockets,
) -> None:
    def publication(offset: int, epoch: str = "e") -> Publication:
        payload = b"%s%d" % (epoch.encode(), offset)
        return Publication("a", Kind.BINARY, payload, "", Position(epoch, offset))

    subscriber, peer = sockets.subscribe("a", is_open=False)
    for waiting in (publication(2), publication(3), publication(1, "f")):
        sockets.fanout.receive(waiting)
    history = Recovery([publication(1), publication(2)], Position("e", 2), True)
    assert sockets.fanout.put_before(subscriber, "a", history)
    sockets.fanout.receive(publication(2, "f"))
    sockets.fanout.open(subscriber, ["a"])
    assert read(peer, 5) == [b"e1", b"e2", b"e3", b"f1", b"f2"]


def test_what_a_client_has_got_before_does_not_come_again(sockets: Sockets) -> None:
    """Through another process, which has received it earlier."""
    subscriber, peer = sockets.subscribe("a", is_open=False)
    for offset in (7, 8):
        place = Position("e", offset)
        sockets.fanout.receive(Publication("a", Kind.BINARY, b"%d" % offset, "", place))
    nothing = Recovery([], Position("e", 7), True)
    assert sockets.fanout.put_before(subscriber, "a", nothing)
    sockets.fanout.open(subscriber, ["a"])
    assert read(peer, 1) == [b"8"]


def test_of_a_history_that_is_too_large_the_newest_part_comes(
    flavour: Flavour,
) -> None:
    sockets = Sockets(flavour, max_outbox=25 * KIB)
    subscriber, peer = sockets.subscribe("a", is_open=False)
    history = [Publication("a", Kind.BINARY, bytes([n]) * 10 * KIB) for n in range(4)]
    read_all = Recovery(history, Position("e", 4), True)
    assert not sockets.fanout.put_before(subscriber, "a", read_all)
    sockets.fanout.open(subscriber, ["a"])
    sockets.publish("a", b"next")
    assert [payload[:1] for payload in read(peer, 3)] == [b"\x02", b"\x03", b"n"]


# Clients that don't read


def fill(sockets: Sockets, topic: str, size: int, count: int) -> list[bytes]:
    """Publish more than the kernel takes, and return it."""
    payloads = [b"%06d" % n + bytes(size - 6) for n in range(count)]
    for payload in payloads:
        sockets.publish(topic, payload)
        sockets.turn()
    return payloads


@pytest.mark.parametrize("overflow", Overflow)
def test_a_client_that_does_not_read_delays_nobody(
    sockets: Sockets, overflow: Overflow
) -> None:
    stalled, _ = sockets.subscribe("a", overflow=overflow)
    peer = sockets.subscribe("a", overflow=overflow)[1]
    for n in range(300):
        payload = b"%06d" % n + bytes(16 * KIB)
        sockets.publish("a", payload)
        assert peer.read().payload == payload
        assert stalled.connection.writer.outbox_size <= MIB + 10


def test_with_close_a_slow_socket_gets_1013(sockets: Sockets) -> None:
    slow, peer = sockets.subscribe("a", "b")
    payloads = fill(sockets, "a", 64 * KIB, 50)
    assert sockets.fanout.stats.closed_as_slow == 1
    sockets.flavour.eventually(lambda: sockets.ended == [slow])
    assert sockets.fanout.subscription_count == 0
    frames: list[Frame] = []
    while not frames or frames[-1].opcode != CLOSE:
        frames.append(peer.read())
    assert frames[-1].close == (1013, "reading too slowly")
    # What was taken before comes before, in order and whole.
    received = [frame.payload for frame in frames[:-1]]
    assert received == payloads[: len(received)]
    assert sockets.fanout.stats.delivered == len(received)


def test_with_drop_a_slow_socket_misses_what_was_new(sockets: Sockets) -> None:
    peer = sockets.subscribe("a", overflow=Overflow.DROP)[1]
    payloads = fill(sockets, "a", 64 * KIB, 50)
    dropped = sockets.fanout.stats.dropped
    assert 0 < dropped < 50
    received = read(peer, 50 - dropped)
    assert received == payloads[: 50 - dropped]
    sockets.flavour.sleep(0.01)  # The outbox drains by itself.
    sockets.publish("a", b"caught up")
    assert read(peer, 1) == [b"caught up"]


def test_with_latest_a_slow_socket_gets_the_newest_once_it_has_room(
    sockets: Sockets,
) -> None:
    peer = sockets.subscribe("a", overflow=Overflow.LATEST)[1]
    payloads = fill(sockets, "a", 64 * KIB, 45)
    received = read_until_quiet(peer, payloads[-1])
    taken = len(received) - 1
    assert 0 < taken < 44
    assert received[:-1] == payloads[:taken]
    assert sockets.fanout.stats.dropped == 45 - len(received)
    sockets.publish("a", b"caught up")
    assert read(peer, 1) == [b"caught up"]


def test_a_slow_socket_in_many_topics_has_one_outbox(sockets: Sockets) -> None:
    """Also with large messages, and whatever the topics want."""
    topics = {
        overflow: [f"{overflow.value}-{n}" for n in range(128)] for overflow in Overflow
    }
    slow = {
        overflow: sockets.subscribe(*names, overflow=overflow)[0]
        for overflow, names in topics.items()
    }
    for names in topics.values():
        for name in names:
            sockets.publish(name, bytes(MIB))
            sockets.turn()
    for subscriber in slow.values():
        assert subscriber.connection.writer.outbox_size + subscriber.size <= 2 * MIB


def test_a_subscriber_that_waits_for_too_much_is_closed(sockets: Sockets) -> None:
    subscriber, _ = sockets.subscribe("a", is_open=False)
    sockets.publish("a", *[bytes(300 * KIB)] * 4)
    sockets.flavour.eventually(lambda: sockets.ended == [subscriber])
    closed = subscriber.connection.closed
    assert closed is not None
    assert closed.code == 1013
    assert subscriber.size == 0


# The end


def test_a_connection_that_is_lost_ends_its_subscriptions(sockets: Sockets) -> None:
    subscriber, peer = sockets.subscribe("a", "b", tcp=True)
    peer.reset()

    def is_gone() -> bool:
        sockets.publish("a", b"x")
        return sockets.ended == [subscriber]

    sockets.flavour.eventually(is_gone)
    assert sockets.fanout.subscription_count == 0
    assert sockets.fanout.topic_count == 0


def test_many_sockets_of_a_topic_are_closed_bit_by_bit_and_get_nothing_meanwhile(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came behind a gap would tell a client that it has missed nothing."""
    monkeypatch.setattr("flask_sockets.topics.lane.MAX_ENDINGS", 1)
    monkeypatch.setattr("flask_sockets.topics.lane.ENDING_INTERVAL", 0.1)
    pairs = [sockets.subscribe("a") for _ in range(2)]
    pairs.append(sockets.subscribe("a", is_open=False))
    sockets.publish("a", b"before")
    sockets.fanout.close("a", 1012, "messages may be lost")
    sockets.turn()
    closed = [one for one, _ in pairs if one.connection.closed is not None]
    sockets.publish("a", b"behind the gap")
    sockets.turn()
    frames = []
    for subscriber, peer in pairs:
        sockets.fanout.open(subscriber, ["a"])
        frames.append([peer.read().payload for _ in range(2)])
    assert len(closed) == 1
    assert frames == [[b"before", b"\x03\xf4messages may be lost"]] * 3


def test_all_sockets_of_a_topic_are_closed_after_what_was_published(
    sockets: Sockets,
) -> None:
    peers = [sockets.subscribe("a")[1] for _ in range(3)]
    other = sockets.subscribe("b")[1]
    sockets.publish("a", b"last")
    sockets.fanout.close("a", 4001, "bye")
    sockets.publish("a", b"too late")
    for peer in peers:
        assert peer.read().payload == b"last"
        assert peer.read().close == (4001, "bye")
    sockets.publish("b", b"still here")
    assert read(other, 1) == [b"still here"]


def test_nothing_is_left_of_sockets_that_have_left(sockets: Sockets) -> None:
    """Even before anything is published to those that stay."""
    stays, peer = sockets.subscribe("a")
    connections = []
    for n in range(20):
        subscriber, _ = sockets.subscribe("a", f"own/{n}", is_watched=False)
        connections.append(subscriber.connection)
        sockets.publish("a", b"x", sender=subscriber)
        assert read(peer, 1) == [b"x"]
        sockets.fanout.remove(subscriber, ["a", f"own/{n}"])
    del subscriber
    gc.collect()
    subscribers = [o for o in gc.get_objects() if isinstance(o, Subscriber)]
    assert [s for s in subscribers if s.connection in connections] == []
    assert (sockets.fanout.subscription_count, sockets.fanout.topic_count) == (1, 1)
    assert list(stays.groups) == ["a"]


def test_threads_that_subscribe_and_leave_while_others_publish(
    flavour: Flavour,
) -> None:
    """Each gets a gapless part of what is published."""
    sockets = Sockets(flavour, max_outbox=16 * MIB)
    is_done = False

    def publish() -> None:
        n = 0
        while not is_done:
            n += 1
            sockets.publish("a", b"%d" % n)
            flavour.sleep(0)

    def subscribe() -> None:
        for _ in range(10):
            subscriber, peer = sockets.subscribe("a")
            numbers = [int(payload) for payload in read(peer, 50)]
            assert numbers == list(range(numbers[0], numbers[0] + 50))
            sockets.fanout.remove(subscriber, ["a"])

    publisher = flavour.spawn(publish)
    tasks = [flavour.spawn(subscribe) for _ in range(3)]
    try:
        for task in tasks:
            task.result()
    finally:
        is_done = True
        publisher.result()


def test_what_is_sent_and_what_is_published_are_never_mixed(
    flavour: Flavour,
) -> None:
    """Whole frames, and each sender's order, though the kernel is full."""
    sockets = Sockets(flavour, max_outbox=64 * MIB)
    ws, peer = flavour.connect()
    subscriber = Subscriber(ws.connection, sockets.fanout, 1)
    sockets.fanout.add(subscriber, "a", is_enveloped=False, overflow=Overflow.CLOSE)
    sockets.fanout.open(subscriber, ["a"])

    def send(name: bytes) -> None:
        for n in range(100):
            ws.send(name + b"%03d" % n + name * 20000)

    def publish(name: bytes) -> None:
        for n in range(100):
            sockets.publish("a", name + b"%03d" % n + name * 20000)
            flavour.sleep(0)

    tasks = [
        flavour.spawn(functools.partial(function, name))
        for function, name in [(send, b"s"), (send, b"t"), (publish, b"p")]
    ]
    numbers: dict[bytes, list[int]] = {b"s": [], b"t": [], b"p": []}
    for _ in range(300):
        payload = peer.read().payload
        name = payload[:1]
        assert payload[4:] == name * 20000
        numbers[name].append(int(payload[1:4]))
    assert all(found == list(range(100)) for found in numbers.values())
    for task in tasks:
        task.result()
