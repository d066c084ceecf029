"""Rules, endpoints and blueprints."""

from __future__ import annotations

import functools
import typing as t
from pathlib import Path

import click
import pytest
from flask import Blueprint, Flask, Response, abort, g, request, url_for
from flask.cli import FlaskGroup
from websockets.exceptions import InvalidStatus
from werkzeug.routing import BaseConverter, Rule, Submount

import flask_sockets
from flask_sockets import Sockets, WebSocket

from .conftest import Served

Serve: t.TypeAlias = t.Callable[[Flask], Served]


def reply(ws: WebSocket, message: str) -> t.Any:
    ws.send(message)


def ask(serve: Serve, app: Flask, path: str) -> object:
    """Connect, and return the one message that the handler sends."""
    with serve(app).connect(path) as client:
        return client.recv(timeout=60)


def make_app(**options: t.Any) -> tuple[Flask, Sockets]:
    app = Flask(__name__, **options)
    return app, Sockets(app)


def test_url_for_gives_a_ws_url() -> None:
    """A page can ask for the address of a WebSocket."""
    app, sockets = make_app()

    @sockets.route("/chat/<room>")
    def chat(ws: WebSocket, room: t.Any) -> t.Any:
        pass

    with app.test_request_context("/"):
        assert url_for("chat", room="a") == "ws://localhost/chat/a"
    with app.test_request_context("/", base_url="https://example.com"):
        assert url_for("chat", room="a") == "wss://example.com/chat/a"


def test_flask_routes_lists_websocket_rules() -> None:
    """'flask routes' shows what the app serves."""
    app, sockets = make_app()
    sockets.add_url_rule("/echo", "the_echo", lambda ws: None)
    cli = FlaskGroup(create_app=lambda: app)
    result = app.test_cli_runner().invoke(cli, ["routes"])
    assert result.exit_code == 0
    assert "the_echo" in result.output
    assert "/echo" in result.output


def test_the_decorator_returns_the_function() -> None:
    """A handler can be called, and registered again."""
    _, sockets = make_app()

    def handler(ws: WebSocket) -> t.Any:
        pass

    assert sockets.route("/one")(sockets.route("/two")(handler)) is handler


def test_url_variables_are_passed_after_the_websocket(serve: Serve) -> None:
    """Handlers get the variables of the URL, converted, and its defaults."""
    app, sockets = make_app()

    @sockets.route("/<int:number>", defaults={"extra": "x"})
    def handler(ws: WebSocket, number: t.Any, extra: t.Any) -> t.Any:
        reply(ws, repr((number, extra)))

    assert ask(serve, app, "/7") == "(7, 'x')"


def test_http_and_websocket_share_a_path_and_an_endpoint(serve: Serve) -> None:
    """A view and a handler may have the same name, whichever comes first."""
    app, sockets = make_app()

    @sockets.route("/first")
    def first(ws: WebSocket) -> t.Any:
        reply(ws, "socket")

    app.add_url_rule("/first", "first", lambda: "page")
    app.add_url_rule("/second", "second", lambda: "page")
    sockets.add_url_rule("/second", "second", lambda ws: reply(ws, "socket"))

    for path in "/first", "/second":
        assert app.test_client().get(path).text == "page"
        assert ask(serve, app, path) == "socket"


def test_url_for_prefers_the_page_of_a_shared_endpoint() -> None:
    """What url_for gave before there was a WebSocket, it gives afterwards."""
    app, sockets = make_app()
    sockets.add_url_rule("/a", "shared", lambda ws: None)
    app.add_url_rule("/a", "shared", lambda: "page")
    with app.test_request_context("/"):
        assert url_for("shared") == "/a"


def test_two_handlers_of_one_name_each_serve_their_rule(serve: Serve) -> None:
    """0.2.1 never looked at the names of functions."""
    app, sockets = make_app()
    sockets.route("/a")(functools.partial(reply, message="a"))
    sockets.route("/b")(functools.partial(reply, message="b"))
    assert ask(serve, app, "/a") == "a"
    assert ask(serve, app, "/b") == "b"


