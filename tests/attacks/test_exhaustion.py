"""A server that has run out of something serves again once there is some left."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import signal

import pytest

from ..frames import TEXT, frame
from ..live.clients import handshake
from ..live.processes import Server
from ..live.ways import FLASK_RUN, PYWSGI, WORKER, WSRUN, Way
from .attackers import Attacker, is_readable
from .target import descriptors, serve, settled

#: How many more descriptors the server may have than it needs at first.
SPARE = 10


def limit_descriptors(server: Server) -> None:
    """Let the processes of a server have few more descriptors than they have."""
    for pid in server.members():
        limit = len(os.listdir(f"/proc/{pid}/fd")) + SPARE
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))


def echo(raw: Attacker) -> bytes:
    raw.shake_hands("/echo")
    raw.send(frame(TEXT, b"hello"))
    return raw.read_message()


@pytest.mark.parametrize("way", [WORKER, WSRUN, PYWSGI], ids=lambda way: way.name)
def test_server_without_descriptors_serves_again_when_clients_go(way: Way) -> None:
    with serve(way) as server:
        server.get("/")  # Or the worker might still be about to start.
        settled(lambda: descriptors(server))
        limit_descriptors(server)
        with contextlib.ExitStack() as stack:
            attackers = [
                stack.enter_context(Attacker(server.port)) for _ in range(5 * SPARE)
            ]
            for attacker in attackers:
                attacker.send(handshake("/echo"))
            settled(lambda: descriptors(server))
            answered = [is_readable(attacker.socket, 0) for attacker in attackers]
            assert not all(answered)
        with Attacker(server.port) as client:
            assert echo(client) == b"hello"


#: Leaves clients two seconds, and not the five of other tests.
HASTY = dataclasses.replace(
    WORKER, command=(*WORKER.command, "--graceful-timeout", "2")
)


@pytest.mark.parametrize("way", [HASTY, WSRUN, FLASK_RUN], ids=lambda way: way.name)
def test_server_ends_while_it_sends_to_a_client_that_does_not_read(way: Way) -> None:
    with serve(way) as server, Attacker(server.port, 4096) as client:
        client.shake_hands(f"/stream?size={15 * 2**20}")
        client.read(1)
        server.signal(signal.SIGTERM)
        server.wait()
