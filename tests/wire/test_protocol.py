from __future__ import annotations

import typing as t

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate

from flask_sockets import ConnectionClosed
from flask_sockets.wire import protocol
from flask_sockets.wire.protocol import Options, Protocol
from flask_sockets.wire.writer import OutputEnded

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
    while protocol.read_messages() and protocol.read_frame(ahead):
        pass
    messages = list(protocol.messages)
    protocol.messages.clear()
    return messages


def taken(protocol: Protocol) -> list[bytes]:
    """All the control frames that are due, as they would be sent."""
    due, protocol.frames_due = protocol.frames_due, []
    return due


def test_plain_messages_do_not_concern_who_sends() -> None:
    """Nothing else is needed for them, so that no lock is taken for each."""
    protocol = create()
    protocol.receive_data(frame(TEXT, b"a") + frame(BINARY, b"b") + frame(TEXT, b"c"))
    assert not protocol.read_messages()
    assert list(protocol.messages) == ["a", b"b", "c"]
    assert (protocol.received.messages, protocol.received.bytes) == (3, 3)


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
        frame(PING),
        frame(TEXT, b"\xff"),
        frame(TEXT, b"a", fin=False),
        frame(TEXT, masked=False),
    ],
    ids=["close", "ping", "not UTF-8", "fragment", "unmasked"],
)
def test_what_is_no_plain_message_waits_for_those_before_it(behind: bytes) -> None:
    """The handler may still answer these."""
    protocol = create()
    protocol.receive_data(frame(TEXT, b"first") + behind)
    assert protocol.read_messages()
    assert not protocol.read_frame(ahead=False)
    assert not protocol.is_closed
    assert not protocol.frames_due
    protocol.messages.clear()
    assert protocol.read_messages()
    assert protocol.read_frame(ahead=False)


def test_reading_ahead_waits_for_nothing() -> None:
    """A ping or Close is taken in though nobody receives."""
    protocol = create()
    read_ahead = read(
        protocol, frame(TEXT, b"a"), frame(PING), close_frame(), ahead=True
    )
    assert read_ahead == ["a"]
    assert protocol.is_over
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
        "server": lambda: protocol.send_close(4001, "s"),
        "loss": protocol.receive_eof,
        "silence": protocol.give_up,
    }
    actions.pop(first)()
    expected = {
        "client": (4000, "c", "client"),
        "server": (4001, "s", "server"),
        "loss": (1006, "", "client"),
        "silence": (1006, "keepalive ping timeout", "server"),
    }[first]
    for _ in range(2):
        found = (protocol.close_code, protocol.close_reason, protocol.closed_by)
        assert found == expected
        for action in actions.values():
            action()


def test_nothing_is_sent_when_closed() -> None:
    """The error has the code and the reason."""
    protocol = create(deflate=True)
    read(protocol, close_frame(4000, "bye"))
    for opcode in (PING, PONG):
        with pytest.raises(ConnectionClosed) as caught:
            protocol.send_control(opcode, b"")
        assert (caught.value.code, caught.value.reason) == (4000, "bye")
    with pytest.raises(OutputEnded):
        protocol.compress(TEXT, b"x")


def test_nothing_is_kept_after_the_end() -> None:
    """Neither what came behind the Close nor what comes later."""
    protocol = create()
    assert read(protocol, close_frame(), frame(TEXT, bytes(1000))) == []
    assert read(protocol, frame(TEXT, bytes(1000))) == []
    assert not protocol._buffer


def test_many_messages_leave_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even empty ones, of which any number would be within the limit of bytes."""
    monkeypatch.setattr(protocol, "MAX_MESSAGES_AHEAD", 3)
    ahead = create()
    for count in range(4):
        assert ahead.has_room() == (count < 3)
        ahead.receive_data(frame(TEXT))
        ahead.read_messages()
