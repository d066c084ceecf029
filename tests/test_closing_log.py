"""The line that is written for each closed WebSocket, if somebody wants it."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
import typing as t

import pytest
from flask import Flask

from flask_sockets import ConnectionClosed, Sockets, SocketTestClient, WebSocket

NAME = "flask_sockets.closed"


@pytest.fixture
def client() -> SocketTestClient:
    app = Flask(__name__)
    app.testing = True
    sockets = Sockets(app)

    @sockets.route("/echo/<path:rest>")
    def echo(ws: WebSocket, rest: str) -> None:
        for message in ws:
            if message == "go":
                ws.close(4001, "gone")
            else:
                ws.send(message * 2)

    return t.cast(SocketTestClient, app.test_client())


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == NAME]


def test_a_closed_websocket_is_a_line_of_names_and_values(
    client: SocketTestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Programs read it, and get the same as attribute of the record."""
    with caplog.at_level(logging.INFO, NAME):
        with client.websocket("/echo/a") as ws:
            ws.send("hello")
            assert ws.receive() == "hellohello"
        (record,) = lines(caplog)
        values = dict(part.split("=", 1) for part in shlex.split(record.getMessage()))
        assert float(values.pop("duration")) >= 0
        assert values == {
            "path": "/echo/a",
            "code": "1000",
            "closed_by": "client",
            "messages_received": "1",
            "bytes_received": "5",
            "messages_sent": "1",
            "bytes_sent": "10",
        }
        attached = dict(t.cast(t.Any, record).websocket)
        assert str(attached.pop("duration")) in record.getMessage()
        assert {name: str(value) for name, value in attached.items()} == values


def test_a_line_says_who_closed(
    client: SocketTestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, NAME), client.websocket("/echo/a") as ws:
        ws.send("go")
        with pytest.raises(ConnectionClosed):
            ws.receive()
    (record,) = lines(caplog)
    assert " code=4001 closed_by=server " in record.getMessage()


def test_a_line_has_no_secrets_and_nothing_that_a_terminal_obeys(
    client: SocketTestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A client chooses the path. It can't begin another line, or another value."""
    path = '/echo/%1b[31m%0d%7f"%20code=1000%20é'
    with caplog.at_level(logging.INFO, NAME):
        headers = {"Cookie": "session=secret"}
        with client.websocket(f"{path}?token=secret", headers=headers):
            pass
    (record,) = lines(caplog)
    message = record.getMessage()
    assert "secret" not in message
    assert message.isascii()
    assert message.isprintable()
    assert message.startswith(
        r'path="/echo/\u001b[31m\r\u007f\" code=1000 \u00e9" code=1000'
    )


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_nobody_gets_lines_who_has_not_asked_for_them(
    client: SocketTestClient, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    """Not even if everything is logged."""
    with caplog.at_level(level), client.websocket("/echo/a"):
        pass
    assert lines(caplog) == []


CONFIGURE = f"""
import logging
logging.getLogger({NAME!r}).setLevel("INFO")
import flask_sockets
print(logging.getLogger({NAME!r}).level)
"""


def test_who_asks_before_the_package_is_imported_gets_them() -> None:
    output = subprocess.check_output([sys.executable, "-c", CONFIGURE], text=True)
    assert int(output) == logging.INFO
