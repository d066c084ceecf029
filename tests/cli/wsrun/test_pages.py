"""``flask wsrun --live`` as a person meets it: pages in a real browser that reload by
themselves.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import typing as t
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.client import connect

from flask_sockets_cli.serve.pages import PATH

from ...process import PATIENCE, port_of
from ..apps import UPGRADE, get, wsrun

pytestmark = [
    pytest.mark.skipif(
        sys.platform == "win32", reason="sends signals to process groups"
    ),
    # They share a browser, which another worker would have to start again.
    pytest.mark.xdist_group(__name__),
]

APP = """\
import flask

app = flask.Flask(__name__)


@app.route("/")
def index():
    return flask.render_template("page.html", version="{version}")


@app.route("/fragment")
def fragment():
    return "<b>fragment</b>"


@app.route("/boom")
def boom():
    raise RuntimeError("boom in a view")
"""

TEMPLATE = """\
<!doctype html>
<title>page</title>
<link rel="stylesheet" href="/static/style.css">
<p id="first">template {{ 1 }}</p>
<p id="version">version {{ version }}</p>
"""

#: What is over a page while there is no app.
PROBLEM = "flask-wsrun-problem"

FORM = """\
<!doctype html>
<title>form</title>
<p>template {{ 1 }}</p>
<form>
  <input name="title">
  <input name="untouched" value="old default">
  <textarea id="text"></textarea>
  <input name="secret" type="password">
  <select><option>one<option>two</select>
  <input type="checkbox">
  <input type="radio" name="radio" value="a" checked>
  <input type="radio" name="radio" value="b">
</form>
<div id="box" style="height: 50px; overflow: auto">
  <p style="height: 500px">box</p>
</div>
<p style="height: 5000px">tall</p>
"""

STATE = """() => {
  const field = (selector) => document.querySelector(selector);
  const active = document.activeElement;
  return {
    title: field("[name=title]").value,
    untouched: field("[name=untouched]").value,
    text: field("#text").value,
    secret: field("[name=secret]").value,
    select: field("select").value,
    checked: field("[type=checkbox]").checked,
    radio: field("[name=radio]:checked").value,
    box: field("#box").scrollTop,
    page: scrollY,
    focus: [active.id, active.selectionStart, active.selectionEnd],
  };
}"""

#: What htmx does for a link with 'hx-boost', as far as others can tell.
HTMX = """
<script>
  async function boost(path) {
    const headers = { "HX-Request": "true", "HX-Boosted": "true" };
    const response = await fetch(path, { headers });
    const text = await response.text();

    if (!response.ok) {
      const detail = {
        boosted: true,
        requestConfig: { verb: "get", path },
        xhr: { status: response.status, responseText: text },
      };
      document.body.dispatchEvent(
        new CustomEvent("htmx:responseError", { bubbles: true, detail }),
      );
      return;
    }

    localStorage.setItem("htmx-history-cache", document.body.innerHTML);
    history.pushState({ htmx: true }, "", path);
    document.body.innerHTML = text;
  }
</script>
"""

#: Keeps the first page it sees.
SERVICE_WORKER = '''

@app.route("/worker.js")
def worker():
    script = """
        addEventListener("activate", event => event.waitUntil(clients.claim()));
        addEventListener("fetch", event => {
            if (event.request.mode === "navigate") event.respondWith(answer(event));
        });
        async function answer(event) {
            const cache = await caches.open("pages");
            const found = await cache.match(event.request);
            if (found) return found;
            const response = await fetch(event.request);
            await cache.put(event.request, response.clone());
            return response;
        }
    """
    return script, {"Content-Type": "text/javascript"}
'''


class Project:
    """An app with a template and a static file, which a test may edit."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.app = directory / "app.py"
        self.template = directory / "templates" / "page.html"
        self.style = directory / "static" / "style.css"

        for path in (self.template, self.style):
            path.parent.mkdir()

        self.app.write_text(APP.format(version=1))
        self.template.write_text(TEMPLATE)
        self.style.write_text("p { color: rgb(1, 1, 1) }\n")

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        # At once, as editors do it. On a busy machine the server might see the file
        # empty in between, and have pages loaded once more.
        draft = self.directory.with_name(f"{self.directory.name}.draft")
        draft.write_text(text.replace(old, new))
        draft.replace(path)


