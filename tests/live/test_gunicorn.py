"""What gunicorn's options say, and how a worker ends and fills up."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import socket
import ssl
import struct
import typing as t

import pytest

from ..frames import frame
from .clients import Closed, Raw, WebsocketsClient, connect, handshake
from .processes import Server
from .ways import WORKER, Way, with_tls

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def worker(*arguments: str) -> Way:
    return dataclasses.replace(WORKER, command=(*WORKER.command, *arguments))


def test_worker_restarts_after_so_many_requests() -> None:
    """'--max-requests' counts requests and handshakes, and tells open WebSockets."""
    with worker("--max-requests", "3").serve("bare:app") as server:
        with connect(WebsocketsClient, server.url("/wait")) as client:
            assert client.receive() == "welcome"
            assert server.get("/").status == 200
            assert "Autorestarting" not in server.log
            assert server.get("/").status == 200
            server.wait_for_log("Autorestarting worker after current request")
            with pytest.raises(Closed) as caught:
                client.receive()
            assert caught.value.code == 1012
        server.wait_for_log(r"(?s)app loaded.*app loaded")
        assert server.get("/").status == 200
        server.assert_log_is_clean()


V2_START = b"\r\n\r\n\0\r\nQUIT\n"
V4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("198.51.100.1")
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2
PORTS = struct.pack("!HH", 40000, 443)


def v2(command: int, family: int, data: bytes) -> bytes:
    return V2_START + struct.pack("!BBH", command, family, len(data)) + data


@pytest.fixture(scope="module")
def proxied() -> t.Iterator[Server]:
    with worker("--proxy-protocol", "auto").serve("bare:app") as server:
        yield server
        server.expected += ["Refused"]
        server.assert_log_is_clean()


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n", "203.0.113.7 40000"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n", "2001:db8::7 40000"),
        (v2(0x21, 0x11, V4 + PORTS), "203.0.113.7 40000"),
        (v2(0x21, 0x21, V6 + PORTS + b"more"), "2001:db8::7 40000"),
    ],
    ids=["v1-TCP4", "v1-TCP6", "v2-TCP4", "v2-TCP6"],
)
def test_proxy_says_who_its_client_is(
    proxied: Server, header: bytes, address: str
) -> None:
    """The PROXY protocol, before a handshake and before a page."""
    with Raw(proxied.port) as raw:
        raw.send(header + handshake("/address"))
        assert raw.read_response()[0] == 101
        assert raw.read_frame() == (1, address.encode())
    with Raw(proxied.port) as raw:
        for byte in header + GET:  # However it is cut.
            raw.send(bytes([byte]))
        assert raw.read_response()[0] == 200
        raw.send(GET)  # It is said once for all requests of a connection.
        assert raw.read_response()[0] == 200


@pytest.mark.parametrize(
    "header",
    [b"", b"PROXY UNKNOWN\r\n", v2(0x20, 0, b""), v2(0x21, 0, b"")],
    ids=["none", "v1-unknown", "v2-local", "v2-unspecified"],
)
def test_proxy_speaks_for_itself(proxied: Server, header: bytes) -> None:
    """A health check comes from the proxy."""
    with Raw(proxied.port) as raw:
        raw.send(header + handshake("/address"))
        assert raw.read_response()[0] == 101
        port = raw.socket.getsockname()[1]
        assert raw.read_frame() == (1, f"127.0.0.1 {port}".encode())


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 nowhere 198.51.100.1 40000 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 40000\r\n",
        b"PROXY " + b"x" * 200,
        v2(0x31, 0x11, V4 + PORTS),
        v2(0x21, 0x12, V4 + PORTS),
        v2(0x21, 0x11, V4),
    ],
    ids=["address", "words", "length", "version", "UDP", "short"],
)
def test_malformed_proxy_header_is_refused(proxied: Server, header: bytes) -> None:
    with Raw(proxied.port) as raw:
        raw.send(header + GET)
        assert raw.read_response()[0] == 400


def test_strangers_may_not_say_who_they_are() -> None:
    way = worker("--proxy-protocol", "--proxy-allow-from", "10.0.0.0/8")
    with way.serve("bare:app") as server:
        with Raw(server.port) as raw:
            raw.send(b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n" + GET)
            assert raw.read_response()[0] == 403
        server.wait_for_log("Refused '127.0.0.1'.*'--proxy-allow-from'")
        assert server.get("/").status == 200
        server.assert_log_is_clean()


def test_request_that_comes_after_the_stop_is_answered() -> None:
    """A client that has connected, and sends its request when the worker has been told
    to stop."""
    with WORKER.serve("bare:app") as server:
        with Raw(server.port) as raw, Raw(server.port) as kept:
            kept.send(GET)
            assert kept.read_response()[0] == 200
            # By the time that this one was answered, the first was accepted.
            server.signal(signal.SIGHUP)
            # This one waits between two requests, and is ended at once.
            assert kept.read_all() == b""
            raw.send(GET)
            status, _, body = raw.read_response()
            assert (status, body) == (200, b"Hello World!")
            assert raw.read_all() == b""
        server.assert_log_is_clean()


def test_full_worker_says_so() -> None:
    """Once, and in words that name the option. The next client waits its turn."""
    with worker("--worker-connections", "2").serve("bare:app") as server:
        with (
            connect(WebsocketsClient, server.url("/echo")) as one,
            connect(WebsocketsClient, server.url("/echo")),
            Raw(server.port) as raw,
        ):
            server.wait_for_log("has 2 connections open.*'--worker-connections'")
            raw.send(handshake("/echo") + frame(1, b"hello"))
            one.close()
            assert raw.read_response()[0] == 101
            assert raw.read_frame() == (1, b"hello")
        assert server.log.count("connections open") == 1
        server.assert_log_is_clean()


def test_sync_worker_is_told_apart() -> None:
    """It serves one WebSocket, and nothing else meanwhile: the first handshake says
    which worker serves many."""
    with dataclasses.replace(
        WORKER,
        command=tuple(
            "sync" if part == "flask_sockets.worker" else part
            for part in WORKER.command
        ),
    ).serve("bare:app") as server:
        for _ in range(2):
            with connect(WebsocketsClient, server.url("/echo")) as client:
                client.send("hello")
                assert client.receive() == "hello"
        server.wait_for_log(
            "one WebSocket at a time.*'gunicorn -k flask_sockets.worker'"
        )
        assert server.log.count("one WebSocket at a time") == 1
        server.assert_log_is_clean()


def test_plain_http_at_a_tls_port_is_one_line(certificate: tuple[str, str]) -> None:
    with with_tls(WORKER, certificate).serve("bare:app") as server:
        server.wait_for_log("takes up to")
        lines = len(server.log.splitlines())
        with Raw(server.port) as raw:
            raw.send(GET)
            raw.read_all()
        server.wait_for_log("TLS error from .*127.0.0.1")
        assert len(server.log.splitlines()) == lines + 1, server.log


def test_worker_that_stops_ends_what_waits_with_tls(
    certificate: tuple[str, str],
) -> None:
    """A handshake that doesn't go on, and a connection between two requests."""
    context = ssl._create_unverified_context()
    with with_tls(WORKER, certificate).serve("bare:app") as server:
        with Raw(server.port) as half, Raw(server.port) as kept:
            kept.socket = context.wrap_socket(kept.socket)
            kept.send(GET)
            assert kept.read_response()[0] == 200
            server.signal(signal.SIGTERM)
            assert kept.read_all() == b""
            assert half.read_all() == b""
        assert server.wait() == 0
        # The worker has ended it, and not been ended by its master.
        server.wait_for_log("TLS error from .*127.0.0.1")
        server.assert_log_is_clean()


