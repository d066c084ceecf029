"""WebSocket rules in an app's URL map, and blueprints that make them."""

from __future__ import annotations

import functools
import inspect
import typing as t
from collections.abc import MutableMapping

from flask import Flask, Request
from flask.blueprints import Blueprint
from werkzeug.routing import BaseConverter, Map, Rule

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    ViewFunc: t.TypeAlias = Callable[..., t.Any]

V = t.TypeVar("V")


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
        subprotocols: Iterable[str] = (),
        converters: Mapping[str, type[BaseConverter]] | None = None,
        scopes: list[str] | None = None,
        **options: t.Any,
    ) -> None:
        # Every handshake is a GET (RFC 6455 section 4.1).
        options.update(methods=["GET"], websocket=True)
        super().__init__(string, **options)
        self.view_func = view_func
        self.subprotocols = tuple(subprotocols)
        self.converters = converters or {}
        #: Under which names the app has the hooks of the rule's blueprints, the
        #: innermost one first. ``None`` if the endpoint says it.
        self.scopes = scopes

    def get_empty_kwargs(self) -> dict[str, t.Any]:
        return {
            **super().get_empty_kwargs(),
            "view_func": self.view_func,
            "subprotocols": self.subprotocols,
            "converters": self.converters,
            "scopes": self.scopes,
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


def scope_name(blueprint_name: str) -> str:
    """Under which name an app has the hooks of a blueprint registered on sockets.

    The app may have registered another blueprint under the same name.
    """
    return f"sockets:{blueprint_name}"


@functools.cache
def scoped_request_class(request_class: type[Request]) -> type[Request]:
    """A request class that finds the hooks of the blueprint a WebSocket rule is of."""

    class ScopedRequest(request_class):  # type: ignore[misc, valid-type]
        @property
        def blueprints(self) -> list[str]:
            scopes = getattr(self.url_rule, "scopes", None)
            return t.cast("list[str]", super().blueprints if scopes is None else scopes)

    ScopedRequest.__name__ = request_class.__name__
    ScopedRequest.__qualname__ = request_class.__qualname__
    return ScopedRequest


class _ScopedRegistry(MutableMapping["str | None", V]):
    """One of an app's registries of hooks, with blueprint names made unambiguous."""

    def __init__(self, registry: MutableMapping[str | None, V]) -> None:
        self._registry = registry

    def _key(self, name: str | None) -> str | None:
        return None if name is None else scope_name(name)

    def __getitem__(self, name: str | None) -> V:
        return self._registry[self._key(name)]

    def __setitem__(self, name: str | None, value: V) -> None:
        self._registry[self._key(name)] = value

    def __delitem__(self, name: str | None) -> None:
        del self._registry[self._key(name)]

    def __iter__(self) -> Iterator[str | None]:
        return iter(self._registry)

    def __len__(self) -> int:
        return len(self._registry)


class AppSockets:
    """The WebSocket side of one app: blueprints register on it as on the app itself.

    Rules become WebSocket rules, the hooks of a blueprint are kept apart from those
    of a blueprint of the app that has the same name. All else is the app's.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self.blueprints: dict[str, Blueprint] = {}
        self.error_handler_spec = _ScopedRegistry(app.error_handler_spec)
        self.before_request_funcs = _ScopedRegistry(app.before_request_funcs)
        self.after_request_funcs = _ScopedRegistry(app.after_request_funcs)
        self.teardown_request_funcs = _ScopedRegistry(app.teardown_request_funcs)
        self.url_value_preprocessors = _ScopedRegistry(app.url_value_preprocessors)
        self.template_context_processors = _ScopedRegistry(
            app.template_context_processors
        )
        self._converters: Mapping[str, type[BaseConverter]] = {}

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._app, name)

    def register_blueprint(
        self,
        blueprint: Blueprint,
        converters: Mapping[str, type[BaseConverter]],
        **options: t.Any,
    ) -> None:
        """Register a blueprint and those nested in it, as Flask does."""
        self._converters = converters
        # A blueprint asks for nothing of the app that isn't here.
        blueprint.register(t.cast(Flask, self), options)
        # For the templates of blueprints.
        for name, registered in self.blueprints.items():
            self._app.blueprints.setdefault(scope_name(name), registered)

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: ViewFunc | None = None,
        provide_automatic_options: bool | None = None,
        **options: t.Any,
    ) -> None:
        """Called by blueprints, with endpoint names that begin with their own."""
        if view_func is None or endpoint is None:
            raise TypeError(f"The rule {rule!r} of a blueprint has no view function.")
        blueprint_name = endpoint.rpartition(".")[0]
        blueprint = self.blueprints.get(blueprint_name)
        if blueprint is not None and view_func == blueprint.send_static_file:
            # Files are for HTTP.
            self._app.add_url_rule(rule, endpoint, view_func, **options)
            return
        names = [blueprint_name]
        while "." in names[-1]:
            names.append(names[-1].rpartition(".")[0])
        self.add_socket_rule(
            rule,
            endpoint,
            view_func,
            self._converters,
            scopes=[scope_name(name) for name in names],
            **options,
        )

    def add_socket_rule(
        self,
        rule: str,
        endpoint: str | None,
        view_func: ViewFunc,
        converters: Mapping[str, type[BaseConverter]],
        **options: t.Any,
    ) -> None:
        """Add a rule to the app's URL map."""
        refuse_async(view_func)
        # 0.2.1 took these and made nothing of them.
        for name in ("methods", "websocket", "provide_automatic_options"):
            options.pop(name, None)
        self._app.url_map.add(
            SocketRule(
                rule,
                endpoint=endpoint or default_endpoint(view_func),
                view_func=view_func,
                converters=converters,
                **options,
            )
        )
