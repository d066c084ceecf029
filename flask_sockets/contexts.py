"""The contexts of a handler: one for the whole connection, or one for each message.

What Flask and its extensions release at the end of a request, such as a connection of
the database, a handler that runs for hours would keep for hours. With a context for
each message it is released before the handler waits for the next one.
"""

from __future__ import annotations

import enum
import typing as t

from . import _flask

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from .websocket import WebSocket


class Scope(enum.Enum):
    """How long the context of a handler lasts."""

    #: Until the handler returns.
    CONNECTION = "connection"
    #: Until the handler waits for its client.
    MESSAGE = "message"


class Pauses:
    """What is done when a handler begins to wait for its client, and when it goes on.

    It concerns the greenlet or thread of the handler. Others that use the WebSocket
    have contexts of their own, or none.

    :param identify: tells apart the greenlets or threads that run handlers.
    """

    def __init__(self, identify: Callable[[], int]) -> None:
        self._identify = identify
        self._handler = identify()
        #: Called, in this order, before the handler waits.
        self.before: list[Callable[[], None]] = []
        #: Called, in this order, when it goes on.
        self.after: list[Callable[[], None]] = []

    def begin(self) -> None:
        """A greenlet or thread is about to wait."""
        if self._identify() == self._handler:
            for function in self.before:
                function()

    def end(self) -> None:
        """The same greenlet or thread goes on."""
        if self._identify() == self._handler:
            for function in self.after:
                function()


def pauses_of(websocket: WebSocket) -> Pauses:
    """The pauses of the handler that begins in this greenlet or thread."""
    if websocket.pauses is None:
        websocket.pauses = Pauses(websocket.connection.transport.identify)

    return websocket.pauses


class Holder(t.Protocol):
    """Has a context, and can do without it."""

    def leave_context(self, error: BaseException | None = None) -> None:
        """Let go of it. Teardown functions run, and are told of the error."""

    def enter_context(self) -> None:
        """Get a new one for the same request."""


class MessageContexts:
    """Gives a handler a new context whenever it has waited.

    A handler that waits inside of another context, such as a ``with
    app.app_context():`` of its own, keeps what it has.
    """

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._pushed = _flask.active_contexts()
        self._is_left = False

    def leave(self) -> None:
        """The handler is about to wait."""
        if _flask.active_contexts() == self._pushed:
            self._is_left = True
            self._holder.leave_context()

    def enter(self) -> None:
        """The handler goes on."""
        if self._is_left:
            self._is_left = False
            self._holder.enter_context()
            self._pushed = _flask.active_contexts()
