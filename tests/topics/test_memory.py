"""The broker in memory: the contract of brokers, and what it forgets."""

from __future__ import annotations

import pytest

from flask_sockets.topics.memory import SWEEP_INTERVAL, MemoryBroker
from flask_sockets.topics.rules import TopicOptions

from .contract import (
    BrokerContract,
    Listener,
    MakeBroker,
    publish,
    start,
    subscribe,
)


class TestMemoryBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self) -> MakeBroker:
        return MemoryBroker


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


SHORT = TopicOptions(history=3, ttl=10)


def test_publications_are_forgotten_after_their_time() -> None:
    clock = Clock()
    broker, _ = start(lambda: MemoryBroker(clock))
    publish(broker, "a", b"1", options=SHORT)
    position = broker.read_history("a", SHORT, 0).position
    clock.now += 6
    publish(broker, "a", b"2", options=SHORT)
    clock.now += 6
    read = broker.read_history("a", SHORT, 3)
    assert [p.payload for p in read.publications] == [b"2"]
    # Nothing after the first one is missing, but it is.
    assert broker.read_history("a", SHORT, 0, position).recovered
    before = position._replace(offset=0)
    assert not broker.read_history("a", SHORT, 0, before).recovered


def test_a_topic_that_nobody_uses_is_forgotten_and_its_positions_recover_nothing() -> (
    None
):
    clock = Clock()
    broker, _ = start(lambda: MemoryBroker(clock))
    publish(broker, "a", b"1", options=SHORT)
    old = broker.read_history("a", SHORT, 0).position
    broker.read_history("b", SHORT, 0)
    clock.now += SWEEP_INTERVAL + 11
    broker.read_history("c", SHORT, 0)  # Looks for others that can go.
    new = broker.read_history("a", SHORT, 3, old)
    assert (new.recovered, new.position.offset) == (False, 0)


def test_a_topic_with_subscribers_is_remembered_however_quiet_it_is() -> None:
    clock = Clock()
    broker, _ = start(lambda: MemoryBroker(clock))
    subscribe(broker, "a")
    position = broker.read_history("a", SHORT, 0).position
    for _ in range(3):
        clock.now += SWEEP_INTERVAL + 11
        broker.read_history(str(clock.now), SHORT, 0)
    assert broker.read_history("a", SHORT, 0, position).recovered
    broker.unsubscribe(["a"])
    clock.now += 5  # Within its time, as a client that was cut off comes back.
    broker.read_history("b", SHORT, 0)
    assert broker.read_history("a", SHORT, 0, position).recovered


def test_two_brokers_share_nothing() -> None:
    one, heard_by_one = start(MemoryBroker)
    two, heard_by_two = start(MemoryBroker)
    for broker in (one, two):
        subscribe(broker, "a")
    publish(one, "a", b"1")
    one.join("a", "ada", None, "s")
    assert heard_by_one.wait_for(1) == [b"1"]
    assert heard_by_two.received == []
    assert two.presence("a", 10) == {}
    assert isinstance(heard_by_one, Listener)
