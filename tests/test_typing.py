"""What a type checker says of code that uses the package."""

from __future__ import annotations

import re
import subprocess
import sys
import typing as t

import pytest

if t.TYPE_CHECKING:
    from pathlib import Path

APP = """
import datetime
import time
from flask import Blueprint, Flask
from flask_sockets import (
    ConnectionClosed, Sockets, WebSocket, WebSocketHandler, WebSocketView,
    websocket_closed, websocket_opened,
)

app = Flask(__name__)
sockets = Sockets(app)
bp = Blueprint("bp", __name__)

@sockets.route(
    "/echo/<int:times>",
    subprotocols=["v1"],
    max_message_rate="5/second",
    idle_timeout=60,
)
def echo(ws: WebSocket, times: int) -> None:
    for message in ws:
        ws.send(message)
        ws.send(bytearray(b"x"), timeout=1.5)
    code: int | None = ws.close_code
    ws.close_at(time.time() + 60, 4001, "expired")
    ws.close_at(datetime.datetime.now(datetime.UTC))
    ws.close_at(None)
    text = ws.receive()
    if isinstance(text, str):
        text.upper()
    try:
        ws.send_json({"code": code})
    except ConnectionClosed as error:
        print(error.code + 1, error.reason.upper())

@sockets.topic("room/<name>", history=50, ttl=60, presence=True, overflow="latest")
def may_enter(name: str) -> bool:
    return name != "secret"

@sockets.route("/rooms/<name>")
def room(ws: WebSocket, name: str) -> None:
    with ws.subscribe(f"room/{name}", history=5, since=None, member="me") as got:
        position: str | None = got.position
        ws.send_json({"recovered": got.recovered, "position": position})
    ws.publish(f"room/{name}", b"x")
    ws.unsubscribe()

class Room(WebSocketView):
    init_every_request = False

    def on_open(self, ws: WebSocket, name: str) -> None:
        ws.send(name.upper())

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        print(code + 1, reason.upper())

sockets.add_url_rule("/view/<name>", view_func=Room.as_view("room"))
websocket_opened.connect(lambda sender, websocket: None)
websocket_closed.connect(lambda sender, **values: None, app)

sockets.publish("news", "text")
sockets.publish_json("news", {"a": 1})
messages: list[str | bytes] = [p.message for p in sockets.history("news", 5)]
members: list[str] = list(sockets.presence("news"))
count: int = sockets.stats()["delivered"]

reveal_type(echo)
sockets.register_blueprint(bp, url_prefix="/bp")
sockets.init_app(app)
"""

TESTS = """
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

#: Each is the body of a function that gets a WebSocket, 'ws'.
MISTAKES = ["ws.sned('x')", "ws.send(1)", "ws.receive().upper()", "ws.close('bye')"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy says of all of it. Starting it takes longer than checking."""
    folder = tmp_path_factory.mktemp("typing")
    (folder / "app.py").write_text(APP)
    (folder / "tests.py").write_text(TESTS)
    for number, mistake in enumerate(MISTAKES):
        write_mistake(folder / f"mistake_{number}.py", mistake)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "."],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert not result.stderr
    return result.stdout


def write_mistake(path: Path, mistake: str) -> None:
    head = "from flask_sockets import WebSocket\ndef f(ws: WebSocket) -> None:\n"
    path.write_text(f"{head}    {mistake}\n")


# One run for all of them, in one worker.
pytestmark = [pytest.mark.xdist_group(__name__), pytest.mark.timeout(300)]


def test_tests_of_sockets_type_check(output: str) -> None:
    """With a cast of the client, which Flask says is its own."""
    assert not re.search(r"^tests\.py:.* error:", output, re.MULTILINE), output


def test_code_that_uses_the_package_type_checks(output: str) -> None:
    """Strictly."""
    assert not re.search(r"^app\.py:.* error:", output, re.MULTILINE), output


def test_the_decorator_keeps_the_type_of_the_function(output: str) -> None:
    """A handler can be called with what it takes."""
    assert re.search(r"^app\.py:.*\bWebSocket, (times: )?int", output, re.MULTILINE)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_with_the_websocket_are_found(output: str, mistake: str) -> None:
    """The untyped base class doesn't hide them."""
    file = f"mistake_{MISTAKES.index(mistake)}.py"
    assert f"\n{file}:3: error:" in f"\n{output}"
