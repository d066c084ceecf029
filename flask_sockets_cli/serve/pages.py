"""Keeps open pages in the browser up to date, for ``flask wsrun --live``: puts a script
into each page, and tells it over a WebSocket when the page is out of date.

A page carries the version of the app and its files that it was made by. It is told the
current one when it connects and whenever that changes, and reloads if they differ. So
nothing is lost while it is not connected. If nothing but stylesheets has changed, it is
told their names, and may do with loading those again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import typing as t
from pathlib import Path

from flask import Flask, Response, abort, request
from werkzeug.datastructures import Headers
from werkzeug.http import parse_options_header
from werkzeug.wsgi import ClosingIterator

from flask_sockets import Sockets, WebSocket, WebSocketError

from ..files import is_library
from .access_log import OURS
from .hosts import TrustedHosts

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Where the script is, and what it connects to.
PATH = "/__flask_wsrun_live__"

#: What makes an app answer a navigation with less than the whole page, or packed.
_CUTS = ("HTTP_ACCEPT_ENCODING", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH")

#: Seconds that a page gets to make room for a message.
_ROOM = 1.0

#: Statuses of responses that have no body, or a piece of one.
_NO_PAGE = ("204", "205", "206", "304")


class Pages:
    """WSGI middleware that has the pages of one load of the app reloaded.

    :param application: what is served, with the debugger.
    :param app: the app in it, ``None`` if it could not be loaded.
    :param hosts: whose pages may be told that something has changed.
    :param problem: why the app could not be loaded, for a page that is open.
    """

    def __init__(
        self,
        application: WSGIApplication,
        app: Flask | None,
        hosts: TrustedHosts,
        problem: str | None = None,
    ) -> None:
        self._application = application
        self._app = app
        self._hosts = hosts
        self._problem = problem
        self._own = self._make_own_app()
        # The script knows pages that show an error by this word.
        self._load = ("" if app is not None else "error-") + secrets.token_hex(8)
        self._changes = 0
        self._pages: set[WebSocket] = set()

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> t.Iterable[bytes]:
        if environ.get("PATH_INFO") == PATH:
            environ[OURS] = True
            return self._own(environ, start_response)

        if not is_navigation(environ):
            return self._application(environ, start_response)

        # The version is that of the beginning: files may change as the page is made.
        source = f"{PATH}?{self._version}"
        return with_script(source, self._application, environ, start_response)

    def changed(self, paths: t.Iterable[str]) -> None:
        """Tell the open pages that files of theirs have changed.

        :param paths: the real paths of the files.
        """
        before = self._version
        self._changes += 1
        news = self._news(before, self._styles_among(list(paths)))

        for page in list(self._pages):
            # One that has no room for a few bytes is lost, and told when it comes back.
            with contextlib.suppress(WebSocketError, TimeoutError):
                page.send(news, timeout=_ROOM)

    def directories(self) -> list[str]:
        """The directories whose files pages are made of."""
        return [] if self._app is None else page_directories(self._app)

    @property
    def _version(self) -> str:
        return f"{self._load}-{self._changes}"

    def _news(self, before: str | None = None, styles: t.Sequence[str] = ()) -> str:
        """What pages are told, as JSON.

        :param before: the version before this one.
        :param styles: the names of stylesheets that are all that has changed since.
        """
        return json.dumps(
            {
                "version": self._version,
                "problem": self._problem,
                "before": before,
                "styles": styles,
            }
        )

    def _styles_among(self, paths: list[str]) -> list[str]:
        """The names of files if all of them are stylesheets that browsers load."""
        folders = [] if self._app is None else static_directories(self._app)

        if all(
            path.endswith(".css")
            and any(path.startswith(os.path.join(folder, "")) for folder in folders)
            for path in paths
        ):
            return sorted(map(os.path.basename, paths))

        return []

    def _make_own_app(self) -> Flask:
        app = Flask(__name__, static_folder=None, template_folder=None)
        # The check below allows more: behind a proxy that changes the host, the app's
        # own pages seem to be those of another.
        app.config["SOCKETS_ALLOWED_ORIGINS"] = "*"
        sockets = Sockets(app)
        script = Path(__file__).with_suffix(".js").read_bytes()

        @app.get(PATH)
        def get_script() -> Response:
            response = Response(script, mimetype="text/javascript")
            response.cache_control.no_store = True
            return response

        @sockets.route(PATH)
        def connect(page: WebSocket) -> None:
            origin = page.origin

            if origin is not None and not self._hosts.trusts_page(origin, request.host):
                abort(403)

            self._pages.add(page)

            try:
                page.send(self._news())

                for _ in page:
                    pass
            finally:
                self._pages.discard(page)

        return app


def is_navigation(environ: WSGIEnvironment) -> bool:
    """Whether the answer is to become a page of its own, and not a part of another.
    One that answers a form does not count: to reload it is to send the form again.

    Browsers say so only to secure origins and to ``localhost``.
    """
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return False

    # 'Sec-Fetch-Dest' would not do: it is "empty" where a service worker passes on a
    # navigation.
    mode: str | None = environ.get("HTTP_SEC_FETCH_MODE")

    if mode is not None:
        return mode == "navigate"

    return (
        "text/html" in environ.get("HTTP_ACCEPT", "")
        and "HTTP_X_REQUESTED_WITH" not in environ
        and "HTTP_HX_REQUEST" not in environ
    )


def with_script(
    source: str,
    application: WSGIApplication,
    environ: WSGIEnvironment,
    start_response: StartResponse,
) -> t.Iterable[bytes]:
    """Answer a request with a script at the end if it is answered with a page.

    Browsers take one there, and nothing needs to be kept back until then.

    :param source: the path of the script.
    """
    tag: bytes | None = None

    def start(
        status: str, headers: list[tuple[str, str]], exc_info: t.Any = None
    ) -> t.Any:
        nonlocal tag
        tag = b""
        edited = Headers(headers)

        if takes_script(status, edited):
            tag = _make_tag(source, edited)
            headers = _with_tag(edited, len(tag))

        return start_response(status, headers, exc_info)

    for name in _CUTS:
        environ.pop(name, None)

    parts = application(environ, start)

    if tag == b"":
        return parts

    def end() -> t.Iterator[bytes]:
        # Only now is it certain that the app has called 'start'.
        if tag and environ["REQUEST_METHOD"] != "HEAD":
            yield tag

    return ClosingIterator(itertools.chain(parts, end()), getattr(parts, "close", None))


def takes_script(status: str, headers: Headers) -> bool:
    """Whether a response is a page that a script can be appended to."""
    mimetype, options = parse_options_header(headers.get("Content-Type"))
    disposition, _ = parse_options_header(headers.get("Content-Disposition"))
    return (
        mimetype.lower() == "text/html"
        and _extends_ascii(options.get("charset", "utf-8"))
        and disposition.lower() != "attachment"
        and "Content-Encoding" not in headers
        and not status.startswith(_NO_PAGE)
    )


def _extends_ascii(charset: str) -> bool:
    try:
        return "<script>".encode(charset) == b"<script>"
    except LookupError:
        return False


def _make_tag(source: str, headers: Headers) -> bytes:
    nonce = _find_nonce(headers.getlist("Content-Security-Policy"))
    attribute = "" if nonce is None else f' nonce="{nonce}"'
    return f'\n<script src="{source}"{attribute} async></script>\n'.encode()


def _find_nonce(policies: list[str]) -> str | None:
    """The nonce that scripts of a page need, if it has a policy that demands one."""
    for policy in policies:
        directives = {
            name.lower(): values
            for directive in re.split("[;,]", policy)
            for name, _, values in [directive.strip().partition(" ")]
        }

        for name in ("script-src-elem", "script-src", "default-src"):
            if name in directives:
                if match := re.search(r"'nonce-([\w+/=-]+)'", directives[name]):
                    return match[1]

                break

    return None


def _with_tag(headers: Headers, size: int) -> list[tuple[str, str]]:
    """The headers of a page that is longer than the app knows."""
    length = headers.get("Content-Length", type=int)

    if length is not None:
        headers["Content-Length"] = str(length + size)

    # They stand for the page without it.
    del headers["ETag"]
    del headers["Last-Modified"]
    return headers.to_wsgi_list()


def page_directories(app: Flask) -> list[str]:
    """The real paths of the directories that an app's templates and static files are
    in, without those of libraries.
    """
    places = (app, *app.blueprints.values())
    loaders = [place.jinja_loader for place in places]

    # Asking for it would create it, and the app may not have all its options yet.
    if "jinja_env" in vars(app):
        loaders.append(app.jinja_env.loader)

    templates = {path for loader in loaders for path in _search_path(loader)}
    return sorted(
        {
            *static_directories(app),
            *(os.path.realpath(path) for path in templates if not is_library(path)),
        }
    )


def static_directories(app: Flask) -> list[str]:
    """The real paths of the directories that an app's static files are in, without
    those of libraries.
    """
    folders = {place.static_folder for place in (app, *app.blueprints.values())}
    return sorted(
        os.path.realpath(path) for path in folders if path and not is_library(path)
    )


def _search_path(loader: t.Any) -> t.Iterator[str]:
    """Where a loader of Jinja's, or those in it, look for templates."""
    yield from map(os.fspath, getattr(loader, "searchpath", ()))

    inner = getattr(loader, "loaders", None) or getattr(loader, "mapping", {}).values()

    for each in inner:
        yield from _search_path(each)
