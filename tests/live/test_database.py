"""Handlers that use a database: Flask-SQLAlchemy, Flask-Login and Flask-Session."""

from __future__ import annotations

import contextlib
import json
import signal
import typing as t
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from ..process import until
from .clients import Closed, WebsocketClientClient
from .processes import Server
from .ways import FLASK_RUN, WORKER, Way, shared

#: Many times as many as SQLAlchemy's pool lends, 15.
SOCKETS = 200

#: As many as it lends without an effort.
FEW = 5


@pytest.fixture(scope="module", params=shared([WORKER, FLASK_RUN], __name__))
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Server]:
    path = tmp_path_factory.mktemp("database") / "members.db"
    with request.param.serve("database:app", {"DATABASE": str(path)}) as server:
        yield server
        server.assert_log_is_clean()


def checked_out(server: Server) -> int:
    """How many connections of the database are in use, but for that of the asking."""
    return int(json.loads(server.get("/checked-out").body)["connections"])


@contextlib.contextmanager
def connected(
    server: Server, path: str, count: int = 1, headers: dict[str, str] | None = None
) -> t.Iterator[list[WebsocketClientClient]]:
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = WebsocketClientClient(server.url(path), headers)
            stack.callback(client.vanish)
            clients.append(client)
        yield clients


def log_in(server: Server, name: str) -> dict[str, str]:
    """Create a user, and return the headers that make a request theirs."""
    response = server.get(f"/login/{name}", method="POST")
    cookie = SimpleCookie(response.headers["Set-Cookie"])
    return {"Cookie": "; ".join(f"{k}={v.value}" for k, v in cookie.items())}


def test_many_sockets_hold_no_connection_of_the_database(server: Server) -> None:
    with connected(server, "/released", SOCKETS) as clients:
        for _ in range(2):
            for client in clients:
                client.send("how many users?")
            for client in clients:
                assert str(client.receive()).isdigit()
        until(lambda: checked_out(server) == 0, "connections that were given back")


def test_each_socket_holds_a_connection_in_a_context_that_lasts(server: Server) -> None:
    with connected(server, "/held", FEW) as clients:
        for client in clients:
            client.send("how many users?")
            client.receive()
        assert checked_out(server) == FEW
    until(lambda: checked_out(server) == 0, "connections that were given back")


@pytest.mark.parametrize(
    ("path", "end"),
    [("/member", (1008, "401 Unauthorized")), ("/function", (1008, "out"))],
)
def test_a_user_who_is_deactivated_is_out_at_the_next_message(
    server: Server, path: str, end: tuple[int, str]
) -> None:
    name = f"ada{path.replace('/', '-')}"
    headers = log_in(server, name)
    with connected(server, path, headers=headers) as (client,):
        if path == "/member":
            assert client.receive() == f"welcome {name}"
        for message in ("hello", "again"):
            client.send(message)
            assert client.receive() == f"{name}: {message}"
        server.get(f"/deactivate/{name}", method="POST")
        client.send("still here?")
        with pytest.raises(Closed) as caught:
            client.receive()
        assert (caught.value.code, caught.value.reason) == end


@pytest.mark.parametrize("way", [WORKER, FLASK_RUN], ids=lambda way: way.name)
def test_views_are_told_when_the_server_stops(way: Way, tmp_path: Path) -> None:
    """And can still ask the database."""
    with way.serve("database:app", {"DATABASE": str(tmp_path / "x.db")}) as server:
        with connected(server, "/member", headers=log_in(server, "ada")) as (client,):
            assert client.receive() == "welcome ada"
            # Werkzeug may still be about to start a thread for the last connection.
            checked_out(server)
            server.signal_group(signal.SIGINT)
            with pytest.raises(Closed) as caught:
                client.receive()
            assert caught.value.code == 1012
            server.wait_for_log("ada left with 1012")
        server.wait()
        server.assert_log_is_clean()
