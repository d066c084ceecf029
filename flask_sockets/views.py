"""Handlers as classes, whose methods are called for each message."""

from __future__ import annotations

import functools
import typing as t

from flask import request

from .routing import refuse_async

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from .websocket import WebSocket

#: Where the environment of a handshake has what calls a view, while its handler runs.
SERVE_VIEW_KEY = "flask_sockets.serve_view"


class WebSocketView:
    """A handler as a class, the counterpart of :class:`flask.views.View`.

    .. code-block:: python

        class Chat(WebSocketView):
            def on_open(self, ws, room):
                self.room = room

            def on_message(self, ws, message):
                sockets.publish(f"chat/{self.room}", message)

        sockets.add_url_rule("/chat/<room>", view_func=Chat.as_view("chat"))

    Each method is called in an app context of its own, in which the request and the
    session of the handshake are there as well. After each call the teardown functions
    run: the connection of a database goes back to its pool before the next message is
    waited for. :data:`flask.g` begins empty, so that Flask-Login's ``current_user`` is
    looked up again. The context of :meth:`on_open` is that of the handshake, in which
    the ``before_request`` functions have run.

    .. versionadded:: 1.0
    """

    #: Decorators for the view function, as of :class:`flask.views.View`: the last one
    #: is the outermost. They run once, in the handshake. What has to hold for each
    #: message, such as that a user is let in, is for a decorator of :meth:`on_message`.
    decorators: t.ClassVar[list[Callable[..., t.Any]]] = []

    #: Whether each connection has an instance of its own, where a method may keep
    #: something for those that are called later. If not, all share one.
    init_every_request: t.ClassVar[bool] = True

    def on_open(self, ws: WebSocket, *args: t.Any, **url_variables: t.Any) -> t.Any:
        """Called first, with the variables of the URL.

        The handshake can still be answered with HTTP, by an exception such as that of
        :func:`flask.abort`, or by a returned response. Otherwise the connection is
        accepted when this returns.

        :param ws: the WebSocket.
        """

    def on_message(self, ws: WebSocket, message: t.Any) -> None:
        """Called with each message.

        An exception that this raises ends the connection, as one of a handler that is
        a function does: with 1008 if it is an HTTP error, with 1011 otherwise.

        :param message: ``str`` if it is a text message, ``bytes`` if it is binary.
        """

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        """Called once when an accepted connection is closed, whoever closed it.

        :param code: the close code, as :attr:`.WebSocket.close_code`.
        :param reason: the text that went with it.
        """

    @classmethod
    def as_view(
        cls, name: str, *class_args: t.Any, **class_kwargs: t.Any
    ) -> Callable[..., t.Any]:
        """Make a function that can be registered as a handler.

        :param name: its name, which is the endpoint unless another is given.
        :param class_args: what instances are made with.
        :raises TypeError: if a method is declared ``async def``.
        """
        for method in (cls.on_open, cls.on_message, cls.on_close):
            refuse_async(method)

        make = functools.partial(cls, *class_args, **class_kwargs)
        shared = None if cls.init_every_request else make()

        def view(ws: WebSocket, **url_variables: t.Any) -> t.Any:
            instance = make() if shared is None else shared
            return request.environ[SERVE_VIEW_KEY](instance, url_variables)

        view.view_class = cls  # type: ignore[attr-defined]
        view.__name__ = name
        view.__doc__ = cls.__doc__
        view.__module__ = cls.__module__

        for decorator in cls.decorators:
            view = decorator(view)

        return view
