"""What reloads open pages: which responses get the script, who is told, and which
directories count. A real browser is in ``wsrun/test_pages.py``.
"""

from __future__ import annotations

import gzip
import json
import re
import typing as t
from pathlib import Path

import flask
import jinja2
import pytest
from werkzeug.datastructures import Headers
from werkzeug.test import Client, EnvironBuilder, TestResponse
from werkzeug.wrappers import Response

from flask_sockets_cli.serve.hosts import TrustedHosts
from flask_sockets_cli.serve.pages import (
    PATH,
    Pages,
    is_navigation,
    page_directories,
    with_script,
)

from ..apps import SETTINGS

PAGE = "<!doctype html><p>hello</p>"

#: What Chromium sends for an address that was typed in.
TYPED = {"Accept": "text/html,application/xml;q=0.9,*/*;q=0.8"}

TAG = b'\n<script src="/script?1" async></script>\n'


class Answered(t.NamedTuple):
    status: str
    headers: dict[str, str]
    body: bytes


def answer(application: t.Any, **request: t.Any) -> Answered:
    """Call an application in the middleware, as a server does."""
    environ = EnvironBuilder(**request).get_environ()
    started: list[t.Any] = []
    written: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: t.Any = None
    ) -> t.Any:
        started[:] = [status, headers]
        return written.append

    parts = with_script("/script?1", application, environ, start_response)

    try:
        # What is written comes before the rest.
        rest = list(parts)
    finally:
        getattr(parts, "close", lambda: None)()

    status, headers = started
    return Answered(status, dict(headers), b"".join([*written, *rest]))


# Which requests


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, True),
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, True),
        # A service worker passes it on.
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "empty"}, True),
        ({"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", **TYPED}, False),
        ({"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, False),
        ({"Sec-Fetch-Mode": "websocket", **TYPED}, False),
        (TYPED, True),
        ({**TYPED, "X-Requested-With": "XMLHttpRequest"}, False),
        ({**TYPED, "HX-Request": "true"}, False),
        ({"Accept": "*/*"}, False),
        ({}, False),
    ],
)
def test_navigations_are_told_from_fragments(
    headers: dict[str, str], expected: bool
) -> None:
    """By what the browser says, and else by what it would like to have."""
    environ = EnvironBuilder(headers=Headers(headers)).get_environ()
    assert is_navigation(environ) is expected


def test_answer_to_a_form_is_no_page_to_reload() -> None:
    """Chromium would send the form again without a question."""
    for headers in (TYPED, {"Sec-Fetch-Mode": "navigate"}):
        environ = EnvironBuilder(method="POST", headers=Headers(headers)).get_environ()
        assert not is_navigation(environ)


# Which responses


def test_script_is_at_the_end_of_a_page() -> None:
    """And the length, where there is one, is that of both."""
    answered = answer(Response(PAGE, mimetype="text/html"))
    assert answered.status == "200 OK"
    assert answered.body == PAGE.encode() + TAG
    assert answered.headers["Content-Length"] == str(len(answered.body))


@pytest.mark.parametrize("status", [200, 404, 500])
def test_errors_are_pages_too(status: int) -> None:
    """Whatever the status, what is shown is reloaded."""
    assert TAG in answer(Response(PAGE, status, mimetype="text/html")).body


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"Content-Type": "text/plain"}),
        (200, {"Content-Type": "application/json"}),
        (200, {"Content-Type": "text/html; charset=utf-16"}),
        (200, {"Content-Type": "text/html; charset=nonsense"}),
        (200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}),
        (200, {"Content-Type": "text/html", "Content-Disposition": "attachment"}),
        (206, {"Content-Type": "text/html"}),
        (204, {"Content-Type": "text/html"}),
        (304, {"Content-Type": "text/html"}),
    ],
)
def test_what_is_no_page_is_untouched(status: int, headers: dict[str, str]) -> None:
    """Other types, packed pages, pieces, downloads, and what has no body."""
    response = Response(PAGE.encode(), status, {**headers, "ETag": '"1"'})
    plain = Client(response).get("/", headers=TYPED)
    answered = answer(response)
    assert answered.body == plain.data
    assert answered.headers == dict(plain.headers)


@pytest.mark.parametrize(
    "content_type",
    ["text/html", "Text/HTML; Charset=UTF-8", "text/html; charset=windows-1252"],
)
def test_charsets_that_extend_ascii_will_do(content_type: str) -> None:
    """So that the bytes of the script mean the same."""
    assert TAG in answer(Response(PAGE, content_type=content_type)).body


def test_head_tells_of_the_same_length_and_has_no_body() -> None:
    """As it is without the script."""
    app = flask.Flask(__name__)
    app.add_url_rule("/", view_func=lambda: PAGE, endpoint="page")
    get, head = answer(app), answer(app, method="HEAD")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]
    assert head.body == b""


