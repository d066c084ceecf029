"""What a type checker says of code that uses the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """
from flask import Blueprint, Flask
from flask_sockets import ConnectionClosed, Sockets, WebSocket, WebSocketHandler

app = Flask(__name__)
sockets = Sockets(app)
bp = Blueprint("bp", __name__)

@sockets.route("/echo/<int:times>", subprotocols=["v1"])
def echo(ws: WebSocket, times: int) -> None:
    for message in ws:
        ws.send(message)
        ws.send(bytearray(b"x"), timeout=1.5)
    code: int | None = ws.close_code
    text = ws.receive()
    if isinstance(text, str):
        text.upper()
    try:
        ws.send_json({"code": code})
    except ConnectionClosed as error:
        print(error.code + 1, error.reason.upper())

reveal_type(echo)
sockets.register_blueprint(bp, url_prefix="/bp")
sockets.init_app(app)
"""


def check(tmp_path: Path, code: str) -> str:
    (tmp_path / "user.py").write_text(code)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    return result.stdout


TESTING = """
import typing as t
from flask import Flask
from flask_sockets import HandshakeRejected, SocketTestClient, SocketTestSession

class MyClient(SocketTestClient):
    pass

def test(app: Flask) -> None:
    client = t.cast(SocketTestClient, app.test_client())
    with client.websocket(
        "/a", headers={"A": "b"}, subprotocols=["v1"], timeout=None
    ) as ws:
        session: SocketTestSession = ws
        ws.send("x")
        message: str | bytes = ws.receive(timeout=1)
        for message in ws:
            code: int | None = ws.close_code
    try:
        client.get("/")
    except HandshakeRejected as error:
        status: int = error.response.status_code
    assert message
"""


@pytest.mark.timeout(300)
def test_tests_of_sockets_type_check(tmp_path: Path) -> None:
    """With a cast of the client, which Flask says is its own."""
    assert "Success" in check(tmp_path, TESTING)


@pytest.mark.timeout(300)
def test_code_that_uses_the_package_type_checks(tmp_path: Path) -> None:
    """Strictly, and the decorator keeps the type of the function."""
    output = check(tmp_path, GOOD)
    assert "error" not in output
    assert "WebSocket, times: int" in output or "WebSocket, int" in output


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "line",
    ["ws.sned('x')", "ws.send(1)", "ws.receive().upper()", "ws.close('bye')"],
)
def test_mistakes_with_the_websocket_are_found(tmp_path: Path, line: str) -> None:
    """The untyped base class doesn't hide them."""
    code = "from flask_sockets import WebSocket\ndef f(ws: WebSocket) -> None:\n    "
    assert "user.py:3: error" in check(tmp_path, code + line)
