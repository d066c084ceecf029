"""How a server hands over a connection: nothing is lost, and nothing hangs."""

from __future__ import annotations

import typing as t

import pytest

from ..frames import close_frame, frame
from .clients import Raw, handshake
from .ways import GEVENT_PYWSGI, WAYS, Served, shared


@pytest.fixture(scope="module", params=shared(WAYS, __name__))
def served(request: pytest.FixtureRequest) -> t.Iterator[Served]:
    with request.param.serve("bare:app") as server:
        yield Served(request.param, server)
        server.assert_log_is_clean()


def test_message_behind_the_handshake_is_received(served: Served) -> None:
    """A whole message in the same packet as the handshake comes back."""
    with Raw(served.server.port) as raw:
        raw.send(handshake("/echo") + frame(1, b"early"))
        assert raw.read_response()[0] == 101
        assert raw.read_frame() == (1, b"early")
        raw.send(frame(1, b"late"))
        assert raw.read_frame() == (1, b"late")


def test_half_a_message_behind_the_handshake_is_received(served: Served) -> None:
    """Half of a message, whose rest comes after the answer, is not read as frames of
    its own."""
    whole = frame(2, b"\x88\x80" * 40)
    with Raw(served.server.port) as raw:
        raw.send(handshake("/echo") + whole[:30])
        assert raw.read_response()[0] == 101
        raw.send(whole[30:])
        assert raw.read_frame() == (2, b"\x88\x80" * 40)


def test_many_messages_behind_the_handshake_are_received(served: Served) -> None:
    """More than fits into any server's buffer."""
    messages = [b"%d " % number + bytes(1000) for number in range(40)]
    with Raw(served.server.port) as raw:
        raw.send(handshake("/echo") + b"".join(frame(2, m) for m in messages))
        assert raw.read_response()[0] == 101
        assert [raw.read_frame() for _ in messages] == [(2, m) for m in messages]


def test_close_behind_the_handshake_is_answered(served: Served) -> None:
    """A client that closes at once."""
    with Raw(served.server.port) as raw:
        raw.send(handshake("/echo") + close_frame(4001, "bye"))
        assert raw.read_response()[0] == 101
        assert raw.read_all() == close_frame(4001, "bye", masked=False)


def test_request_behind_a_refused_handshake_is_answered(served: Served) -> None:
    """Looking for messages leaves the next request where it was."""
    if not served.way.keeps_alive or served.way.is_stock:
        pytest.skip("the server closes the connection after each such request")
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last_request = request[:-2] + b"Connection: close\r\n\r\n"
    with Raw(served.server.port) as raw:
        raw.send(request + last_request)
        if raw.read_all().count(b"Hello World!") == 1:
            pytest.skip("the server loses a request that comes together with another")
    with Raw(served.server.port) as raw:
        raw.send(handshake("/nowhere") + request)
        assert raw.read_response()[0] == 404
        status, _, body = raw.read_response()
        assert (status, body) == (200, b"Hello World!")


@pytest.mark.parametrize("when", ["started", "hook", "handler", "accepted"])
def test_handshake_has_an_empty_body(served: Served, when: str) -> None:
    """Reading the body of a handshake gives nothing, at once, wherever it is read, and
    takes no message."""
    with Raw(served.server.port) as raw:
        raw.send(handshake(f"/body?when={when}") + frame(1, b"early"))
        assert raw.read_response()[0] == 101
        assert raw.read_frame() == (1, b"b'' early")


def test_body_is_read_where_a_proxy_says_upgrade(served: Served) -> None:
    """With every request, as many a configuration of nginx has it. What comes next on
    the connection is a request of its own."""
    if served.way.is_stock or served.way is GEVENT_PYWSGI:
        pytest.skip("gevent's own handler waits for a body that was read")
    body = b"user=Ada"
    request = (
        b"POST /body HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    with Raw(served.server.port) as raw:
        for _ in range(2 if served.way.keeps_alive else 1):
            raw.send(request)
            status, _, answer = raw.read_response()
            assert (status, answer) == (200, body)
