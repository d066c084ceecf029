"""When a client is pinged and given up, by a clock of the test's and on connections."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest

from flask_sockets import ConnectionClosed
from flask_sockets.wire.keepalive import (
    FULL,
    MIN_PROGRESS,
    Keepalive,
    Signs,
    Verdict,
)
from flask_sockets.wire.protocol import MAX_MESSAGES_AHEAD

from ..wire import PING, PONG, TEXT, Flavour, frame

pytestmark = pytest.mark.usefixtures("eager")


# By a clock of the test's


@dataclasses.dataclass
class Client:
    """What is seen of a client."""

    frames: int = 0
    read: int = 0
    unread: int = 0
    confirmed: int = 0
    is_blocked: bool = False

    def __call__(self) -> Signs:
        return Signs(**dataclasses.asdict(self))


def unasked() -> Signs:
    raise AssertionError("nothing is due")


def test_a_client_is_pinged_when_that_is_due() -> None:
    """And not looked at before."""
    keepalive = Keepalive(25, 20, now=100)
    assert keepalive.deadline == 125
    assert keepalive.check(124.9, unasked) is Verdict.WAIT
    assert keepalive.check(125, Client()) is Verdict.PING


def test_clients_that_came_together_are_not_pinged_together() -> None:
    """The first ping comes after a share of the interval."""
    deadlines = [Keepalive(20, 20, 100, share).deadline for share in (0.1, 0.5, 1.0)]
    assert deadlines == [102, 110, 120]


def test_clients_of_many_times_are_pinged_at_few() -> None:
    """Each wakes up the server, and what many share costs less."""
    shares = [0.1 + 0.9 * number / 1000 for number in range(1000)]
    deadlines = [Keepalive(20, 20, 100 + share, share).deadline for share in shares]
    assert len(set(deadlines)) <= 100
    for share, deadline in zip(shares, deadlines, strict=True):
        assert 0 <= deadline - (100 + share + 20 * share) < 0.21


def test_a_client_that_answers_is_pinged_again() -> None:
    """At the same interval, and with one look at it for each ping."""
    keepalive = Keepalive(25, 25, now=0)
    client = Client()
    for number in range(1, 5):
        assert keepalive.deadline == 25 * number
        assert keepalive.check(25 * number, client) is Verdict.PING
        client.frames += 1


def test_an_answer_may_take_longer_than_the_interval() -> None:
    """There is one ping at a time."""
    keepalive = Keepalive(10, 25, now=0)
    client = Client()
    assert keepalive.check(10, client) is Verdict.PING
    assert keepalive.check(20, client) is Verdict.WAIT
    client.frames += 1
    assert keepalive.check(35, client) is Verdict.PING


def test_a_client_that_answers_nothing_is_given_up() -> None:
    """Its kernel has confirmed the ping, but that is not the client's doing."""
    keepalive = Keepalive(25, 20, now=0)
    client = Client()
    assert keepalive.check(25, client) is Verdict.PING
    client.confirmed += 2
    assert keepalive.check(44.9, client) is Verdict.WAIT
    assert keepalive.check(45, client) is Verdict.GIVE_UP


@pytest.mark.parametrize(
    ("sign", "amount"),
    [("frames", 1), ("read", MIN_PROGRESS), ("unread", 1), ("unread", FULL)],
)
def test_what_excuses_a_missing_pong(sign: str, amount: int) -> None:
    """A frame, much of a frame, or that the pong is behind what nobody receives."""
    keepalive = Keepalive(25, 20, now=0)
    client = Client()
    assert keepalive.check(25, client) is Verdict.PING
    setattr(client, sign, amount)
    assert keepalive.check(45, client) is Verdict.WAIT
    assert keepalive.check(50, client) is Verdict.PING


def test_a_few_bytes_of_a_frame_excuse_nothing() -> None:
    """A client could send one now and then for ever."""
    keepalive = Keepalive(25, 20, now=0)
    client = Client()
    assert keepalive.check(25, client) is Verdict.PING
    client.read += MIN_PROGRESS - 1
    assert keepalive.check(45, client) is Verdict.GIVE_UP


def test_a_client_that_reads_slowly_is_not_given_up() -> None:
    """The ping is behind what it hasn't read, of which it reads a bit."""
    keepalive = Keepalive(25, 20, now=0)
    client = Client(is_blocked=True)
    for now in range(25, 500):
        client.confirmed += 1
        assert keepalive.check(now, client) is not Verdict.GIVE_UP


def test_a_client_that_does_not_read_is_given_up() -> None:
    """Though it sends pongs: a sender waits for it."""
    keepalive = Keepalive(25, 20, now=0)
    client = Client(is_blocked=True, confirmed=1000)
    verdicts = []
    while Verdict.GIVE_UP not in verdicts:
        assert keepalive.deadline <= 70
        client.frames += 1
        verdicts.append(keepalive.check(keepalive.deadline, client))
    assert verdicts == [Verdict.PING, Verdict.GIVE_UP]


def test_a_client_that_reads_again_is_not_given_up() -> None:
    """What it has read makes up for the time before."""
    keepalive = Keepalive(25, 20, now=0)
    client = Client(is_blocked=True)
    assert keepalive.check(25, client) is Verdict.PING
    client.is_blocked = False
    client.frames += 1
    assert keepalive.check(45, client) is Verdict.WAIT
    assert keepalive.check(50, client) is Verdict.PING


def test_without_a_timeout_nobody_is_given_up() -> None:
    """Pings may be there for a proxy that cuts silent connections."""
    keepalive = Keepalive(25, None, now=0)
    client = Client(is_blocked=True)
    for number in range(1, 100):
        assert keepalive.check(25 * number, client) is Verdict.PING


# On connections


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


def test_a_client_whose_messages_pile_up_is_not_given_up(flavour: Flavour) -> None:
    """Its pongs are behind messages that the handler hasn't received."""
    ws, peer = flavour.connect(ping_interval=0.02, ping_timeout=PONG_PATIENCE)
    peer.send(frame(TEXT) * 2 * MAX_MESSAGES_AHEAD)
    for _ in range(4):
        assert peer.read() == (PING, b"")
        peer.send(frame(PONG))
    assert not ws.closed
    assert ws.receive() == ""


def test_a_client_that_trickles_a_frame_is_given_up(flavour: Flavour) -> None:
    """A byte now and then is no answer."""
    ws, peer = flavour.connect(ping_interval=0.05, ping_timeout=0.3)
    receiver = flavour.spawn(ws.receive)

    def trickle() -> None:
        with contextlib.suppress(OSError):
            for byte in frame(TEXT, b"x" * 10_000):
                peer.send(bytes((byte,)))
                flavour.sleep(0.02)

    trickler = flavour.spawn(trickle)
    assert receiver.result() is None
    assert ws.close_reason == "keepalive ping timeout"
    peer.socket.close()
    trickler.result()


def test_a_client_that_sends_pongs_but_does_not_read_is_given_up(
    flavour: Flavour,
) -> None:
    """A send to it ends, and raises."""
    ws, peer = flavour.connect(tcp=True, ping_interval=0.05, ping_timeout=0.3)

    def pretend() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer.send(frame(PONG))
                flavour.sleep(0.02)

    pretender = flavour.spawn(pretend)
    with pytest.raises(ConnectionClosed, match="keepalive ping timeout"):
        ws.send(bytes(2**26))
    peer.socket.close()
    pretender.result()
