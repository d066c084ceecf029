"""Sessions of handlers that live on while the browser goes on with HTTP."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

import pytest
from cachelib.file import FileSystemCache
from flask import Flask, session
from flask_session import Session

from flask_sockets import Sockets, SocketTestClient, WebSocket

from .redis_server import RedisServer

#: What a handler does on command, and then says so.
CHANGES: dict[str, t.Callable[[], object]] = {
    "set seen": lambda: session.update(seen=True),
    "set user": lambda: session.update(user="socket"),
    "append": lambda: session["list"].append("socket"),
    "pop user": lambda: session.pop("user"),
    "log out": lambda: session.clear(),
    "nothing": lambda: None,
}


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["files", "redis"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> t.Iterator[Client]:
    """A client of an app with sessions on the server."""
    app = Flask(__name__)
    app.testing = True
    with contextlib.ExitStack() as stack:
        if request.param == "files":
            cache = FileSystemCache(str(tmp_path))
            app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=cache)
        else:
            server = request.getfixturevalue("redis_server")
            redis = stack.enter_context(server.client())
            redis.flushall()
            app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis)
        Session(app)
        yield Client(app)


class Client:
    """A browser: what it does over HTTP, and a WebSocket that is open meanwhile."""

    def __init__(self, app: Flask) -> None:
        sockets = Sockets(app)

        @app.post("/")
        def change() -> str:
            from flask import request

            session.update(request.get_json())
            return ""

        @app.post("/logout")
        def logout() -> str:
            session.clear()
            return ""

        @app.get("/")
        def show() -> dict[str, t.Any]:
            return {k: v for k, v in session.items() if not k.startswith("_")}

        @sockets.route("/")
        def handler(ws: WebSocket) -> None:
            for message in ws:
                CHANGES[str(message)]()
                ws.send("done")

        @sockets.route("/new")
        def new(ws: WebSocket) -> None:
            session["user"] = "made in the handshake"
            ws.accept()
            session["seen"] = True

        self.app = app
        self.http = t.cast(SocketTestClient, app.test_client())

    def update(self, **values: object) -> None:
        assert self.http.post("/", json=values).status_code == 200

    def log_out(self) -> None:
        assert self.http.post("/logout").status_code == 200

    def values(self) -> object:
        return self.http.get("/").json

    @contextlib.contextmanager
    def handler_that_does(self, change: str) -> t.Iterator[None]:
        """A handler changes the session, and then something happens over HTTP."""
        with self.http.websocket("/") as ws:
            ws.send(change)
            assert ws.receive() == "done"
            yield


def test_a_change_of_the_handler_is_saved_at_its_end(client: Client) -> None:
    """Over HTTP the values are seen afterwards."""
    client.update(user="ada", list=[1])
    with client.handler_that_does("set seen"):
        assert client.values() == {"user": "ada", "list": [1]}
    assert client.values() == {"user": "ada", "list": [1], "seen": True}


def test_a_logout_over_http_is_not_undone(client: Client) -> None:
    """A session that is gone stays gone."""
    client.update(user="ada")
    with client.handler_that_does("set seen"):
        cookie = client.http.get_cookie("session")
        client.log_out()
    assert cookie is not None
    client.http.set_cookie("session", cookie.value)
    assert client.values() == {}


@pytest.mark.parametrize("change", ["set seen", "nothing"])
def test_values_that_are_newer_stay(client: Client, change: str) -> None:
    """Only what the handler itself has changed is written."""
    client.update(user="ada")
    with client.handler_that_does(change):
        client.update(user="grace", more=1)
    expected = {"user": "grace", "more": 1}
    if change == "set seen":
        expected["seen"] = True
    assert client.values() == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("set user", {"user": "socket", "list": [1], "more": 1}),
        ("append", {"user": "ada", "list": [1, "socket"], "more": 1}),
        ("pop user", {"list": [1], "more": 1}),
        ("log out", {}),
    ],
)
def test_each_kind_of_change_is_made_to_what_is_stored(
    client: Client, change: str, expected: object
) -> None:
    """A value that is set, changed inside, or taken away; and all of them."""
    client.update(user="ada", list=[1])
    with client.handler_that_does(change):
        client.update(more=1)
    assert client.values() == expected


def test_a_session_that_begins_with_the_handshake_goes_on(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Its cookie has gone out with the 101, so a later change has where to go."""
    with client.http.websocket("/new"):
        pass
    assert client.values() == {"user": "made in the handshake", "seen": True}
    assert caplog.records == []


def test_a_session_that_begins_too_late_is_lost_with_a_warning(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has told the browser its name."""
    with client.handler_that_does("set seen"):
        pass
    assert client.values() == {}
    assert "the change is lost" in caplog.text


def test_a_logout_by_the_handler_is_no_reason_to_warn(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The cookie stays in the browser, and stands for nothing."""
    client.update(user="ada")
    with client.handler_that_does("log out"):
        pass
    assert client.values() == {}
    assert caplog.records == []
