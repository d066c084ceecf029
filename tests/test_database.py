"""Handlers that use SQLAlchemy, with the test client and in debug mode."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as Lite

from flask_sockets import (
    ConnectionClosed,
    Sockets,
    SocketTestClient,
    WebSocket,
    WebSocketView,
)

from .live.live_apps.database import create_app
from .live.live_apps.database import db as members

TOLD = "waits for its client with a database connection checked out"


@pytest.fixture(params=["Flask-SQLAlchemy", "Flask-SQLAlchemy-Lite"])
def database(
    request: pytest.FixtureRequest,
) -> t.Iterator[tuple[Flask, SQLAlchemy | Lite]]:
    """A debugged app, and its database."""
    app = Flask(__name__)
    app.debug = app.testing = True
    db: SQLAlchemy | Lite
    if request.param == "Flask-SQLAlchemy":
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
        db = SQLAlchemy()
    else:
        app.config["SQLALCHEMY_ENGINES"] = {"default": "sqlite://"}
        db = Lite()
    db.init_app(app)
    yield app, db
    close_connections(app, db)


def close_connections(app: Flask, db: SQLAlchemy | Lite) -> None:
    """Close all that the pools have. SQLite complains of those that nobody closes."""
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()


def talk(app: Flask, path: str) -> None:
    client = t.cast(SocketTestClient, app.test_client())
    with client.websocket(path) as ws:
        for _ in range(2):
            ws.send("what time is it?")
            ws.receive()


def query(db: SQLAlchemy | Lite) -> str:
    return str(db.session.execute(sa.text("SELECT 1")).scalar())


def test_a_handler_that_waits_with_a_connection_is_told_so_once(
    database: tuple[Flask, SQLAlchemy | Lite], caplog: pytest.LogCaptureFixture
) -> None:
    app, db = database
    sockets = Sockets(app)

    @sockets.route("/time/<zone>")
    def time(ws: WebSocket, zone: str) -> None:
        for _ in ws:
            ws.send(query(db))

    talk(app, "/time/utc")
    talk(app, "/time/cet")
    (record,) = [r for r in caplog.records if TOLD in r.getMessage()]
    assert "'/time/<zone>'" in record.getMessage()
    assert 'context="message"' in record.getMessage()


def test_a_connection_of_a_before_request_function_counts(
    database: tuple[Flask, SQLAlchemy | Lite], caplog: pytest.LogCaptureFixture
) -> None:
    app, db = database
    sockets = Sockets(app)

    @app.before_request
    def load_user() -> None:
        query(db)

    @sockets.route("/wait")
    def wait(ws: WebSocket) -> None:
        ws.wait_closed()

    client = t.cast(SocketTestClient, app.test_client())
    with client.websocket("/wait"):
        pass
    assert TOLD in caplog.text


def test_nothing_is_told_of_handlers_that_give_it_back(
    database: tuple[Flask, SQLAlchemy | Lite], caplog: pytest.LogCaptureFixture
) -> None:
    app, db = database
    sockets = Sockets(app)

    @sockets.route("/function", context="message")
    def function(ws: WebSocket) -> None:
        for _ in ws:
            ws.send(query(db))

    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(query(db))

    @sockets.route("/by-hand")
    def by_hand(ws: WebSocket) -> None:
        for _ in ws:
            ws.send(query(db))
            db.session.close()

    sockets.add_url_rule("/view", view_func=View.as_view("view"))
    for path in ("/function", "/view", "/by-hand"):
        talk(app, path)
    assert TOLD not in caplog.text


def test_nothing_is_told_without_debug_mode(
    database: tuple[Flask, SQLAlchemy | Lite], caplog: pytest.LogCaptureFixture
) -> None:
    app, db = database
    app.debug = False
    sockets = Sockets(app)

    @sockets.route("/time")
    def time(ws: WebSocket) -> None:
        for _ in ws:
            ws.send(query(db))

    talk(app, "/time")
    assert TOLD not in caplog.text


def test_a_user_who_is_deactivated_is_out_in_a_test_too(tmp_path: Path) -> None:
    app = create_app(tmp_path / "members.db", TESTING=True)  # type: ignore[no-untyped-call]
    client = t.cast(SocketTestClient, app.test_client())
    client.post("/login/ada")
    with client.websocket("/member") as ws:
        assert ws.receive() == "welcome ada"
        ws.send("hello")
        assert ws.receive() == "ada: hello"
        client.post("/deactivate/ada")
        ws.send("still here?")
        with pytest.raises(ConnectionClosed) as caught:
            ws.receive()
        assert (caught.value.code, caught.value.reason) == (1008, "401 Unauthorized")
    close_connections(app, members)
