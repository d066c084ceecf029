"""Pings of connections that were opened together don't come together."""

from __future__ import annotations

import contextlib
import select
import time

import pytest

from ..frames import PING
from ..live.ways import FLASK_RUN, WORKER, Way
from .attackers import Attacker
from .target import serve

#: Seconds, in the config of the attacked app.
PING_INTERVAL = 3.0

CLIENTS = 40


@pytest.mark.parametrize("way", [WORKER, FLASK_RUN], ids=lambda way: way.name)
def test_pings_of_connections_opened_together_are_spread(way: Way) -> None:
    """Less than half of them come within any tenth of the interval."""
    with (
        serve(way, SOCKETS_PING_INTERVAL=PING_INTERVAL) as server,
        contextlib.ExitStack() as stack,
    ):
        clients = {}
        for _ in range(CLIENTS):
            client = stack.enter_context(Attacker(server.port))
            client.shake_hands("/echo")
            clients[client.socket] = client
        times = []
        deadline = time.monotonic() + 4 * PING_INTERVAL
        while clients and time.monotonic() < deadline:
            for sock in select.select(list(clients), [], [], 1)[0]:
                assert clients.pop(sock).read_frame()[0] == PING
                times.append(time.monotonic())
    assert not clients
    together = max(
        sum(begin <= other < begin + PING_INTERVAL / 10 for other in times)
        for begin in times
    )
    assert together < CLIENTS / 2