def test_streams_stay_streams() -> None:
    """Each part goes out before the next one is made."""
    made = []

    def parts() -> t.Iterator[str]:
        for part in ("one", "two"):
            made.append(part)
            yield part

    response = Response(parts(), mimetype="text/html")
    environ = EnvironBuilder().get_environ()
    started: list[t.Any] = []

    def start_response(*args: t.Any) -> t.Any:
        started.append(args)

    body = iter(with_script("/script?1", response, environ, start_response))
    assert next(body) == b"one"
    assert made == ["one"]
    assert next(body) == b"two"
    assert list(body) == [TAG]
    assert "Content-Length" not in dict(started[0][1])


@pytest.mark.parametrize("mimetype", ["text/html", "text/plain"])
@pytest.mark.parametrize("read", [0, 1, 3])
def test_parts_are_closed_once(mimetype: str, read: int) -> None:
    """The app cleans up, however much was read."""
    closed = []
    response = Response(iter(["one", "two"]), mimetype=mimetype)
    response.call_on_close(lambda: closed.append(True))
    environ = EnvironBuilder().get_environ()

    def start_response(*args: t.Any) -> t.Any:
        return None

    parts = with_script("/script?1", response, environ, start_response)
    iterator = iter(parts)

    for _ in range(read):
        next(iterator, None)

    parts.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_app_may_start_late() -> None:
    """A generator starts the response when it is asked for its first part."""

    def application(environ: t.Any, start_response: t.Any) -> t.Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        yield PAGE.encode()

    assert answer(application).body == PAGE.encode() + TAG


def test_app_may_write() -> None:
    """What is written in the old way comes before the script."""

    def application(environ: t.Any, start_response: t.Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/html")])
        write(b"one")
        return [b"two"]

    assert answer(application).body == b"onetwo" + TAG


def test_app_may_start_again_for_an_error() -> None:
    """The last start counts."""

    def application(environ: t.Any, start_response: t.Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])

        try:
            raise LookupError
        except LookupError as error:
            exc_info = (type(error), error, error.__traceback__)
            start_response("500 Error", [("Content-Type", "text/plain")], exc_info)

        return [b"sorry"]

    answered = answer(application)
    assert answered.status == "500 Error"
    assert answered.body == b"sorry"


def test_page_is_asked_for_whole_and_unpacked() -> None:
    """A page that the browser has from before would come without the script, and one
    that is packed can't be appended to.
    """

    def application(environ: t.Any, start_response: t.Any) -> t.Any:
        response = Response(PAGE, mimetype="text/html")
        response.add_etag()

        if "HTTP_ACCEPT_ENCODING" in environ:
            response.data = gzip.compress(response.data)
            response.content_encoding = "gzip"

        return response.make_conditional(environ)(environ, start_response)

    etag = Client(application).get("/").headers["ETag"]
    headers = {"Accept-Encoding": "gzip", "If-None-Match": etag}
    assert Client(application).get("/", headers=headers).status_code == 304
    answered = answer(application, headers=headers)
    assert answered.status == "200 OK"
    assert answered.body == PAGE.encode() + TAG
    # A fragment of the same address is not to be answered with this one from a cache.
    assert "ETag" not in answered.headers


@pytest.mark.parametrize(
    ("policy", "nonce"),
    [
        ("script-src 'self'", None),
        ("script-src 'nonce-abc+/=' 'strict-dynamic'", "abc+/="),
        ("default-src 'nonce-abc'; style-src 'nonce-def'", "abc"),
        ("style-src 'nonce-def'; Script-Src 'self' 'nonce-abc'", "abc"),
        ("default-src 'nonce-def'; script-src 'self'", None),
        ("script-src-elem 'nonce-abc'; script-src 'nonce-def'", "abc"),
        ("img-src 'self', script-src 'nonce-abc'", "abc"),
    ],
)
def test_script_has_the_nonce_of_the_policy(policy: str, nonce: str | None) -> None:
    """Else a page with a Content-Security-Policy would not run it."""
    headers = {"Content-Type": "text/html", "Content-Security-Policy": policy}
    (tag,) = re.findall(
        "<script .*?>", answer(Response(PAGE, headers=headers)).body.decode()
    )
    assert tag == (
        f'<script src="/script?1" nonce="{nonce}" async>'
        if nonce
        else '<script src="/script?1" async>'
    )


# The middleware


def get(pages: Pages, path: str = "/", **headers: str) -> TestResponse:
    return Client(pages).get(path, headers={"Sec-Fetch-Mode": "navigate", **headers})


def pages_of(served: flask.Flask, app: flask.Flask | None) -> Pages:
    return Pages(served, app, TrustedHosts(SETTINGS, app))


def version_in(response: TestResponse) -> str:
    match = re.search(rf'<script src="{PATH}\?([\w-]+)" async>', response.text)
    assert match is not None, response.text
    return match[1]


@pytest.fixture
def app() -> flask.Flask:
    app = flask.Flask(__name__, static_folder=None, template_folder=None)
    app.add_url_rule("/", view_func=lambda: PAGE, endpoint="page")
    return app


def test_version_is_another_for_each_load_and_each_change(app: flask.Flask) -> None:
    """A page carries the one it was made by."""
    pages = pages_of(app, app)
    first = version_in(get(pages))
    assert version_in(get(pages)) == first
    pages.changed(["page.html"])
    second = version_in(get(pages))
    assert len({first, second, version_in(get(pages_of(app, app)))}) == 3


