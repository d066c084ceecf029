"""Handlers as classes, and functions with a context for each message."""

from __future__ import annotations

import typing as t

import pytest
from cachelib import SimpleCache
from flask import Blueprint, Flask, abort, g, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_session import Session

from flask_sockets import (
    ConnectionClosed,
    HandshakeRejected,
    Sockets,
    SocketTestClient,
    WebSocket,
    WebSocketView,
)


@pytest.fixture
def torn_down(app: Flask) -> list[t.Any]:
    """What 'g.name' was whenever an app context ended, and the type of the error."""
    torn_down: list[t.Any] = []

    @app.teardown_appcontext
    def remember(error: BaseException | None) -> None:
        torn_down.append((g.get("name"), error and type(error).__name__))

    return torn_down


class Diary(WebSocketView):
    """Writes down what it is called with, in contexts that are marked."""

    def __init__(self, pages: list[t.Any]) -> None:
        self.pages = pages

    def on_open(self, ws: WebSocket, name: str) -> None:
        self.name = name
        self.write("open")

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.write(message)
        if message == "fail":
            raise RuntimeError("on_message")
        if message == "forbid":
            abort(403)
        ws.send(f"{self.name}: {message!r}")

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        self.write((code, reason))

    def write(self, what: t.Any) -> None:
        self.pages.append((what, g.get("name"), request.path, session.get("user")))
        g.name = what


@pytest.fixture
def pages(sockets: Sockets) -> list[t.Any]:
    """What instances of 'Diary' have written down."""
    pages: list[t.Any] = []
    view = Diary.as_view("diary", pages)
    sockets.add_url_rule("/diary/<name>", view_func=view)
    return pages


def test_each_call_has_a_context_of_its_own_with_the_request_and_the_session(
    client: SocketTestClient, pages: list[t.Any], torn_down: list[t.Any]
) -> None:
    with client.session_transaction() as values:
        values["user"] = "ada"
    torn_down.clear()
    with client.websocket("/diary/one") as ws:
        ws.send("hello")
        assert ws.receive() == "one: 'hello'"
        ws.send(b"\0")
        assert ws.receive() == "one: b'\\x00'"
        assert torn_down[:2] == [("open", None), ("hello", None)]
        ws.close(4000, "enough")
    calls = ["open", "hello", b"\0", (4000, "enough")]
    assert pages == [(call, None, "/diary/one", "ada") for call in calls]
    # One more where it waited for the message that didn't come.
    names = [name for name, _ in torn_down if name is not None]
    assert names == calls


