"""Those who don't read what is broadcast don't keep it from the others for long."""

from __future__ import annotations

import threading
import time
import typing as t

import pytest

from ..frames import BINARY, PONG, frame
from ..live.ways import FLASK_RUN, WORKER, Way
from ..process import until
from .attackers import Attacker, running
from .target import open_names, serve

#: Seconds, in the config of the attacked app.
PING_INTERVAL = 0.6
PING_TIMEOUT = 1.0

#: How many of these times a broadcast may take.
PERIODS = 5

SIZE = 2**16
#: More than the kernel takes for somebody who doesn't read.
MESSAGES = 200


def say_nothing(raw: Attacker, stop: threading.Event) -> None:
    stop.wait()


def send_pongs(raw: Attacker, stop: threading.Event) -> None:
    while not stop.wait(PING_TIMEOUT / 6):
        raw.send(frame(PONG))


@pytest.mark.parametrize("way", [WORKER, FLASK_RUN], ids=lambda way: way.name)
@pytest.mark.parametrize("act", [say_nothing, send_pongs], ids=lambda act: act.__name__)
def test_broadcast_goes_on_past_a_client_that_does_not_read(
    way: Way, act: t.Callable[[Attacker, threading.Event], None]
) -> None:
    config = {
        "SOCKETS_PING_INTERVAL": PING_INTERVAL,
        "SOCKETS_PING_TIMEOUT": PING_TIMEOUT,
    }
    with (
        serve(way, **config) as server,
        Attacker(server.port, 4096) as member,
        Attacker(server.port) as broadcaster,
    ):
        member.shake_hands("/listen?name=member")
        assert member.read_message() == b"welcome"
        broadcaster.shake_hands("/broadcast")
        with running(lambda stop: act(member, stop)):
            longest = 0.0
            limit = PERIODS * (PING_INTERVAL + PING_TIMEOUT)
            broadcaster.socket.settimeout(limit)
            for _ in range(MESSAGES):
                begin = time.monotonic()
                broadcaster.send(frame(BINARY, bytes(SIZE)))
                assert broadcaster.read_message() == b"done"
                longest = max(longest, time.monotonic() - begin)
        assert longest < limit
        until(lambda: not open_names(server), "the member has to go")
