"""What every broker has to do, as tests that know nothing but its interface.

A module of tests for a broker makes a subclass of :class:`BrokerContract` whose name
begins with ``Test``, with a fixture ``make_broker``: a function that makes a broker, on
which :meth:`.Broker.start` is still to be called.
"""

from __future__ import annotations

import os
import socket
import threading
import typing as t

import pytest

from flask_sockets.topics.broker import Broker
from flask_sockets.topics.publication import Kind, Position, Publication
from flask_sockets.topics.rules import TopicOptions

PLAIN = TopicOptions()
HISTORY = TopicOptions(history=3)

#: Seconds after which a test gives up. Nothing is ever measured against it.
PATIENCE = 10.0

MakeBroker: t.TypeAlias = t.Callable[[], Broker]


class Listener:
    """What a broker brought, in the order in which it came."""

    def __init__(self) -> None:
        self.received: list[Publication] = []
        #: How many of those are sent.
        self.sent = 0
        self.others: list[tuple[t.Any, ...]] = []
        self._changed = threading.Condition()

    def receive(self, publication: Publication) -> None:
        with self._changed:
            self.received.append(publication)

    def flush(self) -> None:
        with self._changed:
            self.sent = len(self.received)
            self._changed.notify_all()

    def lose(self, topic: str) -> None:
        self._note("lose", topic)

    def disconnect(self, topic: str, code: int, reason: str) -> None:
        self._note("disconnect", topic, code, reason)

    def member_left(self, topic: str, member: str, info: t.Any) -> None:
        self._note("member_left", topic, member, info)

    def stats(self) -> dict[str, int]:
        with self._changed:
            return {"sockets": 0, "delivered": len(self.received)}

    def _note(self, *what: t.Any) -> None:
        with self._changed:
            self.others.append(what)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[bytes]:
        """Wait until so many publications were sent, and return their payloads."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.sent >= count, PATIENCE)
            return [publication.payload for publication in self.received]

    def wait_for_others(self, count: int) -> list[tuple[t.Any, ...]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.others) >= count, PATIENCE)
            return self.others


#: What is still to be closed. See the fixture in 'conftest.py'.
started: list[Broker] = []


def start(make_broker: MakeBroker) -> tuple[Broker, Listener]:
    broker, listener = make_broker(), Listener()
    broker.start(listener)
    started.append(broker)
    return broker, listener


def subscribe(broker: Broker, *topics: str, options: TopicOptions = PLAIN) -> None:
    broker.subscribe(dict.fromkeys(topics, options))


def publish(
    broker: Broker, topic: str, *payloads: bytes, options: TopicOptions = PLAIN
) -> None:
    for payload in payloads:
        broker.publish(Publication(topic, Kind.BINARY, payload), options)


class BrokerContract:
    """The tests."""

    def test_what_is_published_comes_back_as_it_was(
        self, make_broker: MakeBroker
    ) -> None:
        broker, listener = start(make_broker)
        subscribe(broker, "a")
        sent = [
            Publication("a", Kind.TEXT, "ä".encode(), "somebody"),
            Publication("a", Kind.BINARY, bytes(range(256))),
            Publication("a", Kind.JSON, b'{"a": 1}', "s-1"),
            Publication("a", Kind.TEXT, b""),
        ]
        for publication in sent:
            broker.publish(publication, PLAIN)
        listener.wait_for(4)
        assert listener.received == sent

    def test_only_topics_that_are_subscribed_to_are_received(
        self, make_broker: MakeBroker
    ) -> None:
        broker, listener = start(make_broker)
        subscribe(broker, "a", "ü/%?* []")
        publish(broker, "ü/%?* []", b"1")
        publish(broker, "a", b"2")
        assert {b"1", b"2"} <= set(listener.wait_for(2))

    def test_a_topic_is_received_until_it_was_unsubscribed_as_often(
        self, make_broker: MakeBroker
    ) -> None:
        broker, listener = start(make_broker)
        subscribe(broker, "a")
        subscribe(broker, "a", "b")
        broker.unsubscribe(["a"])
        publish(broker, "a", b"1")
        assert listener.wait_for(1) == [b"1"]
        broker.unsubscribe(["a", "b"])
        subscribe(broker, "a")
        publish(broker, "a", b"2")
        assert listener.wait_for(2) == [b"1", b"2"]

    def test_publishers_in_many_threads_are_received_in_one_order(
        self, make_broker: MakeBroker
    ) -> None:
        """Each publisher's own order is kept."""
        broker, listener = start(make_broker)
        subscribe(broker, "a")
        threads = [
            threading.Thread(
                target=publish,
                args=(broker, "a", *(b"%d-%d" % (n, i) for i in range(50))),
                kwargs={"options": TopicOptions(history=1000)},
            )
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        payloads = listener.wait_for(200)
        for n in range(4):
            own = [payload for payload in payloads if payload.startswith(b"%d-" % n)]
            assert own == [b"%d-%d" % (n, i) for i in range(50)]
        places = [publication.place for publication in listener.received]
        assert [place.offset for place in places if place] == list(range(1, 201))
        history = broker.read_history("a", TopicOptions(history=1000), 1000)
        assert list(history.publications) == listener.received

    # History

    def test_plain_topics_have_no_positions(self, make_broker: MakeBroker) -> None:
        broker, listener = start(make_broker)
        subscribe(broker, "a")
        publish(broker, "a", b"1")
        listener.wait_for(1)
        assert listener.received[0].position is None

    def test_the_newest_publications_are_kept_oldest_first(
        self, make_broker: MakeBroker
    ) -> None:
        broker, _ = start(make_broker)
        publish(broker, "a", b"1", b"2", b"3", b"4", options=HISTORY)
        read = broker.read_history("a", HISTORY, 10)
        assert [p.payload for p in read.publications] == [b"2", b"3", b"4"]
        assert not read.recovered
        assert read.publications[-1].place == read.position
        read = broker.read_history("a", HISTORY, 2)
        assert [p.payload for p in read.publications] == [b"3", b"4"]
        read = broker.read_history("a", HISTORY, 0)
        assert list(read.publications) == []
        assert read.position.offset == 4

    def test_a_topic_that_nothing_was_published_to_has_a_position(
        self, make_broker: MakeBroker
    ) -> None:
        broker, _ = start(make_broker)
        nothing = broker.read_history("a", HISTORY, 3)
        assert (list(nothing.publications), nothing.position.offset) == ([], 0)
        publish(broker, "a", b"1", options=HISTORY)
        read = broker.read_history("a", HISTORY, 0, nothing.position)
        assert read.recovered
        assert [p.payload for p in read.publications] == [b"1"]

    def test_everything_since_a_position_is_read_if_all_of_it_is_there(
        self, make_broker: MakeBroker
    ) -> None:
        broker, _ = start(make_broker)
        publish(broker, "a", b"1", b"2", b"3", b"4", options=HISTORY)
        epoch = broker.read_history("a", HISTORY, 0).position.epoch
        for offset, missed in [(4, []), (3, [b"4"]), (1, [b"2", b"3", b"4"])]:
            read = broker.read_history("a", HISTORY, 0, Position(epoch, offset))
            assert read.recovered
            assert [p.payload for p in read.publications] == missed

    @pytest.mark.parametrize("offset", [0, 5, 10**18])
    def test_what_can_not_be_proven_complete_is_not_recovered(
        self, make_broker: MakeBroker, offset: int
    ) -> None:
        broker, _ = start(make_broker)
        publish(broker, "a", b"1", b"2", b"3", b"4", options=HISTORY)
        epoch = broker.read_history("a", HISTORY, 0).position.epoch
        read = broker.read_history("a", HISTORY, 2, Position(epoch, offset))
        assert not read.recovered
        assert [p.payload for p in read.publications] == [b"3", b"4"]

    def test_a_position_of_another_epoch_or_topic_recovers_nothing(
        self, make_broker: MakeBroker
    ) -> None:
        broker, _ = start(make_broker)
        publish(broker, "a", b"1", options=HISTORY)
        publish(broker, "b", b"1", options=HISTORY)
        position = broker.read_history("a", HISTORY, 0).position
        assert not broker.read_history("b", HISTORY, 0, position).recovered
        stranger = Position("0" * len(position.epoch), position.offset)
        assert not broker.read_history("a", HISTORY, 0, stranger).recovered

    # Presence

    def test_members_are_listed_in_the_order_in_which_they_came(
        self, make_broker: MakeBroker
    ) -> None:
        broker, _ = start(make_broker)
        for name in ("bob", "ada", "cy"):
            assert broker.join("a", name, {"name": name}, f"socket-{name}")
        infos = {name: {"name": name} for name in ("bob", "ada", "cy")}
        assert broker.presence("a", 10) == infos
        assert list(broker.presence("a", 2)) == ["bob", "ada"]
        assert broker.presence("b", 10) == {}

    def test_a_member_is_there_as_long_as_one_of_its_sockets(
        self, make_broker: MakeBroker
    ) -> None:
        broker, _ = start(make_broker)
        assert broker.join("a", "ada", 1, "socket-1")
        assert not broker.join("a", "ada", 2, "socket-2")
        assert broker.presence("a", 10) == {"ada": 2}
        assert not broker.leave("a", "ada", "socket-2")
        assert broker.presence("a", 10) == {"ada": 1}
        assert broker.leave("a", "ada", "socket-1")
        assert broker.presence("a", 10) == {}

    def test_a_socket_that_joins_again_changes_the_info(
        self, make_broker: MakeBroker
    ) -> None:
        broker, _ = start(make_broker)
        assert broker.join("a", "ada", None, "socket-1")
        assert not broker.join("a", "ada", ["new"], "socket-1")
        assert broker.presence("a", 10) == {"ada": ["new"]}
        assert broker.leave("a", "ada", "socket-1")

    def test_a_socket_that_is_not_there_can_leave(
        self, make_broker: MakeBroker
    ) -> None:
        broker, _ = start(make_broker)
        assert not broker.leave("a", "ada", "socket-1")
        broker.join("a", "ada", None, "socket-1")
        assert not broker.leave("a", "ada", "socket-2")
        assert not broker.leave("a", "bob", "socket-1")
        assert broker.presence("a", 10) == {"ada": None}

    def test_a_disconnect_reaches_the_sockets(self, make_broker: MakeBroker) -> None:
        broker, listener = start(make_broker)
        subscribe(broker, "user/ä")
        broker.disconnect("user/ä", 4001, "bye, ü")
        assert listener.wait_for_others(1) == [("disconnect", "user/ä", 4001, "bye, ü")]

    def test_what_this_process_has_counted_is_collected(
        self, make_broker: MakeBroker
    ) -> None:
        broker, listener = start(make_broker)
        subscribe(broker, "a")
        publish(broker, "a", b"1", b"2")
        listener.wait_for(2)
        collected = broker.collect_stats()
        assert collected.silent == 0
        (process,) = collected.processes
        assert (process.host, process.pid) == (socket.gethostname(), os.getpid())
        assert process.counts == {"sockets": 0, "delivered": 2}

    def test_a_broker_that_is_started_again_remembers_no_subscriptions(
        self, make_broker: MakeBroker
    ) -> None:
        """As after a fork."""
        broker, old = start(make_broker)
        subscribe(broker, "a")
        new = Listener()
        broker.close()
        broker.start(new)
        subscribe(broker, "a")
        publish(broker, "a", b"1")
        assert new.wait_for(1) == [b"1"]
        assert old.received == []
