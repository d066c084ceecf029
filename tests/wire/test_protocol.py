from __future__ import annotations

import typing as t
import zlib

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate

from flask_sockets.wire import protocol
from flask_sockets.wire.protocol import FRAMES_AT_ONCE, Options, Progress, Protocol

from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame


def create(deflate: bool = False, **options: t.Any) -> Protocol:
    """A protocol without limits, unless they are given."""
    values: dict[str, t.Any] = {
        "max_message_size": None,
        "ping_interval": None,
        "ping_timeout": None,
        "max_fragments": None,
        "max_read_ahead": 2**20,
    }
    extensions = [PerMessageDeflate(False, False, 15, 15)] if deflate else []
    return Protocol(Options(**values | options), extensions)


def read(protocol: Protocol, *data: bytes, ahead: bool = False) -> list[str | bytes]:
    """What there is to receive after these bytes."""
    protocol.receive_data(b"".join(data))
    while (progress := protocol.read(ahead)) in (Progress.MORE, Progress.END):
        if progress is Progress.END:
            protocol.read_end()
    messages = list(protocol.messages)
    protocol.messages.clear()
    return messages


def taken(protocol: Protocol) -> list[bytes]:
    """All the control frames that are due, as they would be sent."""
    due = protocol.pongs + protocol.closing.frames_due
    protocol.pongs, protocol.closing.frames_due = [], []
    return due


def test_a_stream_may_be_cut_anywhere() -> None:
    """Byte by byte, plain messages, fragments and control frames mix."""
    protocol = create()
    stream = (
        frame(TEXT, b"plain")
        + frame(TEXT, b"in ", fin=False)
        + frame(PING, b"between")
        + frame(CONTINUATION, b"two")
        + frame(BINARY, b"x" * 300)
    )
    messages = [m for byte in stream for m in read(protocol, bytes((byte,)))]
    assert messages == ["plain", "in two", b"x" * 300]
    assert taken(protocol) == [b"\x8a\x07between"]


@pytest.mark.parametrize(
    "behind",
    [
        close_frame(4000),
        frame(TEXT, b"\xff"),
        frame(TEXT, b"\xff", fin=False),
        frame(TEXT, masked=False),
        frame(BINARY, length=2**63),
    ],
    ids=["close", "not UTF-8", "fragment not UTF-8", "unmasked", "too large"],
)
def test_what_closes_waits_for_the_messages_before_it(behind: bytes) -> None:
    """The handler may still answer these."""
    protocol = create(max_message_size=1000)
    protocol.receive_data(frame(TEXT, b"first") + behind)
    for _ in range(2):
        assert protocol.read() is Progress.WAITING
        assert list(protocol.messages) == ["first"]
    assert protocol.closing.close is None
    protocol.messages.clear()
    assert protocol.read() is Progress.END
    protocol.read_end()
    assert protocol.closing.close is not None
    assert not protocol.messages


def test_what_is_compressed_waits_for_the_messages_before_it() -> None:
    """It may be a thousand times as large as the bytes that were read."""
    protocol = create(deflate=True)
    compressed = bytes.fromhex("f248cdc9c90700")  # RFC 7692 section 7.2.3.1
    protocol.receive_data(frame(TEXT, compressed, reserved=4) * 2)
    assert protocol.read() is Progress.WAITING
    assert list(protocol.messages) == ["Hello"]


def test_many_frames_are_read_in_turns() -> None:
    """Others may run in between, however many there are in one read."""
    protocol = create()
    count = 3 * FRAMES_AT_ONCE
    protocol.receive_data(frame(PING, b"x") * count)
    for turn in range(1, 4):
        assert protocol.read() is (Progress.MORE if turn < 3 else Progress.DRAINED)
        assert len(protocol.pongs) == turn * FRAMES_AT_ONCE
    assert protocol.frames_read == count