class Tab:
    """A page in a browser, and what is said to it."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.told: list[str | bytes] = []
        self.errors: list[str] = []
        self.page.on("websocket", lambda ws: ws.on("framereceived", self._note))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, port: int, path: str = "/") -> None:
        """Open a page, and wait until it is connected."""
        self.told.clear()
        self.page.goto(f"http://127.0.0.1:{port}{path}")
        self.wait_until_told("")

    def wait_until_told(self, beginning: str) -> None:
        """Wait until the page has received one more version, with this beginning."""
        for _ in range(PATIENCE * 100):
            while self.told:
                if json.loads(self.told.pop(0))["version"].startswith(beginning):
                    return

            self.page.wait_for_timeout(20)

        raise AssertionError(f"The page was told of no {beginning!r}.")

    def _note(self, told: str | bytes) -> None:
        self.told.append(told)

    def mark(self) -> None:
        self.page.evaluate("window.marked = true")

    def is_marked(self) -> bool:
        return bool(self.page.evaluate("window.marked === true"))

    def wait_for_text(self, text: str | re.Pattern[str], place: str = "body") -> None:
        expect(self.page.locator(place)).to_contain_text(text, timeout=PATIENCE * 1000)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def tab(browser: Browser) -> t.Iterator[Tab]:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    tab = Tab(context)
    yield tab
    context.close()
    assert tab.errors == []


def test_page_shows_what_is_edited(project: Project, tab: Tab) -> None:
    """A template, a static file and the code, one after the other, and nothing of how
    it is done is in the log.
    """
    with wsrun(project.directory, "--live") as server:
        tab.open(port_of(server))
        assert "(0 routes)" in server.output
        project.edit(project.template, "template", "edited")
        server.wait_for(r"^ \* Detected change in 'templates/page.html', reloading pag")
        tab.wait_for_text("edited 1")
        tab.mark()
        project.edit(project.style, "rgb(1, 1, 1)", "rgb(2, 2, 2)")
        server.wait_for(r"^ \* Detected change in 'static/style.css', reloading pages$")
        paragraph = tab.page.locator("#first")
        expect(paragraph).to_have_css("color", "rgb(2, 2, 2)", timeout=PATIENCE * 1000)
        # It has got another stylesheet, and is no other page.
        assert tab.is_marked()
        assert tab.page.locator("link").count() == 1
        project.edit(project.app, 'version="1"', 'version="2"')
        server.wait_for(r"^ \* Detected change in 'app.py', reloading$")
        tab.wait_for_text("version 2")
        assert PATH not in server.output
        assert server.output.count("Reloaded in") == 1


def test_page_stays_while_the_app_is_broken(project: Project, tab: Tab) -> None:
    """A mistake leaves what there is, and is shown over that, until it is hidden or
    corrected, which is shown, too.
    """
    with wsrun(project.directory, "--live") as server:
        tab.open(port_of(server))
        tab.mark()
        project.app.write_text("def broken(:\n")
        server.wait_for(r"could not be loaded \(SyntaxError\)")
        tab.wait_until_told("error")
        tab.wait_for_text("version 1")
        tab.wait_for_text("app.py", PROBLEM)
        tab.wait_for_text("SyntaxError: invalid syntax", PROBLEM)
        tab.page.click(f"{PROBLEM} button")
        assert tab.page.locator(PROBLEM).count() == 0
        project.app.write_text("raise LookupError('<b>')\n")
        tab.wait_for_text("LookupError: <b>", PROBLEM)
        assert tab.is_marked()
        project.app.write_text(APP.format(version=2))
        tab.wait_for_text("version 2")
        assert tab.page.locator(PROBLEM).count() == 0


def test_what_was_typed_and_where_one_had_scrolled_survives(
    project: Project, tab: Tab
) -> None:
    """As far as the fields are there, and no password is kept anywhere."""
    project.template.write_text(FORM)

    with wsrun(project.directory, "--live") as server:
        tab.open(port_of(server))
        page = tab.page
        page.fill("[name=title]", "typed")
        page.fill("#text", "some\nlines")
        page.fill("[name=secret]", "secret")
        page.select_option("select", "two")
        page.check("[type=checkbox]")
        page.check("[value=b]")
        page.evaluate("document.querySelector('#box').scrollTop = 70")
        page.focus("#text")
        page.evaluate("document.querySelector('#text').setSelectionRange(2, 6)")
        page.evaluate("scrollTo(0, 900)")
        text = FORM.replace("template", "edited").replace("old default", "new default")
        project.template.write_text(text)
        tab.wait_for_text("edited 1")
        # It was told twice, before it was reloaded and after that.
        tab.wait_until_told("")
        tab.wait_until_told("")
        assert page.evaluate(STATE) == {
            "title": "typed",
            "untouched": "new default",
            "text": "some\nlines",
            "secret": "",
            "select": "two",
            "checked": True,
            "radio": "b",
            "box": 70,
            "page": 900,
            "focus": ["text", 2, 6],
        }


def test_pages_of_htmx_are_as_others(project: Project, tab: Tab) -> None:
    """One that came in the place of another shows what is edited, and so does the one
    that it took the place of. One that is an error says so.
    """
    project.template.write_text(TEMPLATE + HTMX)

    with wsrun(project.directory, "--live") as server:
        port = port_of(server)
        tab.open(port)
        tab.mark()
        tab.page.evaluate("boost('/?other')")
        tab.wait_for_text("template 1")
        assert tab.page.url.endswith("/?other")
        assert tab.is_marked()
        project.edit(project.template, "template", "edited")
        tab.wait_for_text("edited 1")
        assert tab.page.url.endswith("/?other")
        assert tab.page.evaluate("localStorage.getItem('htmx-history-cache')") is None
        tab.page.evaluate("boost('/boom')")
        tab.wait_for_text("500 from /boom", PROBLEM)
        tab.wait_for_text("RuntimeError: boom in a view", PROBLEM)
        tab.page.click(f"{PROBLEM} a")
        tab.wait_for_text("Traceback")


@pytest.mark.parametrize("option", ["--debugger", "--no-debugger"])
def test_page_of_an_error_makes_way(project: Project, tab: Tab, option: str) -> None:
    """One that was opened while the app is broken shows the next mistake, and then the
    app.
    """
    project.app.write_text("raise LookupError('one')\n")

    with wsrun(project.directory, "--live", option) as server:
        tab.open(port_of(server))
        tab.wait_for_text("LookupError: one")
        project.app.write_text("raise LookupError('<two>')\n")
        tab.wait_for_text("LookupError: <two>")
        project.app.write_text("import os\nos._exit(3)\n")
        tab.wait_for_text("ended by itself, with status 3")
        project.app.write_text(APP.format(version=1))
        tab.wait_for_text("version 1")


def test_page_of_an_exception_makes_way(project: Project, tab: Tab) -> None:
    """The debugger's page is gone when the view, or the template, is mended."""
    project.edit(project.template, "{{ 1 }}", "{{ 1")

    with wsrun(project.directory, "--live") as server:
        port = port_of(server)
        tab.open(port)
        tab.wait_for_text("TemplateSyntaxError")
        project.edit(project.template, "{{ 1", "{{ 1 }}")
        tab.wait_for_text("template 1")
        tab.open(port, "/boom")
        tab.wait_for_text("boom in a view")
        project.edit(project.app, 'raise RuntimeError("boom in a view")', 'return "ok"')
        tab.wait_for_text("ok")


