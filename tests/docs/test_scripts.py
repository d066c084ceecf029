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
    page_with(names["app"], Document("docs/browser.md").find("new WebSocket"))
    with page.expect_console_message(lambda message: message.text == "hello"):
        page.goto(f"http://{serve(names['app']).host}/")


def test_a_page_connects_with_the_module_of_the_app(page: Page, serve: Serve) -> None:
    _, names = client_of("docs/websocket.md")

    def echo(ws: WebSocket, room: str) -> None:
        for message in ws:
            ws.send(f"{room} has heard {message!r}")

    names["sockets"].add_url_rule("/chat/<room>", "chat", echo)
    page_with(names["app"], Document("docs/browser.md").find("import { connect }"))
    heard = "lobby has heard 'hello'"
    with page.expect_console_message(lambda message: message.text == heard):
        page.goto(f"http://{serve(names['app']).host}/")


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
