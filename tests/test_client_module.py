"""The browser's side, 'flask-sockets.js', in a real browser and with real servers."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import typing as t
from pathlib import Path

import pytest
from flask import Blueprint, Flask, url_for
from playwright.sync_api import Browser, Page

import flask_sockets
from flask_sockets import Sockets

from .network import Network
from .process import PATIENCE, Process, free_port, missing, port_of

if t.TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group(__name__)

STATIC = Path(flask_sockets.__file__).parent / "static"

# How it is served


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    Sockets(app)
    return app


def url_of(app: Flask, **options: t.Any) -> str:
    with app.test_request_context(**options):
        return url_for("sockets.client")


def test_the_module_is_small() -> None:
    module = STATIC.joinpath("flask-sockets.js").read_bytes()
    assert len(gzip.compress(module, 9)) < 3 * 1024


def test_the_module_is_served_and_may_be_kept(app: Flask) -> None:
    response = app.test_client().get(url_of(app))
    assert response.data == STATIC.joinpath("flask-sockets.js").read_bytes()
    assert response.mimetype == "text/javascript"
    assert response.cache_control.immutable
    again = app.test_client().get(
        url_of(app), headers={"If-None-Match": response.headers["ETag"]}
    )
    assert (again.status_code, again.data) == (304, b"")


def test_another_version_gets_what_there_is_and_does_not_keep_it(app: Flask) -> None:
    """While one version of an app replaces another, a page of either may ask either."""
    response = app.test_client().get("/flask-sockets-0.js")
    assert response.status_code == 200
    assert response.cache_control.no_cache
    assert not response.cache_control.immutable


def test_its_url_is_built_as_others_are(app: Flask) -> None:
    path = url_of(app)
    assert path.startswith("/flask-sockets-")
    assert url_of(app, base_url="https://example.com/app/") == f"/app{path}"
    with app.test_request_context(base_url="https://example.com/app/"):
        external = url_for("sockets.client", _external=True)
    assert external == f"https://example.com/app{path}"


def test_an_app_has_neither_a_rule_nor_a_hook_for_it(app: Flask) -> None:
    @app.before_request
    def refuse() -> tuple[str, int]:
        return "log in", 401

    assert [rule.endpoint for rule in app.url_map.iter_rules()] == ["static"]
    assert app.test_client().get(url_of(app)).status_code == 200
    assert app.test_client().get("/flask-sockets").status_code == 401


def test_what_the_app_has_of_that_name_goes_first(app: Flask) -> None:
    blueprint = Blueprint("sockets", __name__)
    blueprint.add_url_rule("/own", "client", lambda: "own")
    app.register_blueprint(blueprint)
    assert url_of(app) == "/own"


def test_the_types_fit_the_module(tmp_path: Path) -> None:
    """A page in TypeScript may use all of it."""
    tsc = shutil.which("tsc") or missing("TypeScript's 'tsc' is not installed.")
    for name in ("flask-sockets.js", "flask-sockets.d.ts"):
        shutil.copy(STATIC / name, tmp_path)
    page = tmp_path / "page.ts"
    page.write_text(
        """
import { connect, Connection } from "./flask-sockets.js";
const end = new AbortController();
const chat: Connection = connect((c) => `/chat?n=${c.positions.size}`, {
  resume: true, queue: 3, protocols: ["v1"], signal: end.signal,
});
chat.addEventListener("message", ({ data, topic }) => console.log(data, topic));
chat.addEventListener("close", ({ code, status }) => console.log(code, status));
if (!chat.send("x") && chat.state === "waiting") console.log(chat.retryAt! - 1);
chat.reconnect();
chat.close(4000, "bye");
"""
    )
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext"]
    with Process(tsc, *options, str(page), cwd=tmp_path) as process:
        status = process.wait()
    assert status == 0, process.output


# What it does

APP = """
import os
from flask import Flask, abort, request
from flask_sockets import Sockets

app = Flask(__name__)
sockets = Sockets(app)
sockets.topic("news", history=100)

@sockets.route("/echo")
def echo(ws):
    ws.send("version 1")
    for message in ws:
        ws.send(message)

@sockets.route("/news")
def news(ws):
    ws.subscribe(
        "news", history=100, since=request.args.get("since"), envelope=True
    )
    ws.wait_closed()

@sockets.route("/close/<int:code>")
def close(ws, code):
    ws.close(code, "as asked")