def test_a_rule_of_the_app_with_websocket_true_is_served(serve: Serve) -> None:
    """Flask's own way to say that a rule is a WebSocket, in a blueprint too."""
    app, _ = make_app()
    bp = Blueprint("bp", __name__, url_prefix="/bp")

    @bp.route("/<name>", websocket=True)
    def handler(ws: WebSocket, name: t.Any) -> t.Any:
        reply(ws, f"{name} {request.endpoint} {g.hook}")

    @bp.before_request
    def hook() -> None:
        g.hook = "hooked"

    app.register_blueprint(bp)
    assert ask(serve, app, "/bp/x") == "x bp.handler hooked"


def test_options_that_0_2_1_ignored_do_no_harm(serve: Serve) -> None:
    """Old code says methods=..., which means nothing for a WebSocket."""
    app, sockets = make_app()
    sockets.route("/a", methods=["GET", "POST"])(lambda ws: reply(ws, "a"))
    assert ask(serve, app, "/a") == "a"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: f,
        lambda f: functools.partial(f),
        lambda f: functools.wraps(f)(lambda ws: f(ws)),
    ],
)
def test_an_async_handler_is_refused_with_the_reason(wrap: t.Any) -> None:
    """It would make a coroutine that nobody ever runs."""
    _, sockets = make_app()

    async def handler(ws: WebSocket) -> t.Any:
        pass

    with pytest.raises(TypeError, match="'handler' is declared with 'async def'"):
        sockets.route("/a")(wrap(handler))


def test_a_mistake_in_subprotocols_is_told_where_it_was_made() -> None:
    """Also before there is an app."""
    with pytest.raises(ValueError, match="'v2, v1' is no name of a subprotocol"):
        Sockets().route("/a", subprotocols="v2, v1")(lambda ws: None)


def test_an_async_handler_in_a_blueprint_is_refused() -> None:
    """It is refused when the blueprint is registered."""
    _, sockets = make_app()
    bp = Blueprint("bp", __name__)

    @bp.route("/a")
    async def handler(ws: WebSocket) -> t.Any:
        pass

    with pytest.raises(TypeError, match="async def"):
        sockets.register_blueprint(bp)


# Apps of 0.2.1


@pytest.mark.parametrize("is_early", [True, False])
@pytest.mark.parametrize("options", [{}, {"websocket": True}])
def test_a_rule_of_the_own_map_is_served(
    serve: Serve, is_early: bool, options: dict[str, t.Any]
) -> None:
    """Its endpoint is the function, as 0.2.1 had it, before 'init_app' and after."""
    app, sockets = Flask(__name__), Sockets()

    def handler(ws: WebSocket, name: str) -> t.Any:
        reply(ws, f"{name} {request.endpoint}")

    if is_early:
        sockets.url_map.add(Rule("/<name>", endpoint=handler, **options))
    sockets.init_app(app)
    if not is_early:
        sockets.url_map.add(Rule("/<name>", endpoint=handler, **options))
    assert ask(serve, app, "/x") == "x handler"


def test_rules_of_the_own_map_may_come_from_a_factory(serve: Serve) -> None:
    """As with Werkzeug's own maps. Options of the rules count."""
    app, sockets = make_app()

    def handler(ws: WebSocket, name: str) -> t.Any:
        reply(ws, name)

    rule = Rule("/b", endpoint=handler, defaults={"name": "x"}, subdomain="")
    sockets.url_map.add(Submount("/a", [rule]))
    assert ask(serve, app, "/a/b") == "x"


def test_a_rule_of_the_own_map_needs_a_function() -> None:
    """Nothing is ignored without a word."""
    _, sockets = make_app()
    with pytest.raises(TypeError, match="rule '/x' is 'name'"):
        sockets.url_map.add(Rule("/x", endpoint="name"))


def test_an_async_handler_in_the_own_map_is_refused() -> None:
    """As by the decorator."""
    _, sockets = make_app()

    async def handler(ws: WebSocket) -> t.Any:
        pass

    with pytest.raises(TypeError, match="'handler' is declared with 'async def'"):
        sockets.url_map.add(Rule("/x", endpoint=handler))


