"""What Flask does for a request, done for a WebSocket."""

from __future__ import annotations

import http.client
import logging
import threading
import typing as t

import flask
import pytest
from flask import Blueprint, Flask, Request, abort, g, redirect, request, session
from flask.ctx import AppContext
from flask.sessions import SessionInterface, SessionMixin
from websockets.exceptions import ConnectionClosed as ClientClosed
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response
from websockets.sync.client import ClientConnection
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_sockets import ConnectionClosed, Sockets, SocketTestClient, WebSocket

from .conftest import Served

Serve: t.TypeAlias = t.Callable[[Flask], Served]

HEADERS = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture
def app() -> Flask:
    """As it is in production, where exceptions are answered."""
    app = Flask(__name__)
    app.secret_key = "secret"
    return app


def refusal(served: Served, path: str, **options: t.Any) -> Response:
    """Connect, and return the HTTP response that refuses it."""
    with pytest.raises(InvalidStatus) as caught:
        served.connect(path, **options)
    return caught.value.response


def closing(client: ClientConnection) -> tuple[int, str]:
    """Read to the end, and return the code and reason."""
    with pytest.raises(ClientClosed) as caught:
        while True:
            client.recv(timeout=60)
    received = caught.value.rcvd
    return (received.code, received.reason) if received else (1006, "")


class Watch(logging.Handler):
    """Keeps the records an app logs, and says when there is one."""

    def __init__(self, app: Flask) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        app.logger.addHandler(self)
        app.logger.propagate = False

    @property
    def first_traceback(self) -> str:
        return self.records[0].exc_text or ""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)  # Sets exc_text.
        self.records.append(record)


# Before the protocol is switched