def test_page_comes_back_to_a_command_that_is_started_again(
    project: Project, tab: Tab
) -> None:
    """On the same port, and it shows what was edited meanwhile."""
    with wsrun(project.directory, "--live") as server:
        port = port_of(server)
        tab.open(port)
        server.signal_group(signal.SIGINT)
        assert server.wait() == 0

    project.edit(project.template, "template", "edited")

    with wsrun(project.directory, "--live", "--port", str(port)) as server:
        port_of(server)
        tab.wait_for_text("edited 1")
        tab.wait_until_told("")
        project.edit(project.template, "edited", "again")
        tab.wait_for_text("again 1")


def test_page_leaves_a_command_alone_that_is_not_live(
    project: Project, tab: Tab
) -> None:
    """It asks once and is silent then."""
    with wsrun(project.directory, "--live") as server:
        port = port_of(server)
        tab.open(port)
        tab.mark()
        server.signal_group(signal.SIGINT)
        assert server.wait() == 0

    with wsrun(project.directory, "--port", str(port)) as server:
        port_of(server)
        server.rewind()
        server.wait_for(f'"GET {PATH} HTTP/1.1" 404')
        # The page's own requests are as ever, and nothing else comes.
        for _ in range(3):
            tab.page.evaluate("fetch('/fragment').then(r => r.text())")
            server.wait_for('"GET /fragment HTTP/1.1" 200')

        assert server.output.count(PATH) == 1
        assert tab.is_marked()


