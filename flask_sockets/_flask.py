"""The only file that knows which Flask it runs on: 3.0, 3.1 or 3.2.

Flask 3.2 has merged its two kinds of context. Since then the methods of an app take
the context of the request as their first argument, and what knew the context by itself
is deprecated. Everything else in the package calls these functions, which are the same
for all versions.
"""

from __future__ import annotations

import typing as t

from flask import Flask
from flask.ctx import AppContext
from flask.globals import app_ctx

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask import Request, Response
    from flask.sessions import SessionMixin
    from flask.typing import ResponseReturnValue
    from werkzeug.exceptions import HTTPException
    from werkzeug.local import LocalProxy
    from werkzeug.routing import MapAdapter

    class Context(t.Protocol):
        """The context of a request, ``RequestContext`` before Flask 3.2."""

        @property
        def app(self) -> Flask: ...
        @property
        def request(self) -> Request: ...
        @property
        def session(self) -> SessionMixin | None: ...

        url_adapter: MapAdapter | None

        def copy(self) -> Context: ...
        def push(self) -> None: ...
        def pop(self, exc: BaseException | None = ...) -> None: ...


#: Whether there is one kind of context, and methods take it.
_HAS_ONE_CONTEXT = hasattr(AppContext, "has_request")


def request_context(app: Flask, environ: WSGIEnvironment) -> Context:
    """The context for a request, which still has to be pushed."""
    return t.cast("Context", app.request_context(environ))


def current_context() -> Context:
    """The context of the request that is being handled.

    :raises RuntimeError: if there is none.
    """
    if _HAS_ONE_CONTEXT:
        return _behind(app_ctx)  # type: ignore[no-any-return]

    from flask.globals import request_ctx

    return _behind(request_ctx)  # type: ignore[no-any-return]


def active_contexts() -> tuple[t.Any, ...]:
    """What makes up the innermost context: an app context and that of a request, where
    they are two. They can be compared."""
    if _HAS_ONE_CONTEXT:
        return (_behind(app_ctx),)

    from flask.globals import request_ctx

    return _behind(app_ctx), _behind(request_ctx)


def push_copy(context: Context) -> Context:
    """Push a new context for the same request and session.

    The URL was matched for the first one. Doing so again would be of no use, and
    converters may ask a database.
    """
    copy = context.copy()
    copy.url_adapter = None
    copy.push()
    copy.url_adapter = context.url_adapter
    return copy


def _behind(proxy: t.Any) -> t.Any:
    """What a proxy of Flask's stands for."""
    return t.cast("LocalProxy[t.Any]", proxy)._get_current_object()


def _call(context: Context, name: str, *args: t.Any) -> t.Any:
    method = getattr(context.app, name)
    return method(context, *args) if _HAS_ONE_CONTEXT else method(*args)


def preprocess_request(context: Context) -> ResponseReturnValue | None:
    return _call(context, "preprocess_request")  # type: ignore[no-any-return]


def dispatch_request(context: Context) -> ResponseReturnValue:
    return _call(context, "dispatch_request")  # type: ignore[no-any-return]


def process_response(context: Context, response: Response) -> Response:
    # Called below a handler, where the stack of a greenlet gets as large as it ever is.
    # With another call in between it would often take one more page, of 4 KiB, which a
    # connection then keeps.
    process: t.Any = context.app.process_response
    response = process(context, response) if _HAS_ONE_CONTEXT else process(response)
    return response


def finalize_request(context: Context, rv: ResponseReturnValue) -> Response:
    return _call(context, "finalize_request", rv)  # type: ignore[no-any-return]


def handle_http_exception(
    context: Context, error: HTTPException
) -> HTTPException | ResponseReturnValue:
    return _call(context, "handle_http_exception", error)  # type: ignore[no-any-return]


def handle_user_exception(
    context: Context, error: Exception
) -> HTTPException | ResponseReturnValue:
    return _call(context, "handle_user_exception", error)  # type: ignore[no-any-return]


def handle_exception(context: Context, error: Exception) -> Response:
    return _call(context, "handle_exception", error)  # type: ignore[no-any-return]


def log_exception(context: Context, error: Exception) -> None:
    _call(context, "log_exception", (type(error), error, error.__traceback__))


def should_ignore_error(app: Flask, error: BaseException | None) -> bool:
    """Whether teardown functions are told nothing of an error.

    The method is ``None`` since Flask 3.2, unless an app still has one.
    """
    method = t.cast("t.Callable[..., bool] | None", app.should_ignore_error)
    return error is not None and method is not None and method(error)


def preserve_context(context: Context) -> None:
    """Keep the context for Werkzeug's debugger, or for a test client.

    Either asks for that in the environment of the request.
    """
    preserve = context.request.environ.get("werkzeug.debug.preserve_context")

    if preserve is None:
        return

    if not _HAS_ONE_CONTEXT:
        preserve(_behind(app_ctx))

    preserve(context)


def mark_first_request(app: Flask) -> None:
    """Let the app know that it is serving, so that it refuses changes of its setup.

    Flask has no public way to say that. It does this at the beginning of
    ``full_dispatch_request``, which can't be called for a WebSocket: it ends with a
    response.
    """
    app._got_first_request = True


def check_host(context: Context) -> None:
    """Check the ``Host`` header where Flask hasn't: ``TRUSTED_HOSTS`` is of Flask 3.1.

    :raises werkzeug.exceptions.SecurityError: if the host isn't trusted.
    """
    if "TRUSTED_HOSTS" not in Flask.default_config:
        request = context.request
        trusted = context.app.config.get("TRUSTED_HOSTS")

        if trusted is not None:
            request.trusted_hosts = trusted

        # Werkzeug checks it when it is asked for.
        _ = request.host
