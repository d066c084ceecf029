"""All open connections of a process."""

from __future__ import annotations

import os
import threading
import time
import weakref

import gevent
import pytest

from flask_sockets import ConnectionClosed
from flask_sockets.wire import connection as connection_module
from flask_sockets.wire import reader, registry
from flask_sockets.wire.connection import Connection
from flask_sockets.wire.keepalive import NEVER
from flask_sockets.wire.transport import Transport, transport_for

from .. import wire
from ..wire import CLOSE, PING, PONG, TEXT, Flavour, close_frame, frame

pytestmark = pytest.mark.usefixtures("eager")


# What is due


class Kept:
    """A connection that says when it wants to be looked after."""

    closed = None

    def __init__(self, transport: Transport, *deadlines: float) -> None:
        self.transport = transport
        self.deadlines = list(deadlines)
        self.looks: list[float] = []

    def look_after(self, now: float) -> float:
        self.looks.append(now)
        return self.deadlines.pop(0) if self.deadlines else NEVER

    def go_away(self, code: int, reason: str) -> None:
        raise RuntimeError("expected")

    def lose(self) -> None: ...


@pytest.fixture
def transport(flavour: Flavour) -> Transport:
    return transport_for(flavour.pair()[0])


def test_each_is_looked_after_when_it_wants(
    flavour: Flavour, transport: Transport
) -> None:
    """And no more often, however often it is said that it is due earlier."""
    keeper = registry.keeper_for(transport.scheduler)
    start = time.monotonic()
    first, second = Kept(transport, start + 0.1), Kept(transport)
    entries = [keeper.keep(first), keeper.keep(second)]
    for delay in (5, 0.2, 0.02):
        keeper.wake(entries[0], start + delay)
    keeper.wake(entries[1], start + 0.05)
    flavour.eventually(lambda: len(first.looks) == 2)
    assert [len(first.looks), len(second.looks)] == [2, 1]
    assert first.looks[0] >= start + 0.02
    assert first.looks[1] >= start + 0.1
    assert second.looks[0] >= start + 0.05
    for entry in entries:
        keeper.forget(entry)


