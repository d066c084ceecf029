"""Topics as an app uses them, with the test client."""

from __future__ import annotations

import contextlib
import threading
import typing as t

import pytest
from flask import Blueprint, Flask, Response, abort, g, request, session

from flask_sockets import (
    ConnectionClosed,
    HandshakeRejected,
    Sockets,
    SocketTestClient,
    SocketTestSession,
    WebSocket,
    member_joined,
    member_left,
)

Handler: t.TypeAlias = t.Callable[[WebSocket], object]


class App:
    """An app with one route, whose handler each test writes."""

    def __init__(self, **config: t.Any) -> None:
        self.flask = Flask(__name__)
        self.flask.config.update(TESTING=True, SECRET_KEY="test", **config)
        self.sockets = Sockets(self.flask)
        self.sockets.topic("log", history=3)
        self.sockets.topic("room/<name>", history=3, presence=True)
        self.client = t.cast("SocketTestClient", self.flask.test_client())

    def handle(self, handler: Handler) -> None:
        self.sockets.add_url_rule("/ws", "ws", handler)

    def connect(self, path: str = "/ws", **options: t.Any) -> SocketTestSession:
        return self.client.websocket(path, **options)

    def subscribe(self, *topics: str, **options: t.Any) -> None:
        """Let the handler subscribe, and then wait for the end."""

        def handler(ws: WebSocket) -> None:
            ws.subscribe(*topics, **options)
            for _ in ws:
                pass

        self.handle(handler)


@pytest.fixture
def app() -> App:
    return App()


# Publishing


def test_a_message_reaches_all_that_are_subscribed_and_nobody_else(app: App) -> None:
    def handler(ws: WebSocket) -> None:
        ws.subscribe(*request.args.getlist("topic"))
        for message in ws:
            ws.send(message)

    app.handle(handler)
    with (
        app.connect("/ws?topic=a") as one,
        app.connect("/ws?topic=a&topic=b") as two,
        app.connect("/ws?topic=c") as three,
    ):
        app.sockets.publish("a", "to a")
        app.sockets.publish("b", b"to b")
        assert one.receive() == "to a"
        assert [two.receive(), two.receive()] == ["to a", b"to b"]
        for ws in (one, three):
            ws.send("nothing before this")
            assert ws.receive() == "nothing before this"


def test_json_is_published_as_text(app: App) -> None:
    app.subscribe("a")
    with app.connect() as ws:
        app.sockets.publish_json("a", {"n": [1, None]})
        assert ws.receive_json() == {"n": [1, None]}


def test_a_socket_can_leave_itself_out(app: App) -> None:
    def handler(ws: WebSocket) -> None:
        ws.subscribe("a")
        for message in ws:
            ws.publish("a", message)

    app.handle(handler)
    with app.connect() as one, app.connect() as two, app.connect() as three:
        one.send("from one")
        assert two.receive() == "from one"
        assert three.receive() == "from one"
        two.send("from two")
        assert one.receive() == "from two"
        assert three.receive() == "from two"


def test_a_socket_that_is_not_subscribed_can_publish(app: App) -> None:
    app.subscribe("a")
    app.sockets.add_url_rule("/other", "other", lambda ws: ws.publish("a", "hi"))
    with app.connect() as ws, app.connect("/other"):
        assert ws.receive() == "hi"


def test_a_socket_that_subscribes_twice_gets_a_message_once(app: App) -> None:
    def handler(ws: WebSocket) -> None:
        ws.subscribe("log", "log")
        ws.subscribe("log", history=3)
        for message in ws:
            ws.send(message)

    app.handle(handler)
    app.sockets.publish("log", "before")
    with app.connect() as ws:
        app.sockets.publish("log", "once")
        assert ws.receive() == "once"
        ws.send("next")
        assert ws.receive() == "next"


def test_what_a_handler_publishes_comes_before_what_it_sends_then(app: App) -> None:
    def handler(ws: WebSocket) -> None:
        ws.subscribe("a")
        for n in range(100):
            app.sockets.publish("a", f"published {n}")
            ws.send(f"sent {n}")

    app.handle(handler)
    with app.connect() as ws:
        for n in range(100):
            assert ws.receive() == f"published {n}"
            assert ws.receive() == f"sent {n}"