def test_add_url_rule_may_be_replaced_as_for_werkzeug_2(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many apps carry this remedy, from the days when 0.2.1 had to be mended."""

    def add_url_rule(
        self: Sockets, rule: str, _: str | None, f: t.Any, **options: t.Any
    ) -> None:
        self.url_map.add(flask_sockets.Rule(rule, endpoint=f, websocket=True))

    monkeypatch.setattr(flask_sockets.Sockets, "add_url_rule", add_url_rule)
    app, sockets = make_app()
    bp = Blueprint("bp", __name__)
    sockets.route("/a")(functools.partial(reply, message="a"))
    bp.add_url_rule("/b", "b", functools.partial(reply, message="b"))
    sockets.register_blueprint(bp)
    assert ask(serve, app, "/a") == "a"
    assert ask(serve, app, "/b") == "b"


# View functions


def test_every_rule_has_a_view_function() -> None:
    """Extensions look one up for each rule. It has the name and docstring."""
    app, sockets = make_app()
    bp = Blueprint("bp", __name__)

    @bp.route("/b")
    @sockets.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        """Explain it."""

    sockets.register_blueprint(bp)
    for rule in app.url_map.iter_rules():
        assert callable(app.view_functions[rule.endpoint])
    for endpoint in "handler", "bp.handler":
        assert app.view_functions[endpoint].__name__ == "handler"
        assert app.view_functions[endpoint].__doc__ == "Explain it."


@pytest.mark.parametrize("sockets_first", [True, False])
def test_the_view_of_a_shared_endpoint_stays_the_http_one(sockets_first: bool) -> None:
    """It was there before WebSockets were, for whoever looks it up."""
    app, sockets = make_app()

    def page() -> str:
        return "page"

    if sockets_first:
        sockets.add_url_rule("/a", "shared", lambda ws: None)
    app.add_url_rule("/a", "shared", page)
    if not sockets_first:
        sockets.add_url_rule("/a", "shared", lambda ws: None)
    assert app.view_functions["shared"] is page


def test_a_decorated_view_function_counts(serve: Serve) -> None:
    """Apps protect all their endpoints by decorating what 'view_functions' have."""
    app, sockets = make_app()
    sockets.add_url_rule("/<name>", "a", lambda ws, name: reply(ws, name))

    def protect(view: t.Any) -> t.Any:
        def protected(**view_args: t.Any) -> t.Any:
            if view_args["name"] == "secret":
                abort(401)
            return view(**view_args)

        return protected

    app.view_functions["a"] = protect(app.view_functions["a"])
    assert ask(serve, app, "/open") == "open"
    with pytest.raises(InvalidStatus) as caught:
        ask(serve, app, "/secret")
    assert caught.value.response.status_code == 401


def test_http_that_reaches_the_function_of_a_websocket_is_a_426() -> None:
    """A rule that an app adds by hand may name any endpoint."""
    app, sockets = make_app()
    sockets.add_url_rule("/a", "a", lambda ws: None)
    app.url_map.add(Rule("/b", endpoint="a"))
    assert app.test_client().get("/b").status_code == 426


def test_converters_of_sockets_and_of_the_app_can_be_used(serve: Serve) -> None:
    """0.2.1 documented sockets.url_map.converters; the app's work as well."""
    app, sockets = make_app()

    class ListConverter(BaseConverter):
        def to_python(self, value: str) -> t.Any:
            return value.split("+")

    class UpperConverter(BaseConverter):
        def to_python(self, value: str) -> t.Any:
            return value.upper()

    sockets.url_map.converters["list"] = ListConverter
    app.url_map.converters["upper"] = UpperConverter

    @sockets.route("/<list:names>/<upper:word>")
    def handler(ws: WebSocket, names: t.Any, word: t.Any) -> t.Any:
        reply(ws, f"{names} {word}")

    assert ask(serve, app, "/a+b/c") == "['a', 'b'] C"


def test_a_subdomain_is_part_of_the_rule() -> None:
    """Options of a Rule are passed on."""
    app, sockets = make_app(subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.com"
    sockets.add_url_rule("/a", "a", lambda ws: None, subdomain="ws")
    with app.app_context():
        assert url_for("a", _scheme="https") == "wss://ws.example.com/a"


# Sockets without an app, and with several


def test_what_is_registered_before_init_app_is_replayed(serve: Serve) -> None:
    """The extension object may be made before any app."""
    sockets = Sockets()
    bp = Blueprint("bp", __name__)
    bp.add_url_rule("/b", "b", lambda ws: reply(ws, "b"))
    sockets.add_url_rule("/a", "a", lambda ws: reply(ws, "a"))
    sockets.register_blueprint(bp, url_prefix="/bp")

    for _ in range(2):
        app = Flask(__name__)
        sockets.init_app(app)
        assert ask(serve, app, "/a") == "a"
        assert ask(serve, app, "/bp/b") == "b"


def test_what_is_registered_after_init_app_reaches_every_app(serve: Serve) -> None:
    """Two apps may share one Sockets."""
    sockets = Sockets()
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        sockets.init_app(app)
    sockets.add_url_rule("/a", "a", lambda ws: reply(ws, "a"))
    assert [ask(serve, app, "/a") for app in apps] == ["a", "a"]


def test_init_app_twice_registers_once() -> None:
    """A second call for the same app changes nothing."""
    app, sockets = make_app()
    sockets.add_url_rule("/a", "a", lambda ws: None)
    before, middleware = len(list(app.url_map.iter_rules())), app.wsgi_app
    sockets.init_app(app)
    assert len(list(app.url_map.iter_rules())) == before
    assert app.wsgi_app is middleware


def test_two_sockets_serve_one_app(serve: Serve) -> None:
    """Parts of an app may each bring their own Sockets."""
    app = Flask(__name__)
    one, two = Sockets(app), Sockets(app)
    one.add_url_rule("/1", "one", lambda ws: reply(ws, "1"))
    two.add_url_rule("/2", "two", lambda ws: reply(ws, "2"))
    assert ask(serve, app, "/1") == "1"
    assert ask(serve, app, "/2") == "2"


# Blueprints


def hooked_blueprint(name: str, label: str) -> Blueprint:
    """A blueprint with a hook, whose one route says what hooks ran."""
    bp = Blueprint(name, __name__)

    @bp.before_request
    def hook() -> None:
        g.setdefault("hooks", []).append(label)

    return bp


def test_blueprints_take_prefix_name_and_nest(serve: Serve) -> None:
    """Options of register_blueprint mean what they mean in Flask."""
    app, sockets = make_app()
    parent, child = hooked_blueprint("parent", "p"), hooked_blueprint("child", "c")

    @child.route("/<x>")
    def handler(ws: WebSocket, x: t.Any) -> t.Any:
        reply(ws, f"{x} {request.endpoint} {request.blueprint} {g.hooks}")

    parent.register_blueprint(child, url_prefix="/child")
    sockets.register_blueprint(parent, url_prefix="/parent")
    assert (
        ask(serve, app, "/parent/child/1")
        == "1 parent.child.handler parent.child ['p', 'c']"
    )
    assert set(sockets.blueprints) == {"parent", "parent.child"}
    with app.test_request_context("/"):
        assert url_for("parent.child.handler", x=1) == "ws://localhost/parent/child/1"


def test_a_blueprint_is_registered_twice_under_two_names(serve: Serve) -> None:
    """Each registration has endpoints of its own, and the hooks."""
    app, sockets = make_app()
    bp = hooked_blueprint("bp", "hook")
    bp.add_url_rule("/a", "a", lambda ws: reply(ws, f"{request.endpoint} {g.hooks}"))
    sockets.register_blueprint(bp, url_prefix="/1")
    sockets.register_blueprint(bp, url_prefix="/2", name="again")
    assert ask(serve, app, "/1/a") == "bp.a ['hook']"
    assert ask(serve, app, "/2/a") == "again.a ['hook']"


def test_the_same_name_for_two_blueprints_is_refused() -> None:
    """The error is Flask's own."""
    _, sockets = make_app()
    sockets.register_blueprint(Blueprint("bp", __name__))
    with pytest.raises(ValueError, match="already registered for a different"):
        sockets.register_blueprint(Blueprint("bp", __name__))


@pytest.mark.parametrize("sockets_first", [True, False])
def test_app_and_sockets_have_blueprints_of_one_name(
    serve: Serve, sockets_first: bool
) -> None:
    """The hooks and error handlers of each apply to its own routes."""
    app, sockets = make_app()
    html, ws_bp = hooked_blueprint("bp", "html"), hooked_blueprint("bp", "ws")
    seen = []

    @html.route("/page")
    def page() -> str:
        return f"{g.hooks}"

    @ws_bp.route("/socket")
    def socket(ws: WebSocket) -> t.Any:
        reply(ws, f"{g.hooks}")

    @ws_bp.after_request
    def after(response: Response) -> Response:
        seen.append("ws after")
        return response

    @ws_bp.teardown_request
    def teardown(error: t.Any) -> t.Any:
        seen.append("ws teardown")

    if sockets_first:
        sockets.register_blueprint(ws_bp)
    app.register_blueprint(html)
    if not sockets_first:
        sockets.register_blueprint(ws_bp)

    assert app.test_client().get("/page").text == "['html']"
    assert seen == []
    assert ask(serve, app, "/socket") == "['ws']"
    assert seen[0] == "ws after"


def test_url_defaults_of_a_socket_blueprint_apply_to_its_urls() -> None:
    """'url_for' knows a blueprint by the name that was asked for."""
    app, sockets = make_app()
    bp = Blueprint("bp", __name__, url_prefix="/<lang>")
    bp.add_url_rule("/a", "a", lambda ws, lang: "")
    bp.url_defaults(lambda endpoint, values: values.setdefault("lang", "en"))
    sockets.register_blueprint(bp, name="other")
    with app.test_request_context():
        assert url_for("other.a") == "ws://localhost/en/a"


def test_commands_of_a_socket_blueprint_are_those_of_a_group_of_its_name() -> None:
    """As for a blueprint of the app."""
    app, sockets = make_app()
    bp = Blueprint("bp", __name__)

    @bp.cli.command("hello")
    def hello() -> None:
        click.echo("hello")

    sockets.register_blueprint(bp)
    result = app.test_cli_runner().invoke(args=["bp", "hello"])
    assert result.output == "hello\n"


def test_a_socket_blueprint_may_tell_the_app_more(serve: Serve) -> None:
    """What it records is called with what takes rules for the app, for HTTP."""
    app, sockets = make_app()
    bp = Blueprint("bp", __name__)
    bp.record(lambda state: state.app.add_url_rule("/p", "p", lambda: "page"))
    bp.add_url_rule("/a", "a", lambda ws: reply(ws, "a"))
    sockets.register_blueprint(bp)
    assert app.test_client().get("/p").text == "page"
    assert ask(serve, app, "/a") == "a"


def test_before_app_request_of_a_socket_blueprint_applies_to_the_app() -> None:
    """What a blueprint says of the whole app is said to the app."""
    app, sockets = make_app()
    bp = Blueprint("bp", __name__)

    @bp.before_app_request
    def hook() -> None:
        g.hook = "hooked"

    sockets.register_blueprint(bp)
    app.add_url_rule("/", "page", lambda: g.hook)
    assert app.test_client().get("/").text == "hooked"


def test_templates_and_static_files_of_a_socket_blueprint_are_found(
    serve: Serve, tmp_path: Path
) -> None:
    """A handler can render what its blueprint brings, and HTTP serves its files."""
    app, sockets = make_app()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "part.html").write_text("hello {{ name }}")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.txt").write_text("static")
    bp = Blueprint(
        "bp",
        __name__,
        template_folder=tmp_path / "t",
        static_folder=tmp_path / "s",
        static_url_path="/files",
    )

    @bp.route("/a")
    def handler(ws: WebSocket) -> t.Any:
        from flask import render_template

        reply(ws, render_template("part.html", name="you"))

    sockets.register_blueprint(bp)
    assert ask(serve, app, "/a") == "hello you"
    response: t.Any
    with app.test_client().get("/files/a.txt") as response:
        assert response.text == "static"
