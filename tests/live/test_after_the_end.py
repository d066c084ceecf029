"""What is on the wire after the end of a WebSocket: nothing."""

from __future__ import annotations

import typing as t

import pytest

from ..frames import close_frame, frame
from .clients import Raw, handshake
from .ways import WAYS, Served, shared

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module", params=shared(WAYS, __name__))
def served(request: pytest.FixtureRequest) -> t.Iterator[Served]:
    with request.param.serve("bare:app") as server:
        server.expected += [r"RuntimeError: expected$"]
        yield Served(request.param, server)
        # What was never answered was never asked either.
        assert "smuggled" not in server.log.lower()
        server.assert_log_is_clean()


def ends(served: Served) -> dict[str, bytes]:
    """By path, the Close frame with which the server ends the connection."""
    reason = "RuntimeError: expected" if served.way.is_debug else ""
    return {
        "/return": close_frame(1000, masked=False),
        "/close": close_frame(4000, "go", masked=False),
        "/raise": close_frame(1011, reason, masked=False),
    }


@pytest.mark.parametrize("path", ["/return", "/close", "/raise"])
def test_end_of_the_stream_follows_the_close_frame(served: Served, path: str) -> None:
    """Byte for byte: the Close frame, and when the client has answered it, the end."""
    with Raw(served.server.port) as raw:
        raw.connect(path)
        expected = ends(served)[path]
        assert raw.read(len(expected)) == expected
        raw.send(close_frame(1000))
        assert raw.read_all() == b""


@pytest.mark.parametrize("path", ["/return", "/close", "/raise"])
def test_request_after_the_close_frame_is_not_answered(
    served: Served, path: str
) -> None:
    """A request right behind the client's Close frame isn't one."""
    with Raw(served.server.port) as raw:
        raw.connect(path)
        expected = ends(served)[path]
        raw.send(close_frame(1000) + SMUGGLED)
        assert raw.read_all() == expected


def test_request_in_place_of_the_close_frame_is_not_answered(served: Served) -> None:
    """A client that speaks HTTP after the server's Close frame is hung up on."""
    with Raw(served.server.port) as raw:
        raw.connect("/close")
        raw.send(SMUGGLED)
        assert raw.read_all() == close_frame(4000, "go", masked=False)


def test_request_after_the_clients_own_close_is_not_answered(served: Served) -> None:
    """The same where it is the client who closes."""
    with Raw(served.server.port) as raw:
        raw.connect("/echo")
        raw.send(frame(1, b"hello"))
        assert raw.read_frame() == (1, b"hello")
        raw.send(close_frame(4001, "bye") + SMUGGLED)
        assert raw.read_all() == close_frame(4001, "bye", masked=False)


def test_request_while_the_websocket_is_open_is_not_answered(served: Served) -> None:
    """HTTP on an open WebSocket is a protocol error."""
    with Raw(served.server.port) as raw:
        raw.connect("/echo")
        raw.send(SMUGGLED)
        opcode, payload = raw.read_frame()
        assert (opcode, payload[:2]) == (8, (1002).to_bytes(2, "big"))
        assert raw.read_all() == b""


def test_request_behind_the_handshake_is_not_answered(served: Served) -> None:
    """A request in the same packet as the handshake is not answered either, nor
    later."""
    with Raw(served.server.port) as raw:
        raw.send(handshake("/close") + SMUGGLED)
        assert raw.read_response()[0] == 101
        raw.send(close_frame(1000) + SMUGGLED)
        assert raw.read_all() == close_frame(4000, "go", masked=False)


def test_half_a_frame_at_the_end_is_not_answered(served: Served) -> None:
    """A client that stops in the middle of a frame gets nothing more."""
    with Raw(served.server.port) as raw:
        raw.connect("/echo")
        raw.send(frame(1, b"hello")[:4])
        raw.socket.shutdown(1)
        assert raw.read_all() == b""


def test_refused_handshake_keeps_the_connection(served: Served) -> None:
    """After a handshake that was answered with HTTP, the next request on the same
    connection is answered too, and then it can become a WebSocket."""
    if not served.way.keeps_alive or served.way.is_stock:
        pytest.skip("the server closes the connection after each such request")
    with Raw(served.server.port) as raw:
        raw.send(handshake("/nowhere"))
        assert raw.read_response()[0] == 404
        raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, _, body = raw.read_response()
        assert (status, body) == (200, b"Hello World!")
        raw.connect("/echo")
        raw.send(frame(1, b"hello"))
        assert raw.read_frame() == (1, b"hello")


def test_server_still_serves(served: Served) -> None:
    """After all that, the next client is served."""
    assert served.server.get("/").body == "Hello World!"