def test_who_is_forgotten_is_not_looked_after(
    flavour: Flavour, transport: Transport
) -> None:
    """Though it was due already."""
    keeper = registry.keeper_for(transport.scheduler)
    forgotten, other = Kept(transport), Kept(transport)
    entries = [keeper.keep(forgotten), keeper.keep(other)]
    soon = time.monotonic() + 0.02
    for entry in entries:
        keeper.wake(entry, soon)
    keeper.forget(entries[0])
    flavour.eventually(lambda: other.looks)
    keeper.wake(entries[0], soon)
    flavour.sleep(0.02)
    assert not forgotten.looks
    keeper.forget(entries[1])


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, gevent.GreenletExit])
def test_a_failure_with_one_connection_spares_the_others(
    flavour: Flavour,
    transport: Transport,
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, whatever it is, and all are looked after as before."""

    class Broken(Kept):
        def look_after(self, now: float) -> float:
            raise error("broken")

    keeper = registry.keeper_for(transport.scheduler)
    broken = keeper.keep(Broken(transport))
    keeper.wake(broken, 0)
    flavour.eventually(lambda: "broken" in caplog.text)
    _, peer = flavour.connect()
    peer.send(frame(PING))
    assert peer.read() == (PONG, b"")
    keeper.forget(broken)


def test_many_are_looked_after_in_batches(
    flavour: Flavour, transport: Transport
) -> None:
    """All of them, and others may run in between."""
    keeper = registry.keeper_for(transport.scheduler)
    everyone = [Kept(transport) for _ in range(3 * registry.BATCH + 1)]
    entries = [keeper.keep(kept) for kept in everyone]
    for entry in entries:
        keeper.wake(entry, time.monotonic() + 0.02)
    flavour.eventually(lambda: all(kept.looks for kept in everyone))
    assert {len(kept.looks) for kept in everyone} == {1}
    for entry in entries:
        keeper.forget(entry)


def test_a_server_that_tells_nobody_is_watched(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All connections are closed when it stops."""
    monkeypatch.setattr(registry, "STOP_INTERVAL", 0.02)
    answers = [False, False, True]
    monkeypatch.setattr(registry, "_is_stopping", None)
    registry.watch_for_stop(lambda: answers.pop(0) if len(answers) > 1 else answers[0])
    _, peer = flavour.connect()
    assert peer.read().close == registry.SERVER_RESTART
    assert answers == [True]


# What it costs


def test_an_idle_connection_is_not_looked_after(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while somebody receives, nor while nobody does."""
    looks: list[Connection] = []
    look_after = Connection.look_after

    def count(connection: Connection, now: float) -> float:
        looks.append(connection)
        return look_after(connection, now)

    monkeypatch.setattr(Connection, "look_after", count)
    receiving, peer = flavour.connect()
    idle, _ = flavour.connect()
    receiver = flavour.spawn(receiving.receive)
    flavour.eventually(lambda: len(looks) == 2)
    flavour.sleep(10 * reader.PATIENCE)
    assert len(looks) == 2
    peer.send(close_frame())
    assert receiver.result() is None
    assert not idle.closed


def test_no_thread_is_left_over(flavour: Flavour) -> None:
    """It ends with the last connection, and the next one starts another."""
    # Others may still be at their end.
    before = set(threading.enumerate())
    for _ in range(2):
        ws, peer = flavour.connect()
        assert registry.open_count() == 1
        peer.socket.close()
        ws.connection.finish(1000, "")
        assert registry.open_count() == 0
        ws.connection.transport.scheduler.dismiss(wire.PATIENCE)
        new = set(threading.enumerate()) - before
        assert "flask-sockets" not in {thread.name for thread in new}


# The end of the server


def test_close_all_tells_everyone(flavour: Flavour) -> None:
    """Clients get the code and the reason, and receivers wake up."""
    pairs = [flavour.connect() for _ in range(3)]
    receivers = [flavour.spawn(ws.receive) for ws, _ in pairs]
    assert registry.open_count() >= 3
    registry.close_all(1012, "reloading")
    for _, peer in pairs:
        assert peer.read().close == (1012, "reloading")
        peer.send(close_frame(1012))
    for (ws, _), receiver in zip(pairs, receivers, strict=True):
        assert receiver.result() is None
        assert (ws.closed, ws.close_code, ws.close_reason) == (True, 1012, "reloading")
        with pytest.raises(ConnectionClosed):
            ws.send("late")


def test_a_client_that_does_not_answer_a_close_is_cut(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the handler never ends."""
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.1)
    ws, peer = flavour.connect()
    receiver = flavour.spawn(ws.receive)
    registry.close_all(1001)
    assert [answer.opcode for answer in peer.read_to_end()] == [CLOSE]
    assert receiver.result() is None
    assert ws.close_code == 1001


def test_close_all_does_not_wait_for_a_client_that_does_not_read(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if a message to it is half sent."""
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.1)
    ws, peer = flavour.connect()
    sender = flavour.spawn(ws.send, bytes(2**26))
    flavour.eventually(lambda: ws.connection.writer.is_blocked)
    registry.close_all(1001)
    with pytest.raises(ConnectionClosed) as caught:
        sender.result()
    assert caught.value.code == 1001
    peer.socket.close()


def test_one_that_cannot_be_closed_does_not_keep_the_others_open(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine fail, in whatever order, and the tenth is told."""

    def fail(code: int, reason: str) -> None:
        raise RuntimeError("expected")

    pairs = [flavour.connect() for _ in range(10)]
    with monkeypatch.context() as context:
        for ws, _ in pairs[1:]:
            context.setattr(ws.connection, "go_away", fail)
        registry.close_all(1001, "going")
    _, peer = pairs[0]
    assert peer.read().close == (1001, "going")


def test_one_task_looks_after_all_connections(flavour: Flavour) -> None:
    """There is no thread, greenlet or timer per connection."""
    before = threading.active_count()
    pairs = [flavour.connect() for _ in range(registry.BATCH + 10)]
    assert threading.active_count() <= before + 1
    for _, peer in pairs:
        peer.send(frame(PING, b"x"))
    assert [peer.read() for _, peer in pairs] == [(PONG, b"x")] * len(pairs)


def test_a_finished_connection_is_forgotten(flavour: Flavour) -> None:
    """Nothing of it is kept in memory, not even of the first one."""
    ws, peer = flavour.connect()
    peer.socket.close()
    ws.connection.finish(1000, "")
    reference = weakref.ref(ws.connection.transport)
    other, _ = flavour.connect()  # The task goes on.
    flavour._websockets.remove(ws)
    del ws
    flavour.eventually(lambda: reference() is None)
    assert not other.closed


def test_a_thread_that_cannot_start_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process may have too many threads for a moment."""
    flavour = wire.Threads()
    server, client = flavour.pair()
    ws = flavour.websocket(server)
    ws.connection.transport.scheduler.dismiss(wire.PATIENCE)

    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="thread"):
            ws.accept()
    ws.accept()
    peer = wire.Peer(client)
    peer.send(frame(PING))
    assert peer.read() == (PONG, b"")
    flavour.clean_up()


def test_a_forked_process_leaves_the_connections_alone(flavour: Flavour) -> None:
    """They are its parent's: what comes is not read there."""
    ws, peer = flavour.connect()
    flavour.eventually(lambda: not ws.connection.reader.is_busy)
    flavour.sleep(5 * reader.PATIENCE)
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:  # No exception may get out of here.
        try:
            gevent.reinit()
            registry.close_all(1001)
            quiet = registry.open_count() == 0
            os.read(ours, 1)
            gevent.sleep(10 * reader.PATIENCE)
            os._exit(0 if quiet and not ws.connection.reader.messages else 1)
        finally:
            os._exit(2)
    peer.send(frame(TEXT, b"for the parent"))
    os.write(theirs, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ws.send("still here")
    assert peer.read() == (TEXT, b"still here")
    assert ws.receive() == "for the parent"
    assert registry.open_count() >= 1
