from __future__ import annotations

import os
import threading
import time
import typing as t
import weakref

import gevent
import pytest

from flask_sockets import ConnectionClosed
from flask_sockets.wire import connection as connection_module
from flask_sockets.wire import keepalive as keeper
from flask_sockets.wire.protocol import MAX_MESSAGES_AHEAD

from .. import wire
from ..wire import CLOSE, PING, PONG, TEXT, Flavour, close_frame, frame


@pytest.fixture(params=[wire.Threads, wire.Greenlets], ids=lambda cls: cls.name)
def flavour(request: pytest.FixtureRequest) -> t.Iterator[Flavour]:
    yield from wire.flavours(request.param)


@pytest.fixture(autouse=True)
def _eager_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "INTERVAL", 0.02)


def is_running(flavour: Flavour) -> bool:
    scheduler = threading if flavour.name == "threads" else gevent.get_hub()
    kept = keeper._keepers.get(scheduler)
    return kept is not None and kept.is_running


# What happens while the handler does something else


def test_pings_are_answered_while_the_handler_sleeps(flavour: Flavour) -> None:
    """Each of them, with its payload (RFC 6455 section 5.5.3)."""
    _, peer = flavour.connect()
    pings = [b"%d" % number for number in range(10)]
    peer.send(*(frame(PING, payload) for payload in pings))
    assert [peer.read() for _ in pings] == [(PONG, payload) for payload in pings]


def test_a_close_is_answered_while_the_handler_sleeps(flavour: Flavour) -> None:
    """The client needn't wait for the handler."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"unread"), close_frame(4000, "bye"))
    assert [answer.close for answer in peer.read_to_end()] == [(4000, "bye")]
    assert ws.receive() == "unread"


@pytest.mark.parametrize("how", ["close", "end", "reset"])
def test_a_handler_that_only_looks_sees_the_end(flavour: Flavour, how: str) -> None:
    """A loop of 'while not ws.closed' ends, though nobody receives."""
    ws, peer = flavour.connect(tcp=True)
    peer.send(frame(TEXT, b"nobody reads that"))
    if how == "close":
        peer.send(close_frame(4000))
    elif how == "end":
        peer.socket.close()
    else:
        peer.reset()
    flavour.eventually(lambda: ws.closed)
    assert ws.close_code == (4000 if how == "close" else 1006)


def test_a_handler_that_only_sends_sees_the_end(flavour: Flavour) -> None:
    """Its send raises, with the code and reason of the client."""
    ws, peer = flavour.connect()

    def handler() -> None:
        while True:
            ws.send("tick")
            flavour.sleep(0.01)

    task = flavour.spawn(handler)
    peer.send(close_frame(4000, "enough"))
    with pytest.raises(ConnectionClosed) as caught:
        task.result()
    assert (caught.value.code, caught.value.reason) == (4000, "enough")
    assert peer.read_to_end()[-1].close == (4000, "enough")


def test_a_handler_has_time_to_answer(flavour: Flavour) -> None:
    """Between two looks, the keeper doesn't take in the Close behind a message."""
    ws, peer = flavour.connect()
    keeper.forget(ws.connection)
    peer.send(frame(TEXT, b"question"), close_frame(4000))
    assert ws.receive() == "question"
    ws.connection.look_after(time.monotonic())
    ws.send("answer")
    ws.connection.look_after(time.monotonic())
    assert ws.closed
    answers = peer.read_to_end()
    assert answers[0] == (TEXT, b"answer")
    assert answers[1].close == (4000, "")


def test_a_handler_with_much_to_do_does_not_hinder_pings(flavour: Flavour) -> None:
    """It receives all the time what was read at once, and never reads."""
    ws, peer = flavour.connect()
    keeper.forget(ws.connection)
    peer.send(frame(TEXT) * 10)
    assert ws.receive() == ""
    peer.send(frame(PING, b"x"))
    for _ in range(2):
        assert ws.receive() == ""
        ws.connection.look_after(time.monotonic())
    assert peer.read() == (PONG, b"x")