def test_page_in_another_page_is_one_too(project: Project, tab: Tab) -> None:
    """It has the script. What scripts fetch has none."""
    with wsrun(project.directory, "--live") as server:
        tab.open(port_of(server), "/fragment")
        assert tab.page.locator("script").count() == 1
        fetched = tab.page.evaluate("fetch('/fragment').then(r => r.text())")
        assert fetched == "<b>fragment</b>"
        tab.page.evaluate(
            "document.body.append(Object.assign(document.createElement('iframe'),"
            " {src: '/'}))"
        )
        frame = tab.page.frame_locator("iframe")
        first = frame.locator("#first")
        expect(first).to_have_text("template 1", timeout=PATIENCE * 1000)
        assert frame.locator("script").count() == 1


def test_page_that_is_gone_back_to_is_up_to_date(project: Project, tab: Tab) -> None:
    """Whether the browser has kept it or not."""
    with wsrun(project.directory, "--live") as server:
        port = port_of(server)
        tab.open(port)
        # There is nothing of ours in a page that shows no HTML.
        tab.page.goto(f"http://127.0.0.1:{port}/static/style.css")
        project.edit(project.template, "template", "edited")
        server.wait_for("reloading pages")
        tab.page.go_back()
        tab.wait_for_text("edited 1")


def test_page_that_reloading_does_not_help_is_not_reloaded_forever(
    project: Project, tab: Tab
) -> None:
    """A service worker may give the same old page again and again."""
    project.app.write_text(project.app.read_text() + SERVICE_WORKER)
    loads = []
    tab.page.on("framenavigated", lambda frame: loads.append(frame.url))

    with wsrun(project.directory, "--live") as server:
        port = port_of(server)
        tab.open(port)
        tab.page.evaluate(
            "navigator.serviceWorker.register('/worker.js').then(() =>"
            " new Promise(done => navigator.serviceWorker.oncontrollerchange = done))"
        )
        tab.open(port)
        loads.clear()

        for count in (1, 2):
            project.edit(project.template, "template", "template and")
            server.wait_for("reloading pages")
            # It is told twice, before it is reloaded and after that.
            tab.wait_until_told("")
            tab.wait_until_told("")
            tab.mark()
            tab.page.evaluate("fetch('/fragment').then(r => r.text())")
            assert len(loads) == count
            assert tab.is_marked()

        tab.wait_for_text("template 1")


def test_other_directories_and_extra_files(project: Project, tab: Tab) -> None:
    """Templates from outside of the project count. A file that is listed as an extra
    one reloads the app, and so does a Python file.
    """
    outside = project.directory / "outside"
    inside = project.directory / "project"
    outside.mkdir()
    (inside / "static").mkdir(parents=True)
    (outside / "page.html").write_text("outside 1")
    app = APP.replace("__name__", "__name__, template_folder='../outside'")
    (inside / "app.py").write_text(app.format(version=1))

    with wsrun(inside, "--live", "--extra-files", "static/extra.css") as server:
        tab.open(port_of(server))
        tab.wait_for_text("outside 1")
        (outside / "page.html").write_text("outside 2")
        server.wait_for(
            r"Detected change in '\.\./outside/page\.html', reloading pages"
        )
        tab.wait_for_text("outside 2")
        (inside / "static" / "extra.css").write_text("extra")
        server.wait_for(r"Detected change in 'static/extra\.css', reloading$")
        server.wait_for("Reloaded in")
        (outside / "tool.py").write_text("a = 1\n")
        server.wait_for(r"Detected change in '\.\./outside/tool\.py', reloading$")
        server.wait_for("Reloaded in")
        assert server.output.count("reloading pages") == 1


