"""What handlers and their surroundings do at a bad moment harms no message."""

from __future__ import annotations

import contextlib
import json
import re

import pytest

from ..frames import CLOSE, PING, TEXT, frame
from ..live.ways import FLASK_RUN, UNPATCHED, WORKER, WSRUN, Way
from ..process import until
from .attackers import Attacker
from .target import serve, settled


@pytest.mark.parametrize("way", [WORKER, FLASK_RUN], ids=lambda way: way.name)
def test_messages_reach_a_handler_whose_closed_others_look_at(way: Way) -> None:
    messages = [str(number) for number in range(6)]
    with serve(way) as server, Attacker(server.port) as client:
        client.shake_hands("/watched")
        assert client.read_message() == b"welcome"
        client.send(
            b"".join(frame(TEXT, message.encode()) for message in messages)
            + frame(CLOSE, b"\x03\xe8")
        )
        until(lambda: "end" in json.loads(server.get("/received").body), "its end")
        assert json.loads(server.get("/received").body) == [*messages, "end"]


@pytest.mark.parametrize("way", [WORKER, WSRUN, UNPATCHED], ids=lambda way: way.name)
def test_thread_that_sends_loses_nothing_or_is_refused_at_once(way: Way) -> None:
    """A thread of the operating system, whose client doesn't read for a while."""
    size, count = 2**16, 200  # More than the kernel takes.
    with (
        serve(way, SOCKETS_PING_INTERVAL=None) as server,
        Attacker(server.port, 4096) as client,
    ):
        client.shake_hands(f"/os-thread?size={size}&count={count}")
        assert client.read_message() == b"welcome"
        settled(lambda: int(server.get("/progress").body))
        received: list[bytes] = []
        while not received or len(received[-1]) > size:
            received.append(client.read_message())
        *received, outcome = received
    numbers = [int(message[:10]) for message in received]
    if outcome == b"done":
        assert numbers == list(range(count))
    else:
        assert numbers == []
        assert re.fullmatch(rb"RuntimeError: .*thread.*\.", outcome), outcome


def test_interrupted_compression_joins_no_messages() -> None:
    """Either the client gets whole messages, or the connection is lost."""
    size, count = 4 * 2**20, 20
    with (
        serve(WORKER, SOCKETS_COMPRESSION=True) as server,
        Attacker(server.port) as client,
    ):
        answer = client.shake_hands(
            f"/interrupted?size={size}&count={count}",
            Sec_WebSocket_Extensions="permessage-deflate",
        )
        assert "permessage-deflate" in answer
        received = []
        with contextlib.suppress(EOFError):
            while True:
                number, _, filler = client.read_message().partition(b":")
                assert (len(filler), filler.strip(b"x")) == (size, b"")
                received.append(int(number))
    assert received == sorted(set(received))


def test_pings_go_on_where_an_app_kills_all_greenlets() -> None:
    with (
        serve(WORKER, SOCKETS_PING_INTERVAL=0.5) as server,
        Attacker(server.port) as client,
    ):
        client.shake_hands("/echo")
        assert client.read_frame()[0] == PING
        assert server.get("/kill").body == "killed"
        with Attacker(server.port) as another:
            another.shake_hands("/echo")
            assert another.read_frame()[0] == PING


@pytest.mark.parametrize("way", [WORKER, FLASK_RUN], ids=lambda way: way.name)
def test_after_request_runs_once_where_accepting_fails(way: Way) -> None:
    with serve(way) as server, Attacker(server.port) as client:
        with pytest.raises(AssertionError, match="500"):
            client.shake_hands("/bad-accept")
        assert json.loads(server.get("/after").body) == 1