@app.before_request
def refuse():
    if "refused" in request.args:
        abort(403)

@app.get("/")
def index():
    return "<!doctype html><title>page</title>"

@app.get("/module")
def module():
    from flask import url_for
    return url_for("sockets.client")

@app.post("/publish")
def publish():
    sockets.publish("news", request.get_data(as_text=True))
    return ""

@app.post("/publish-bytes")
def publish_bytes():
    sockets.publish("news", request.get_data())
    return ""
"""

#: Keeps all that a connection has told the page.
PAGE = """async ([url, options]) => {
  window.modulePath = await (await fetch("/module")).text();
  const { connect } = await import(modulePath);
  window.seen = []; window.states = []; window.ends = [];
  window.chat = connect(url, options);
  chat.addEventListener("message", ({ data }) => seen.push(data));
  chat.addEventListener("state", () => states.push(chat.state));
  chat.addEventListener("close", ({ code, reason, status }) =>
    ends.push([code, reason, status]));
}"""


class Tab:
    """A page with one connection."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def connect(self, url: str, **options: t.Any) -> None:
        self.page.evaluate(PAGE, [url, options])

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        try:
            self.page.wait_for_function(condition, timeout=PATIENCE * 1000)
        except Exception:
            seen = self.page.evaluate("JSON.stringify([seen, states, ends])")
            raise AssertionError(f"In vain: {condition}. Seen: {seen}") from None

    def wait_for_messages(self, *messages: t.Any) -> None:
        expected = json.dumps(list(messages))
        self.wait_for(
            f"JSON.stringify(seen) === {json.dumps(expected)}".replace(", ", ",")
        )

    def get(self, expression: str) -> t.Any:
        return self.page.evaluate(expression)


