"""Which hosts are answered for in debug mode."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

import flask
import pytest

from flask_sockets_cli.serve.hosts import TrustedHosts

from ...process import port_of
from ..apps import SETTINGS, UPGRADE, WEBSOCKETS, get, write_app, wsrun


def hosts_of(host: str = "127.0.0.1", **config: t.Any) -> TrustedHosts:
    app = flask.Flask(__name__)
    app.config.update(config)
    return TrustedHosts(dataclasses.replace(SETTINGS, host=host), app)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST:5000", True),
        ("blog.localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("192.168.1.20", True),
        ("[::1]:5000", True),
        ("evil.com", False),
        ("evil.com:5000", False),
        ("localhost.evil.com", False),
        ("evillocalhost", False),
        ("127.0.0.1.evil.com", False),
        ("", False),
        ("[::1", False),
        ("a b", False),
    ],
)
def test_names_that_nobody_else_can_have_are_trusted(host: str, expected: bool) -> None:
    """Any other name may be made to stand for this machine by whoever owns it."""
    assert (host in hosts_of()) is expected


@pytest.mark.parametrize(
    ("options", "host", "expected"),
    [
        ({"host": "dev.example"}, "dev.example:5000", True),
        ({"host": "dev.example"}, "www.dev.example", False),
        ({"TRUSTED_HOSTS": ["my.example"]}, "my.example:5000", True),
        ({"TRUSTED_HOSTS": [".my.example"]}, "www.my.example", True),
        ({"TRUSTED_HOSTS": ["my.example"]}, "localhost", True),
        ({"SERVER_NAME": "my.example:5000"}, "my.example:5000", True),
        ({"SERVER_NAME": "my.example:5000"}, "www.my.example:5000", True),
        ({"SERVER_NAME": "my.example:5000"}, "evil.com", False),
        ({"host": "unix://app.sock"}, "whatever.the.proxy.says", True),
    ],
)
def test_names_that_the_person_or_the_app_gives_are_trusted(
    options: dict[str, t.Any], host: str, expected: bool
) -> None:
    """By '--host', 'TRUSTED_HOSTS' and 'SERVER_NAME'."""
    assert (host in hosts_of(**options)) is expected


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://localhost:8080", "localhost:5000", True),
        ("https://127.0.0.1", "localhost:5000", True),
        ("http://evil.com", "localhost:5000", False),
        ("null", "localhost:5000", False),
        ("https://any.proxy", "any.proxy", True),
    ],
)
def test_pages_of_trusted_hosts_are_trusted(
    origin: str, host: str, expected: bool
) -> None:
    """A proxy may change the port, or the host."""
    assert hosts_of("unix://app.sock").trusts_page(origin, host) is expected


@pytest.mark.parametrize("headers", [{}, UPGRADE])
def test_other_hosts_get_a_sentence_in_debug_mode(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    """For HTTP and for WebSockets. The terminal has the sentence once."""
    write_app(tmp_path, more=WEBSOCKETS)
    rebound = {**headers, "Host": "evil.com", "Origin": "http://evil.com"}

    with wsrun(tmp_path) as server:
        port = port_of(server)

        for _ in range(2):
            status, text = get(port, "/echo", rebound)
            assert status == 400
            assert "'evil.com'" in text
            assert "'TRUSTED_HOSTS'" in text

        assert get(port)[0] == 200
        server.wait_for('"GET / HTTP/1.1" 200')
        assert server.output.count("The host 'evil.com' is not answered for") == 1


def test_other_hosts_are_answered_without_debug_mode(tmp_path: Path) -> None:
    """There the app decides, by 'TRUSTED_HOSTS'."""
    write_app(tmp_path)

    with wsrun(tmp_path, "--no-debug") as server:
        assert get(port_of(server), "/", {"Host": "evil.com"})[0] == 200


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"Origin": "http://evil.com"}, 403),
        ({"Origin": "http://evil.com", "Host": "evil.com"}, 400),
        ({"Origin": "http://localhost:8080"}, 101),
    ],
)
def test_other_sites_hear_of_no_changes(
    tmp_path: Path, changed: dict[str, str], expected: int
) -> None:
    """The socket of '--live' is for the pages of trusted hosts."""
    write_app(tmp_path)

    with wsrun(tmp_path, "--live") as server:
        headers = {**UPGRADE, **changed}
        assert get(port_of(server), "/__flask_wsrun_live__", headers)[0] == expected