@pytest.mark.parametrize(
    ("topic", "message", "error", "sentence"),
    [
        ("a", {"x": 1}, TypeError, "Use 'publish_json"),
        ("a", "\ud83d", ValueError, "surrogates not allowed"),
        ("", "x", ValueError, "can't be empty"),
        (7, "x", TypeError, "is a 'str', not 'int'"),
        ("a", "x" * 101, ValueError, "101 bytes. At most 100 .*'SOCKETS_MAX_OUTBOX'"),
        ("a", "ä" * 51, ValueError, "102 bytes. At most 100"),
    ],
)
def test_what_can_not_be_published_fails_before_anybody_gets_anything(
    topic: t.Any, message: t.Any, error: type[Exception], sentence: str
) -> None:
    app = App(SOCKETS_MAX_OUTBOX=100)
    app.subscribe("a", "b")
    with app.connect() as ws:
        with pytest.raises(error, match=sentence):
            app.sockets.publish(topic, message)
        app.sockets.publish("b", "ä" * 50)
        assert ws.receive() == "ä" * 50


def test_a_value_without_json_fails_in_the_publisher(app: App) -> None:
    app.subscribe("a")
    with app.connect() as ws:
        with pytest.raises(TypeError, match="not JSON serializable"):
            app.sockets.publish_json("a", object())
        app.sockets.publish("a", "next")
        assert ws.receive() == "next"


def test_a_view_a_thread_and_a_shell_can_publish(app: App) -> None:
    app.subscribe("a")

    @app.flask.post("/say")
    def say() -> str:
        app.sockets.publish("a", "from a view")
        return "done"

    with app.connect() as ws:
        app.client.post("/say")
        assert ws.receive() == "from a view"
        thread = threading.Thread(target=app.sockets.publish, args=("a", "a thread"))
        thread.start()
        thread.join()
        assert ws.receive() == "a thread"
        with app.flask.app_context():
            app.sockets.publish("a", "from a shell")
        assert ws.receive() == "from a shell"


def test_a_publisher_that_never_pauses_loses_nothing() -> None:
    """There is much more of it than may be pending at once."""
    app = App(SOCKETS_MAX_OUTBOX=2**24)
    app.subscribe("a")

    def publish() -> None:
        for n in range(3000):
            app.sockets.publish("a", f"{n}".ljust(1000))

    with app.connect() as ws:
        thread = threading.Thread(target=publish)
        thread.start()
        for n in range(3000):
            assert str(ws.receive()).strip() == str(n)
        thread.join()


# Which app


def test_two_apps_share_nothing() -> None:
    sockets = Sockets()
    apps = []
    for name in ("one", "two"):
        app = Flask(name)
        app.testing = True
        sockets.init_app(app)
        apps.append(app)
    sockets.topic("log", history=3, presence=True)

    @sockets.route("/ws")
    def handler(ws: WebSocket) -> None:
        ws.subscribe("log", member="m")
        for _ in ws:
            pass

    with contextlib.ExitStack() as stack:
        for app in apps:
            client = t.cast("SocketTestClient", app.test_client())
            ws = stack.enter_context(client.websocket("/ws"))
            with app.app_context():
                sockets.publish("log", f"to {app.name}")
                assert ws.receive() == f"to {app.name}"
                assert [p.message for p in sockets.history("log")] == [f"to {app.name}"]
                assert sockets.stats()["subscriptions"] == 1
        with pytest.raises(RuntimeError, match=r"There are 2 apps.*app_context"):
            sockets.publish("log", "to whom?")
    with apps[0].app_context():
        assert sockets.presence("log") == {}


def test_without_an_app_nothing_can_be_published() -> None:
    with pytest.raises(RuntimeError, match=r"There is no app yet\..*init_app"):
        Sockets().publish("a", "x")


def test_an_app_of_other_sockets_is_not_meant() -> None:
    app = Flask("other")
    Sockets(app)
    with app.app_context(), pytest.raises(RuntimeError, match=r"doesn't know.*'other'"):
        Sockets().publish("a", "x")


# Who may subscribe


def test_the_authorizer_runs_in_the_context_of_the_request(app: App) -> None:
    @app.sockets.topic("private/<int:number>")
    def may_enter(number: int) -> None:
        if number != session.get("number"):
            abort(403, f"{number} is not for {g.name} at {request.path}")

    def handler(ws: WebSocket) -> None:
        g.name = "me"
        ws.subscribe(f"private/{request.args['n']}")
        ws.receive()

    app.handle(handler)
    with app.client.session_transaction() as stored:
        stored["number"] = 7
    with app.connect("/ws?n=7") as ws:
        app.sockets.publish("private/7", "in")
        assert ws.receive() == "in"
    with pytest.raises(HandshakeRejected) as caught, app.connect("/ws?n=8"):
        pass
    assert caught.value.response.status_code == 403
    assert "8 is not for me at /ws" in caught.value.response.text


