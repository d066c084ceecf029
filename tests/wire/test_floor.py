"""What the wire stands on: nothing that knows HTTP, an app or a server."""

from __future__ import annotations

import ast
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from flask_sockets import exceptions, wire

PACKAGE = Path(wire.__file__).parent

#: The modules outside of the package that may be imported, beside Python's own.
ALLOWED = {"websockets", "flask_sockets.exceptions"}


def imports(path: Path, package: str) -> t.Iterator[str]:
    """The full names of what a file imports, for type checkers as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None]
            base = ".".join(parents) if node.level else ""
            yield ".".join(filter(None, (base, node.module)))


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem
)
def test_the_wire_knows_nothing_above_it(path: Path) -> None:
    """No Flask, no Werkzeug, no server. And gevent in one file, which is imported for
    a socket of gevent only."""
    for name in imports(path, "flask_sockets.wire"):
        top = name.partition(".")[0]
        is_ours = name.startswith("flask_sockets.wire") or name in ALLOWED
        is_gevent = top == "gevent" and path.stem == "greenlets"
        assert (
            is_ours or is_gevent or top in ALLOWED or top in sys.stdlib_module_names
        ), f"{path.name} imports {name}"


def test_exceptions_know_nothing_above_them() -> None:
    """The wire raises them."""
    assert exceptions.__file__ is not None
    names = set(imports(Path(exceptions.__file__), "flask_sockets"))
    assert {name.partition(".")[0] for name in names} <= {
        "__future__",
        "flask_sockets",
        "geventwebsocket",
        "typing",
        "websockets",
    }


def test_threads_need_no_gevent(tmp_path: Path) -> None:
    """An app that is served by them doesn't import it, but if it does so by itself."""
    code = """
import sys, threading
from flask import Flask
from websockets.sync.client import connect
from werkzeug.serving import make_server
import flask_sockets

app = Flask(__name__)
sockets = flask_sockets.Sockets(app)

@sockets.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)

server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
with connect(f"ws://127.0.0.1:{server.server_port}/echo") as client:
    client.send("a")
    assert client.recv() == "a"
server.shutdown()
assert not [name for name in sys.modules if name.startswith("gevent")]
error = flask_sockets.ConnectionClosed(1000)
assert isinstance(error, OSError)
base = flask_sockets.WebSocketError
assert isinstance(flask_sockets.ConnectionClosed(1000), base)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path)