def test_what_is_read_ahead_is_bounded(flavour: Flavour) -> None:
    """A client that sends to a handler which doesn't receive has to wait."""
    limit = 2**17
    ws, peer = flavour.connect(max_read_ahead=limit)
    keeper.forget(ws.connection)
    text = "x" * 1024
    sender = flavour.spawn(peer.send, frame(TEXT, text.encode()) * 4096)

    def held() -> int:
        ws.connection.look_after(time.monotonic())
        return sum(map(len, ws.connection.messages))

    flavour.eventually(lambda: held() >= limit)
    for _ in range(50):
        assert held() < 2 * limit
    assert not sender.is_done
    for _ in range(4096):
        assert ws.receive() == text
    sender.result()


def test_a_client_whose_messages_pile_up_is_not_given_up(flavour: Flavour) -> None:
    """Its pong is behind messages that the handler hasn't received."""
    ws, peer = flavour.connect(ping_interval=0.02, ping_timeout=0.02)
    connection = ws.connection
    connection.messages.extend([b""] * MAX_MESSAGES_AHEAD)
    assert [peer.read() for _ in range(4)] == [(PING, b"")] * 4
    assert not ws.closed


# Keepalive


def test_a_silent_client_is_given_up(flavour: Flavour) -> None:
    """It gets 1011, and the handler sees 1006."""
    ws, peer = flavour.connect(ping_interval=0.05, ping_timeout=0.05)
    assert ws.receive() is None
    assert (ws.close_code, ws.close_reason) == (1006, "keepalive ping timeout")
    answers = peer.read_to_end()
    assert answers[0] == (PING, b"")
    assert answers[1].close == (1011, "keepalive ping timeout")
    assert len(answers) == 2


def test_a_client_that_answers_pings_lives(flavour: Flavour) -> None:
    """For as long as it does, whether or not the handler receives."""
    ws, peer = flavour.connect(ping_interval=0.02, ping_timeout=PONG_PATIENCE)
    for _ in range(10):
        assert peer.read() == (PING, b"")
        peer.send(frame(PONG))
    assert not ws.closed
    receiver = flavour.spawn(ws.receive)
    for _ in range(10):
        assert peer.read() == (PING, b"")
        peer.send(frame(PONG))
    assert not receiver.is_done
    peer.send(frame(TEXT, b"alive"))
    assert receiver.result() == "alive"


#: Long enough on a machine that does other things too.
PONG_PATIENCE = 5


def test_any_sign_of_life_will_do(flavour: Flavour) -> None:
    """A pong may be stuck behind a large message that is still on its way."""
    ws, peer = flavour.connect(ping_interval=0.02, ping_timeout=PONG_PATIENCE)
    data = frame(TEXT, b"x" * 10)
    for position in range(len(data)):
        assert peer.read() == (PING, b"")
        peer.send(data[position : position + 1])
    assert ws.receive() == "x" * 10


def test_without_a_timeout_pings_go_on(flavour: Flavour) -> None:
    """They may be there for a proxy that cuts silent connections."""
    ws, peer = flavour.connect(ping_interval=0.02, ping_timeout=None)
    assert [peer.read() for _ in range(10)] == [(PING, b"")] * 10
    assert not ws.closed


def test_a_client_that_stopped_reading_is_given_up(flavour: Flavour) -> None:
    """A send to it ends, and raises."""
    ws, peer = flavour.connect(ping_interval=0.05, ping_timeout=0.2)
    with pytest.raises(ConnectionClosed) as caught:
        ws.send(bytes(2**26))
    assert caught.value.code == 1006
    assert caught.value.reason == "keepalive ping timeout"
    peer.socket.close()


