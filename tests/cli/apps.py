"""Small apps, the command that serves them, and a request to it."""

from __future__ import annotations

import http.client
import typing as t
from pathlib import Path

from flask_sockets_cli.settings import Settings

from ..process import Process, until

APP = """\
from flask import Flask

app = Flask(__name__)


@app.route("/")
def index():
    return "version {version}"


@app.route("/boom")
def boom():
    raise RuntimeError("boom in a view")
"""


WEBSOCKETS = """
from flask_sockets import Sockets

sockets = Sockets(app)


@sockets.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)
"""

#: What the processes below the command are told as a rule.
SETTINGS = Settings(
    app=None,
    is_group=False,
    set_debug_flag=True,
    debug=True,
    host="127.0.0.1",
    port=0,
    certificate=None,
    reload=True,
    debugger=False,
    live=False,
    extra_files=(),
    exclude_patterns=(),
    poll=False,
    grace=1.0,
    preload=(),
    learn=False,
    routes=False,
    keys=True,
    open=False,
    dotenv={},
    dotenv_defaults=True,
    env_file=None,
)


def write_app(directory: Path, version: str = "1", more: str = "") -> Path:
    path = directory / "app.py"
    path.write_text(APP.format(version=version) + more)
    return path


def wsrun(directory: Path, *options: str, env: t.Any = None) -> Process:
    """The server, with debug mode and so with reload, on a free port."""
    return Process(
        "flask", "--debug", "wsrun", "--port", "0", *options, cwd=directory, env=env
    )


def get(
    port: int, path: str = "/", headers: t.Mapping[str, str] | None = None
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    try:
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def until_answered(port: int, text: str, path: str = "/") -> None:
    """Wait until a path is answered with a text."""
    until(lambda: get(port, path) == (200, text), f"{text!r} from {path}")


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