def test_after_the_handshake_a_refusal_is_a_policy_violation(app: App) -> None:
    app.sockets.topic("no")(lambda: False)

    def handler(ws: WebSocket) -> None:
        ws.accept()
        ws.subscribe("yes", "no")

    app.handle(handler)
    with app.connect() as ws:
        with pytest.raises(ConnectionClosed) as caught:
            ws.receive()
        assert (caught.value.code, caught.value.reason) == (1008, "403 Forbidden")
    assert app.sockets.stats()["subscriptions"] == 0


def test_an_error_in_the_authorizer_is_one_of_the_handler(app: App) -> None:
    @app.sockets.topic("broken")
    def broken() -> None:
        raise LookupError("broken authorizer")

    app.subscribe("broken")
    with pytest.raises(LookupError, match="broken authorizer"), app.connect():
        pass


def test_all_topics_are_authorized_or_none_is_subscribed_to(app: App) -> None:
    app.sockets.topic("no")(lambda: False)
    topics = []

    def handler(ws: WebSocket) -> None:
        ws.accept()
        try:
            ws.subscribe("a", "no")
        finally:
            topics.append(ws.topics)

    app.handle(handler)
    with app.connect():
        pass
    assert topics == [()]


def test_a_topic_of_a_blueprints_module_is_declared_before_the_app_is_there() -> None:
    sockets = Sockets()
    blueprint = Blueprint("rooms", __name__)

    @sockets.topic("rooms/<name>", history=1)
    def may_enter(name: str) -> bool:
        return name != "secret"

    @blueprint.route("/rooms/<name>")  # type: ignore[type-var]
    def room(ws: WebSocket, name: str) -> None:
        ws.subscribe(f"rooms/{name}", history=1)
        ws.receive()

    sockets.register_blueprint(blueprint)
    app = Flask(__name__)
    app.testing = True
    sockets.init_app(app)
    client = t.cast("SocketTestClient", app.test_client())
    sockets.publish("rooms/open", "before")
    with client.websocket("/rooms/open") as ws:
        assert ws.receive() == "before"
    with pytest.raises(HandshakeRejected), client.websocket("/rooms/secret"):
        pass


def test_an_async_authorizer_is_refused(app: App) -> None:
    with pytest.raises(TypeError, match="'may_enter' is declared with 'async def'"):

        @app.sockets.topic("a")
        async def may_enter() -> None:
            """Would let everybody in."""


def test_a_handshake_that_fails_leaves_no_subscription(app: App) -> None:
    seen: list[t.Any] = []

    @app.flask.after_request
    def fail(response: Response) -> Response:
        if response.status_code == 101:
            raise LookupError("in a hook")
        return response

    def handler(ws: WebSocket) -> str:
        with pytest.raises(LookupError, match="in a hook"):
            ws.subscribe("room/a", member="ada")
        seen.extend((ws.topics, app.sockets.presence("room/a"), app.sockets.stats()))
        return "answered with HTTP"

    app.handle(handler)
    with pytest.raises(HandshakeRejected), app.connect():
        pass
    topics, presence, stats = seen
    assert (topics, presence, stats["subscriptions"]) == ((), {}, 0)


# History


def test_a_newcomer_gets_the_last_publications_and_then_what_comes(app: App) -> None:
    app.subscribe("log", history=2)
    for n in range(4):
        app.sockets.publish("log", str(n))
    with app.connect() as ws:
        app.sockets.publish("log", "4")
        assert [ws.receive() for _ in range(3)] == ["2", "3", "4"]
    assert [p.message for p in app.sockets.history("log", 2)] == ["3", "4"]


def listen(app: App) -> None:
    """Let the handler subscribe as the client asks, and tell it how that went."""

    def handler(ws: WebSocket) -> None:
        since = request.args.get("since")
        with ws.subscribe("log", history=2, since=since, envelope=True) as log:
            ws.send_json({"recovered": log.recovered, "position": log.position})
        for _ in ws:
            pass

    app.handle(handler)


