"""Whose pages may connect, as a pure function of the WSGI environment."""

from __future__ import annotations

import re
import time
import typing as t

import pytest
from werkzeug.test import create_environ

from flask_sockets.origins import is_origin_allowed


def environ(
    origin: str | None, host: str | None = "example.com", scheme: str = "http"
) -> dict[str, t.Any]:
    result = create_environ(base_url=f"{scheme}://localhost")
    result.update(HTTP_HOST=host, HTTP_ORIGIN=origin)
    return {name: value for name, value in result.items() if value is not None}


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "expected"),
    [
        (None, "example.com", "http", True),
        ("http://example.com", "example.com", "http", True),
        ("http://EXAMPLE.com", "example.COM", "http", True),
        ("https://example.com", "example.com", "http", True),
        ("https://example.com", "example.com:443", "http", True),
        ("https://example.com", "example.com:80", "http", True),
        ("https://example.com:443", "example.com", "https", True),
        ("http://example.com:80", "example.com", "http", True),
        ("http://example.com:5000", "example.com:5000", "http", True),
        ("http://my_host:5000", "my_host:5000", "http", True),
        ("http://127.0.0.1:5000", "127.0.0.1:5000", "http", True),
        ("http://[::1]:5000", "[::1]:5000", "http", True),
        ("http://[::1]:5000", "[0:0:0:0:0:0:0:1]:5000", "http", True),
        ("http://[::1]:5000", "[::2]:5000", "http", False),
        ("http://example.com:5001", "example.com:5000", "http", False),
        ("http://example.com", "example.com:5000", "http", False),
        ("http://sub.example.com", "example.com", "http", False),
        ("http://example.com.evil", "example.com", "http", False),
        ("http://evil?example.com", "example.com", "http", False),
        ("http://user@example.com", "example.com", "http", False),
        ("http://example.com/path", "example.com", "http", False),
        ("http://example.com#", "example.com", "http", False),
        ("http://example.com:", "example.com", "http", False),
        ("http://example.com ", "example.com", "http", False),
        ("http://example.com\n", "example.com", "http", False),
        ("//example.com", "example.com", "http", False),
        ("chrome-extension://example.com", "example.com", "http", False),
        ("null", "example.com", "http", False),
        ("null", "null", "http", False),
        ("", "example.com", "http", False),
        ("http://example.com:port", "example.com", "http", False),
        ("http://[", "[", "http", False),
        ("http://[:::]", "[:::]", "http", False),
        ("http://evil.com", "evil.com/", "http", False),
    ],
)
def test_the_same_origin_is_that_of_host_and_port(
    origin: str | None, host: str, scheme: str, expected: bool
) -> None:
    """The scheme doesn't count, default ports may be left out."""
    assert is_origin_allowed(environ(origin, host, scheme), None) is expected


def test_without_a_host_header_the_server_name_is_compared() -> None:
    """HTTP/1.1 demands the header, clients do not always send it."""
    request = environ("http://example.com:5000", host=None)
    request.update(SERVER_NAME="example.com", SERVER_PORT="5000")
    assert is_origin_allowed(request, None)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("*", True),
        ("https://app.example.org", True),
        ("https://app.example.org/", True),
        ("https://app.example.org:443", True),
        (["https://other.org", "https://APP.example.org"], True),
        ("https://*.example.org", True),
        ("https://*.org", True),
        ("https://*", True),
        ("https://a*.example.org", True),
        ("https://*p.*.org", True),
        ([re.compile(r"https://\w+\.example\.org")], True),
        (re.compile(r"https://app"), False),
        ("http://app.example.org", False),
        ("https://app.example.org:8000", False),
        ("https://example.org", False),
        ("https://b*.example.org", False),
        ("https://*.app.example.org", False),
        ("https://appxexample.org", False),
        ([], False),
    ],
)
def test_origins_are_allowed_by_name_or_pattern(allowed: t.Any, expected: bool) -> None:
    """A list says all: the app's own origin isn't added to it."""
    request = environ("https://app.example.org")
    assert is_origin_allowed(request, allowed) is expected


@pytest.mark.parametrize(
    ("origin", "allowed", "expected"),
    [
        ("https://a.b.example.com", "https://*.example.com", True),
        ("https://a-b.example.com", "https://a-*.example.com", True),
        ("https://a-b.c.example.com", "https://a-*.example.com", False),
        ("https://evil.com/.example.com", "https://*.example.com", False),
        ("https://evil.com:1/.example.com", "https://*.example.com", False),
        ("https://evil.com?.example.com", "https://*.example.com", False),
        ("https://evil.com@a.example.com", "https://*.example.com", False),
        ("https://.example.com", "https://*.example.com", False),
        ("https://a.example.com:8000", "https://*.example.com", False),
        ("https://a.example.com:8000", "https://*.example.com:8000", True),
        ("http://[::1]:3000", "http://[::1]:3000", True),
        ("http://[::1]:3000", "http://[0::1]:3000", True),
        ("http://[::1]:3000", "http://[::1]", False),
        ("http://1:3000", "http://[::1]:3000", False),
        ("https://xn--bcher-kva.example", "https://bücher.example", True),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("chrome-extension://abcdefgh", "chrome-extension://*", True),
        ("null", "null", True),
        ("null", "https://*", False),
        ("file://", "file://", True),
        ("file://", "null", False),
    ],
)
def test_an_origin_is_compared_by_its_parts(
    origin: str, allowed: str, expected: bool
) -> None:
    """An asterisk stands for labels of the host, and crosses nothing else."""
    assert is_origin_allowed(environ(origin), allowed) is expected


@pytest.mark.parametrize(
    "allowed",
    [
        *("example.com", "https://", "https://example.com/path", "*://example.com"),
        *("http://localhost:*", "https://[::1*]", "https://a b", "", 5),
    ],
)
def test_what_is_no_origin_can_not_be_allowed(allowed: t.Any) -> None:
    """It would never match, and nobody would know why. The error shows the way out."""
    with pytest.raises(ValueError, match="is not an origin") as caught:
        is_origin_allowed(environ("https://a"), ["https://a", allowed])
    assert repr(allowed) in str(caught.value)
    assert "SOCKETS_ALLOWED_ORIGINS" in str(caught.value)


def test_no_origin_takes_long_to_compare() -> None:
    """A client may send one as long as its headers may be."""

    def seconds(origin: str) -> float:
        start = time.process_time()
        for _ in range(20):
            is_origin_allowed(environ(origin), "https://*.*.*.*.example.com")
        return time.process_time() - start

    short = seconds("https://a.b.c.d.example.com")
    assert seconds(f"https://{'a.' * 4000}example.org") < 10 * short + 0.1
    assert seconds(f"https://{'a.' * 120}example.org") < 1000 * short + 1
