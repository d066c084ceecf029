"""The opening handshake, as pure functions of the WSGI environment."""

from __future__ import annotations

import re

import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.test import create_environ

from flask_sockets.handshake import (
    build_answer,
    check_request,
    choose_subprotocol,
    is_handshake,
    is_origin_allowed,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # From RFC 6455 section 1.3.


def environ(base_url="http://example.com", **values):
    """The environment of a good handshake, but for ``values``."""
    result = create_environ(base_url=base_url)
    result.update(
        HTTP_UPGRADE="websocket",
        HTTP_CONNECTION="Upgrade",
        HTTP_SEC_WEBSOCKET_VERSION="13",
        HTTP_SEC_WEBSOCKET_KEY=KEY,
    )
    result.update(values)
    return {name: value for name, value in result.items() if value is not None}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, True),
        ({"HTTP_UPGRADE": "WebSocket"}, True),
        ({"HTTP_CONNECTION": "keep-alive, Upgrade"}, True),
        ({"HTTP_CONNECTION": "keep-alive"}, False),
        ({"HTTP_CONNECTION": "not-upgrade"}, False),
        ({"HTTP_UPGRADE": "h2c"}, False),
        ({"HTTP_UPGRADE": None, "HTTP_CONNECTION": None}, False),
    ],
)
def test_a_handshake_is_told_by_its_headers(values, expected):
    """The same headers make Werkzeug look for a WebSocket rule."""
    assert is_handshake(environ(**values)) is expected


def test_a_good_handshake_passes():
    """That of the RFC is one."""
    check_request(environ())


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"REQUEST_METHOD": "POST"}, 405),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, 400),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, 426),
        ({"HTTP_SEC_WEBSOCKET_VERSION": None}, 426),
        ({"HTTP_SEC_WEBSOCKET_KEY": None}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": "short"}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": "not base64 \xff"}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": f"{KEY},{KEY}"}, 400),
        ({"CONTENT_LENGTH": "5"}, 400),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, 400),
    ],
)
def test_a_malformed_handshake_gets_the_right_status(values, status):
    """Each mistake has an answer of its own, none is a server error."""
    with pytest.raises(HTTPException) as caught:
        check_request(environ(**values))
    assert caught.value.code == status


def test_an_unknown_version_is_answered_with_the_known_one():
    """So that a client can try again (RFC 6455 section 4.4)."""
    with pytest.raises(HTTPException) as caught:
        check_request(environ(HTTP_SEC_WEBSOCKET_VERSION="14"))
    response = caught.value.get_response()
    assert response.headers["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "expected"),
    [
        (None, "example.com", "http", True),
        ("http://example.com", "example.com", "http", True),
        ("http://EXAMPLE.com", "example.COM", "http", True),
        ("https://example.com", "example.com", "http", True),
        ("https://example.com", "example.com:443", "http", True),
        ("https://example.com:443", "example.com", "https", True),
        ("http://example.com:80", "example.com", "http", True),
        ("http://example.com:5000", "example.com:5000", "http", True),
        ("http://[::1]:5000", "[::1]:5000", "http", True),
        ("http://example.com:5001", "example.com:5000", "http", False),
        ("http://example.com", "example.com:5000", "http", False),
        ("http://sub.example.com", "example.com", "http", False),
        ("http://example.com.evil", "example.com", "http", False),
        ("http://evil?example.com", "example.com", "http", False),
        ("null", "example.com", "http", False),
        ("", "example.com", "http", False),
        ("http://example.com:port", "example.com", "http", False),
        ("http://[", "example.com", "http", False),
    ],
)
def test_the_same_origin_is_that_of_host_and_port(origin, host, scheme, expected):
    """The scheme doesn't count, default ports may be left out."""
    request = environ(f"{scheme}://localhost", HTTP_HOST=host, HTTP_ORIGIN=origin)
    assert is_origin_allowed(request, None) is expected


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("*", True),
        ("https://app.example.org", True),
        ("https://app.example.org/", True),
        (["https://other.org", "https://APP.example.org"], True),
        ("https://*.example.org", True),
        ([re.compile(r"https://\w+\.example\.org")], True),
        (re.compile(r"https://app"), False),
        ("http://app.example.org", False),
        ("https://example.org", False),
        ([], False),
    ],
)
def test_origins_are_allowed_by_name_or_pattern(allowed, expected):
    """A list says all: the app's own origin isn't added to it."""
    request = environ(HTTP_ORIGIN="https://app.example.org")
    assert is_origin_allowed(request, allowed) is expected


def test_without_a_host_header_the_server_name_is_compared():
    """HTTP/1.1 demands the header, clients do not always send it."""
    request = environ(
        HTTP_HOST=None,
        SERVER_NAME="example.com",
        SERVER_PORT="5000",
        HTTP_ORIGIN="http://example.com:5000",
    )
    assert is_origin_allowed(request, None)


@pytest.mark.parametrize(
    ("offered", "supported", "demanded", "expected"),
    [
        (None, [], None, None),
        ("a, b", [], None, None),
        ("a, b", ["b", "a"], None, "b"),
        ("a,b", ["c"], None, None),
        ("a, b", ["a"], "b", "b"),
    ],
)
def test_a_subprotocol_is_chosen_among_those_offered(
    offered, supported, demanded, expected
):
    """The route's order counts, and the handler's word more than that."""
    request = environ(HTTP_SEC_WEBSOCKET_PROTOCOL=offered)
    assert choose_subprotocol(request, supported, demanded) == expected


def test_a_subprotocol_that_is_not_offered_is_an_error():
    """The client would close the connection over it."""
    request = environ(HTTP_SEC_WEBSOCKET_PROTOCOL="a")
    with pytest.raises(ValueError, match="doesn't offer the subprotocol 'b'"):
        choose_subprotocol(request, [], "b")


def test_the_answer_has_the_key_and_the_headers_of_the_response():
    """But none that would describe a body."""
    headers = [
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Content-Type", "text/html"),
        ("Content-Length", "0"),
        ("Connection", "close"),
    ]
    assert build_answer(environ(), headers, "chat").decode().split("\r\n") == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-WebSocket-Protocol: chat",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "",
        "",
    ]