def test_version_is_that_of_the_beginning(app: flask.Flask) -> None:
    """A file that changes while the page is made may be in it or not."""
    pages = pages_of(app, app)
    before = version_in(get(pages))

    def change() -> str:
        pages.changed(["page.html"])
        return PAGE

    app.view_functions["page"] = change
    assert version_in(get(pages)) == before
    assert version_in(get(pages)) != before


def test_version_tells_of_a_load_without_an_app(app: flask.Flask) -> None:
    """So that pages that work are not reloaded to show an error."""
    assert version_in(get(pages_of(app, None))).startswith("error-")
    assert not version_in(get(pages_of(app, app))).startswith("error-")


def test_fragment_has_no_script(app: flask.Flask) -> None:
    """What a script has asked for is as the app made it."""
    response = Client(pages_of(app, app)).get("/", headers={"Sec-Fetch-Mode": "cors"})
    assert response.text == PAGE
    assert response.headers == Client(app).get("/").headers


@pytest.mark.parametrize("loaded", [True, False])
def test_script_is_served_and_not_kept(app: flask.Flask, loaded: bool) -> None:
    """Whether there is an app or not."""
    response = get(pages_of(app, app if loaded else None), PATH)
    assert response.status_code == 200
    assert response.mimetype == "text/javascript"
    assert response.headers["Cache-Control"] == "no-store"
    assert "new WebSocket(" in response.text


def test_pages_are_told_the_version(app: flask.Flask, serve: t.Any) -> None:
    """When they connect and when it changes; one that has gone is no harm."""
    pages = pages_of(app, app)
    served = serve(pages)

    with served.connect(PATH) as one:
        first = json.loads(one.recv(timeout=60))
        assert first["version"] == version_in(get(pages))

        with served.connect(PATH, origin="https://proxied.localhost") as two:
            assert json.loads(two.recv(timeout=60)) == first
            pages.changed(["page.html"])
            second = json.loads(one.recv(timeout=60))
            assert second == json.loads(two.recv(timeout=60))
            assert second["before"] == first["version"] != second["version"]

        pages.changed(["page.html"])
        third = json.loads(one.recv(timeout=60))
        assert third["version"] == version_in(get(pages))


@pytest.mark.parametrize(
    ("changed", "styles"),
    [
        (["static/a.css", "static/deep/b.css"], ["a.css", "b.css"]),
        (["static/a.css", "static/a.js"], []),
        (["templates/a.css"], []),
        (["static2/a.css"], []),
    ],
)
def test_stylesheets_are_named_if_nothing_else_has_changed(
    tmp_path: Path, serve: t.Any, changed: list[str], styles: list[str]
) -> None:
    """Those that browsers load, and no page that has them in it."""
    app = flask.Flask(__name__, root_path=str(tmp_path))
    pages = pages_of(app, app)

    with serve(pages).connect(PATH) as page:
        assert json.loads(page.recv(timeout=60))["styles"] == []
        pages.changed([str(tmp_path / path) for path in changed])
        assert json.loads(page.recv(timeout=60))["styles"] == styles


# The directories


def test_directories_are_those_of_the_app_and_its_blueprints(tmp_path: Path) -> None:
    """Whether they exist or not, and as they are really called."""
    (tmp_path / "really").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "really")
    app = flask.Flask(__name__, root_path=str(tmp_path), static_folder="link")
    blueprint = flask.Blueprint(
        *("shop", __name__),
        root_path=str(tmp_path / "shop"),
        static_folder="files",
        static_url_path="/shop",
        template_folder="pages",
    )
    bare = flask.Blueprint("bare", __name__, root_path=str(tmp_path))
    app.register_blueprint(blueprint)
    app.register_blueprint(bare)
    assert page_directories(app) == [
        str(tmp_path / path)
        for path in ("really", "shop/files", "shop/pages", "templates")
    ]
    assert "jinja_env" not in vars(app)


def test_directories_are_found_in_loaders_of_loaders(tmp_path: Path) -> None:
    """As far as they have a search path."""
    app = flask.Flask(__name__, static_folder=None, template_folder=None)
    one, two, three = (tmp_path / name for name in "123")
    app.jinja_loader = jinja2.ChoiceLoader(
        [
            jinja2.FileSystemLoader([one, two]),
            jinja2.PrefixLoader({"x": jinja2.FileSystemLoader(three)}),
            jinja2.DictLoader({"page.html": "text"}),
        ]
    )
    assert page_directories(app) == [str(one), str(two), str(three)]
    app = flask.Flask(__name__, static_folder=None, template_folder=None)
    app.jinja_env.loader = jinja2.FileSystemLoader(one)
    assert page_directories(app) == [str(one)]


def test_directories_of_libraries_are_left_out(tmp_path: Path) -> None:
    """Nobody edits what is installed."""
    app = flask.Flask(
        *(__name__,),
        root_path=str(tmp_path / "site-packages" / "some"),
    )
    assert page_directories(app) == []
