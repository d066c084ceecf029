"""What greenlets and threads other than the handler's do to a connection."""

from __future__ import annotations

import threading
import time
import typing as t

import gevent
import gevent.event
import pytest

from flask_sockets.wire.registry import keeper_for

from ..wire import PATIENCE, Flavour, Greenlets, flavours


@pytest.fixture
def greenlets() -> t.Iterator[Flavour]:
    yield from flavours(Greenlets)


def test_receiving_where_the_receiver_has_not_heard_of_the_loss_blocks_nobody(
    greenlets: Flavour,
) -> None:
    """Another greenlet asks before the one that waits for a message has woken up."""
    ws, _ = greenlets.connect()
    receiver = greenlets.spawn(ws.receive)
    greenlets.eventually(lambda: ws.connection.reader.is_busy)
    ws.connection.lose()
    other = greenlets.spawn(ws.connection.reader.receive, None)
    assert receiver.result() is None
    assert other.result() is None


def test_hub_hears_in_time_of_what_a_thread_wants(greenlets: Flavour) -> None:
    """A thread of the system wants a connection to be looked after."""
    ws, _ = greenlets.connect()
    looked = gevent.event.Event()

    class Looked:
        transport = ws.connection.transport
        closed = None

        def look_after(self, now: float) -> float:
            looked.set()
            return float("inf")

        def go_away(self, code: int, reason: str) -> None: ...

        def lose(self) -> None: ...

    keeper = keeper_for(ws.connection.transport.scheduler)
    entry = keeper.keep(Looked())
    try:
        gevent.sleep(0.3)  # Nothing else is due.
        is_waiting = threading.Event()

        def wake() -> None:
            is_waiting.wait(PATIENCE)
            keeper.wake(entry, time.monotonic() + 0.2)

        thread = threading.Thread(target=wake)
        thread.start()
        gevent.spawn(is_waiting.set)
        assert looked.wait(PATIENCE)
        thread.join(PATIENCE)
    finally:
        keeper.forget(entry)