def test_hooks_run_before_the_handler_and_share_its_context(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """g and request are those of the handshake, for the life of the socket."""

    @app.before_request
    def before() -> None:
        g.user = request.args["user"]

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        for message in ws:
            ws.send(f"{g.user} {message!s} {request.path} {flask.current_app.name}")

    with serve(app).connect("/a?user=ada") as client:
        client.send("hi")
        assert client.recv(timeout=60) == f"ada hi /a {app.name}"


@pytest.mark.parametrize("where", ["hook", "handler"])
def test_abort_before_the_handshake_is_a_real_response(
    app: Flask, sockets: Sockets, serve: Serve, where: str
) -> None:
    """The browser's developer tools show the 401, as for a page."""

    @app.before_request
    def before() -> None:
        if where == "hook":
            abort(401)

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        abort(401)

    @app.errorhandler(401)
    def unauthorized(error: t.Any) -> t.Any:
        return "who are you?", 401, {"X-Handled": "yes"}

    response = refusal(serve(app), "/a")
    assert response.status_code == 401
    assert response.body == b"who are you?"
    assert response.headers["X-Handled"] == "yes"


def test_a_handler_may_answer_with_a_redirect_or_a_response(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """What a handler returns instead of using the WebSocket is the response."""
    sockets.add_url_rule("/go", "go", lambda ws: redirect("/login", 302))
    sockets.add_url_rule("/full", "full", lambda ws: ({"error": "full"}, 503))
    served = serve(app)
    response = refusal(served, "/full")
    assert (response.status_code, response.body) == (503, b'{"error":"full"}\n')
    # This client library would follow a redirect.
    connection = http.client.HTTPConnection(served.host)
    connection.request("GET", "/go", headers=HEADERS)
    with connection.getresponse() as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/login")
    connection.close()


def test_an_error_before_the_handshake_is_a_500(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """It is logged like the error of a view, and teardown functions get it."""
    watch = Watch(app)
    torn: list[BaseException | None] = []

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        raise KeyError("wsgi.websocket")

    app.teardown_request(torn.append)
    assert refusal(serve(app), "/a").status_code == 500
    assert "KeyError: 'wsgi.websocket'" in watch.first_traceback
    assert [type(error) for error in torn] == [KeyError]


def test_a_websocket_that_was_answered_with_http_is_closed(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """For a greenlet or thread of the handler's that still has it, too."""
    Watch(app)
    kept: list[WebSocket] = []

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        kept.append(ws)
        raise KeyError("x")

    assert refusal(serve(app), "/a").status_code == 500
    assert kept[0].closed
    with pytest.raises(ConnectionClosed):
        kept[0].send("too late")
    assert not kept[0].accepted


def test_an_unknown_path_is_a_404_and_a_page_a_400(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """Nothing is accepted that nobody serves."""
    app.add_url_rule("/page", "page", lambda: "page")
    served = serve(app)
    assert refusal(served, "/nowhere").status_code == 404
    assert refusal(served, "/page").status_code == 400


def test_plain_http_on_a_socket_is_a_426(app: Flask, sockets: Sockets) -> None:
    """The answer says what the URL is for."""
    sockets.add_url_rule("/a", "a", lambda ws: None)
    response = app.test_client().get("/a")
    assert response.status_code == 426
    assert response.headers["Upgrade"] == "websocket"
    assert "WebSocket" in response.text


def test_the_app_may_handle_the_426(app: Flask, sockets: Sockets) -> None:
    """An error handler for HTTPException sees it, as all others."""

    @app.errorhandler(HTTPException)
    def handle(error: t.Any) -> t.Any:
        return f"handled {error.code}", error.code

    sockets.add_url_rule("/a", "a", lambda ws: None)
    response = app.test_client().get("/a")
    assert (response.status_code, response.text) == (426, "handled 426")


# What a subclass of Flask, and an extension, may count on


@pytest.mark.parametrize(
    "kind", ["socket", "shared with a page", "rule of the app", "blueprint"]
)
def test_a_subclass_may_override_dispatch_request(serve: Serve, kind: str) -> None:
    """As for views: what it does before and after the handler, it does here."""
    events = []

    class MyFlask(Flask):
        def dispatch_request(
            self,
            ctx: AppContext = None,  # type: ignore[assignment]
        ) -> t.Any:
            events.append(("before", request.endpoint, request.blueprints))
            try:
                # Flask 3.2 passes the context.
                return super().dispatch_request(*([] if ctx is None else [ctx]))
            finally:
                events.append(("after", request.endpoint, request.blueprints))

    app = MyFlask(__name__)
    sockets, bp = Sockets(app), Blueprint("bp", __name__)
    done = threading.Event()
    app.teardown_request(lambda error: done.set())
    endpoint, blueprints, path = "a", list[str](), "/a/x"

    def handler(ws: WebSocket, name: str) -> t.Any:
        assert request.url_rule is not None
        ws.send(f"{name} {request.endpoint} {request.url_rule.rule}")

    if kind == "rule of the app":
        app.add_url_rule("/a/<name>", "a", handler, websocket=True)
    elif kind == "blueprint":
        bp.add_url_rule("/a/<name>", "a", handler)
        sockets.register_blueprint(bp)
        endpoint, blueprints = "bp.a", ["sockets:bp"]
    else:
        sockets.add_url_rule("/a/<name>", "a", handler)
    if kind == "shared with a page":
        app.add_url_rule("/a/<name>", "a", lambda name: "page")
    with serve(app).connect(path) as client:
        assert client.recv(timeout=60) == f"x {endpoint} /a/<name>"
    assert done.wait(10)
    assert events == [("before", endpoint, blueprints), ("after", endpoint, blueprints)]


def test_an_override_of_dispatch_request_may_answer_instead(serve: Serve) -> None:
    """The request is one like all others until then."""

    class MyFlask(Flask):
        def dispatch_request(
            self,
            ctx: AppContext = None,  # type: ignore[assignment]
        ) -> t.Any:
            return "closed on sundays", 503

    app = MyFlask(__name__)
    Sockets(app).add_url_rule("/a", "a", lambda ws: ws.send("x"))
    assert refusal(serve(app), "/a").status_code == 503


def test_a_websocket_is_a_first_request(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """After which Flask refuses changes of its setup."""
    sockets.add_url_rule("/a", "a", lambda ws: ws.send("x"))
    app.add_url_rule("/before", "before", lambda: "")
    with serve(app).connect("/a"):
        pass
    with pytest.raises(AssertionError, match="has already handled its first request"):
        app.add_url_rule("/after", "after", lambda: "")


def test_a_test_client_keeps_the_context_of_a_refused_handshake(
    app: Flask, sockets: Sockets
) -> None:
    """As it does for views, in a 'with' block."""
    sockets.add_url_rule("/a", "a", lambda ws: abort(401))
    with app.test_client() as client:
        client.get("/a?x=1", headers=HEADERS)
        assert request.args["x"] == "1"


def test_an_app_may_keep_an_error_from_its_teardown_functions(
    app: Flask,
    sockets: Sockets,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By 'should_ignore_error', until Flask 3.3 removes that."""
    Watch(app)
    torn, done = [], threading.Event()
    monkeypatch.setattr(app, "should_ignore_error", lambda error: True)

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        raise KeyError("x")

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        torn.append(error)
        done.set()

    assert refusal(serve(app), "/a").status_code == 500
    assert done.wait(10)
    assert torn == [None]


def test_a_handler_that_is_ended_from_outside_says_come_again(
    app: Flask, sockets: Sockets, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stops ends its handlers with exceptions like this one."""
    ended = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: ended.set())

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        ws.receive()
        raise SystemExit

    with serve(app).connect("/a") as client:
        client.send("x")
        assert closing(client)[0] == 1012
    assert ended.wait(10)


# The handshake


def test_after_request_headers_and_the_session_travel_with_the_101(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """What is set before the first use of the WebSocket reaches the client."""

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        response.headers["X-After"] = str(response.status_code)
        return response

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        session["user"] = "ada"
        ws.accept(headers={"X-Mine": "mine"})
        ws.send("hi")

    app.add_url_rule("/who", "who", lambda: session.get("user", "nobody"))
    with serve(app).connect("/a") as client:
        assert client.response is not None
        headers = client.response.headers
    assert headers["X-After"] == "101"
    assert headers["X-Mine"] == "mine"
    assert "Content-Type" not in headers
    cookie = headers["Set-Cookie"].partition(";")[0]
    http_client = app.test_client(use_cookies=False)
    assert http_client.get("/who", headers={"Cookie": cookie}).text == "ada"


def test_after_request_functions_run_once(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """They see the 101, and nothing at the end."""
    seen, torn = [], threading.Event()

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        seen.append(response.status_code)
        return response

    app.teardown_request(lambda error: torn.set())
    sockets.add_url_rule("/a", "a", lambda ws: ws.send("x"))
    with serve(app).connect("/a"):
        assert torn.wait(10)
    assert seen == [101]


def test_the_session_of_the_client_is_there(app: Flask, sockets: Sockets) -> None:
    """A cookie from a page is a session in the handler."""

    @app.route("/login")
    def login() -> str:
        session["user"] = "ada"
        return ""

    sockets.add_url_rule("/a", "a", lambda ws: ws.send(session["user"]))
    client = t.cast(SocketTestClient, app.test_client())
    client.get("/login")
    with client.websocket("/a") as ws:
        assert ws.receive() == "ada"


@pytest.mark.parametrize(
    ("header", "expected"), [({}, "None"), ({"Cookie": "a=1"}, "1")]
)
def test_cookies_are_where_0_2_1_had_them(
    app: Flask, sockets: Sockets, serve: Serve, header: dict[str, str], expected: str
) -> None:
    """Besides 'request.cookies', where Flask has them."""

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        cookie = request.cookie  # type: ignore[attr-defined]
        ws.send(str(cookie and cookie["a"]))

    with serve(app).connect("/a", additional_headers=header) as client:
        assert client.recv(timeout=60) == expected


def test_a_cookie_session_changed_too_late_is_warned_about(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """Once, with the way out; a change in time is no reason to warn."""
    watch, torn = Watch(app), threading.Event()

    @sockets.route("/late")
    def late(ws: WebSocket) -> t.Any:
        ws.send("x")
        session["a"] = {"b": 1}

    @sockets.route("/early")
    def early(ws: WebSocket) -> t.Any:
        session["a"] = {"b": 1}
        ws.send("x")

    app.teardown_request(lambda error: torn.set())
    served = serve(app)
    for path in "/early", "/late":
        torn.clear()
        with served.connect(path):
            assert torn.wait(10)
    messages = [record.getMessage() for record in watch.records]
    assert len(messages) == 1
    assert "'/late' changed the session after the handshake" in messages[0]


def test_a_session_on_the_server_is_saved_at_the_end(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """Only a cookie can be too late."""
    store: dict[str, t.Any] = {}
    watch, torn = Watch(app), threading.Event()

    class ServerSession(dict[str, t.Any], SessionMixin):
        pass

    class Interface(SessionInterface):
        def open_session(self, app: Flask, request: Request) -> SessionMixin:
            return ServerSession(store)

        def save_session(
            self, app: Flask, session: SessionMixin, response: flask.Response
        ) -> None:
            store.update(session)
            response.set_cookie("session", "the-id")

    app.session_interface = Interface()

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        ws.send("x")
        session["count"] = 1

    app.teardown_request(lambda error: torn.set())
    header = {"Cookie": "session=the-id"}
    with serve(app).connect("/a", additional_headers=header):
        assert torn.wait(10)
    assert store == {"count": 1}
    assert watch.records == []


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"X\r\nY": "x"}, r"'X\\r\\nY' can't be the name of a header"),
        ({"X-News": "a\r\nX: b"}, "header 'X-News' can't have the value"),
        ({"X-News": "€"}, "header 'X-News' can't have the value"),
    ],
)
def test_a_mistake_in_accept_is_found_before_anything_is_done(
    app: Flask, sockets: Sockets, serve: Serve, headers: dict[str, str], message: str
) -> None:
    """The handler may mend it, and 'after_request' functions run once."""
    seen = []

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        seen.append(response.status_code)
        return response

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        with pytest.raises(ValueError, match=message):
            ws.accept(headers=headers)
        with pytest.raises(ValueError, match="doesn't offer"):
            ws.accept("v1")
        ws.accept(headers={"X-News": "2"})

    with serve(app).connect("/a") as client:
        assert client.response is not None
        assert client.response.headers["X-News"] == "2"
    assert seen == [101]


def test_a_mistake_that_is_not_mended_is_a_500(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """For which 'after_request' functions run, as for each response."""
    watch, seen = Watch(app), []

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        seen.append(response.status_code)
        return response

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        ws.accept(headers={"X": "€"})

    assert refusal(serve(app), "/a").status_code == 500
    assert "header 'X' can't have the value" in watch.first_traceback
    assert seen == [500]


def test_a_header_of_an_after_request_function_has_to_be_one(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """Nothing that isn't a header reaches the client."""
    watch = Watch(app)

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        if response.status_code == 101:
            response.headers["X\tY"] = "x"
        return response

    sockets.add_url_rule("/a", "a", lambda ws: ws.send("x"))
    assert refusal(serve(app), "/a").status_code == 500
    assert r"'X\tY' can't be the name of a header" in watch.first_traceback


def test_a_handler_that_never_touches_the_websocket_is_accepted(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """At the latest when it returns, and closed with 1000."""
    sockets.add_url_rule("/a", "a", lambda ws: None)
    with serve(app).connect("/a") as client:
        assert closing(client) == (1000, "")


def test_the_first_use_may_be_in_another_thread(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """The hooks of the handshake run in the context of the request all the same."""

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        response.headers["X-Path"] = request.path
        return response

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        thread = threading.Thread(target=ws.send, args=("from a thread",))
        thread.start()
        thread.join()

    with serve(app).connect("/a") as client:
        assert client.recv(timeout=60) == "from a thread"
        assert client.response is not None
        assert client.response.headers["X-Path"] == "/a"


def test_the_route_says_which_subprotocols_it_speaks(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """The server's first choice among those the client offers."""

    @sockets.route("/a", subprotocols=["v2", "v1"])
    def handler(ws: WebSocket) -> t.Any:
        ws.send(str(ws.subprotocol))

    served = serve(app)
    with served.connect("/a", subprotocols=["v1", "v2"]) as client:
        assert client.subprotocol == "v2"
        assert client.recv(timeout=60) == "v2"
    with served.connect("/a") as client:
        assert client.subprotocol is None


def test_a_handler_chooses_the_subprotocol(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """One that wasn't offered would make the client close: that is an error."""
    watch = Watch(app)
    sockets.add_url_rule("/a", "a", lambda ws: ws.accept(ws.environ["QUERY_STRING"]))
    served = serve(app)
    with served.connect("/a?v1", subprotocols=["v1"]) as client:
        assert client.subprotocol == "v1"
    assert refusal(served, "/a?v3", subprotocols=["v1"]).status_code == 500
    assert "doesn't offer the subprotocol 'v3'" in watch.first_traceback


@pytest.mark.parametrize(
    ("path", "offered", "expected"),
    [
        ("/subscriptions", ["graphql-ws"], "graphql-ws"),
        ("/subscriptions", ["other", "graphql-ws"], "graphql-ws"),
        ("/subscriptions", ["graphql-ws2"], None),
        ("/subscriptions", None, None),
        ("/none", ["graphql-ws"], None),
        ("/own", ["graphql-ws", "v1"], "v1"),
    ],
)
def test_app_protocol_says_which_subprotocol_it_is(
    app: Flask,
    sockets: Sockets,
    serve: Serve,
    path: str,
    offered: t.Any,
    expected: str | None,
) -> None:
    """As gevent-websocket asks the app. What a route says by itself counts more."""

    def app_protocol(path: str) -> str | None:
        return None if path == "/none" else "graphql-ws"

    app.app_protocol = app_protocol  # type: ignore[attr-defined]
    options: dict[str, t.Any] = {"subprotocols": "v1"} if path == "/own" else {}
    sockets.add_url_rule(path, "a", lambda ws: ws.send(str(ws.subprotocol)), **options)
    with serve(app).connect(path, subprotocols=offered) as client:
        assert client.subprotocol == expected
        assert client.recv(timeout=60) == str(expected)


# The handler's errors


@pytest.mark.parametrize("debug", [True, False])
def test_an_error_of_the_handler_is_logged_and_closes_with_1011(
    app: Flask, sockets: Sockets, serve: Serve, debug: bool
) -> None:
    """In debug the reason says what it was. Signals and teardown functions get it."""
    app.debug = debug
    watch, torn, signalled, done = Watch(app), [], [], threading.Event()

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        ws.receive()
        raise KeyError("x" * 200)

    @app.teardown_request
    def teardown(error: t.Any) -> t.Any:
        torn.append(error)
        done.set()

    def on_exception(sender: Flask, exception: Exception) -> None:
        signalled.append(exception)

    with flask.got_request_exception.connected_to(on_exception, app):
        with serve(app).connect("/a") as client:
            client.send("x")
            code, reason = closing(client)
        assert done.wait(10)
    assert code == 1011
    assert reason == (f"KeyError: '{'x' * 112}" if debug else "")
    assert len(watch.records) == 1
    assert "KeyError: 'xxx" in watch.first_traceback
    assert torn == signalled
    assert isinstance(torn[0], KeyError)


def test_an_error_after_the_handler_is_one_of_the_websocket(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """As where the store of the sessions has gone: no response is made for it."""
    watch, done = Watch(app), threading.Event()
    seen: list[object] = []

    class ServerSession(dict[str, t.Any], SessionMixin):
        pass

    class Interface(SessionInterface):
        def open_session(self, app: Flask, request: Request) -> SessionMixin:
            return ServerSession()

        def save_session(
            self, app: Flask, session: SessionMixin, response: flask.Response
        ) -> None:
            if session:
                raise OSError("the store has gone")

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        seen.append(response.status_code)
        return response

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        seen.append(type(error))
        done.set()

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        ws.send("x")
        session["a"] = 1

    app.session_interface = Interface()
    app.config["PROPAGATE_EXCEPTIONS"] = True  # As in debug mode.
    with serve(app).connect("/a"):
        assert done.wait(10)
    assert seen == [101, OSError]
    assert "the store has gone" in watch.first_traceback


def test_an_http_error_after_the_handshake_closes_with_1008(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """Its status is the reason. It is no error to be logged."""
    watch = Watch(app)

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        ws.send("x")
        abort(403)

    with serve(app).connect("/a") as client:
        assert closing(client) == (1008, "403 Forbidden")
    assert watch.records == []


def test_the_end_of_its_own_connection_is_no_error_of_a_handler(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """A handler may let it pass when it sends to a client that has gone."""
    watch, torn, done = Watch(app), [], threading.Event()

    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        while True:
            ws.send(ws.receive() or "")

    @app.teardown_request
    def teardown(error: t.Any) -> t.Any:
        torn.append(error)
        done.set()

    with serve(app).connect("/a") as client:
        client.send("x")
        assert client.recv(timeout=60) == "x"
    assert done.wait(10)
    assert torn == [None]
    assert watch.records == []


def test_the_end_of_another_connection_is_an_error_of_the_handler(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """A member of a chat that has gone must not end the chat of another silently."""
    watch, members, gone = Watch(app), [], threading.Event()

    @sockets.route("/member")
    def member(ws: WebSocket) -> t.Any:
        members.append(ws)
        assert ws.receive() is None
        gone.set()

    @sockets.route("/sender")
    def sender(ws: WebSocket) -> t.Any:
        ws.receive()
        members[0].send("are you there?")

    served = serve(app)
    with served.connect("/member"):
        pass
    assert gone.wait(10)
    with served.connect("/sender") as client:
        client.send("x")
        assert closing(client) == (1011, "")
    (record,) = watch.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ConnectionClosed)


def test_request_signals_frame_the_life_of_the_socket(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """Started before the handler, finished after it, torn down at the end."""
    events, done = [], threading.Event()

    def on(name: str) -> t.Callable[..., None]:
        def receiver(sender: Flask, **extra: t.Any) -> None:
            events.append(name)
            if name == "tearing down":
                done.set()

        return receiver

    receivers = [on(n) for n in ("started", "finished", "tearing down")]
    flask.request_started.connect(receivers[0], app)
    flask.request_finished.connect(receivers[1], app)
    flask.request_tearing_down.connect(receivers[2], app)
    sockets.add_url_rule("/a", "a", lambda ws: events.append("handler"))
    with serve(app).connect("/a"):
        assert done.wait(10)
    assert events == ["started", "handler", "finished", "tearing down"]


# Origins


def test_pages_of_other_sites_are_refused_by_default(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """With a log line that names the setting."""
    watch = Watch(app)
    sockets.add_url_rule("/a", "a", lambda ws: ws.send("x"))
    served = serve(app)
    assert refusal(served, "/a", origin="https://evil.example").status_code == 403
    assert "SOCKETS_ALLOWED_ORIGINS" in watch.records[0].getMessage()
    for origin in None, f"http://{served.host}", f"https://{served.host}":
        with served.connect("/a", origin=origin) as client:
            assert client.recv(timeout=60) == "x"


def test_a_hook_can_not_accept_what_the_origin_forbids(
    app: Flask, sockets: Sockets, serve: Serve
) -> None:
    """The origin is checked before any hook sees the WebSocket."""
    app.before_request(lambda: request.environ["wsgi.websocket"].send("too early"))
    sockets.add_url_rule("/a", "a", lambda ws: None)
    assert refusal(serve(app), "/a", origin="https://evil.example").status_code >= 400


@pytest.mark.parametrize("trusted", [None, ["127.0.0.1"], ["example.com"]])
def test_an_app_may_say_which_hosts_it_trusts(
    app: Flask, sockets: Sockets, serve: Serve, trusted: list[str] | None
) -> None:
    """By 'TRUSTED_HOSTS'. A page of a name that is made to point to the server is of
    the same origin otherwise."""
    app.config["TRUSTED_HOSTS"] = trusted
    Watch(app)
    sockets.add_url_rule("/a", "a", lambda ws: ("not a WebSocket", 418))
    statuses = []
    served = serve(app)
    for host in served.host, "evil.com":
        connection = http.client.HTTPConnection(served.host)
        headers = {**HEADERS, "Host": host, "Origin": f"http://{host}"}
        connection.request("GET", "/a", headers=headers)
        with connection.getresponse() as answer:
            statuses.append(answer.status)
        connection.close()
    if trusted is None:
        assert statuses == [418, 418]
    elif trusted == ["127.0.0.1"]:
        assert statuses == [418, 400]
    else:
        assert statuses == [400, 400]


# Other middleware and servers


@pytest.mark.parametrize("sockets_first", [True, False])
def test_proxy_fix_sees_websocket_requests(
    app: Flask, serve: Serve, sockets_first: bool
) -> None:
    """Whether it was installed before Sockets or after."""
    if sockets_first:
        sockets = Sockets(app)
    proxied = ProxyFix(app.wsgi_app, x_host=1, x_proto=1, x_prefix=1)
    app.wsgi_app = proxied  # type: ignore[method-assign]
    if not sockets_first:
        sockets = Sockets(app)
    sockets.add_url_rule("/a", "a", lambda ws: ws.send(request.url))
    headers = {
        "X-Forwarded-Host": "example.com",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/app",
    }
    with serve(app).connect(
        "/a", additional_headers=headers, origin="https://example.com"
    ) as client:
        assert client.recv(timeout=60) == "https://example.com/app/a"


def test_middleware_whose_inside_cannot_be_found_is_gone_around(
    app: Flask, serve: Serve
) -> None:
    """As with 0.2.1, WebSockets work; only that middleware doesn't see them."""
    inner = app.wsgi_app
    wrapper = lambda environ, start_response: inner(environ, start_response)  # noqa: E731
    app.wsgi_app = wrapper  # type: ignore[method-assign]
    sockets = Sockets(app)
    sockets.add_url_rule("/a", "a", lambda ws: ws.send("x"))
    with serve(app).connect("/a") as client:
        assert client.recv(timeout=60) == "x"


def test_middleware_that_also_holds_the_app_is_no_trap(
    app: Flask, serve: Serve
) -> None:
    """The search for the inside ends."""

    class Middleware:
        def __init__(self, app: Flask) -> None:
            self.app = app
            self._inner = app.wsgi_app

        def __call__(self, environ: t.Any, start_response: t.Any) -> t.Any:
            return self._inner(environ, start_response)

    app.wsgi_app = Middleware(app)  # type: ignore[method-assign]
    Sockets(app).add_url_rule("/a", "a", lambda ws: ws.send("x"))
    with serve(app).connect("/a") as client:
        assert client.recv(timeout=60) == "x"


def test_a_server_that_offers_no_socket_gets_a_501(
    app: Flask, sockets: Sockets
) -> None:
    """And a log line that names servers that do."""
    watch = Watch(app)
    sockets.add_url_rule("/a", "a", lambda ws: None)
    response = app.test_client().get("/a", headers=HEADERS)
    assert response.status_code == 501
    message = watch.records[0].getMessage()
    assert "flask wsrun" in message
    assert "gunicorn -k flask_sockets.worker" in message


def test_any_other_object_in_the_environ_is_passed_as_it_is(
    app: Flask, sockets: Sockets
) -> None:
    """Servers and tests may bring their own WebSocket."""
    sent: list[t.Any] = []

    class Fake:
        send = sent.append

    @sockets.route("/a/<name>")
    def handler(ws: t.Any, name: str) -> None:
        ws.send((name, type(ws)))

    fake = {"wsgi.websocket": Fake()}
    app.test_client().get("/a/x", environ_overrides=fake)
    assert sent == [("x", Fake)]