def test_what_nobody_wants_is_inflated_in_turns() -> None:
    protocol = create(deflate=True)
    compressor = zlib.compressobj(wbits=-15)
    compressed = compressor.compress(bytes(2**19))
    compressed += compressor.flush(zlib.Z_SYNC_FLUSH)
    protocol.is_discarding = True
    protocol.receive_data(frame(BINARY, compressed[:-4], reserved=4) * 5)
    assert protocol.read(ahead=True) is Progress.MORE
    assert protocol.frames_read == 2
    assert protocol.read(ahead=True) is Progress.MORE
    assert protocol.read(ahead=True) is Progress.DRAINED
    assert not protocol.has_unread


def test_reading_ahead_waits_for_nothing() -> None:
    """A ping or Close is taken in though nobody receives."""
    protocol = create()
    read_ahead = read(
        protocol, frame(TEXT, b"a"), frame(PING), close_frame(), ahead=True
    )
    assert read_ahead == ["a"]
    assert protocol.closing.is_over
    assert [data[0] & 0x0F for data in taken(protocol)] == [PONG, CLOSE]


def test_reading_ahead_inflates_no_more_than_there_is_room_for() -> None:
    """What was received makes room for what came compressed."""
    protocol = create(deflate=True, max_read_ahead=4)
    compressed = bytes.fromhex("f248cdc9c90700")  # RFC 7692 section 7.2.3.1
    stream = frame(TEXT, compressed, reserved=4) * 2
    assert read(protocol, stream, ahead=True) == ["Hello"]
    assert not protocol.messages
    assert read(protocol, ahead=True) == ["Hello"]


@pytest.mark.parametrize("first", ["client", "server", "loss", "silence"])
def test_whoever_closes_first_says_why(first: str) -> None:
    """The others may still close, but it makes no difference."""
    protocol = create()
    actions: dict[str, t.Callable[[], t.Any]] = {
        "client": lambda: read(protocol, close_frame(4000, "c")),
        "server": lambda: protocol.closing.send_close(4001, "s"),
        "loss": protocol.closing.lose,
        "silence": protocol.closing.give_up,
    }
    actions.pop(first)()
    expected = {
        "client": (4000, "c", "client"),
        "server": (4001, "s", "server"),
        "loss": (1006, "", "client"),
        "silence": (1006, "keepalive ping timeout", "server"),
    }[first]
    for _ in range(2):
        found = protocol.closing.close
        assert found == expected
        for action in actions.values():
            action()


def test_the_error_says_how_it_was_closed() -> None:
    """It has the code and the reason."""
    protocol = create()
    read(protocol, close_frame(4000, "bye"))
    error = protocol.closing.error("socket")
    assert (error.code, error.reason, error.websocket) == (4000, "bye", "socket")


def test_nothing_is_kept_after_the_end() -> None:
    """Neither what came behind the Close nor what comes later."""
    protocol = create()
    assert read(protocol, close_frame(), frame(TEXT, bytes(1000))) == []
    assert read(protocol, frame(TEXT, bytes(1000))) == []
    assert not protocol.has_unread


def test_many_messages_leave_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even empty ones, of which any number would be within the limit of bytes."""
    monkeypatch.setattr(protocol, "MAX_MESSAGES_AHEAD", 3)
    ahead = create()
    for count in range(4):
        assert ahead.has_room() == (count < 3)
        ahead.receive_data(frame(TEXT))
        ahead.read()


def test_a_text_takes_the_room_that_it_has_in_memory() -> None:
    """A single emoji makes each character take four bytes."""
    ahead = create(max_read_ahead=3000)
    ahead.receive_data(frame(TEXT, b"x" * 1000))
    ahead.read()
    assert ahead.has_room()
    ahead.messages.clear()
    ahead.receive_data(frame(TEXT, b"x" * 1000 + "\N{GRINNING FACE}".encode()))
    ahead.read()
    assert not ahead.has_room()