def test_templates_are_compared_by_their_content(project: Project) -> None:
    """Once they have changed. What tools leave beside them does not count."""
    style = project.style

    with wsrun(project.directory, "--live", "--exclude-patterns", "*.map") as server:
        port_of(server)
        style.write_text("p { color: red }\n")
        server.wait_for(r"Detected change in 'static/style\.css', reloading pages$")
        style.touch()
        style.chmod(0o600)
        style.write_text("p { color: red }\n")
        style.with_name("style.css.map").write_text("map")
        style.with_name("style.css~").write_text("backup")
        style.with_name("some.db").write_text("data")
        project.edit(project.template, "template", "edited")
        server.wait_for(r"Detected change in 'templates/page\.html', reloading pages$")
        assert server.output.count("Detected change") == 2


def test_files_that_come_together_are_one_message(project: Project) -> None:
    """The pages are told once. If the app is reloaded, that is all there is to do."""
    new = project.directory / "outside" / "new"
    new.mkdir(parents=True)

    for name in ("a.html", "b.html", "c.html"):
        (new / name).write_text("text")

    with wsrun(project.directory, "--live", "--exclude-patterns", "outside") as server:
        port_of(server)
        new.rename(project.directory / "templates" / "one")
        server.wait_for(
            r"Detected change in 'templates/one/.\.html' and 2 more, reloading pages$"
        )
        new.mkdir()
        (new / "page.html").write_text("text")
        (new / "tool.py").write_text("a = 1\n")
        new.rename(project.directory / "templates" / "two")
        server.wait_for(r"Detected change in 'templates/two/tool\.py', reloading$")
        server.wait_for("Reloaded in")
        assert server.output.count("reloading pages") == 1


def test_frozen_page_does_not_hold_up_a_reload(project: Project) -> None:
    """Nobody waits for its answer, however long that would be allowed."""
    project.app.write_text(
        project.app.read_text()
        + "\n\nimport flask_sockets.wire.connection\n\n"
        + "flask_sockets.wire.connection.CLOSE_TIMEOUT = 1000\n"
    )

    with wsrun(project.directory, "--live", "--grace", "1000") as server:
        port = port_of(server)

        with socket.create_connection(("127.0.0.1", port)) as page:
            fields = {"Host": f"127.0.0.1:{port}", **UPGRADE}
            lines = [f"GET {PATH} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
            page.sendall("\r\n".join([*lines, "", ""]).encode())
            assert page.recv(1000).startswith(b"HTTP/1.1 101 ")
            # It reads no more, and so answers nothing.
            project.edit(project.app, 'version="1"', 'version="2"')
            server.wait_for("Reloaded in")


def test_pages_are_told_what_websockets_are_told(project: Project) -> None:
    """1012 for a reload and for the end, so that they come back at once."""
    with wsrun(project.directory, "--live") as server:
        port = port_of(server)

        with connect(f"ws://127.0.0.1:{port}{PATH}") as page:
            first = page.recv(timeout=PATIENCE)
            project.edit(project.app, 'version="1"', 'version="2"')

            with pytest.raises(ConnectionClosed) as caught:
                page.recv(timeout=PATIENCE)

        assert caught.value.rcvd == Close(1012, "reloading")

        with connect(f"ws://127.0.0.1:{port}{PATH}") as page:
            assert page.recv(timeout=PATIENCE) != first
            server.signal_group(signal.SIGINT)

            with pytest.raises(ConnectionClosed) as caught:
                page.recv(timeout=PATIENCE)

        assert caught.value.rcvd == Close(1012, "server stopping")
        assert server.wait() == 0
        assert PATH not in server.output


def test_nothing_is_there_without_the_option(project: Project, tab: Tab) -> None:
    """No script, no path, and no reload for a template."""
    with wsrun(project.directory) as server:
        port = port_of(server)
        tab.page.goto(f"http://127.0.0.1:{port}/")
        tab.wait_for_text("template 1")
        assert tab.page.locator("script").count() == 0
        assert get(port, PATH)[0] == 404
        project.edit(project.template, "template", "edited")
        project.edit(project.app, 'version="1"', 'version="2"')
        server.wait_for("Reloaded in")
        assert server.output.count("Detected change") == 1
