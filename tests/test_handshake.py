"""The opening handshake, as pure functions of the WSGI environment."""

from __future__ import annotations

import typing as t

import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.test import create_environ

from flask_sockets.handshake import (
    build_answer,
    check_headers,
    check_request,
    choose_subprotocol,
    is_handshake,
    subprotocol_names,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # From RFC 6455 section 1.3.


def environ(**values: t.Any) -> dict[str, t.Any]:
    """The environment of a good handshake, but for ``values``."""
    result = create_environ(base_url="http://example.com")
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
def test_a_handshake_is_told_by_its_headers(
    values: dict[str, str], expected: bool
) -> None:
    """The same headers make Werkzeug look for a WebSocket rule."""
    assert is_handshake(environ(**values)) is expected


def test_a_good_handshake_passes() -> None:
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
def test_a_malformed_handshake_gets_the_right_status(
    values: dict[str, str], status: int
) -> None:
    """Each mistake has an answer of its own, none is a server error."""
    with pytest.raises(HTTPException) as caught:
        check_request(environ(**values))
    assert caught.value.code == status


def test_an_unknown_version_is_answered_with_the_known_one() -> None:
    """So that a client can try again (RFC 6455 section 4.4)."""
    with pytest.raises(HTTPException) as caught:
        check_request(environ(HTTP_SEC_WEBSOCKET_VERSION="14"))
    response = caught.value.get_response()
    assert response.headers["Sec-WebSocket-Version"] == "13"


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
    offered: str | None,
    supported: list[str],
    demanded: str | None,
    expected: str | None,
) -> None:
    """The route's order counts, and the handler's word more than that."""
    request = environ(HTTP_SEC_WEBSOCKET_PROTOCOL=offered)
    assert choose_subprotocol(request, supported, demanded) == expected


def test_a_subprotocol_that_is_not_offered_is_an_error() -> None:
    """The client would close the connection over it."""
    request = environ(HTTP_SEC_WEBSOCKET_PROTOCOL="a")
    with pytest.raises(ValueError, match="doesn't offer the subprotocol 'b'"):
        choose_subprotocol(request, [], "b")


def test_the_answer_has_the_key_and_the_headers_of_the_response() -> None:
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


@pytest.mark.parametrize("name", ["", " ", "X Y", "X:", "X\r\nY", "X\0", "Ä", "X\n"])
def test_a_header_needs_a_proper_name(name: str) -> None:
    """Anything else would be read as something else."""
    with pytest.raises(ValueError, match="can't be the name of a header") as caught:
        check_headers({name: "x"})
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\n", "\0", "\x7f", "€"])
def test_a_header_needs_a_proper_value(value: str) -> None:
    """The error names the header, and shows the value."""
    with pytest.raises(ValueError, match="header 'X-News' can't have") as caught:
        check_headers([("X-News", value)])
    assert repr(value) in str(caught.value)


def test_proper_headers_pass() -> None:
    """As pairs, the values as text."""
    headers: t.Any = {"X-A": "a\tb ü", "x.b~": 2, "X-Empty": ""}
    assert check_headers(headers) == [
        ("X-A", "a\tb ü"),
        ("x.b~", "2"),
        ("X-Empty", ""),
    ]


def test_a_header_of_the_response_that_can_not_be_sent_is_an_error() -> None:
    """Wherever it comes from."""
    with pytest.raises(ValueError, match="header 'X' can't have"):
        build_answer(environ(), [("X", "a\0b")], None)


@pytest.mark.parametrize(
    ("subprotocols", "expected"),
    [("bar", ("bar",)), (["v2", "v1"], ("v2", "v1")), ((), ())],
)
def test_one_subprotocol_needs_no_list(
    subprotocols: str | list[str], expected: tuple[str, ...]
) -> None:
    """A text isn't taken for a list of its letters."""
    assert subprotocol_names(subprotocols) == expected


@pytest.mark.parametrize("subprotocols", ["v2, v1", "", ["a b"], ["a", None]])
def test_a_subprotocol_needs_a_proper_name(subprotocols: t.Any) -> None:
    """Several in one text are a mistake. The error shows the way out."""
    with pytest.raises(ValueError, match="Give several as a list"):
        subprotocol_names(subprotocols)