class Server:
    """'flask wsrun --reload', which can be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self.app = directory / "app.py"
        self.app.write_text(APP)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = ["flask", "wsrun", "--reload", "--port", str(self.port)]
        self.process = Process(*command, cwd=self.app.parent).__enter__()
        port_of(self.process)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.signal_group(number)
        self.process.__exit__()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All tests share it. Each that stops it starts it again."""
    server = Server(tmp_path_factory.mktemp("app"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Tab]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    yield Tab(page)
    context.close()


def post(tab: Tab, path: str, text: str) -> None:
    tab.page.evaluate(
        "([path, body]) => fetch(path, { method: 'POST', body })", [path, text]
    )


def test_messages_come_and_go_and_the_page_sees_the_states(tab: Tab) -> None:
    tab.connect("/echo")
    tab.wait_for("chat.state === 'open'")
    assert tab.get("chat.send('hello')") is True
    tab.wait_for_messages("version 1", "hello")
    tab.get("chat.close()")
    assert tab.get("[states, chat.state, ends]") == [
        ["open", "closed"],
        "closed",
        [[1000, "", None]],
    ]
    assert tab.get("chat.send('late')") is False


def test_it_comes_back_after_a_reload_of_the_server(tab: Tab, server: Server) -> None:
    tab.connect("/echo")
    tab.wait_for_messages("version 1")
    text = server.app.read_text()
    server.app.write_text(text.replace("version 1", "version 2"))
    try:
        tab.wait_for_messages("version 1", "version 2")
        assert tab.get("states.join()") == "open,waiting,connecting,open"
    finally:
        server.app.write_text(text)
        server.process.wait_for("Reloaded in")
        server.process.wait_for("Reloaded in")


def test_what_is_sent_while_the_server_is_away_waits_if_there_is_room(
    tab: Tab, server: Server
) -> None:
    tab.connect("/echo", queue=2, maxDelay=500)
    tab.wait_for_messages("version 1")
    server.stop()
    tab.wait_for("chat.state !== 'open'")
    assert tab.get("['one', 'two', 'three'].map((x) => chat.send(x))") == [
        True,
        True,
        False,
    ]
    tab.wait_for("states.filter((state) => state === 'waiting').length > 1")
    server.start()
    tab.wait_for_messages("version 1", "version 1", "one", "two")


def test_nothing_waits_without_a_queue(tab: Tab, server: Server) -> None:
    tab.connect("/echo")
    early = "connect => { chat.close(); chat = connect('/echo'); return chat.send('') }"
    assert tab.get(
        f"import(modulePath).then(({{ connect }}) => ({early})(connect))"
    ) is (False)


def test_topics_are_resumed_without_the_page_noticing(tab: Tab) -> None:
    """What was published while the connection was away comes once, and in order."""
    network = Network()
    tab.page.route_web_socket("**/news*", network.connect)
    tab.connect("/news", resume=True, maxDelay=500)
    tab.wait_for("chat.state === 'open'")
    # A subscription begins a little after the handshake.
    tab.page.evaluate("fetch('/publish', { method: 'POST', body: 'one' })")
    tab.wait_for_messages("one")
    network.cut()
    tab.wait_for("chat.state !== 'open'")
    for text in "two", "three":
        post(tab, "/publish", text)
    network.mend()
    tab.wait_for_messages("one", "two", "three")
    post(tab, "/publish", "four")
    tab.wait_for_messages("one", "two", "three", "four")


def test_bytes_in_an_envelope_are_bytes_in_the_page(tab: Tab) -> None:
    tab.connect("/news", resume=True)
    tab.wait_for("chat.state === 'open'")
    post(tab, "/publish-bytes", "bytes")
    tab.wait_for("seen.at(-1) instanceof ArrayBuffer")
    assert tab.get("new TextDecoder().decode(seen.at(-1))") == "bytes"


@pytest.mark.parametrize("code", [1000, 1008, 4000, 4999])
def test_it_stays_away_where_the_server_says_so(tab: Tab, code: int) -> None:
    tab.connect(f"/close/{code}")
    tab.wait_for("ends.length")
    assert tab.get("ends") == [[code, "as asked", None]]
    assert tab.get("states") == ["open", "closed"]


@pytest.mark.parametrize("code", [1001, 1011, 1012, 3000])
def test_it_comes_back_after_other_codes(tab: Tab, code: int) -> None:
    tab.connect(f"/close/{code}", maxDelay=500)
    tab.wait_for("states.filter((state) => state === 'open').length > 1")
    assert tab.get("ends") == []


@pytest.mark.parametrize(("url", "status"), [("/nowhere", 404), ("/echo?refused", 403)])
def test_it_stays_away_where_the_handshake_is_refused(
    tab: Tab, url: str, status: int
) -> None:
    tab.connect(url)
    tab.wait_for("ends.length")
    assert tab.get("ends") == [[1006, "", status]]


def test_it_comes_back_at_once_with_the_network(tab: Tab) -> None:
    """However long the pause is that it waits for."""
    network = Network()
    network.cut()
    tab.page.route_web_socket("**/echo", network.connect)
    tab.connect("/echo", minDelay=10**9, maxDelay=10**9)
    tab.wait_for("chat.state === 'waiting'")
    assert tab.get("chat.retryAt > Date.now()")
    network.mend()
    tab.page.context.set_offline(True)
    tab.page.context.set_offline(False)
    tab.wait_for_messages("version 1")
    assert tab.get("chat.retryAt") is None


def test_the_url_may_be_made_for_each_attempt_and_fail(tab: Tab) -> None:
    """A page fetches a token for it, and the server that gives it may be away, too."""
    tab.page.evaluate(
        """async () => {
          const { connect } = await import(await (await fetch("/module")).text());
          window.seen = []; window.states = []; window.ends = [];
          let attempts = 0;
          window.chat = connect(async () => {
            if (attempts++ === 0) throw new Error("away");
            return new URL("/echo", location);
          }, { maxDelay: 500 });
          chat.addEventListener("message", ({ data }) => seen.push(data));
          chat.addEventListener("state", () => states.push(chat.state));
        }"""
    )
    tab.wait_for_messages("version 1")
    assert tab.get("states[0]") == "waiting"


def test_a_url_that_is_none_ends_it_with_the_reason(tab: Tab) -> None:
    tab.connect("http://")
    tab.wait_for("chat.state === 'closed'")
    assert tab.get("ends") == [[1006, "", None]]


def test_an_abort_signal_closes_it(tab: Tab) -> None:
    tab.page.evaluate(
        """async () => {
          const { connect } = await import(await (await fetch("/module")).text());
          window.seen = []; window.states = []; window.ends = [];
          window.end = new AbortController();
          window.chat = connect("/echo", { signal: end.signal });
          chat.addEventListener("message", ({ data }) => seen.push(data));
        }"""
    )
    tab.wait_for_messages("version 1")
    assert tab.get("end.abort(), chat.state") == "closed"
