"""What a client has sent doesn't stay in memory, and what waits is counted in bytes."""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from ..frames import BINARY, CONTINUATION, TEXT, frame
from ..live.processes import Server
from ..live.ways import FLASK_RUN, WORKER, shared
from .attackers import DEFLATE, Attacker, compressed
from .target import resident, serve, settled

MIB = 2**20

#: The largest message, in the config of the attacked app.
SIZE = 4 * MIB
CLIENTS = 4

EMOJI = "😀".encode()
ASCII_AND_EMOJI = b"x" * (SIZE - 4) + EMOJI

MESSAGES = {
    "binary": frame(BINARY, bytes(SIZE)),
    "text": frame(TEXT, b"x" * SIZE),
    # Python takes four bytes for each character then.
    "text with an emoji": frame(TEXT, ASCII_AND_EMOJI),
    "fragments": frame(TEXT, b"x" * (SIZE // 2), fin=False)
    + frame(CONTINUATION, b"x" * (SIZE // 2)),
    "compressed": compressed(b"x" * SIZE),
    "compressed with an emoji": compressed(ASCII_AND_EMOJI),
}


@pytest.fixture(scope="module", params=shared([WORKER, FLASK_RUN], __name__))
def server(request: pytest.FixtureRequest) -> t.Iterator[Server]:
    config = {
        "SOCKETS_MAX_MESSAGE_SIZE": SIZE,
        "SOCKETS_MAX_READ_AHEAD": SIZE,
        "SOCKETS_COMPRESSION": True,
    }
    with serve(request.param, **config) as server:
        yield server


def test_messages_that_were_delivered_do_not_stay_in_memory(server: Server) -> None:
    """Of each kind, none of the clients has more than a tenth of it in memory."""
    kept = {}
    with contextlib.ExitStack() as stack:
        for kind, data in MESSAGES.items():
            clients = []
            for _ in range(CLIENTS):
                client = stack.enter_context(Attacker(server.port))
                client.shake_hands("/swallow", **DEFLATE)
                client.send(frame(TEXT, b"small"))
                assert client.read_message() == b"5"
                clients.append(client)
            before = resident(server)
            for client in clients:
                client.send(data)
                client.read_message()
            after = min(
                resident(server), settled(lambda: resident(server) // MIB) * MIB
            )
            kept[kind] = (after - before) / CLIENTS
    assert {kind: size for kind, size in kept.items() if size > SIZE / 10} == {}


def test_what_is_read_ahead_is_counted_in_bytes(server: Server) -> None:
    """Of text that takes four bytes for each character no more is read ahead than of
    binary messages."""
    taken = {}
    messages = {
        "binary": frame(BINARY, bytes(65536)),
        "text": frame(TEXT, EMOJI * (65536 // 4)),
    }
    for kind, data in messages.items():
        with Attacker(server.port) as client:
            client.shake_hands("/ignore")
            client.read_message()
            taken[kind] = client.send_what_fits(data, 1.0)
    assert taken["binary"] >= SIZE
    assert taken["text"] <= 1.5 * taken["binary"]