def test_a_client_that_comes_back_gets_what_it_missed(app: App) -> None:
    listen(app)
    with app.connect() as ws:
        assert ws.receive_json()["recovered"] is False
        app.sockets.publish("log", "1")
        seen = ws.receive_json()
        assert (seen["topic"], seen["data"]) == ("log", "1")
    for n in range(2, 5):
        app.sockets.publish("log", str(n))
    with app.connect(f"/ws?since={seen['position']}") as ws:
        welcome = ws.receive_json()
        missed = [ws.receive_json() for _ in range(3)]
        assert welcome["recovered"] is True
        assert [message["data"] for message in missed] == ["2", "3", "4"]
        assert welcome["position"] == missed[-1]["position"]
    with app.connect(f"/ws?since={welcome['position']}") as ws:
        assert ws.receive_json()["recovered"] is True
        app.sockets.publish("log", "5")
        assert ws.receive_json()["data"] == "5"
    # Of "2" to "5" only three are kept.
    with app.connect(f"/ws?since={seen['position']}") as ws:
        assert ws.receive_json()["recovered"] is False
        assert [ws.receive_json()["data"] for _ in range(2)] == ["4", "5"]


@pytest.mark.parametrize("since", ["", "x", "1", "-1", "a-b", "%00", "9" * 500])
def test_a_malformed_position_recovers_nothing_and_raises_nothing(
    app: App, since: str
) -> None:
    listen(app)
    app.sockets.publish("log", "1")
    with app.connect(f"/ws?since={since}") as ws:
        assert ws.receive_json()["recovered"] is False
        assert ws.receive_json()["data"] == "1"


def test_several_topics_have_a_position_each(app: App) -> None:
    found: list[t.Any] = []

    def handler(ws: WebSocket) -> None:
        got = ws.subscribe("log", "room/a", "plain", since={"log": positions["log"]})
        found.extend((got.topics, dict(got.positions), got.recovered))
        with pytest.raises(RuntimeError, match="Use 'positions'"):
            got.position  # noqa: B018
        ws.receive()

    app.handle(handler)
    app.sockets.publish("log", "1")
    positions = {"log": app.sockets.history("log")[0].position or ""}
    app.sockets.publish("log", "2")
    with app.connect() as ws:
        assert ws.receive() == "2"
    topics, all_positions, recovered = found
    assert topics == ("log", "room/a", "plain")
    assert all_positions["log"] == app.sockets.history("log")[1].position
    assert all_positions["room/a"].endswith("-0")
    assert all_positions["plain"] is None
    assert recovered is False


def test_a_history_that_does_not_fit_into_the_outbox_is_not_recovered() -> None:
    app = App(SOCKETS_MAX_OUTBOX=1000)
    listen(app)
    app.sockets.publish("log", "0")
    position = app.sockets.history("log")[0].position
    app.sockets.publish("log", "a" * 600)
    app.sockets.publish("log", "b" * 600)
    with app.connect(f"/ws?since={position}") as ws:
        ws.receive_json()
        assert ws.receive_json()["data"] == "b" * 600


def test_a_handler_that_waits_in_the_block_delays_what_is_published(app: App) -> None:
    inside, proceed = threading.Event(), threading.Event()

    def handler(ws: WebSocket) -> None:
        with ws.subscribe("log", history=2):
            inside.set()
            assert proceed.wait(10)
            ws.send("snapshot")
        ws.receive()

    app.handle(handler)
    app.sockets.publish("log", "before")
    with app.connect() as ws:
        assert inside.wait(10)
        app.sockets.publish("log", "meanwhile")
        proceed.set()
        app.sockets.publish("log", "after")
        received = [ws.receive() for _ in range(4)]
        assert received == ["snapshot", "before", "meanwhile", "after"]


def test_nothing_is_missing_or_comes_twice_for_those_that_come_in_the_middle() -> None:
    app = App(SOCKETS_MAX_OUTBOX=2**24)
    app.sockets.topic("fast", history=10**5)

    def handler(ws: WebSocket) -> None:
        ws.subscribe("fast", since=start)
        for _ in ws:
            pass

    app.handle(handler)
    app.sockets.publish("fast", "0")
    start = app.sockets.history("fast")[0].position
    stop = threading.Event()
    count = 0

    def publish() -> None:
        nonlocal count
        while not stop.wait(0.0002):
            count += 1
            app.sockets.publish("fast", str(count))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(10):
            with app.connect() as ws:
                received = [int(ws.receive()) for _ in range(500)]
            assert received == list(range(1, 501))
    finally:
        stop.set()
        thread.join()


# Presence


