"""A route for every row of the table of what happens when."""

import threading
import time

import gevent
from flask import (
    Flask,
    abort,
    got_request_exception,
    redirect,
    request,
    session,
    url_for,
)
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_sockets import ConnectionClosed, Sockets

app = Flask(__name__)
app.config.update(SECRET_KEY="a secret", SOCKETS_MAX_MESSAGE_SIZE=100_000)
sockets = Sockets(app)

#: What handlers saw, by the key their client gave.
SEEN = {}


@app.get("/seen")
def seen():
    return SEEN.get(request.args["key"], {})


def tell(**what):
    SEEN.setdefault(request.args.get("key"), {}).update(what)


def tell_end(ws):
    """What the handler knows after the end."""
    try:
        ws.send("too late")
    except ConnectionClosed as error:
        send_raised = type(error).__name__
    else:
        send_raised = None
    tell(
        code=ws.close_code,
        reason=ws.close_reason,
        closed=ws.closed,
        left=list(ws),
        send_raised=send_raised,
    )


@app.get("/")
def index():
    return "Hello World!"


# URLs


@app.get("/both")
def both():
    return "HTTP"


@sockets.route("/both", endpoint="both")
def both_socket(ws):
    ws.send("WebSocket")


@app.get("/url")
def url():
    return url_for("echo", _external=True)


# Good connections


@sockets.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)


@sockets.route("/wait")
def wait(ws):
    """Receives until the end, and tells about it."""
    tell(started=True)
    received = []
    while (message := ws.receive()) is not None:
        received.append(message if isinstance(message, str) else message.hex())
    tell(received=received, last=message)
    tell_end(ws)


@sockets.route("/spin")
def spin(ws):
    """Never receives."""
    sleep = time.sleep if request.args.get("sleep") == "thread" else gevent.sleep
    while not ws.closed:
        sleep(0.02)
    tell_end(ws)


@sockets.route("/flood")
def flood(ws):
    """Only sends."""
    try:
        while True:
            ws.send("x" * 100)
            gevent.sleep(0.001)
    except ConnectionClosed as error:
        tell(error_code=error.code)
        raise


@sockets.route("/return")
def just_return(ws):
    pass


@sockets.route("/accept")
def accept_twice(ws):
    ws.accept()
    try:
        ws.accept()
    except RuntimeError as error:
        ws.send(str(error))


@sockets.route("/greet")
def greet(ws):
    ws.send("hello")


@sockets.route("/close/<int:code>/<reason>")
def close(ws, code, reason):
    ws.close(code, reason)
    tell_end(ws)


@sockets.route("/two-receivers")
def two_receivers(ws):
    assert not ws.closed
    other = request.environ["wsgi.websocket"]
    errors = []

    def receive():
        try:
            other.receive()
        except RuntimeError as error:
            errors.append(str(error))
            ws.send("refused")

    run_beside(ws, receive)
    ws.receive()
    tell(errors=errors)


def run_beside(ws, function):
    """Run a function a moment later, in a greenlet or a thread like the handler."""
    if request.args.get("beside") == "greenlet":
        gevent.spawn_later(0.05, function)
    else:
        threading.Timer(0.05, function).start()


@sockets.route("/crowd")
def crowd(ws):
    """Many send at once."""
    assert not ws.closed
    done = []

    def send(letter):
        for _ in range(20):
            ws.send(letter.encode() * 70_000)
        done.append(letter)
        if len(done) == 4:
            ws.send("done")

    for letter in "abcd":
        if request.args.get("beside") == "greenlet":
            gevent.spawn(send, letter)
        else:
            threading.Thread(target=send, args=(letter,)).start()
    ws.receive()


# Errors


@sockets.route("/raise")
def raise_error(ws):
    ws.receive()
    raise RuntimeError(f"expected {request.args['key']}")


@sockets.route("/raise-key-error")
def raise_key_error(ws):
    ws.receive()
    raise KeyError(f"expected {request.args['key']}")


@sockets.route("/raise-at-once")
def raise_at_once(ws):
    raise RuntimeError(f"expected {request.args['key']}")


@got_request_exception.connect_via(app)
def got_exception(sender, exception, **extra):
    tell(signalled=repr(exception))


@sockets.route("/abort")
def abort_late(ws):
    ws.receive()
    abort(403)


@sockets.route("/dead")
def dead(ws):
    """Somebody else's WebSocket is dead."""
    ws.receive()
    raise ConnectionClosed(1006, f"expected {request.args['key']}")


@sockets.route("/teardown")
def bad_teardown(ws):
    ws.send("hello")


@app.teardown_request
def teardown(error):
    if request.path == "/teardown":
        raise RuntimeError(f"expected {request.args['key']}")


# Before the handshake


@app.before_request
def before_request():
    answer = request.args.get("before")
    if answer == "abort":
        abort(401)
    if answer == "redirect":
        return redirect("/elsewhere")
    if answer == "response":
        return "no WebSocket today"
    return None


@sockets.route("/members-only")
def members_only(ws):
    if "member" not in session:
        abort(403)
    ws.send("welcome")


@sockets.route("/say-no")
def say_no(ws):
    return "not now", 503


@sockets.route("/late-return")
def late_return(ws):
    assert not ws.closed
    return "nobody reads this", 503


@app.errorhandler(401)
def unauthorized(error):
    return "Who are you?", 401


@app.after_request
def after_request(response):
    response.headers["X-After"] = request.path
    return response


# Sessions


@sockets.route("/session/early")
def session_early(ws):
    session["color"] = request.args["color"]
    ws.accept(headers={"X-From-Accept": "yes"})
    ws.receive()


@sockets.route("/session/late")
def session_late(ws):
    assert not ws.closed
    session["color"] = "lost"
    session["names"] = ["also", "lost"]


@app.get("/session")
def show_session():
    return dict(session)


# Subprotocols


@sockets.route("/subprotocols", subprotocols=["best", "good"])
def subprotocols(ws):
    ws.accept()
    ws.send(repr(ws.subprotocol))


@sockets.route("/subprotocols/by-hand")
def subprotocols_by_hand(ws):
    ws.accept(subprotocol=ws.protocol.split(",")[-1].strip())
    ws.send(repr(ws.subprotocol))


# An app with another configuration, below '/other'.

other = Flask("other")
other.config.update(
    SOCKETS_ALLOWED_ORIGINS=["https://*.friend.example", "http://localhost:9999"],
    SOCKETS_PING_INTERVAL=0.2,
    SOCKETS_PING_TIMEOUT=0.2,
)
other_sockets = Sockets(other)
other_sockets.add_url_rule("/echo", None, echo)
other_sockets.add_url_rule("/wait", None, wait)

app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/other": other})
