"""The extension: ``sockets = Sockets(app)``, ``@sockets.route("/echo")``."""

from __future__ import annotations

import functools
import types
import typing as t
import weakref

from . import _flask
from .dispatch import SocketMiddleware
from .handshake import UpgradeRequired, is_handshake
from .routing import (
    AppSockets,
    SocketMap,
    default_endpoint,
    handler_and_options,
    refuse_async,
)

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint, Flask
    from flask.testing import FlaskClient
    from flask.typing import ResponseReturnValue
    from werkzeug.exceptions import HTTPException
    from werkzeug.routing import Rule

F = t.TypeVar("F", bound="Callable[..., t.Any]")

#: What can be set in the config of an app.
DEFAULT_CONFIG: dict[str, t.Any] = {
    # Which sites' pages may connect. None for the app's own pages, "*" for all, or
    # origins and patterns such as "https://*.example.com".
    "SOCKETS_ALLOWED_ORIGINS": None,
    # Bytes. None sets no limit.
    "SOCKETS_MAX_MESSAGE_SIZE": 16 * 1024 * 1024,
    # Of one message. None sets no limit. Even empty fragments take time.
    "SOCKETS_MAX_FRAGMENTS": 2**17,
    # Bytes that are read ahead of a handler that doesn't receive.
    "SOCKETS_MAX_READ_AHEAD": 1024 * 1024,
    # Whether messages are compressed, if the client can do that. It takes memory for
    # each connection, and processor time for each message.
    "SOCKETS_COMPRESSION": False,
    # Seconds. None sends no pings.
    "SOCKETS_PING_INTERVAL": 25.0,
    # Seconds. None waits forever.
    "SOCKETS_PING_TIMEOUT": 25.0,
}


class Sockets:
    """WebSocket routes for Flask apps.

    .. code-block:: python

        app = Flask(__name__)
        sockets = Sockets(app)

        @sockets.route("/echo")
        def echo(ws):
            for message in ws:
                ws.send(message)

    :param app: the app to serve, unless :meth:`init_app` is called for it.
    """

    def __init__(self, app: Flask | None = None) -> None:
        #: Add your own URL converters to ``url_map.converters``, before the routes
        #: that use them. The converters of the app can be used as well. Rules that
        #: are added here, whose endpoints are functions, go to the map of each app.
        self.url_map = SocketMap(self._add_rule_of_map)
        #: The blueprints registered here, by name.
        self.blueprints: dict[str, Blueprint] = {}
        # What was registered, for each app that comes later.
        self._registrations: list[Callable[[AppSockets], None]] = []
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Serve the WebSocket routes of an app, those registered later as well.

        May be called for several apps.
        """
        if "sockets" not in app.extensions:
            app.extensions["sockets"] = AppSockets(app)
            for name, value in DEFAULT_CONFIG.items():
                app.config.setdefault(name, value)
            _answer_plain_requests(app)
            _install_middleware(app)
            _install_test_client(app)
        if app in self._apps:
            return
        self._apps.add(app)
        for register in self._registrations:
            register(app.extensions["sockets"])

    def route(self, rule: str, **options: t.Any) -> Callable[[F], F]:
        """Decorate a function to handle the WebSockets of a URL.

        It is called with the :class:`~flask_sockets.WebSocket` and the variables of
        the URL, in the context of the handshake request.

        :param rule: the URL, as for :meth:`flask.Flask.route`.
        :param endpoint: a name for ``url_for``. By default that of the function.
        :param subprotocols: one that the handler speaks, or several, the best first.
        :param options: what else :class:`werkzeug.routing.Rule` takes.
        :raises TypeError: if the function is declared ``async def``.
        :raises ValueError: if a subprotocol has a name that it can't have.
        """

        def decorator(f: F) -> F:
            endpoint = options.pop("endpoint", None)
            self.add_url_rule(rule, endpoint, f, **options)
            return f

        return decorator

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None,
        view_func: Callable[..., t.Any],
        **options: t.Any,
    ) -> None:
        """Do what the decorator :meth:`route` does."""
        self._add_rule(rule, endpoint, view_func, **options)

    def _add_rule_of_map(self, rule: Rule) -> None:
        view_func, options = handler_and_options(rule)
        # Not 'add_url_rule': there are apps that replace it by a function of their own,
        # which adds a rule to the map.
        self._add_rule(rule.rule, None, view_func, **options)

    def _add_rule(
        self,
        rule: str,
        endpoint: str | None,
        view_func: Callable[..., t.Any],
        **options: t.Any,
    ) -> None:
        refuse_async(view_func)
        self._register(
            lambda app_sockets: app_sockets.add_socket_rule(
                rule,
                endpoint or default_endpoint(view_func),
                view_func,
                self.url_map.converters,
                **options,
            )
        )

    def register_blueprint(self, blueprint: Blueprint, **options: t.Any) -> None:
        """Register a blueprint whose routes are WebSockets.

        Its handlers are called with the :class:`~flask_sockets.WebSocket` first. Its
        hooks and error handlers apply to its own routes, even if the app has another
        blueprint of the same name.

        :param options: those of :meth:`flask.Flask.register_blueprint`, such as
            ``url_prefix``, ``subdomain`` and ``name``.
        """

        def register(app_sockets: AppSockets) -> None:
            registered = app_sockets.register_blueprint(
                blueprint, self.url_map.converters, **options
            )
            self.blueprints.update(registered)

        self._register(register)
        self.blueprints.setdefault(options.get("name", blueprint.name), blueprint)

    def _register(self, register: Callable[[AppSockets], None]) -> None:
        for app in list(self._apps):
            register(app.extensions["sockets"])
        self._registrations.append(register)


def _answer_plain_requests(app: Flask) -> None:
    """Answer plain HTTP to a WebSocket URL with 426 instead of Werkzeug's 400."""
    from flask import request
    from werkzeug.routing.exceptions import WebsocketMismatch

    @app.errorhandler(WebsocketMismatch)
    def upgrade_required(
        error: WebsocketMismatch,
    ) -> HTTPException | ResponseReturnValue:
        if is_handshake(request.environ):  # It is the other way round.
            return error
        # The app may have an error handler for this.
        return _flask.handle_http_exception(_flask.current_context(), UpgradeRequired())


def _install_test_client(app: Flask) -> None:
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


def _install_middleware(app: Flask) -> None:
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