def test_members_are_there_as_long_as_one_of_their_sockets(app: App) -> None:
    def handler(ws: WebSocket) -> None:
        name = request.args["name"]
        ws.subscribe("room/a", member=name, info={"at": request.args.get("at")})
        for _ in ws:
            pass

    app.handle(handler)
    events: list[tuple[str, str, str, t.Any]] = []

    def joined(sender: Flask, topic: str, member: str, info: t.Any) -> None:
        events.append(("joined", topic, member, info))

    def left(sender: Flask, topic: str, member: str, info: t.Any) -> None:
        events.append(("left", topic, member, info))

    with (
        member_joined.connected_to(joined, app.flask),
        member_left.connected_to(left, app.flask),
    ):
        with app.connect("/ws?name=ada&at=1"):
            with app.connect("/ws?name=bob"), app.connect("/ws?name=ada&at=2"):
                everybody = {"ada": {"at": "2"}, "bob": {"at": None}}
                assert app.sockets.presence("room/a") == everybody
                assert list(app.sockets.presence("room/a", limit=1)) == ["ada"]
            assert app.sockets.presence("room/a") == {"ada": {"at": "1"}}
        assert app.sockets.presence("room/a") == {}
    assert events == [
        ("joined", "room/a", "ada", {"at": "1"}),
        ("joined", "room/a", "bob", {"at": None}),
        ("left", "room/a", "bob", {"at": None}),
        ("left", "room/a", "ada", {"at": "1"}),
    ]


def test_a_member_that_subscribes_again_has_another_name_or_info(app: App) -> None:
    def handler(ws: WebSocket) -> None:
        ws.subscribe("room/a", member="ada", info=1)
        for message in ws:
            ws.subscribe("room/a", member=str(message), info=2)
            ws.send("done")

    app.handle(handler)
    with app.connect() as ws:
        ws.send("ada")
        ws.receive()
        assert app.sockets.presence("room/a") == {"ada": 2}
        ws.send("bea")
        ws.receive()
        assert app.sockets.presence("room/a") == {"bea": 2}
        app.sockets.publish("room/a", "once")
        assert ws.receive() == "once"
    assert app.sockets.presence("room/a") == {}


def test_a_receiver_that_fails_is_logged_and_the_others_leave(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.subscribe("room/a", "room/b", member="ada")

    def left(sender: Flask, topic: str, **extra: t.Any) -> None:
        if topic == "room/a":
            raise LookupError("in a receiver")

    with member_left.connected_to(left, app.flask), app.connect():
        pass
    assert app.sockets.presence("room/b") == {}
    assert "'member_left' failed, of the member 'ada' of the topic" in caplog.text


# Ending


@pytest.mark.parametrize("how", ["close", "return", "raise", "unsubscribe"])
def test_subscriptions_end_with_the_socket_however_that_ends(
    app: App, how: str
) -> None:
    def handler(ws: WebSocket) -> None:
        ws.subscribe("room/a", member="ada")
        ws.subscribe("b")
        assert ws.topics == ("room/a", "b")
        assert ws.receive() in ("go", None)
        if how == "raise":
            raise LookupError("the end")
        if how == "unsubscribe":
            ws.unsubscribe()
            assert not ws.topics
            assert app.sockets.presence("room/a") == {}
            app.sockets.publish("b", "not this")
            ws.send("but this")
            ws.receive()

    app.handle(handler)
    context: t.Any = contextlib.nullcontext()
    if how == "raise":
        context = pytest.raises(LookupError, match="the end")
    with context, app.connect() as ws:
        assert app.sockets.presence("room/a") == {"ada": None}
        if how == "close":
            ws.close()
        else:
            ws.send("go")
        if how == "unsubscribe":
            assert ws.receive() == "but this"
    stats = app.sockets.stats()
    assert (stats["topics"], stats["subscriptions"], stats["sockets"]) == (0, 0, 0)
    assert app.sockets.presence("room/a") == {}


def test_a_socket_can_leave_some_topics(app: App) -> None:
    def handler(ws: WebSocket) -> None:
        ws.subscribe("a", "b")
        ws.unsubscribe("a", "never subscribed to")
        assert ws.topics == ("b",)
        ws.send("ready")
        ws.receive()

    app.handle(handler)
    with app.connect() as ws:
        assert ws.receive() == "ready"
        app.sockets.publish("a", "1")
        app.sockets.publish("b", "2")
        assert ws.receive() == "2"


def test_a_topic_can_be_disconnected(app: App) -> None:
    """A user is logged out everywhere, and reads before why."""
    app.subscribe("user/7", "all")
    app.sockets.add_url_rule("/o", "o", lambda ws: (ws.subscribe("all"), ws.receive()))
    with app.connect() as one, app.connect() as two, app.connect("/o") as other:
        app.sockets.publish("user/7", "You are logged out.")
        app.sockets.disconnect("user/7", 4001, "logged out")
        for ws in (one, two):
            assert ws.receive() == "You are logged out."
            with pytest.raises(ConnectionClosed) as caught:
                ws.receive()
            assert (caught.value.code, caught.value.reason) == (4001, "logged out")
        app.sockets.publish("all", "still here")
        assert other.receive() == "still here"


def test_a_socket_that_is_disconnected_as_it_subscribes_is_closed_with_a_handshake(
    app: App,
) -> None:
    """Before the handshake a Close frame would be no HTTP."""
    app.subscribe("room/1", member="ada")

    def throw_out(sender: Flask, topic: str, **extra: t.Any) -> None:
        app.sockets.disconnect(topic, 4001, "not today")

    with member_joined.connected_to(throw_out, app.flask), app.connect() as ws:
        with pytest.raises(ConnectionClosed) as caught:
            ws.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "not today")


