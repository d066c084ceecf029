from __future__ import annotations

import codecs
import os
import random
import socket
import time
import typing as t

import pytest
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from flask_sockets.wire import reader
from flask_sockets.wire.closing import engine_logger

from .. import wire
from ..wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    close_frame,
    frame,
)

#: In bytes, of one message.
LIMIT = 100_000

#: Seconds for all of it. The environment may ask for a longer run.
BUDGET = float(os.environ.get("FUZZ_SECONDS", "3"))

#: Whatever a frame says of its length, this completes it or is wrong in itself.
TAIL = bytes(LIMIT + 100)

SIZES = [0, 0, 1, 2, 5, 124, 125, 126, 127, 300, 65535, 65536]
TEXTS = [b"", b"plain", "é𝄞".encode() * 3, b"\xff", b"a\xc3", "𝄞".encode()[:2]]


class Outcome(t.NamedTuple):
    messages: list[str | bytes]
    code: int
    sent: list[wire.Frame]


def random_frame(rnd: random.Random) -> list[bytes]:
    """A frame, or those of a message. Most of them are valid."""
    payload = rnd.choice([rnd.choice(TEXTS[:3]), rnd.randbytes(rnd.choice(SIZES))])
    what = rnd.random()
    if what < 0.2:
        return [frame(BINARY, payload)]
    if what < 0.5:
        return [frame(TEXT, rnd.choice(TEXTS if rnd.random() < 0.1 else TEXTS[:3]))]
    if what < 0.65:
        return [frame(rnd.choice([PING, PONG]), payload[:125])]
    if what < 0.68:
        return [close_frame(rnd.choice([None, 1000, 1001, 4999, 1005, 0]), b"bye")]
    if what < 0.7:
        return [frame(CLOSE, payload[:2])]
    if what < 0.72:
        return [frame(CONTINUATION, payload)]
    # A fragmented message, which may lack its end and have others in between.
    opcode = rnd.choice([TEXT, BINARY])
    data = rnd.choice(TEXTS if rnd.random() < 0.1 else TEXTS[:3])
    if opcode == BINARY:
        data = payload
    cuts = sorted(rnd.randint(0, len(data)) for _ in range(rnd.randint(1, 4)))
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    result = []
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if is_last and rnd.random() < 0.05:
            break
        result.append(frame(CONTINUATION if number else opcode, part, fin=is_last))
        if not is_last and rnd.random() < 0.2:
            result.append(frame(PING, b"between"))
        if not is_last and rnd.random() < 0.02:
            result.append(close_frame(4000))
    return result


def mutate(rnd: random.Random, data: bytes) -> bytes:
    """A frame with a small mistake, mostly in its header."""
    changed = bytearray(data)
    position = rnd.randrange(min(len(changed), 14))
    what = rnd.random()
    if what < 0.7:
        changed[position] ^= 1 << rnd.randrange(8)
    elif what < 0.8:
        del changed[position]
    elif what < 0.9:
        changed.insert(position, rnd.randrange(256))
    else:
        del changed[position:]
    return bytes(changed)


def random_stream(rnd: random.Random) -> bytes:
    frames = [
        data for _ in range(rnd.randint(1, 12)) for data in random_frame(rnd)
    ] or [frame(TEXT)]
    if rnd.random() < 0.6:
        return b"".join(frames)
    position = rnd.randrange(len(frames))
    frames[position] = mutate(rnd, frames[position])
    return b"".join(frames) + TAIL


def expected_outcome(data: bytes) -> Outcome:
    """What the engine alone makes of the stream, byte by byte.

    It doesn't look at UTF-8, and takes a Close between fragments for an error.
    """
    engine = ServerProtocol(state=OPEN, max_size=LIMIT, logger=engine_logger)
    messages: list[str | bytes] = []
    parts: list[t.Any] = []
    decoder: t.Any = None
    for position in range(len(data)):
        engine.receive_data(data[position : position + 1])
        for event in engine.events_received():
            received: t.Any = event
            if received.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if received.opcode is not Opcode.CONT:
                is_text = received.opcode is Opcode.TEXT
                decoder = codecs.getincrementaldecoder("utf-8")() if is_text else None
                parts = []
            payload = bytes(received.data)
            try:
                parts.append(
                    decoder.decode(payload, received.fin) if decoder else payload
                )
            except UnicodeDecodeError:
                engine.fail(1007)
                break
            if received.fin:
                messages.append(("" if decoder else b"").join(parts))
        if engine.eof_sent:
            break
    if str(engine.parser_exc) == "incomplete fragmented message":
        close = engine.close_rcvd
    else:
        close = engine.close_rcvd or engine.close_sent
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = Peer(theirs)
        sent = engine.data_to_send()
        task = wire.Threads().spawn(ours.sendall, b"".join(sent))
        task.result()
        ours.shutdown(socket.SHUT_WR)
        frames = peer.read_to_end()
    return Outcome(messages, 1006 if close is None else int(close.code), frames)


def actual_outcome(rnd: random.Random, data: bytes) -> Outcome:
    """What a connection makes of it, in pieces as a network may deliver them."""
    flavour = wire.Threads()
    try:
        ws, peer = flavour.connect(max_size=LIMIT)
        messages: list[str | bytes] = []
        largest = rnd.choice([1, 10, 1000, 30_000]) if len(data) < 2000 else 30_000
        position = 0
        is_open = True
        while is_open and position < len(data):
            size = rnd.randint(1, largest)
            peer.send(data[position : position + size])
            position += size
            while is_open:
                try:
                    message = ws.receive(timeout=0)
                except TimeoutError:
                    break
                if message is None:
                    is_open = False
                else:
                    messages.append(message)
        peer.socket.shutdown(socket.SHUT_WR)
        if is_open:
            messages.extend(ws)
        ws.connection.finish(1000, "")
        assert ws.close_code is not None
        return Outcome(messages, ws.close_code, peer.read_to_end())
    finally:
        flavour.clean_up()


def simplified(outcome: Outcome) -> Outcome:
    """Without the words of a Close that one side finds for itself, and without the
    answer to a Close between fragments."""
    sent = [
        wire.Frame(
            CLOSE, outcome.code.to_bytes(2, "big") if outcome.code != 1005 else b""
        )
        if answer.opcode == CLOSE
        else answer
        for answer in outcome.sent
    ]
    return outcome._replace(sent=sent)


def test_the_fast_path_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages, close code and answers are those of the engine alone, wherever the
    stream is cut."""
    # Nobody but the receiver reads: that would do the same, at another time.
    monkeypatch.setattr(reader, "PATIENCE", 1000)
    first = int(os.environ.get("FUZZ_SEED", time.time_ns() % 10**9))
    end = time.monotonic() + BUDGET
    seed = first
    while seed < first + 20 or time.monotonic() < end:
        rnd = random.Random(seed)
        data = random_stream(rnd)
        expected = simplified(expected_outcome(data))
        actual = simplified(actual_outcome(rnd, data))
        # A limit of size says nothing about control frames.
        if (expected.code, actual.code) == (1009, 1002):
            expected = expected._replace(code=1002, sent=actual.sent)
        if actual != expected:
            pytest.fail(
                f"FUZZ_SEED={seed} shows a difference:\n{actual!r:.2000}\n"
                f"where the engine alone has:\n{expected!r:.2000}"
            )
        seed += 1
    print(f"{seed - first} streams from FUZZ_SEED={first}")
