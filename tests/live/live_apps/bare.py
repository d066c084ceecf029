"""Handlers that end in various ways, for tests that count bytes."""

import os

from flask import Flask, request, request_started

from flask_sockets import Sockets

app = Flask(__name__)
sockets = Sockets(app)


@app.get("/")
def index():
    return "Hello World!"


@app.post("/body")
def read_body():
    return request.get_data()


@app.get("/smuggled")
def smuggled():
    app.logger.error("SMUGGLED")
    return "smuggled"


@sockets.route("/return")
def just_return(ws):
    assert not ws.closed


@sockets.route("/raise")
def raise_error(ws):
    assert not ws.closed
    raise RuntimeError("expected")


@sockets.route("/close")
def close(ws):
    ws.close(4000, "go")


@sockets.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)


@sockets.route("/wait")
def wait(ws):
    """For tests that stop the server."""
    ws.send("welcome")
    app.logger.warning("waiting")
    ws.receive()
    app.logger.warning("code %s", ws.close_code)


@sockets.route("/pid")
def pid(ws):
    """For clients that come back, perhaps to another process."""
    ws.send(str(os.getpid()))
    ws.wait_closed()


@sockets.route("/outbox")
def outbox(ws):
    ws.send("welcome")
    app.logger.warning("waiting")
    while not ws.closed:
        # In a greenlet or in a thread, as the server has it.
        ws.connection.transport.sleep(0.1)
    app.logger.warning("code %s", ws.close_code)


@request_started.connect_via(app)
def read_body_at_the_start(sender, **extra):
    if request.args.get("when") == "started":
        request.get_data()


@app.before_request
def read_body_in_a_hook():
    if request.args.get("when") == "hook":
        request.get_data()


@sockets.route("/address")
def address(ws):
    """Where the client is, as the server has it."""
    ws.send(f"{request.remote_addr} {request.environ['REMOTE_PORT']}")


@sockets.route("/slow")
def slow(ws):
    """For tests of timeouts that have nothing to do with handlers."""
    ws.accept()
    ws.connection.transport.sleep(float(request.args["seconds"]))
    ws.send("slow")


@sockets.route("/body")
def body(ws):
    """For handshakes whose body is read."""
    if request.args["when"] == "accepted":
        ws.accept()
    data = request.get_data()
    ws.send(f"{data!r} {ws.receive()}")


@app.after_request
def after_request(response):
    if "before" in request.args:
        response.headers["X-After"] = "yes"
    return response


# A process that says so is ready for signals.
print("bare app loaded", flush=True)