@pytest.mark.parametrize(("code", "reason"), [(1006, ""), (1000, "x" * 124), (7, "")])
def test_a_close_that_can_not_be_sent_disconnects_nobody(
    app: App, code: int, reason: str
) -> None:
    app.subscribe("a")
    with app.connect() as ws:
        with pytest.raises(ValueError, match="close"):
            app.sockets.disconnect("a", code, reason)
        app.sockets.publish("a", "still here")
        assert ws.receive() == "still here"


# Mistakes


@pytest.mark.parametrize(
    ("topics", "options", "error", "sentence"),
    [
        ((), {}, TypeError, "needs at least one topic"),
        (("",), {}, ValueError, "can't be empty"),
        ((7,), {}, TypeError, "is a 'str', not 'int'"),
        (("a",), {"history": 1}, ValueError, "'a' has no history. Declare it"),
        (("log",), {"history": -1}, ValueError, "'history' can't be negative"),
        (("log",), {"history": "1"}, TypeError, "'history' is a whole number"),
        (("log",), {"member": "m"}, ValueError, "'log' knows no members. Declare it"),
        (("room/a",), {"member": ""}, ValueError, "name of a member can't be empty"),
        (("room/a",), {"member": 7}, TypeError, "name of a member is a 'str'"),
        (("room/a",), {"info": 7}, TypeError, "give 'member' as well"),
        (
            ("room/a",),
            {"member": "m", "info": "x" * 5000},
            ValueError,
            "5002 bytes as JSON, and at most 4096",
        ),
        (("room/a",), {"member": "m", "info": object()}, TypeError, "serializable"),
        (tuple("abcd"), {}, ValueError, "can be subscribed to 3 topics.*MAX_TOPICS'"),
    ],
)
def test_a_mistake_is_a_clear_error_before_the_handshake(
    topics: tuple[t.Any, ...],
    options: dict[str, t.Any],
    error: type[Exception],
    sentence: str,
) -> None:
    app = App(SOCKETS_MAX_TOPICS=3)
    app.subscribe(*topics, **options)
    with pytest.raises(error, match=sentence), app.connect():
        pass
    assert app.sockets.stats()["subscriptions"] == 0


@pytest.mark.parametrize("read", ["history", "presence"])
def test_what_a_topic_does_not_have_can_not_be_read(app: App, read: str) -> None:
    with pytest.raises(ValueError, match=r"The topic 'plain' .* Declare it with"):
        getattr(app.sockets, read)("plain")


def test_a_broker_that_is_not_there_is_named_without_its_password() -> None:
    app = App(SOCKETS_BROKER="kafka://user:secret@host")
    with pytest.raises(ValueError, match="There is no broker for 'kafka'") as caught:
        app.sockets.publish("a", "x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("several", "times"),
    [(True, 1), (False, 0)],
)
def test_a_process_that_is_not_alone_says_once_that_memory_is_its_own(
    several: bool, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = App()
    app.subscribe("news")
    environ = {"wsgi.multiprocess": several}
    for _ in range(2):
        with app.connect(environ_overrides=environ):
            pass
    assert caplog.text.count("'SOCKETS_BROKER'") == times
