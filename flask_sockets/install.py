"""What becomes of an app by ``init_app``: a middleware, an error handler, a client."""

from __future__ import annotations

import functools
import types
import typing as t

from flask import request
from werkzeug.routing.exceptions import WebsocketMismatch

from . import _flask
from .dispatch import SocketMiddleware
from .handshake import UpgradeRequired, is_handshake

if t.TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient
    from flask.typing import ResponseReturnValue
    from werkzeug.exceptions import HTTPException


def answer_plain_requests(app: Flask) -> None:
    """Answer plain HTTP to a WebSocket URL with 426 instead of Werkzeug's 400."""

    @app.errorhandler(WebsocketMismatch)
    def upgrade_required(
        error: WebsocketMismatch,
    ) -> HTTPException | ResponseReturnValue:
        if is_handshake(request.environ):  # It is the other way round.
            return error

        # The app may have an error handler for this.
        return _flask.handle_http_exception(_flask.current_context(), UpgradeRequired())


def install_test_client(app: Flask) -> None:
    """Give the app's test client a method ``websocket``.

    That is done when a test asks for a client: the app's class may be set later, and
    an app that is served needn't wait for the import.
    """
    make_client = app.test_client

    @functools.wraps(make_client)
    def test_client(*args: t.Any, **kwargs: t.Any) -> FlaskClient:
        from .testing import socket_client_class

        app.test_client_class = socket_client_class(app.test_client_class)
        return make_client(*args, **kwargs)

    app.test_client = test_client  # type: ignore[method-assign]


def install_middleware(app: Flask) -> None:
    """Put the middleware right around the app's own ``wsgi_app``.

    Middleware such as ProxyFix may have been put around it before. It has to see
    WebSocket requests first. Where its inside can't be found, ours goes around it.
    """
    own = types.MethodType(type(app).wsgi_app, app)
    holder: t.Any = app
    name: str | None = "wsgi_app"

    while name is not None and (wrapped := getattr(holder, name)) != own:
        attributes = ("wsgi_app", "app", "application")
        holder = wrapped
        name = next((n for n in attributes if hasattr(holder, n)), None)

        if holder is app:  # Middleware that holds the app besides what it wraps.
            name = None

    if name is None:
        holder, name = app, "wsgi_app"

    middleware = SocketMiddleware(getattr(holder, name), app)
    # The method, not the object: Python calls an object by way of C, and every
    # greenlet that waits below has a copy of its C stack in memory.
    setattr(holder, name, middleware.__call__)
