"""The test client's WebSockets, as a test of an app uses them."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
from flask import Flask, abort, g, request, session
from flask.testing import FlaskClient
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from flask_sockets import (
    ConnectionClosed,
    HandshakeRejected,
    Sockets,
    SocketTestClient,
    SocketTestSession,
    WebSocket,
)

from .process import PATIENCE


@pytest.fixture
def sockets(app: Flask) -> Sockets:
    sockets = Sockets(app)

    @sockets.route("/echo")
    def echo(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)

    return sockets


def rejection(client: SocketTestClient, path: str, **options: t.Any) -> TestResponse:
    """Connect, and return the response that refuses it."""
    with (
        pytest.raises(HandshakeRejected) as caught,
        client.websocket(path, **options),
    ):
        pass
    return caught.value.response


# The client


@pytest.mark.parametrize(
    "message",
    ["hi", "", b"\0\xff", "ä" * 500_000, bytearray(b"x"), memoryview(b"y")],
    ids=["text", "empty", "binary", "large", "bytearray", "memoryview"],
)
def test_a_message_goes_there_and_back(
    client: SocketTestClient, message: str | bytes | bytearray | memoryview
) -> None:
    """Text as text, and all the others as bytes."""
    with client.websocket("/echo") as ws:
        ws.send(message)
        received = ws.receive()
    assert received == message
    assert isinstance(received, str) == isinstance(message, str)


def test_json_goes_there_and_back(client: SocketTestClient) -> None:
    """As a text message."""
    with client.websocket("/echo") as ws:
        ws.send_json({"a": None})
        assert ws.receive_json() == {"a": None}
        ws.send_json([1])
        assert ws.receive() == "[1]"


def test_what_is_no_message_is_refused(client: SocketTestClient) -> None:
    """The exception says what to use, and the connection stays."""
    with client.websocket("/echo") as ws:
        with pytest.raises(TypeError, match=r"not 'int'\. Use 'send_json\(\)'"):
            ws.send(t.cast(t.Any, 1))
        ws.send("still open")
        assert ws.receive() == "still open"


def test_the_session_of_the_client_goes_both_ways(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    """A login in a view is one for the socket, and the 101 sets the cookie back."""

    @app.post("/login")
    def login() -> str:
        session["user"] = request.form["user"]
        return ""

    @sockets.route("/count")
    def count(ws: WebSocket) -> None:
        session["count"] = session.get("count", 0) + 1
        ws.send(f"{session['user']} {session['count']}")

    client.post("/login", data={"user": "ada"})
    for number in 1, 2:
        with client.websocket("/count") as ws:
            assert ws.receive() == f"ada {number}"
            assert "Set-Cookie" in ws.response.headers
    with client.session_transaction() as transaction:
        assert transaction["count"] == 2
        transaction["count"] = 10
    with client.websocket("/count") as ws:
        assert ws.receive() == "ada 11"


def test_a_refusal_sets_cookies_too(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    """As the response of a view does."""

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        session["tried"] = True
        abort(401)

    assert rejection(client, "/a").status_code == 401
    with client.session_transaction() as transaction:
        assert transaction["tried"]


def test_it_takes_what_other_methods_take(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    """Headers, a query, the URL of the app, the environ, and the client's own base."""
    seen = []

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        seen.append(
            (
                request.url,
                request.headers["X-Mine"],
                request.environ["mine"],
                request.remote_addr,
            )
        )

    client.environ_base["REMOTE_ADDR"] = "1.2.3.4"
    with client.websocket(
        "/a",
        headers={"X-Mine": "yes"},
        query_string={"b": "c d"},
        base_url="https://example.com/prefix",
        environ_overrides={"mine": 1},
    ):
        pass
    url = "https://example.com/prefix/a?b=c+d"
    assert seen == [(url, "yes", 1, "1.2.3.4")]