def test_a_client_that_reads_slowly_is_not_given_up(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ping can't pass the message before it. Its being read is a sign of life."""
    ws, peer = flavour.connect(ping_interval=0.01, ping_timeout=1.5)
    size = 4 * 2**20
    sender = flavour.spawn(ws.send, bytes(size))
    start = time.monotonic()
    peer._read(10)
    while size:
        # All of it takes longer than the timeout.
        while time.monotonic() - start < 3 * (1 - size / (4 * 2**20)):
            flavour.sleep(0.01)
        step = min(size, 2**18)
        peer._read(step)
        size -= step
    sender.result()
    assert not ws.closed
    assert peer.read() == (PING, b"")


def test_a_race_with_the_handlers_close_is_quiet(
    flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    """A ping or the end of patience may be due at the moment of a close."""
    ws, _ = flavour.connect(ping_interval=0, ping_timeout=0)
    connection = ws.connection
    keeper.forget(connection)
    connection.protocol.send_close(1000, "")  # By another, at this moment.
    connection._keep_alive(time.monotonic(), False)
    connection._keep_alive(time.monotonic() + 1, False)
    assert ws.closed


# The end of the server


def test_close_all_tells_everyone(flavour: Flavour) -> None:
    """Clients get the code and the reason, and receivers wake up."""
    pairs = [flavour.connect() for _ in range(3)]
    receivers = [flavour.spawn(ws.receive) for ws, _ in pairs]
    assert keeper.open_count() >= 3
    keeper.close_all(1012, "reloading")
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
    keeper.close_all(1001)
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
    keeper.close_all(1001)
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
        keeper.close_all(1001, "going")
    _, peer = pairs[0]
    assert peer.read().close == (1001, "going")


# The task


def test_the_task_ends_with_the_last_connection(flavour: Flavour) -> None:
    """No thread and no greenlet is left over, and the next connection starts one."""
    for _ in range(2):
        ws, peer = flavour.connect()
        assert is_running(flavour)
        assert keeper.open_count() >= 1
        peer.socket.close()
        ws.connection.finish(1000, "")
        flavour.eventually(lambda: not is_running(flavour))
        flavour.eventually(
            lambda: "flask-sockets" not in {t.name for t in threading.enumerate()}
        )


def test_one_task_looks_after_all_connections(flavour: Flavour) -> None:
    """There is no thread, greenlet or timer per connection."""
    before = threading.active_count()
    pairs = [flavour.connect() for _ in range(keeper.BATCH + 10)]
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


def test_a_failure_with_one_connection_spares_the_others(
    flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the task goes on."""
    broken, _ = flavour.connect()
    _, peer = flavour.connect()

    def look_after(now: float) -> None:
        raise RuntimeError("broken")

    broken.connection.look_after = look_after  # type: ignore[method-assign]
    flavour.eventually(lambda: "broken" in caplog.text)
    peer.send(frame(PING))
    assert peer.read() == (PONG, b"")


def test_a_task_that_cannot_start_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process may have too many threads for a moment."""
    flavour = wire.Threads()
    flavour.eventually(lambda: not is_running(flavour))
    server, client = flavour.pair()
    ws = flavour.websocket(server)

    def fail(function: t.Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(ws.connection.transport, "spawn", fail, raising=False)
        with pytest.raises(RuntimeError, match="thread"):
            ws.accept()
    ws.accept()
    peer = wire.Peer(client)
    peer.send(frame(PING))
    assert peer.read() == (PONG, b"")
    flavour.clean_up()


def test_a_forked_process_leaves_the_connections_alone(flavour: Flavour) -> None:
    """They are its parent's, and so is the task that looks after them."""
    ws, peer = flavour.connect()
    looks = []
    look_after = ws.connection.look_after

    def remember(now: float) -> None:
        looks.append(os.getpid())
        look_after(now)

    ws.connection.look_after = remember  # type: ignore[method-assign]
    pid = os.fork()
    if not pid:  # No exception may get out of here.
        try:
            gevent.reinit()
            quiet = keeper.open_count() == 0 and not keeper._keepers
            keeper.close_all(1001)
            gevent.sleep(10 * keeper.INTERVAL)
            os._exit(0 if quiet and os.getpid() not in looks else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ws.send("still here")
    assert peer.read() == (TEXT, b"still here")
    assert keeper.open_count() >= 1
