"""Clients that answer nothing are let go, whatever else they do. Slow ones stay."""

from __future__ import annotations

import dataclasses
import threading
import time
import typing as t

import pytest

from ..frames import BINARY, PING, PONG, TEXT, frame
from ..live.processes import Server
from ..live.ways import FLASK_RUN, GTHREAD, WORKER, WSRUN, Way
from ..process import until
from .attackers import Attacker, is_readable, running
from .target import descriptors, open_names, serve, settled

#: Seconds, in the config of the attacked app.
PING_INTERVAL = 0.6
PING_TIMEOUT = 1.0

#: How many of these times an attacker may stay.
PERIODS = 6

#: What the kernel keeps for a client that doesn't read, in bytes.
SMALL = 4096

SIXTY_FOUR = frame(BINARY, bytes(65536))


class Client(t.NamedTuple):
    """A client by name, which does something until it is told to stop."""

    name: str
    act: t.Callable[[Attacker, threading.Event], None]
    path: str


def send_and_fall_silent(raw: Attacker, stop: threading.Event) -> None:
    """Never reads what it is echoed, then says nothing."""
    raw.send_what_fits(SIXTY_FOUR, PING_TIMEOUT / 3)
    stop.wait()


def never_read_but_trickle(raw: Attacker, stop: threading.Event) -> None:
    """Never reads what it is echoed, but goes on sending a byte at a time."""
    raw.send_what_fits(SIXTY_FOUR, PING_TIMEOUT / 3)
    while not stop.wait(PING_TIMEOUT / 6):
        raw.send(b"\0")


def trickle_into_a_stream(raw: Attacker, stop: threading.Event) -> None:
    """Never reads a stream, but sends a frame a byte at a time."""
    raw.send(frame(BINARY, bytes(10_000))[:8])
    while not stop.wait(PING_TIMEOUT / 6):
        raw.send(b"\0")


def send_pongs_into_a_stream(raw: Attacker, stop: threading.Event) -> None:
    """Never reads a stream, but sends pongs as if it did."""
    while not stop.wait(PING_TIMEOUT / 6):
        raw.send(frame(PONG))


def pile_up_and_fall_silent(raw: Attacker, stop: threading.Event) -> None:
    """Sends a handler that doesn't receive more than is read ahead."""
    raw.send(frame(TEXT, b"x") * 3000)
    stop.wait()


def trickle_a_frame(raw: Attacker, stop: threading.Event) -> None:
    """Sends a frame a byte at a time, and no pong."""
    raw.send(frame(BINARY, bytes(10_000))[:8])
    while not stop.wait(PING_TIMEOUT / 6):
        raw.send(b"\0")


def say_nothing(raw: Attacker, stop: threading.Event) -> None:
    stop.wait()


ATTACKERS = [
    Client("sends and falls silent", send_and_fall_silent, "/echo"),
    Client("never reads but trickles", never_read_but_trickle, "/echo"),
    Client("trickles into a stream", trickle_into_a_stream, "/stream?size=65536"),
    Client("sends pongs into a stream", send_pongs_into_a_stream, "/stream?size=65536"),
    Client("piles up and falls silent", pile_up_and_fall_silent, "/ignore"),
    Client("trickles a frame", trickle_a_frame, "/echo"),
    Client("trickles a frame to nobody", trickle_a_frame, "/ignore"),
    Client("says nothing", say_nothing, "/echo"),
    Client("says nothing to nobody", say_nothing, "/ignore"),
]


def answer_pings(raw: Attacker, stop: threading.Event) -> None:
    """Does nothing, but its library answers pings."""
    while not stop.is_set():
        if is_readable(raw.socket, 0.05):
            opcode, payload = raw.read_frame()
            if opcode == PING:
                raw.send(frame(PONG, payload))


def read_slowly(raw: Attacker, stop: threading.Event) -> None:
    """Reads a stream slowly. Each ping is a long way behind."""
    while not stop.wait(PING_TIMEOUT / 30):
        opcode, payload = raw.read_frame()
        if opcode == PING:
            raw.send(frame(PONG, payload))


def send_slowly(raw: Attacker, stop: threading.Event) -> None:
    """Sends frames that take a while each, and answers pings between them."""
    data = frame(BINARY, bytes(100))
    while True:
        for start in range(0, len(data), 20):
            raw.send(data[start : start + 20])
            if stop.wait(PING_TIMEOUT / 15):
                return
        while is_readable(raw.socket, 0):
            opcode, payload = raw.read_frame()
            if opcode == PING:
                raw.send(frame(PONG, payload))


SLOW = [
    Client("answers pings", answer_pings, "/echo"),
    Client("answers pings of nobody", answer_pings, "/ignore"),
    Client("reads slowly", read_slowly, "/stream?size=2000"),
    Client("sends slowly", send_slowly, "/swallow"),
]


def start(server: Server, client: Client) -> t.Callable[[threading.Event], None]:
    sign = "&" if "?" in client.path else "?"
    path = f"{client.path}{sign}name={client.name.replace(' ', '+')}"

    def run(stop: threading.Event) -> None:
        with Attacker(server.port, SMALL) as raw:
            raw.shake_hands(path)
            client.act(raw, stop)
            stop.wait()  # Even if the server hangs up.

    return run


@dataclasses.dataclass
class Attacked:
    """What was seen of a server that all of them were at."""

    names: t.Sequence[str]
    #: Who was still there when attackers have had all their time.
    left: set[str]
    #: How many descriptors the server had open before, and after them all.
    before: int
    after: int


def attack(way: Way) -> Attacked:
    clients = [*ATTACKERS, *SLOW]
    names = [client.name for client in clients]
    config = {
        "SOCKETS_PING_INTERVAL": PING_INTERVAL,
        "SOCKETS_PING_TIMEOUT": PING_TIMEOUT,
    }
    slow = {client.name for client in SLOW}
    with serve(way, **config) as server:
        server.get("/")  # Or the worker might still be about to start.
        before = settled(lambda: descriptors(server))
        with running(*(start(server, client) for client in clients)):
            until(lambda: open_names(server) == set(names), "not all have come")
            deadline = time.monotonic() + PERIODS * (PING_INTERVAL + PING_TIMEOUT)
            least = time.monotonic() + 2 * (PING_INTERVAL + PING_TIMEOUT)
            while True:
                now = time.monotonic()
                left = open_names(server)
                if now > deadline or (left <= slow and now > least):
                    break
                threading.Event().wait(0.1)
        until(lambda: not (open_names(server) & slow), "the slow ones don't leave")
        return Attacked(names, left, before, settled(lambda: descriptors(server)))


@pytest.mark.parametrize(
    "way", [WORKER, WSRUN, FLASK_RUN, GTHREAD], ids=lambda w: w.name
)
def test_clients_that_answer_nothing_are_let_go_and_slow_ones_stay(way: Way) -> None:
    seen = attack(way)
    slow = {client.name for client in SLOW}
    assert (sorted(seen.left - slow), sorted(slow - seen.left)) == ([], [])
    assert seen.after == seen.before