def test_the_context_ends_before_the_next_message_is_waited_for(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    @sockets.route("/told", context="message")
    def told(ws: WebSocket) -> None:
        g.ws = ws
        for _ in ws:
            g.ws = ws

    @app.teardown_appcontext
    def tell(error: BaseException | None) -> None:
        if "ws" in g and not g.ws.closed:
            g.ws.send("torn down")

    with client.websocket("/told") as ws:
        assert ws.receive() == "torn down"
        ws.send("more")
        assert ws.receive() == "torn down"


def test_what_before_request_has_put_into_g_is_there_until_the_first_wait(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    @app.before_request
    def load_user() -> None:
        g.user = "ada"

    @sockets.route("/user", context="message")
    def user(ws: WebSocket) -> None:
        ws.send(g.user)
        ws.receive()
        ws.send(str("user" in g))
        g.user = "bob"
        with pytest.raises(TimeoutError):
            ws.receive(timeout=0)
        ws.send(str("user" in g))

    with client.websocket("/user") as ws:
        assert ws.receive() == "ada"
        ws.send("go on")
        assert list(ws) == ["False", "False"]


def test_a_function_has_one_context_unless_it_says_otherwise(
    sockets: Sockets, client: SocketTestClient, torn_down: list[t.Any]
) -> None:
    @sockets.route("/count")
    def count(ws: WebSocket) -> None:
        for _ in ws:
            g.name = g.get("name", 0) + 1
            ws.send(str(g.name))

    with client.websocket("/count") as ws:
        for number in ("1", "2"):
            ws.send("more")
            assert ws.receive() == number
    assert torn_down == [(2, None)]


def test_waiting_for_the_end_has_no_context_either(
    sockets: Sockets, client: SocketTestClient, torn_down: list[t.Any]
) -> None:
    @sockets.route("/push", context="message")
    def push(ws: WebSocket) -> None:
        g.name = "before"
        ws.send("hello")
        ws.wait_closed()
        g.name = g.get("name", "after")

    with client.websocket("/push") as ws:
        ws.receive()
    assert torn_down == [("before", None), ("after", None)]


def test_a_context_of_the_handlers_own_is_left_alone(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    @sockets.route("/own", context="message")
    def own(ws: WebSocket) -> None:
        with app.app_context():
            g.name = "own"
            ws.receive()
            ws.send(g.name)

    with client.websocket("/own") as ws:
        ws.send("go")
        assert list(ws) == ["own"]


def test_converters_are_asked_once(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    """They may ask a database."""
    asked = []

    class Converter(app.url_map.converters["default"]):  # type: ignore[misc, name-defined]
        def to_python(self, value: str) -> str:
            asked.append(value)
            return value

    app.url_map.converters["counted"] = Converter

    @sockets.route("/item/<counted:name>", context="message")
    def item(ws: WebSocket, name: str) -> None:
        ws.receive()
        assert request.view_args == {"name": name}
        ws.send(url_for("item", name="other"))

    with client.websocket("/item/x") as ws:
        ws.send("go")
        assert ws.receive() == "ws://localhost/item/other"
    assert asked == ["x"]


def test_an_error_reaches_the_teardown_of_its_message_and_then_on_close(
    app: Flask,
    client: SocketTestClient,
    pages: list[t.Any],
    torn_down: list[t.Any],
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    with client.websocket("/diary/one") as ws:
        ws.send("fail")
        with pytest.raises(ConnectionClosed) as caught:
            ws.receive()
        assert caught.value.code == 1011
    assert [page[0] for page in pages] == ["open", "fail", (1011, "")]
    assert torn_down == [("open", None), ("fail", "RuntimeError"), ((1011, ""), None)]


def test_an_http_error_of_on_message_closes_with_1008(
    client: SocketTestClient, pages: list[t.Any]
) -> None:
    with client.websocket("/diary/one") as ws:
        ws.send("forbid")
        with pytest.raises(ConnectionClosed) as caught:
            ws.receive()
        assert (caught.value.code, caught.value.reason) == (1008, "403 Forbidden")
    assert pages[-1][0] == (1008, "403 Forbidden")


def test_on_open_can_answer_with_http(
    sockets: Sockets, client: SocketTestClient
) -> None:
    closed = []

    class Closed(WebSocketView):
        def on_open(self, ws: WebSocket, how: str) -> ResponseReturnValue:
            if how == "abort":
                abort(403)
            return "No.", 402

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            closed.append(code)

    sockets.add_url_rule("/closed/<how>", view_func=Closed.as_view("closed"))
    for how, status in (("abort", 403), ("return", 402)):
        url = f"/closed/{how}"
        with pytest.raises(HandshakeRejected) as caught, client.websocket(url):
            pass
        assert caught.value.response.status_code == status
    assert closed == []


def test_an_error_of_on_close_is_an_error_of_the_handler(
    sockets: Sockets, client: SocketTestClient
) -> None:
    class Careless(WebSocketView):
        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            raise RuntimeError("on_close")

    sockets.add_url_rule("/careless", view_func=Careless.as_view("careless"))
    with pytest.raises(RuntimeError, match="on_close"), client.websocket("/careless"):
        pass


def test_each_connection_has_an_instance_unless_they_share_one(
    sockets: Sockets, client: SocketTestClient
) -> None:
    class Counter(WebSocketView):
        count = 0

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.count += 1
            ws.send(str(self.count))

    class Shared(Counter):
        init_every_request = False

    sockets.add_url_rule("/own", view_func=Counter.as_view("own"))
    sockets.add_url_rule("/shared", view_func=Shared.as_view("shared"))
    for path, counts in (("/own", "11"), ("/shared", "12")):
        for count in counts:
            with client.websocket(path) as ws:
                ws.send("count")
                assert ws.receive() == count


def test_decorators_run_once_and_the_last_one_is_the_outermost(
    sockets: Sockets, client: SocketTestClient
) -> None:
    called = []

    def decorator(name: str) -> t.Callable[..., t.Any]:
        def decorate(view: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
            def decorated(*args: t.Any, **kwargs: t.Any) -> t.Any:
                called.append(name)
                return view(*args, **kwargs)

            return decorated

        return decorate

    class Decorated(WebSocketView):
        decorators: t.ClassVar = [decorator("inner"), decorator("outer")]

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            g.name = g.get("name", "fresh")
            ws.send(g.name)

    sockets.add_url_rule("/a", "decorated", Decorated.as_view("decorated"))
    with client.websocket("/a") as ws:
        for _ in range(2):
            ws.send("x")
            assert ws.receive() == "fresh"
    assert called == ["outer", "inner"]


def test_a_blueprint_has_views_and_options_as_well(
    sockets: Sockets, client: SocketTestClient
) -> None:
    bp = Blueprint("bp", __name__)
    pages: list[t.Any] = []
    bp.add_url_rule("/<name>", view_func=Diary.as_view("diary", pages))

    @bp.route("/fresh", context="message")  # type: ignore[type-var]
    def fresh(ws: WebSocket) -> None:
        g.name = "first"
        ws.receive()
        ws.send(str("name" in g))

    sockets.register_blueprint(bp, url_prefix="/bp")
    with client.websocket("/bp/ada") as ws:
        ws.send("x")
        ws.receive()
    assert len(pages) == 3
    with client.websocket("/bp/fresh") as ws:
        ws.send("go")
        assert list(ws) == ["False"]


def test_a_view_serves_a_rule_of_the_app(app: Flask, client: SocketTestClient) -> None:
    pages: list[t.Any] = []
    view = Diary.as_view("diary", pages)
    app.add_url_rule("/app/<name>", view_func=view, websocket=True)
    with client.websocket("/app/one") as ws:
        ws.send("x")
        ws.receive()
    assert [page[1] for page in pages] == [None, None, None]


def test_a_session_on_the_server_is_saved_with_each_message(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache())
    Session(app)

    @app.get("/seen")
    def seen() -> str:
        return str(session.get("seen"))

    @sockets.route("/see", context="message")
    def see(ws: WebSocket) -> None:
        session["seen"] = 0
        for _ in ws:
            session["seen"] += 1
            ws.send("saved soon")

    with client.websocket("/see") as ws:
        for _ in range(3):
            ws.send("x")
            ws.receive()
        # The second one is saved before the third one is read.
        assert client.get("/seen").text in ("2", "3")
    assert client.get("/seen").text == "3"


def test_a_lost_change_of_the_session_is_told_once(
    sockets: Sockets, client: SocketTestClient, caplog: pytest.LogCaptureFixture
) -> None:
    @sockets.route("/lost", context="message")
    def lost(ws: WebSocket) -> None:
        ws.receive()
        session["x"] = 1
        for _ in ws:
            ws.send("y")

    with client.websocket("/lost") as ws:
        ws.send("go")
        for _ in range(3):
            ws.send("x")
            ws.receive()
    assert caplog.text.count("the change is lost") == 1


def test_a_teardown_function_that_fails_ends_no_connection(
    app: Flask,
    sockets: Sockets,
    client: SocketTestClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @sockets.route("/echo", context="message")
    def echo(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)

    @app.teardown_appcontext
    def fail(error: BaseException | None) -> None:
        raise RuntimeError("teardown")

    with client.websocket("/echo") as ws:
        ws.send("still here")
        assert ws.receive() == "still here"
    assert "A teardown function of the WebSocket '/echo' failed" in caplog.text


def test_a_context_that_cant_be_is_refused(sockets: Sockets) -> None:
    with pytest.raises(ValueError, match=r"WebSocket '/x' is 'request'\. .*'message'"):
        sockets.route("/x", context="request")(lambda ws: None)
    bp = Blueprint("bp", __name__)
    bp.route("/y", context=None)(lambda ws: "")
    with pytest.raises(ValueError, match="'/y' is None"):
        sockets.register_blueprint(bp)


def test_a_method_declared_async_is_refused() -> None:
    class Async(WebSocketView):
        async def on_message(self, ws: WebSocket, message: t.Any) -> None:  # type: ignore[override]
            pass

    with pytest.raises(TypeError, match="'on_message' is declared with 'async def'"):
        Async.as_view("x")


def test_a_rule_without_a_function_is_refused(sockets: Sockets) -> None:
    with pytest.raises(TypeError, match="'/x' has no 'view_func'"):
        sockets.add_url_rule("/x")
