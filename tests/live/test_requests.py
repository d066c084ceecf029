"""Requests that take too long to come, and requests that want to write on the log."""

from __future__ import annotations

import ssl
import typing as t

import pytest

from ..frames import frame
from ..process import until
from .clients import Raw, handshake
from .processes import Server
from .ways import PYWSGI, UNPATCHED, WORKER, WSRUN, Way, shared, with_tls

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def name_of(way: Way) -> str:
    return way.name


@pytest.fixture(scope="module", params=shared([PYWSGI, UNPATCHED, WSRUN], __name__))
def impatient(request: pytest.FixtureRequest) -> t.Iterator[Server]:
    with request.param.serve("impatient:app") as server:
        yield server
        server.assert_log_is_clean()


@pytest.mark.parametrize("start", [b"G", GET[:-2], handshake("/echo")[:-2]])
def test_half_a_request_is_given_up(impatient: Server, start: bytes) -> None:
    """A client that doesn't finish its request is told so, and its place is free."""
    with Raw(impatient.port) as raw:
        raw.send(start)
        assert raw.read_response()[0] == 408
        assert raw.read_all() == b""


def test_half_a_second_request_is_given_up(impatient: Server) -> None:
    """The same after a request that was answered."""
    with Raw(impatient.port) as raw:
        raw.send(GET)
        assert raw.read_response()[0] == 200
        raw.send(GET[:-2])
        assert raw.read_response()[0] == 408


def test_connection_without_a_request_is_ended(impatient: Server) -> None:
    """There is nothing to answer."""
    with Raw(impatient.port) as raw:
        assert raw.read_all() == b""


def test_connection_between_two_requests_is_ended(impatient: Server) -> None:
    with Raw(impatient.port) as raw:
        raw.send(GET)
        assert raw.read_response()[0] == 200
        assert raw.read_all() == b""


def test_handler_may_take_longer_than_its_request(impatient: Server) -> None:
    """Neither timeout is about what comes after the request."""
    with Raw(impatient.port) as raw:
        raw.connect("/slow?seconds=2")
        assert raw.read_frame() == (1, b"slow")


def test_gevents_own_server_can_leave_tls_handshakes_to_the_handler(
    certificate: tuple[str, str],
) -> None:
    """With 'do_handshake_on_connect=False' they are limited, and plain HTTP is one line
    in the log: otherwise the server itself would wait, and show a traceback."""
    context = ssl._create_unverified_context()
    with with_tls(PYWSGI, certificate).serve("impatient:app") as server:
        with Raw(server.port) as raw:
            raw.send(GET)
            raw.read_all()
        server.wait_for_log("TLS error from .*127.0.0.1.* http request")
        with Raw(server.port) as raw:
            assert raw.read_all() == b""
        with Raw(server.port) as raw:
            raw.socket = context.wrap_socket(raw.socket)
            raw.connect("/echo")
            raw.send(frame(1, b"hello"))
            assert raw.read_frame() == (1, b"hello")
        assert server.log.count("TLS error") == 1
        server.assert_log_is_clean()


#: What a terminal obeys, and what turns the direction of the text: as bytes of the
#: request line, and as what these become when the path is decoded.
EVIL = b"/\x1b[31m\x9b\xe2\x80\xae%1b%e2%80%ae%0afalse\x7f\"'\\"


@pytest.mark.parametrize("way", [PYWSGI, UNPATCHED, WORKER, WSRUN], ids=name_of)
def test_log_shows_what_a_client_has_written(way: Way) -> None:
    """All of it in printable characters, and in one line."""
    with way.serve("bare:app") as server:
        for head in (b"GET %s HTTP/1.1\r\nHost: localhost\r\n", None):
            with Raw(server.port) as raw:
                request = handshake("/nowhere").replace(b"/nowhere", EVIL)
                if head is not None:
                    request = head % EVIL + b"User-Agent: " + EVIL + b"\r\n\r\n"
                raw.send(request)
                assert raw.read_response()[0] in (400, 404)
        until(lambda: server.log.count("HTTP/1.1") == 2, "two lines in the log")
        lines = [line for line in server.log.splitlines() if "HTTP/1.1" in line]
        assert len(lines) == 2
        for line in lines:
            assert line.isprintable(), ascii(line)
            assert r"\x1b[31m" in line
        server.assert_log_is_clean()
