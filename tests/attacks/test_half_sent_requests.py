"""Requests that never end don't take the place of others for ever."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import ssl
import threading
import typing as t

import pytest
from websockets.sync.client import connect

from ..live.clients import WebsocketsClient, handshake
from ..live.processes import Server
from ..live.ways import WORKER, with_tls
from ..process import PATIENCE
from .attackers import Attacker, running
from .target import serve

#: How many connections the attacked worker takes.
CONNECTIONS = 9

CROWDED = dataclasses.replace(
    WORKER,
    command=(
        *WORKER.command,
        "--worker-connections",
        str(CONNECTIONS),
        "--timeout",
        "3",
    ),
)

HALF = handshake("/echo")[:-2]

#: What a TLS handshake begins with: the header of a record that never comes.
HALF_TLS = b"\x16\x03\x01\x02\x00"


def send_half(raw: Attacker, stop: threading.Event) -> None:
    raw.send(HALF)
    stop.wait()


def send_nothing(raw: Attacker, stop: threading.Event) -> None:
    stop.wait()


def send_slowly(raw: Attacker, stop: threading.Event) -> None:
    """A header that never ends."""
    raw.send(HALF + b"X-Slow: ")
    while not stop.wait(0.2):
        raw.send(b"x")


def send_half_of_tls(raw: Attacker, stop: threading.Event) -> None:
    raw.send(HALF_TLS)
    stop.wait()


@pytest.fixture(scope="module")
def server() -> t.Iterator[Server]:
    """All who don't use TLS attack it, one kind after the other."""
    with serve(CROWDED) as server:
        yield server


@pytest.mark.xdist_group(__name__)
@pytest.mark.parametrize(
    "act", [send_half, send_nothing, send_slowly], ids=lambda act: act.__name__
)
def test_requests_that_never_end_let_others_in(
    server: Server, act: t.Callable[[Attacker, threading.Event], None]
) -> None:
    with contextlib.ExitStack() as stack:
        attackers = [
            stack.enter_context(Attacker(server.port)) for _ in range(CONNECTIONS)
        ]
        acts = [lambda stop, raw=raw: act(raw, stop) for raw in attackers]
        with running(*acts):
            client = WebsocketsClient(server.url("/echo"))
            client.send("hello")
            assert client.receive() == "hello"
            client.close()


def test_tls_handshakes_that_never_end_let_others_in(
    certificate: tuple[str, str],
) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serve(with_tls(CROWDED, certificate)))
        acts = []
        for number in range(CONNECTIONS):
            raw = stack.enter_context(Attacker(server.port))
            act = send_nothing if number % 2 else send_half_of_tls
            acts.append(functools.partial(act, raw))
        with running(*acts):
            context = ssl._create_unverified_context()
            url = server.url("/echo", "wss")
            with connect(url, ssl=context, open_timeout=PATIENCE) as client:
                client.send("hello")
                assert client.recv(PATIENCE) == "hello"
        server.wait_for_log("TLS error from .*: The handshake took longer than 3 sec")
        server.assert_log_is_clean()
