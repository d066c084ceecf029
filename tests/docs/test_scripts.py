"""The scripts of the pages, in a browser."""

from __future__ import annotations

import typing as t

import flask
import pytest
from playwright.sync_api import Browser, Page

from flask_sockets import WebSocket

from ..conftest import Served
from ..documents import Document
from ..process import PATIENCE, until
from .test_blocks import PAGES
from .test_guide import client_of

# They share a browser, which another worker would have to start again.
pytestmark = pytest.mark.xdist_group(__name__)

Serve = t.Callable[[flask.Flask], Served]


@pytest.fixture
def page(browser: Browser) -> t.Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    yield page
    context.close()


READ = "text => { try { new Function(text) } catch (error) { return `${error}` } }"


def test_each_script_can_be_read(page: Page) -> None:
    """What stands in a module of its own begins with 'export default'."""
    for path in PAGES:
        for block in Document(path).blocks:
            if block.language == "js":
                text = block.text.replace("export default", "return")
                error = page.evaluate(READ, text)
                assert error is None, f"{path}: {error}\n{text}"


def page_with(app: flask.Flask, body: str) -> None:
    app.add_url_rule("/", "index", lambda: flask.render_template_string(body))


def test_a_page_connects_with_the_url_of_the_template(page: Page, serve: Serve) -> None:
    _, names = client_of("docs/websocket.md")
    page_with(names["app"], Document("docs/browser.md").find("url_for", "html"))
    with page.expect_console_message(lambda message: message.text == "hello"):
        page.goto(f"http://{serve(names['app']).host}/")


#: Counts in the page how many WebSockets have closed and been heard of.
COUNT = """
  let closed = 0;
  const Real = WebSocket;
  WebSocket = class extends Real {
    constructor(...options) {
      super(...options);
      this.addEventListener("close", () => setTimeout(() => { closed += 1; }));
    }
  };
  const timers = [];
  const realTimer = setTimeout;
  setTimeout = (...options) => { timers.push(options[0]); realTimer(...options); };
"""


def test_a_page_comes_back_unless_it_is_told_to_stay_away(
    page: Page, serve: Serve
) -> None:
    _, names = client_of("docs/browser.md")
    codes = iter([1012, 1011, 1000])

    def close(ws: WebSocket, room: str) -> None:
        ws.close(next(codes))

    names["sockets"].add_url_rule("/chat/<room>", "close", close)
    script = Document("docs/browser.md").find("setTimeout(connect")
    # Not as long as a reader waits.
    script = script.replace("pause = 500", "pause = 5")
    page_with(names["app"], f"<script>{COUNT}{script}</script>")
    page.goto(f"http://{serve(names['app']).host}/")
    page.wait_for_function("closed === 3")
    assert page.evaluate("timers.filter((timer) => timer === connect).length") == 2


def test_a_file_is_uploaded_with_progress(page: Page, serve: Serve) -> None:
    _, names = client_of("docs/recipes/upload.md")
    kept: list[bytes] = []
    names["keep"] = lambda name, file: kept.append(file.read())
    script = Document("docs/recipes/upload.md").find("async function upload")
    page_with(names["app"], f"<script>{script}</script>")
    page.goto(f"http://{serve(names['app']).host}/")
    size = 600_000
    progress = page.evaluate(
        "async (size) => { const seen = [];"
        " await upload(new File(['x'.repeat(size)], 'x.txt'), (p) => seen.push(p));"
        " return seen; }",
        size,
    )
    assert progress == sorted(progress)
    assert len(progress) == 3
    assert progress[-1] == 1
    until(lambda: kept == [b"x" * size], "the file is kept")
