"""What a client has sent doesn't stay in memory, and what waits is counted in bytes."""

from __future__ import annotations

import contextlib

import pytest

from ..frames import BINARY, CONTINUATION, TEXT, frame
from ..live.ways import FLASK_RUN, WORKER, Way
from .attackers import DEFLATE, Attacker, compressed
from .target import resident, serve, settled

MIB = 2**20

#: The largest message, in the config of the attacked app.
SIZE = 8 * MIB
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


@pytest.mark.parametrize("way", [WORKER, FLASK_RUN], ids=lambda way: way.name)
def test_messages_that_were_delivered_do_not_stay_in_memory(way: Way) -> None:
    """Of each kind, none of the clients has more than a tenth of it in memory."""
    kept = {}
    config = {"SOCKETS_MAX_MESSAGE_SIZE": SIZE, "SOCKETS_COMPRESSION": True}
    with serve(way, **config) as server, contextlib.ExitStack() as stack:
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


@pytest.mark.parametrize("way", [WORKER, FLASK_RUN], ids=lambda way: way.name)
def test_what_is_read_ahead_is_counted_in_bytes(way: Way) -> None:
    """Of text that takes four bytes for each character no more is read ahead than of
    binary messages."""
    config = {"SOCKETS_MAX_READ_AHEAD": SIZE}
    taken = {}
    messages = {
        "binary": frame(BINARY, bytes(65536)),
        "text": frame(TEXT, EMOJI * (65536 // 4)),
    }
    with serve(way, **config) as server:
        for kind, data in messages.items():
            with Attacker(server.port) as client:
                client.shake_hands("/ignore")
                client.read_message()
                taken[kind] = client.send_what_fits(data, 1.5)
    assert taken["binary"] >= SIZE
    assert taken["text"] <= 1.5 * taken["binary"]
