"""WebSocket rules in an app's URL map, and blueprints that make them."""

from __future__ import annotations

import copy
import functools
import inspect
import typing as t

from flask import Flask, Request, request
from werkzeug.routing import BaseConverter, Map, Rule

from .admission import Admission
from .handshake import UpgradeRequired, subprotocol_names
from .options import RouteOptions
from .topics.app import AppTopics

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flask.blueprints import Blueprint
    from werkzeug.routing import RuleFactory

    ViewFunc: t.TypeAlias = Callable[..., t.Any]

#: What the names of blueprints that are registered on sockets begin with, where an app
#: keeps their hooks. The app may have another blueprint of the same name.
SCOPE = "sockets:"

#: The endpoint under which an app's ``view_functions`` have a :class:`SocketView` for
#: the rules whose own endpoint has another function there.
DISPATCH_ENDPOINT = "sockets:dispatch"

#: Where the environment of a request has what calls its handler.
CALL_HANDLER_KEY = "flask_sockets.call_handler"


class SocketRule(Rule):
    """A rule with ``websocket=True`` that brings its own view function.

    The app's ``view_functions`` may therefore have another one, for HTTP, under the
    same endpoint.
    """

    def __init__(
        self,
        string: str,
        *,
        view_func: ViewFunc,
        subprotocols: str | Iterable[str] = (),
        converters: Mapping[str, type[BaseConverter]] | None = None,
        scopes: list[str] | None = None,
        route_options: RouteOptions | None = None,
        **options: t.Any,
    ) -> None:
        # Every handshake is a GET (RFC 6455 section 4.1).
        options.update(methods=["GET"], websocket=True)
        super().__init__(string, **options)
        self.view_func = view_func
        self.subprotocols = subprotocol_names(subprotocols)
        self.converters = converters or {}
        #: Under which names the app has the rule's blueprints, the innermost one first.
        #: ``None`` if the endpoint says it.
        self.scopes = scopes
        self.route_options = route_options or RouteOptions()

    def get_empty_kwargs(self) -> dict[str, t.Any]:
        return {
            **super().get_empty_kwargs(),
            "view_func": self.view_func,
            "subprotocols": self.subprotocols,
            "converters": self.converters,
            "scopes": self.scopes,
            "route_options": self.route_options,
        }

    def get_converter(
        self,
        variable_name: str,
        converter_name: str,
        args: tuple[t.Any, ...],
        kwargs: Mapping[str, t.Any],
    ) -> BaseConverter:
        """The converters of ``Sockets.url_map`` apply besides those of the app."""
        own = self.converters.get(converter_name)

        if own is not None and own is not Map.default_converters.get(converter_name):
            return own(self.map, *args, **kwargs)

        return super().get_converter(variable_name, converter_name, args, kwargs)

    def build_compare_key(self) -> tuple[int, int, int]:
        """``url_for`` prefers an HTTP rule of the same endpoint: code that was there
        before the WebSocket goes on getting the URL it got."""
        alias, arguments, defaults = super().build_compare_key()
        return (alias + 2, arguments, defaults)


def default_endpoint(view_func: ViewFunc) -> str:
    """The name of the function, or of what else can be called."""
    return getattr(view_func, "__name__", type(view_func).__name__)


def refuse_async(view_func: ViewFunc) -> None:
    """Refuse a handler that would only make a coroutine, and never run.

    :raises TypeError: if the handler is declared ``async def``.
    """
    function = inspect.unwrap(view_func)

    while isinstance(function, functools.partial):
        function = function.func

    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"The WebSocket handler {default_endpoint(function)!r} is declared with"
            " 'async def'. Handlers run in a greenlet or a thread, where waiting"
            " blocks nobody else: declare it with 'def', and call 'ws.receive()'"
            " without 'await'."
        )


class SocketMap(Map):
    """The map of :class:`~flask_sockets.Sockets`: what is added goes to its apps."""

    def __init__(self, register: Callable[[Rule], None]) -> None:
        super().__init__()
        self._register = register

    def add(self, rulefactory: RuleFactory) -> None:
        """Add a rule whose endpoint is the function that handles it.

        That is how rules were made for Flask-Sockets 0.2.1, and how apps made them
        that had to say ``websocket=True``.

        :raises TypeError: if the endpoint is no function, or one that is declared
            ``async def``.
        """
        for rule in rulefactory.get_rules(self):
            self._register(rule)


def handler_and_options(rule: Rule) -> tuple[ViewFunc, dict[str, t.Any]]:
    """Take a rule for a :class:`SocketMap` apart.

    :raises TypeError: if its endpoint is no function.
    """
    options = {**rule.get_empty_kwargs(), "merge_slashes": rule.merge_slashes}
    view_func = options.pop("endpoint")

    if not callable(view_func):
        raise TypeError(
            f"The endpoint of the rule {rule.rule!r} is {view_func!r}. In the 'url_map'"
            " of 'Sockets' it has to be the function that handles the WebSocket. Use"
            " 'Sockets.add_url_rule()' to give the rule a name besides."
        )

    return view_func, options


class SocketView:
    """What an app's ``view_functions`` have for an endpoint of WebSockets.

    It is called as views are, by :meth:`flask.Flask.dispatch_request`, and calls the
    handler of the rule that was matched. Apps may decorate it as they do with views.

    :param view_func: whose name, docstring and attributes it gets: extensions look at
        them.
    """

    def __init__(self, view_func: ViewFunc) -> None:
        self.__name__ = default_endpoint(view_func)
        functools.update_wrapper(self, view_func)

    def __call__(self, **view_args: t.Any) -> t.Any:
        call_handler = request.environ.get(CALL_HANDLER_KEY)

        if call_handler is None:
            raise UpgradeRequired()

        return call_handler(view_args)

    def __ne__(self, other: object) -> bool:
        # An HTTP view may have the endpoint of a WebSocket, and takes its place here.
        # Flask asks 'old_func != view_func' before it refuses a second function.
        return not callable(other)