def test_handler_may_take_longer_than_its_request() -> None:
    """'--timeout' limits how long a request takes to come, not what it does."""
    with worker("--timeout", "1").serve("bare:app") as server:
        with Raw(server.port) as raw:
            raw.connect("/slow?seconds=2")
            assert raw.read_frame() == (1, b"slow")
        server.assert_log_is_clean()


#: Runs a module with few descriptors: the first number of them, or the second if the
#: process asks for more.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (1010, 1500))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_worker_takes_as_many_connections_as_it_has_descriptors_for() -> None:
    """Unless it is told how many, as above. It asks for more than it has at first."""
    way = dataclasses.replace(WORKER, command=("-c", LIMITED, *WORKER.command))
    with way.serve("bare:app") as server:
        server.wait_for_log(
            "takes up to 1350 connections, having 1500 file descriptors"
        )
        with contextlib.ExitStack() as stack:
            # More than gunicorn's default.
            raws = [stack.enter_context(Raw(server.port)) for _ in range(1010)]
            for raw in raws[:5] + raws[-5:]:
                raw.send(GET)
                assert raw.read_response()[0] == 200
        assert "connections open" not in server.log
        server.assert_log_is_clean()


def test_request_that_is_none_is_one_line() -> None:
    """Whatever it contains, and however long it is."""
    with WORKER.serve("bare:app") as server:
        server.wait_for_log("takes up to")
        lines = len(server.log.splitlines())
        with Raw(server.port) as raw:
            raw.send(b"\x1b[31m\x9b" + b"x" * 1000 + b"\r\n\r\n")
            assert raw.read_response()[0] == 400
        line = server.wait_for_log("Refused a request: .*")[0]
        assert line.isprintable()
        assert len(line) < 300
        assert len(server.log.splitlines()) == lines + 1, server.log
