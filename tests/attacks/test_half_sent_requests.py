"""Requests that never end don't take the place of others for ever."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import typing as t

import pytest

from ..live.clients import WebsocketsClient, handshake
from ..live.ways import WORKER
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


@pytest.mark.parametrize(
    "act", [send_half, send_nothing, send_slowly], ids=lambda act: act.__name__
)
def test_requests_that_never_end_let_others_in(
    act: t.Callable[[Attacker, threading.Event], None],
) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serve(CROWDED))
        attackers = [
            stack.enter_context(Attacker(server.port)) for _ in range(CONNECTIONS)
        ]
        acts = [lambda stop, raw=raw: act(raw, stop) for raw in attackers]
        with running(*acts):
            client = WebsocketsClient(server.url("/echo"))
            client.send("hello")
            assert client.receive() == "hello"
            client.close()