def rule_to_dispatch(app: Flask, rule: Rule) -> Rule:
    """Return a rule by whose endpoint Flask finds a :class:`SocketView`.

    That is the rule itself, but for two cases where the app has another function for
    its endpoint: an HTTP view that shares it, or the handler of a rule of the app's
    own, which wants to be called with the WebSocket.
    """
    if isinstance(rule, SocketRule) and all(
        other.websocket for other in app.url_map.iter_rules(rule.endpoint)
    ):
        return rule

    stand_in = copy.copy(rule)
    stand_in.own_endpoint = rule.endpoint  # type: ignore[attr-defined]
    stand_in.endpoint = DISPATCH_ENDPOINT
    return stand_in


@functools.cache
def scoped_request_class(request_class: type[Request]) -> type[Request]:
    """A request class that finds the hooks of the blueprint a WebSocket rule is of."""

    class ScopedRequest(request_class):  # type: ignore[misc, valid-type]
        @property
        def endpoint(self) -> str | None:
            own = getattr(self.url_rule, "own_endpoint", None)
            return t.cast("str | None", super().endpoint if own is None else own)

        @property
        def blueprints(self) -> list[str]:
            scopes = getattr(self.url_rule, "scopes", None)
            return t.cast("list[str]", super().blueprints if scopes is None else scopes)

        @property
        def cookie(self) -> t.Any:
            """The cookies, or ``None``, as 0.2.1 put them here."""
            return self.cookies or None

    ScopedRequest.__name__ = request_class.__name__
    ScopedRequest.__qualname__ = request_class.__qualname__
    return ScopedRequest


class AppSockets:
    """The WebSocket side of one app, which blueprints take for the app itself.

    A blueprint is registered on the app under a name that begins with :data:`SCOPE`,
    which keeps its hooks apart from those of a blueprint of the app that has the same
    name. Its rules become WebSocket rules, whose endpoints begin with the name that
    was asked for. All else is the app's.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._converters: Mapping[str, type[BaseConverter]] = {}
        #: The topics that the app's WebSockets subscribe to.
        self.topics = AppTopics(app)
        #: The rules whose handlers were told that they wait with a database connection
        #: checked out.
        self.told_of_connections: set[str] = set()
        #: How many WebSockets there are.
        self.admission = Admission()

        def dispatch() -> None:
            """Handle a WebSocket."""

        app.view_functions[DISPATCH_ENDPOINT] = SocketView(dispatch)

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._app, name)

    def register_blueprint(
        self,
        blueprint: Blueprint,
        converters: Mapping[str, type[BaseConverter]],
        **options: t.Any,
    ) -> dict[str, Blueprint]:
        """Register a blueprint and those nested in it, as Flask does.

        :return: what was registered, by the names that were asked for.
        """
        app = self._app
        before = set(app.blueprints)
        options["name"] = SCOPE + options.get("name", blueprint.name)
        self._converters = converters
        blueprint.register(t.cast("Flask", self), options)
        registered = {
            scoped.removeprefix(SCOPE): t.cast("Blueprint", nested)
            for scoped, nested in app.blueprints.items()
            if scoped not in before
        }

        for name in registered:
            # 'url_for' and the command line know nothing of requests, and go by the
            # names of endpoints and groups.
            defaults = app.url_default_functions.pop(SCOPE + name, [])
            app.url_default_functions[name].extend(defaults)
            group = app.cli.commands.pop(SCOPE + name, None)

            if group is not None:
                app.cli.add_command(group, name)

        return registered

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: ViewFunc | None = None,
        provide_automatic_options: bool | None = None,
        **options: t.Any,
    ) -> None:
        """Called by blueprints, with endpoints that begin with their scoped names."""
        if view_func is None or endpoint is None:
            raise TypeError(f"The rule {rule!r} of a blueprint has no view function.")

        scope = endpoint.rpartition(".")[0]

        if not scope.startswith(SCOPE):
            # What a blueprint records may add rules to the app.
            self._app.add_url_rule(rule, endpoint, view_func, **options)
            return

        endpoint = endpoint.removeprefix(SCOPE)
        blueprint = t.cast("Blueprint | None", self._app.blueprints.get(scope))

        if blueprint is not None and view_func == blueprint.send_static_file:
            # Files are for HTTP.
            self._app.add_url_rule(rule, endpoint, view_func, **options)
            return

        scopes = [scope]

        while "." in scopes[-1]:
            scopes.append(scopes[-1].rpartition(".")[0])

        self.add_socket_rule(
            rule, endpoint, view_func, self._converters, scopes=scopes, **options
        )

    def add_socket_rule(
        self,
        rule: str,
        endpoint: str | None,
        view_func: ViewFunc,
        converters: Mapping[str, type[BaseConverter]],
        **options: t.Any,
    ) -> None:
        """Add a rule to the app's URL map, and a function to its view functions."""
        refuse_async(view_func)

        # 0.2.1 took these and made nothing of them.
        for name in ("methods", "websocket", "provide_automatic_options"):
            options.pop(name, None)

        if "route_options" not in options:
            options["route_options"] = RouteOptions.take_from(rule, options)

        endpoint = endpoint or default_endpoint(view_func)
        self._app.url_map.add(
            SocketRule(
                rule,
                endpoint=endpoint,
                view_func=view_func,
                converters=converters,
                **options,
            )
        )
        # Extensions look up a function for every rule.
        self._app.view_functions.setdefault(endpoint, SocketView(view_func))
