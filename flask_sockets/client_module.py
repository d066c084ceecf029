"""The browser's side, ``static/flask-sockets.js``, as the app serves it to its pages.

The app's own URL map has no rule for the module, so that neither its blueprints and
hooks nor what lists its routes meet something that isn't theirs.
"""

from __future__ import annotations

import functools
import hashlib
import typing as t
from pathlib import Path

from werkzeug.routing import BuildError, Map, Rule
from werkzeug.wrappers import Request, Response

if t.TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

ENDPOINT = "sockets.client"

#: What its path begins with. The rest is its version.
PREFIX = "/flask-sockets-"

#: Seconds: the longest time that caches know.
FOREVER = 365 * 24 * 60 * 60


class Module(t.NamedTuple):
    """The module and where it is served."""

    content: bytes
    path: str


@functools.cache
def read_module() -> Module:
    """Read the module. It has another path when its content is another."""
    content = (
        Path(__file__).with_name("static").joinpath("flask-sockets.js").read_bytes()
    )
    version = hashlib.sha256(content).hexdigest()[:8]
    return Module(content, f"{PREFIX}{version}.js")


@functools.cache
def read_map() -> Map:
    """A URL map for the module alone."""
    return Map([Rule(read_module().path, endpoint=ENDPOINT)])


def build_url(error: Exception, endpoint: str, values: dict[str, t.Any]) -> str:
    """Build ``url_for("sockets.client")``, where the app has nothing of that name."""
    if endpoint != ENDPOINT or not isinstance(error, BuildError) or not error.adapter:
        raise error

    adapter = read_map().bind(
        error.adapter.server_name,
        error.adapter.script_name,
        url_scheme=error.adapter.url_scheme,
    )
    return adapter.build(
        ENDPOINT, url_scheme=values["_scheme"], force_external=values["_external"]
    )


def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request for the module.

    A page may ask for the version of a process that was deployed before or after this
    one. It gets this one, which isn't kept.
    """
    module = read_module()
    response = Response(module.content, mimetype="text/javascript")
    response.add_etag()
    # Modules of other origins are loaded with CORS only, and this one is no secret.
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["X-Content-Type-Options"] = "nosniff"

    if environ["PATH_INFO"] == module.path:
        response.cache_control.public = True
        response.cache_control.max_age = FOREVER
        response.cache_control.immutable = True
    else:
        response.cache_control.no_cache = True

    response.make_conditional(Request(environ))
    return response(environ, start_response)


def is_wanted(environ: WSGIEnvironment) -> bool:
    """Tell whether a request is for the module."""
    path: str = environ.get("PATH_INFO", "")
    return (
        path.startswith(PREFIX)
        and path.endswith(".js")
        and environ["REQUEST_METHOD"] in ("GET", "HEAD")
    )
