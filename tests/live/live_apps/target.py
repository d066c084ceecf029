"""What is attacked. Its config is in environment variables that begin with TARGET."""

from __future__ import annotations

import time
import typing as t

from flask import Flask, g, jsonify, request

from flask_sockets import ConnectionClosed, Sockets, WebSocket

app = Flask(__name__)
app.config.from_prefixed_env("TARGET")
sockets = Sockets(app)

#: The names of the clients whose handlers are running.
OPEN: set[str] = set()
#: Those that a broadcast goes to.
MEMBERS: set[WebSocket] = set()


@app.before_request
def remember() -> None:
    if "name" in request.args:
        g.name = request.args["name"]
        OPEN.add(g.name)


@app.teardown_request
def forget(error: BaseException | None) -> None:
    if "name" in g:
        OPEN.discard(g.name)


@app.get("/open")
def list_open() -> t.Any:
    return jsonify(sorted(OPEN))


@app.get("/")
def index() -> str:
    return "Hello World!"


@sockets.route("/echo")
def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


@sockets.route("/swallow")
def swallow(ws: WebSocket) -> None:
    """Receives, and answers each message with its size."""
    for message in ws:
        ws.send(str(len(message)))


@sockets.route("/work")
def work(ws: WebSocket) -> None:
    """Keeps the processor busy for so many seconds with each message."""
    seconds = float(request.args["seconds"])
    for message in ws:
        busy(seconds)
        if "answer" in request.args:
            ws.send(message)


def busy(seconds: float) -> None:
    # Its own time, whatever else runs on this machine.
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@sockets.route("/ignore")
def ignore(ws: WebSocket) -> None:
    """Never receives."""
    ws.send("welcome")
    while not ws.closed:
        time.sleep(0.05)


@sockets.route("/stream")
def stream(ws: WebSocket) -> None:
    """Sends without end, and never receives."""
    payload = bytes(int(request.args["size"]))
    while True:
        ws.send(payload)


@sockets.route("/listen")
def listen(ws: WebSocket) -> None:
    """Gets what others broadcast."""
    MEMBERS.add(ws)
    ws.send("welcome")
    try:
        for _ in ws:
            pass
    finally:
        MEMBERS.discard(ws)


@sockets.route("/broadcast")
def broadcast(ws: WebSocket) -> None:
    """Sends each message to all who listen, one after the other, as apps do."""
    for message in ws:
        for member in list(MEMBERS):
            try:
                member.send(message)
            except ConnectionClosed:
                MEMBERS.discard(member)
        ws.send("done")
