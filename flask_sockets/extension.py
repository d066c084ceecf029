"""The extension: ``sockets = Sockets(app)``, ``@sockets.route("/echo")``."""

from __future__ import annotations

import typing as t
import weakref

from flask import current_app, has_app_context

from . import client_module
from .handshake import subprotocol_names
from .install import answer_plain_requests, install_middleware, install_test_client
from .limits import Limits
from .options import RouteOptions
from .routing import (
    AppSockets,
    SocketMap,
    default_endpoint,
    handler_and_options,
    refuse_async,
)
from .serving.async_views import run_in_threads
from .topics.broker_setting import import_broker
from .topics.rules import DEFAULT_TTL, Declaration, TopicOptions

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint, Flask
    from werkzeug.routing import Rule

    from .topics.app import AppTopics
    from .topics.publication import Message, Publication

F = t.TypeVar("F", bound="Callable[..., t.Any]")

#: What can be set in the config of an app.
DEFAULT_CONFIG: dict[str, t.Any] = {
    # Which sites' pages may connect. None for the app's own pages, "*" for all, or
    # origins and patterns such as "https://*.example.com".
    "SOCKETS_ALLOWED_ORIGINS": None,
    # Bytes of one message. None sets no limit.
    "SOCKETS_MAX_MESSAGE_SIZE": 1024 * 1024,
    # Fragments of one message, of which even empty ones take time. None sets no limit.
    "SOCKETS_MAX_FRAGMENTS": 2**17,
    # Bytes that are read ahead of a handler that doesn't receive.
    "SOCKETS_MAX_READ_AHEAD": 1024 * 1024,
    # Whether messages are compressed, if the client can do that. It takes memory for
    # each connection, and processor time for each message.
    "SOCKETS_COMPRESSION": False,
    # Seconds between two pings. None sends no pings.
    "SOCKETS_PING_INTERVAL": 25.0,
    # Seconds that an answer to a ping may take. None waits forever.
    "SOCKETS_PING_TIMEOUT": 25.0,
    # What brings publications to all processes. "memory://" knows this one only.
    "SOCKETS_BROKER": "memory://",
    # What the names of all keys and channels begin with that a broker uses.
    "SOCKETS_PREFIX": "sockets",
    # Bytes that may wait for a client that reads too slowly for its topics.
    "SOCKETS_MAX_OUTBOX": 1024 * 1024,
    # How many topics a WebSocket may be subscribed to.
    "SOCKETS_MAX_TOPICS": 128,
    # WebSockets to this process: more get a 503. None sets no limit, here and below.
    "SOCKETS_MAX_CONNECTIONS": None,
    # WebSockets to this process from one address.
    "SOCKETS_MAX_CONNECTIONS_PER_ADDRESS": None,
    # Messages from each client, such as "20/second" or "20/second, burst 50".
    "SOCKETS_MAX_MESSAGE_RATE": None,
    # Seconds without a message in either direction.
    "SOCKETS_IDLE_TIMEOUT": None,
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

        :raises ValueError: if a limit in the app's config can't be.
        :raises ImportError: if a package is missing that the broker in the app's config
            needs.
        """
        if "sockets" not in app.extensions:
            app.extensions["sockets"] = AppSockets(app)

            for name, value in DEFAULT_CONFIG.items():
                app.config.setdefault(name, value)

            Limits.from_config(app.config)  # A mistake is found now.
            import_broker(app.config["SOCKETS_BROKER"])
            answer_plain_requests(app)
            install_middleware(app)
            install_test_client(app)
            app.url_build_error_handlers.append(client_module.build_url)
            run_in_threads(app)

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
        :param context: ``"connection"`` for a context that lasts until the function
            returns, or ``"message"`` for a new one whenever it has called
            :meth:`.WebSocket.receive` or :meth:`~.WebSocket.wait_closed`, or has asked
            for the next message in a loop. The request and the session stay. Teardown
            functions run before it waits, and :data:`flask.g` is empty afterwards.
        :param max_connections: how many WebSockets of this route a process serves, as
            the config ``SOCKETS_MAX_CONNECTIONS`` says it of all routes.
        :param max_connections_per_address: how many of these from one address.
        :param max_message_rate: instead of the config ``SOCKETS_MAX_MESSAGE_RATE``.
        :param idle_timeout: instead of the config ``SOCKETS_IDLE_TIMEOUT``.
        :param options: what else :class:`werkzeug.routing.Rule` takes.
        :raises TypeError: if the function is declared ``async def``.
        :raises ValueError: if an option can't be, or a subprotocol has a name that it
            can't have.

        .. versionchanged:: 1.0
            Added ``subprotocols``, ``context`` and the limits.
        """

        def decorator(f: F) -> F:
            endpoint = options.pop("endpoint", None)
            self.add_url_rule(rule, endpoint, f, **options)
            return f

        return decorator

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Callable[..., t.Any] | None = None,
        **options: t.Any,
    ) -> None:
        """Do what the decorator :meth:`route` does.

        :raises TypeError: if there is no function.
        """
        if view_func is None:
            raise TypeError(f"The WebSocket rule {rule!r} has no 'view_func'.")

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

        if "route_options" not in options:
            options["route_options"] = RouteOptions.take_from(rule, options)

        if "subprotocols" in options:
            options["subprotocols"] = subprotocol_names(options["subprotocols"])

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

    # Topics

    def topic(
        self,
        pattern: str,
        *,
        history: int = 0,
        ttl: float = DEFAULT_TTL,
        presence: bool = False,
        overflow: str = "close",
    ) -> Callable[[F], F]:
        """Declare topics, and decorate the function that decides who may subscribe.

        .. code-block:: python

            @sockets.topic("room/<int:number>", history=50)
            def may_enter(number):
                if not g.user.is_member_of(number):
                    abort(403)

        The function is called in the context of the handshake request by
        :meth:`.WebSocket.subscribe`, with the variables of the pattern. It refuses by
        an exception, or by returning ``False``. Without one, called just as
        ``sockets.topic("news", history=10)``, any handler may subscribe any client.

        :param pattern: a rule as of :meth:`route`, but without the first slash. Topics
            that no pattern matches are plain ones, with no options.
        :param history: how many publications are kept for those who come later.
        :param ttl: for how many seconds they are kept.
        :param presence: whether the topic knows its members.
        :param overflow: what becomes of a socket whose client reads so slowly that its
            outbox (see the config ``SOCKETS_MAX_OUTBOX``) is full. ``"close"`` closes
            it with 1013, ``"drop"`` loses what is new, with ``"latest"`` it gets the
            newest publication when it has caught up.
        :raises ValueError: if an option, or the pattern, can't be.
        :raises TypeError: if an option has the wrong type, or the function is declared
            ``async def``.

        .. versionadded:: 1.0
        """
        declaration = Declaration(TopicOptions(history, ttl, presence, overflow))
        self._register(
            lambda app_sockets: app_sockets.topics.declare(
                pattern, declaration, self.url_map.converters
            )
        )

        def decorator(f: F) -> F:
            refuse_async(f)
            declaration.authorizer = f
            return f

        return decorator

    def publish(self, topic: str, message: Message) -> None:
        """Send a message to all WebSockets that are subscribed to a topic.

        Call it from anywhere: a view, a handler, another greenlet or thread, a shell.
        Nobody is waited for, but if very much is published at once this waits until it
        is on its way.

        :param topic: its name.
        :param message: ``str`` is sent as text, ``bytes`` as binary.
        :raises ValueError: if there can't be a topic of such a name, if the message is
            larger than the config ``SOCKETS_MAX_OUTBOX``, or if UTF-8 has no form for
            it.
        :raises TypeError: if the name or the message has the wrong type.
        :raises BrokerUnavailable: if the broker can't be reached.
        :raises RuntimeError: if there is no app context, and not exactly one app.

        .. versionadded:: 1.0
        """
        self._topics().publish(topic, message)

    def publish_json(self, topic: str, value: t.Any) -> None:
        """Send a value as JSON. It is encoded once, however many subscribers there are.

        :raises TypeError: if JSON has no form for the value.

        What else is raised is that of :meth:`publish`.

        .. versionadded:: 1.0
        """
        self._topics().publish_json(topic, value)

    def history(self, topic: str, limit: int = 100) -> list[Publication]:
        """The last publications of a topic with history, the oldest first.

        :param limit: how many to read at most.
        :raises ValueError: if the topic has no history.

        What else is raised is that of :meth:`publish`.

        .. versionadded:: 1.0
        """
        return self._topics().history(topic, limit)

    def presence(self, topic: str, limit: int = 1000) -> dict[str, t.Any]:
        """The members of a topic with presence, in all processes, and the info that
        each came with.

        :param limit: how many to list at most.
        :raises ValueError: if the topic knows no members.

        What else is raised is that of :meth:`publish`.

        .. versionadded:: 1.0
        """
        return self._topics().presence(topic, limit)

    def disconnect(self, topic: str, code: int = 1000, reason: str = "") -> None:
        """Close all WebSockets that are subscribed to a topic, in all processes.

        With a topic for each user, such as ``"user/7"``, that logs a user out
        everywhere.

        :param code: as for :meth:`.WebSocket.close`. The default tells reconnecting
            clients to stay away.
        :param reason: up to 123 bytes of UTF-8.
        :raises ValueError: if the code can't be sent, or the reason is too long.

        What else is raised is that of :meth:`publish`.

        .. versionadded:: 1.0
        """
        self._topics().disconnect(topic, code, reason)

    def stats(self) -> dict[str, int]:
        """What was counted for the app in this process.

        ``sockets``, ``topics`` and ``subscriptions`` are those that there are now.
        Since the start, ``published`` counts what this process has published,
        ``delivered`` what sockets were given, ``dropped`` what they weren't as they
        were too slow, and ``closed_as_slow`` those that were closed for that.

        :raises RuntimeError: as :meth:`publish` does.

        .. versionadded:: 1.0
        """
        return self._topics().stats()

    def _topics(self) -> AppTopics:
        """The topics of the current app, or of the only one."""
        if has_app_context():
            app = t.cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined]

            if app in self._apps:
                return t.cast("AppTopics", app.extensions["sockets"].topics)

            raise RuntimeError(
                f"This 'Sockets' doesn't know the current app, {app.name!r}. Call"
                " 'sockets.init_app(app)' where the app is made."
            )

        apps = list(self._apps)

        if len(apps) == 1:
            return t.cast("AppTopics", apps[0].extensions["sockets"].topics)

        if not apps:
            raise RuntimeError(
                "There is no app yet. Call 'sockets.init_app(app)' where it is made."
            )

        raise RuntimeError(
            f"There are {len(apps)} apps, and no app context says which one is meant."
            " Do this in 'with app.app_context():'."
        )

    def _register(self, register: Callable[[AppSockets], None]) -> None:
        for app in list(self._apps):
            register(app.extensions["sockets"])

        self._registrations.append(register)
