"""The states of a handshake: pending until it is answered, with 101 or with HTTP."""

from __future__ import annotations

import typing as t

import pytest

from flask_sockets.opening import AnsweredWithHTTP, Handshake, Opening

from . import wire

if t.TYPE_CHECKING:
    from flask_sockets.wire.connection import Connection


class Plain(Opening):
    """It is answered with a line, and remembers in which states it was asked."""

    __slots__ = ("error", "seen")

    def __init__(self, connection: Connection, is_foreign: bool = False) -> None:
        super().__init__(connection, is_foreign)
        self.seen: list[Handshake] = []
        self.error: Exception | None = None

    def make_answer(self, subprotocol: t.Any, headers: t.Any) -> bytes:
        self.seen.append(self.state)
        if self.error is not None:
            raise self.error
        return b"answer"

    def has_opened(self) -> None:
        self.seen.append(self.state)


class Stub:
    """A connection that only begins."""

    def __init__(self, transport: t.Any, begin: t.Callable[[bytes], None]) -> None:
        self.transport = transport
        self.begin = begin


@pytest.fixture
def flavour() -> t.Iterator[wire.Flavour]:
    flavour = wire.Threads()
    yield flavour
    flavour.clean_up()


def opening_of(
    flavour: wire.Flavour,
    begin: t.Callable[[bytes], None] = lambda answer: None,
    is_foreign: bool = False,
) -> Plain:
    server, _ = flavour.pair()
    connection: t.Any = flavour.websocket(server).connection
    return Plain(t.cast(t.Any, Stub(connection.transport, begin)), is_foreign)


def test_it_is_too_late_for_http_while_the_answer_goes_out(
    flavour: wire.Flavour,
) -> None:
    during = []
    opening = opening_of(flavour, lambda answer: during.append((answer, opening.state)))
    assert not opening.state.is_switched
    assert opening.accept(None, None)
    assert during == [(b"answer", Handshake.ACCEPTING)]
    assert during[0][1].is_switched
    assert opening.seen == [Handshake.PENDING, Handshake.ACCEPTED]


def test_it_is_answered_once(flavour: wire.Flavour) -> None:
    opening = opening_of(flavour)
    assert opening.accept(None, None)
    assert not opening.accept(None, None)
    assert not opening.refuse()
    assert opening.state is Handshake.ACCEPTED
    refused = opening_of(flavour)
    assert refused.refuse()
    with pytest.raises(AnsweredWithHTTP):
        refused.accept(None, None)
    assert refused.seen == []


def test_http_can_answer_what_could_not_begin(flavour: wire.Flavour) -> None:
    """With too many threads, or with a header that can't be sent."""

    def begin(answer: bytes) -> None:
        raise RuntimeError("can't start new thread")

    opening = opening_of(flavour, begin)
    with pytest.raises(RuntimeError, match="new thread"):
        opening.accept(None, None)
    assert opening.refuse()
    opening = opening_of(flavour)
    opening.error = ValueError("no such subprotocol")
    with pytest.raises(ValueError, match="no such"):
        opening.accept(None, None)
    assert opening.state is Handshake.PENDING


def test_what_the_server_has_answered_is_never_left_to_http(
    flavour: wire.Flavour,
) -> None:
    opening = opening_of(flavour, is_foreign=True)
    assert opening.state.is_switched
    assert not opening.refuse()
    assert opening.accept(None, None)
    assert opening.seen == [Handshake.FOREIGN, Handshake.ACCEPTED]
