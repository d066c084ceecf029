"""What comes in while the handler does something else."""

from __future__ import annotations

import time

import pytest

from flask_sockets import ConnectionClosed
from flask_sockets.wire import reader

from ..wire import PING, PONG, TEXT, Flavour, close_frame, frame

pytestmark = pytest.mark.usefixtures("eager")


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


def test_a_handler_has_time_to_answer(patient: None, flavour: Flavour) -> None:
    """Between two looks, the keeper doesn't take in the Close behind a message."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"question"), close_frame(4000))
    assert ws.receive() == "question"
    later = time.monotonic() + 5000
    ws.connection.look_after(later)
    ws.send("answer")
    ws.connection.look_after(later + 5000)
    assert ws.closed
    answers = peer.read_to_end()
    assert answers[0] == (TEXT, b"answer")
    assert answers[1].close == (4000, "")


def test_a_handler_with_much_to_do_does_not_hinder_pings(
    patient: None, flavour: Flavour
) -> None:
    """It receives all the time what was read at once, and never reads."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT) * 10)
    assert ws.receive() == ""
    peer.send(frame(PING, b"x"))
    for number in range(1, 3):
        assert ws.receive() == ""
        ws.connection.look_after(time.monotonic() + number * 5000)
    assert peer.read() == (PONG, b"x")


def test_what_is_read_ahead_is_bounded(flavour: Flavour) -> None:
    """A client that sends to a handler which doesn't receive has to wait."""
    limit = 2**17
    ws, peer = flavour.connect(max_read_ahead=limit)
    text = "x" * 1024
    sender = flavour.spawn(peer.send, frame(TEXT, text.encode()) * 4096)

    def held() -> int:
        return sum(map(len, ws.connection.reader.messages))

    flavour.eventually(lambda: held() >= limit / 2)
    flavour.sleep(5 * reader.PATIENCE)
    assert held() < 2 * limit
    assert not sender.is_done
    for _ in range(4096):
        assert ws.receive() == text
    sender.result()