def test_the_url_of_url_for_is_taken(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    """It begins with ws: or wss:."""
    sockets.add_url_rule("/url", "url", lambda ws: ws.send(request.url))
    with client.websocket("wss://example.com/url?a=b") as ws:
        assert ws.receive() == "https://example.com/url?a=b"


def test_subprotocols_are_negotiated(
    sockets: Sockets, client: SocketTestClient
) -> None:
    """The session tells which one the app has chosen."""
    sockets.add_url_rule("/a", "a", lambda ws: None, subprotocols=["v2", "v1"])
    with client.websocket("/a", subprotocols=["v1", "v2"]) as ws:
        assert ws.subprotocol == "v2"
    with client.websocket("/a") as ws:
        assert ws.subprotocol is None


def test_the_origin_is_checked(client: SocketTestClient) -> None:
    """As for a browser; by default there is none."""
    with client.websocket("/echo", origin="http://localhost"):
        pass
    assert rejection(client, "/echo", origin="http://evil.test").status_code == 403


def test_the_handler_has_a_context_of_its_own(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    """As under a server: what the test has put into g isn't there."""
    sockets.add_url_rule("/a", "a", lambda ws: ws.send(str(sorted(g))))
    with app.app_context(), client:
        g.mine = 1
        with client.websocket("/a") as ws:
            assert ws.receive() == "[]"
        assert g.mine == 1


def test_middleware_and_hooks_take_part(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    """All of the app is called, as a server would."""
    app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)  # type: ignore[method-assign]
    sockets.add_url_rule("/a", "a", lambda ws: ws.send(request.host))
    app.after_request(lambda response: response.headers.add("X-A", "b") or response)
    headers = {"X-Forwarded-Host": "example.com"}
    with client.websocket("/a", headers=headers) as ws:
        assert ws.receive() == "example.com"
        assert ws.response.status_code == 101
        assert ws.response.headers["X-A"] == "b"


def test_compression_can_be_asked_for(app: Flask, client: SocketTestClient) -> None:
    """The client offers what the header says."""
    app.config["SOCKETS_COMPRESSION"] = True
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    with client.websocket("/echo", headers=headers) as ws:
        assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]
        ws.send("a" * 1000)
        assert ws.receive() == "a" * 1000


def test_an_app_may_have_its_own_client(app: Flask, sockets: Sockets) -> None:
    """Set before or after, derived from ours or not; all that it does stays."""

    class Own(FlaskClient):
        def __init__(self, *args: t.Any, token: str, **options: t.Any) -> None:
            super().__init__(*args, **options)
            self.token = token

    class Derived(SocketTestClient):
        def websocket(self, path: str = "/", **options: t.Any) -> SocketTestSession:
            return super().websocket(f"/ec{path}", **options)

    app.test_client_class = Own
    client = app.test_client(token="t")
    assert isinstance(client, Own)
    assert client.token == "t"
    with t.cast(SocketTestClient, client).websocket("/echo") as ws:
        assert isinstance(ws, SocketTestSession)
    app.test_client_class = Derived
    with t.cast(Derived, app.test_client()).websocket("ho"):
        pass
    app.test_client_class = None
    assert type(app.test_client()) is SocketTestClient


def test_a_client_without_cookies_sends_none(app: Flask, sockets: Sockets) -> None:
    """As the option of test_client says."""
    sockets.add_url_rule("/a", "a", lambda ws: ws.send(str(dict(request.cookies))))
    client = t.cast(SocketTestClient, app.test_client(use_cookies=False))
    with client.websocket("/a") as ws:
        assert ws.receive() == "{}"


# A refusal


def test_a_refusal_has_a_real_response(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    """Status, headers, JSON; its text is in the message of the exception."""
    answer = {"error": "who are you?"}
    sockets.add_url_rule("/a", "a", lambda ws: (answer, 401, {"X-A": "b"}))
    with pytest.raises(HandshakeRejected) as caught, client.websocket("/a?b=c"):
        pass
    response = caught.value.response
    assert isinstance(response, TestResponse)
    assert response.status_code == 401
    assert response.json == answer
    assert response.headers["X-A"] == "b"
    assert response.request.args["b"] == "c"
    assert "'/a' with 401 unauthorized" in str(caught.value).lower()
    assert "who are you?" in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Sec-WebSocket-Version": "8"}, 426), ({"Sec-WebSocket-Key": "x"}, 400)],
)
def test_a_bad_handshake_can_be_tried(
    client: SocketTestClient, headers: dict[str, str], status: int
) -> None:
    """Headers that are given replace the usual ones."""
    assert rejection(client, "/echo", headers=headers).status_code == status


def test_an_unknown_path_is_a_404(client: SocketTestClient) -> None:
    """And no WebSocket that ends at once."""
    assert rejection(client, "/nowhere").status_code == 404


# The end


def test_receive_raises_when_the_connection_is_closed(
    sockets: Sockets, client: SocketTestClient
) -> None:
    """After the messages from before, as often as it is asked."""

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        ws.send("last words")
        ws.close(4000, "enough")

    with client.websocket("/a") as ws:
        assert ws.receive() == "last words"
        for _ in range(4):
            with pytest.raises(ConnectionClosed) as caught:
                ws.receive()
            assert (caught.value.code, caught.value.reason) == (4000, "enough")
        with pytest.raises(ConnectionClosed):
            ws.send("too late")
        assert (ws.close_code, ws.close_reason) == (4000, "enough")


def test_iteration_ends_when_the_handler_has_returned(
    sockets: Sockets, client: SocketTestClient
) -> None:
    """But any other close than 1000 is nothing to pass over."""

    @sockets.route("/<int:code>")
    def handler(ws: WebSocket, code: int) -> None:
        ws.send("a")
        ws.send("b")
        ws.close(code)

    with client.websocket("/1000") as ws:
        assert list(ws) == ["a", "b"]
    with client.websocket("/4001") as ws, pytest.raises(ConnectionClosed, match="4001"):
        list(ws)


def test_the_handler_sees_the_close_of_the_test(
    sockets: Sockets, client: SocketTestClient
) -> None:
    """With its code and reason, or 1000 when the block is left."""
    seen = []

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        assert ws.receive() is None
        seen.append((ws.close_code, ws.close_reason))

    with client.websocket("/a") as ws:
        ends = [(ws.close_code, ws.close_reason)]
        ws.close(4002, "bye")
        ends.append((ws.close_code, ws.close_reason))
        assert ends == [(None, None), (4002, "bye")]
        ws.close()
    with client.websocket("/a"):
        pass
    assert seen == [(4002, "bye"), (1000, "")]


def test_a_code_that_can_not_be_sent_is_refused(client: SocketTestClient) -> None:
    """Nor a reason that is too long."""
    with client.websocket("/echo") as ws:
        with pytest.raises(ValueError, match="1006"):
            ws.close(1006)
        with pytest.raises(ValueError, match="123"):
            ws.close(1000, "x" * 124)
        ws.send("still open")
        assert ws.receive() == "still open"


def test_leaving_the_block_waits_for_the_handler(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    """With all its cleaning up, teardown functions included."""
    done = []

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        ws.receive()
        time.sleep(0.1)

    app.teardown_request(lambda error: done.append(error))
    with client.websocket("/a"):
        pass
    assert done == [None]


def test_a_session_is_entered_once(client: SocketTestClient) -> None:
    """What is used outside of its block says what to do."""
    made = client.websocket("/echo")
    with pytest.raises(RuntimeError, match="with client"):
        made.send("x")
    assert "not entered" in repr(made)
    with made:
        assert "'/echo' open" in repr(made)
    assert "closed with 1000" in repr(made)
    with pytest.raises(RuntimeError, match="once"), made:
        pass


# Errors of the handler


class Broken(Exception):
    pass


@pytest.fixture
def broken(
    app: Flask,
    sockets: Sockets,
    client: SocketTestClient,
    caplog: pytest.LogCaptureFixture,
) -> SocketTestClient:
    """Handlers that fail."""

    @sockets.route("/early")
    def early(ws: WebSocket) -> None:
        raise Broken("early")

    @sockets.route("/late")
    def late(ws: WebSocket) -> None:
        ws.send("a")
        ws.receive()
        raise Broken("late")

    return client


def names_in(error: BaseException) -> list[str]:
    """The functions its traceback goes through."""
    names, tb = [], error.__traceback__
    while tb is not None:
        names.append(tb.tb_frame.f_code.co_name)
        tb = tb.tb_next
    return names


def test_an_error_before_the_handshake_reaches_the_test(
    broken: SocketTestClient,
) -> None:
    """On entering the block, as that of a view does."""
    with pytest.raises(Broken) as caught, broken.websocket("/early"):
        pass
    assert "early" in names_in(caught.value)


def test_an_error_of_the_handler_reaches_the_test(
    broken: SocketTestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """From the next receive, after the messages from before, once."""
    with broken.websocket("/late") as ws:
        ws.send("x")
        assert ws.receive() == "a"
        with pytest.raises(Broken) as caught:
            ws.receive()
        assert "late" in names_in(caught.value)
        with pytest.raises(ConnectionClosed, match="1011"):
            ws.receive()
    assert caplog.records == []


def test_an_error_nobody_asked_for_is_raised_at_the_end(
    broken: SocketTestClient,
) -> None:
    """A test can't pass while a handler fails."""
    with pytest.raises(Broken), broken.websocket("/late"):
        pass


def test_an_error_of_the_test_comes_first(broken: SocketTestClient) -> None:
    """That of the handler is told with it."""

    def fail() -> None:
        with broken.websocket("/late"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert "Broken: late" in caught.value.__notes__[0]


@pytest.mark.parametrize("propagate", [False, True])
def test_the_app_decides_whether_errors_pass(
    app: Flask,
    broken: SocketTestClient,
    caplog: pytest.LogCaptureFixture,
    propagate: bool,
) -> None:
    """If they don't, they are a 500, or a close code 1011, and are logged."""
    app.testing = not propagate
    app.config["PROPAGATE_EXCEPTIONS"] = propagate
    if propagate:
        with pytest.raises(Broken), broken.websocket("/late") as ws:
            ws.send("x")
        return
    assert rejection(broken, "/early").status_code == 500
    with broken.websocket("/late") as ws:
        ws.send("x")
        ws.receive()
        with pytest.raises(ConnectionClosed) as caught:
            ws.receive()
        assert caught.value.code == 1011
    assert "Exception on /late" in caplog.text


def test_the_error_of_a_teardown_function_reaches_the_test(
    app: Flask, client: SocketTestClient
) -> None:
    """As after a view."""

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        raise Broken

    # Flask 3.2 calls all of them, and groups what they raise.
    with pytest.raises((Broken, ExceptionGroup)) as caught, client.websocket("/echo"):
        pass
    error = caught.value
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, Broken)


def test_what_fails_a_test_may_be_called_in_a_handler(
    sockets: Sockets, client: SocketTestClient
) -> None:
    """It is no Exception, and takes another way."""

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        ws.receive()
        pytest.fail("in the handler")

    with (
        pytest.raises(pytest.fail.Exception, match="in the handler"),
        client.websocket("/a") as ws,
    ):
        ws.send("x")
        ws.receive()


def test_a_client_that_has_gone_is_no_error(
    sockets: Sockets, client: SocketTestClient
) -> None:
    """A handler may send until that raises."""

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        while True:
            ws.send("tick")

    with client.websocket("/a") as ws:
        assert ws.receive() == "tick"


# Handlers that hang


@pytest.fixture
def release() -> t.Iterator[threading.Event]:
    """Lets handlers go that hang, and leaves none behind."""
    before = set(threading.enumerate())
    event = threading.Event()
    yield event
    event.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)


def test_a_test_that_waits_in_vain_is_told_where_the_handler_is(
    client: SocketTestClient,
) -> None:
    """The line of the handler, not those of this package around it."""
    with client.websocket("/echo") as ws:
        with pytest.raises(TimeoutError) as caught:
            ws.receive(timeout=0.05)
        text = str(caught.value)
        assert "'/echo' sent no message within 0.05 seconds" in text
        assert "for message in ws:" in text
        assert text.count("File ") == 1
        ws.send("nothing is lost")
        assert ws.receive() == "nothing is lost"


def test_a_handler_that_does_not_accept_fails_the_test(
    sockets: Sockets, client: SocketTestClient, release: threading.Event
) -> None:
    """The message says what accepts a connection."""

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        release.wait()

    with (
        pytest.raises(TimeoutError, match=r"accept\(\)") as caught,
        client.websocket("/a", timeout=0.2),
    ):
        pass
    assert "release.wait()" in str(caught.value)


def test_a_handler_that_does_not_end_fails_the_test(
    sockets: Sockets, client: SocketTestClient, release: threading.Event
) -> None:
    """In time, with the place where it stands."""

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        ws.send("x")
        release.wait()

    with (
        pytest.raises(TimeoutError, match="didn't end within") as caught,
        client.websocket("/a", timeout=0.2) as ws,
    ):
        ws.receive()
    assert "release.wait()" in str(caught.value)


def test_a_handler_that_does_not_receive_fails_the_test(
    sockets: Sockets, client: SocketTestClient, release: threading.Event
) -> None:
    """When nothing more fits into the socket."""

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        ws.accept()
        release.wait()

    with (
        pytest.raises(TimeoutError, match="didn't receive"),
        client.websocket("/a", timeout=0.2) as ws,
    ):
        while True:
            # Within the limit of a message, which would end the connection.
            ws.send(bytes(2**19))


# The connection


def test_a_test_that_is_busy_answers_pings(
    app: Flask, client: SocketTestClient
) -> None:
    """As a browser does, whatever its page does."""
    app.config.update(SOCKETS_PING_INTERVAL=0.05, SOCKETS_PING_TIMEOUT=1)
    with client.websocket("/echo") as ws:
        time.sleep(1.5)
        ws.send("still here")
        assert ws.receive() == "still here"


def test_both_may_send_a_lot_before_they_receive(
    sockets: Sockets, client: SocketTestClient
) -> None:
    """Neither waits for the other."""

    @sockets.route("/a")
    def handler(ws: WebSocket) -> None:
        for _ in range(20):
            ws.send(bytes(2**20))
        for message in ws:
            ws.send(str(len(message)))

    with client.websocket("/a") as ws:
        for _ in range(5):
            ws.send(bytes(2**20))
        assert sum(len(ws.receive()) for _ in range(20)) == 20 * 2**20
        assert [ws.receive() for _ in range(5)] == [str(2**20)] * 5


def test_two_sockets_talk_to_each_other(
    sockets: Sockets, client: SocketTestClient
) -> None:
    """Each has a handler that runs at the same time."""
    members = []

    @sockets.route("/chat")
    def chat(ws: WebSocket) -> None:
        ws.accept()
        members.append(ws)
        ws.send("welcome")
        for message in ws:
            for member in members:
                member.send(message)

    with client.websocket("/chat") as one, client.websocket("/chat") as two:
        assert one.receive() == two.receive() == "welcome"
        one.send("hello")
        assert one.receive() == two.receive() == "hello"


def open_files() -> set[tuple[int, int]]:
    """What the descriptors of this process stand for. Their numbers are used again."""
    found = set()
    for number in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the list itself
            status = os.fstat(int(number))
            found.add((status.st_dev, status.st_ino))
    return found


def test_nothing_is_left_behind(broken: SocketTestClient) -> None:
    """No thread and no file descriptor, right after the block."""

    def use() -> None:
        with broken.websocket("/echo") as one, broken.websocket("/echo") as two:
            for ws in one, two:
                ws.send("x")
                ws.receive()
        for path in "/early", "/late":
            with pytest.raises(Broken), broken.websocket(path):
                pass
        rejection(broken, "/nowhere")

    use()
    gc.collect()
    # Those of earlier tests may end meanwhile.
    threads, files = set(threading.enumerate()), open_files()
    for _ in range(3):
        use()
        assert not set(threading.enumerate()) - threads
        assert not open_files() - files


# Under gevent

GREENLETS = """
import gevent.monkey
gevent.monkey.patch_all()
import contextvars, gc, os, time
import gevent, greenlet, pytest
from flask import Flask
from flask_sockets import HandshakeRejected, Sockets
from flask_sockets.wire.greenlets import GeventTransport

variable = contextvars.ContextVar("variable")
variable.set(1)
app = Flask(__name__)
app.testing = True
sockets = Sockets(app)

@sockets.route("/echo")
def echo(ws):
    assert type(gevent.getcurrent()) is gevent.Greenlet
    assert isinstance(ws.connection.transport, GeventTransport)
    assert variable.get(None) is None
    for message in ws:
        ws.send(message)

@sockets.route("/hang")
def hang(ws):
    ws.accept()
    time.sleep(100)

@sockets.route("/early")
def early(ws):
    time.sleep(100)

@sockets.route("/fail")
def fail(ws):
    ws.receive()
    raise KeyError("x")

client = app.test_client()

def greenlets():
    gc.collect()
    return sum(
        isinstance(o, greenlet.greenlet) and not o.dead for o in gc.get_objects()
    )

def use():
    with client.websocket("/echo") as one, client.websocket("/echo") as two:
        for ws in one, two:
            ws.send("x" * 10**6)
        assert one.receive() == two.receive() == "x" * 10**6
        with pytest.raises(TimeoutError, match="for message in ws"):
            one.receive(timeout=0.01)
    with pytest.raises(KeyError), client.websocket("/fail") as ws:
        ws.send("x")
        ws.receive()
    with pytest.raises(HandshakeRejected, match="404"), client.websocket("/none"):
        pass
    for path in "/hang", "/early":
        with pytest.raises(TimeoutError, match="time.sleep"):
            with client.websocket(path, timeout=0.1):
                pass

use()
before = greenlets(), len(os.listdir("/dev/fd"))
use()
assert (greenlets(), len(os.listdir("/dev/fd"))) == before
print("fine")
"""


def test_it_works_where_gevent_has_patched_the_process(tmp_path: Path) -> None:
    """In greenlets, of which none is left, even where a handler hangs."""
    (tmp_path / "greenlets.py").write_text(GREENLETS)
    result = subprocess.run(
        [sys.executable, "-X", "dev", "greenlets.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout == "fine\n", result.stderr


def test_an_app_that_is_served_does_not_import_it() -> None:
    """What only tests need costs nothing at the start."""
    code = (
        "import sys, flask, flask_sockets; flask_sockets.Sockets(flask.Flask('a'));"
        "print('flask.testing' in sys.modules, 'flask_sockets.testing' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert result.stdout == "False False\n"
