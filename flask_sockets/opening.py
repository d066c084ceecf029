"""The opening of one WebSocket: how far its handshake has come, and how it is answered.

The dispatcher and the WebSocket both look at this. It is answered once: by the first
use of the WebSocket with *101 Switching Protocols*, or by the dispatcher with HTTP.
"""

from __future__ import annotations

import contextvars
import enum
import time
import typing as t

from . import _flask
from .handshake import build_answer, check_headers, choose_subprotocol
from .serving import handover as servers
from .sessions import SavedSession
from .signals import websocket_opened

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flask.sessions import SessionMixin

    from ._flask import Context
    from .wire.connection import Connection

    Headers: t.TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]


class Handshake(enum.Enum):
    """How far the handshake of a WebSocket has come."""

    #: The WebSocket can be accepted, or the request answered with HTTP.
    PENDING = enum.auto()
    #: The answer 101 is on its way. It is too late for HTTP, and whoever wants to use
    #: the connection waits.
    ACCEPTING = enum.auto()
    ACCEPTED = enum.auto()
    #: The request is answered with HTTP.
    REFUSED = enum.auto()
    #: The server has sent the 101 before the app was asked, as gevent-websocket does.
    FOREIGN = enum.auto()

    @property
    def is_switched(self) -> bool:
        """Whether it is too late for HTTP."""
        return self not in (Handshake.PENDING, Handshake.REFUSED)


_FOREIGN = Handshake.FOREIGN


class AnsweredWithHTTP(Exception):
    """The WebSocket can't be accepted any more."""


class Opening:
    """A handshake that is still to be answered, or was.

    :param connection: what begins with the answer.
    :param is_foreign: whether the server has answered already.
    """

    __slots__ = ("_lock", "connection", "state", "subprotocol")

    def __init__(self, connection: Connection, is_foreign: bool = False) -> None:
        self.connection = connection
        self.state = Handshake.FOREIGN if is_foreign else Handshake.PENDING
        #: The subprotocol agreed on or, before that, the one that is taken if the
        #: handler says nothing else.
        self.subprotocol: str | None = None
        # Two greenlets may be the first to use the connection.
        self._lock = connection.transport.new_lock()

    def accept(self, subprotocol: str | None, headers: Headers | None) -> bool:
        """Answer with 101, unless that is done, and say whether it was now.

        :param subprotocol: the one that the handler has chosen.
        :param headers: more headers for the answer.
        :raises AnsweredWithHTTP: if it is too late.
        :raises ValueError: if there can't be such an answer. It is as before.
        """
        self._lock.acquire()

        try:
            before = self.state

            if before is Handshake.ACCEPTED:
                return False

            if before is Handshake.REFUSED:
                raise AnsweredWithHTTP

            answer = self.make_answer(subprotocol, headers)
            self.state = Handshake.ACCEPTING

            try:
                self.connection.begin(answer)
            except RuntimeError:
                self.state = before
                raise

            self.state = Handshake.ACCEPTED
        finally:
            self._lock.release()

        self.has_opened()
        return True

    def refuse(self) -> bool:
        """Leave the handshake to an HTTP response, unless it is too late for one.

        :return: whether it is left to HTTP.
        """
        self._lock.acquire()

        try:
            if self.state is Handshake.PENDING:
                self.state = Handshake.REFUSED

            return self.state is Handshake.REFUSED
        finally:
            self._lock.release()

    def make_answer(self, subprotocol: str | None, headers: Headers | None) -> bytes:
        """Make the whole answer, and set :attr:`subprotocol`.

        :return: nothing if the server has answered already.
        """
        raise NotImplementedError

    def has_opened(self) -> None:
        """Called once the answer is out. Whatever is called here may use the
        connection."""


class AppOpening(Opening):
    """A handshake that a Flask app answers.

    :param context: of the request, which has been pushed.
    :param connection: what begins with the answer.
    :param handover: what the server has handed over.
    :param extensions: those that were agreed on, as the answer's header says it.
    """

    __slots__ = (
        *("_context", "_extensions", "_handler", "_saved_session", "_variables"),
        "opened_at",
    )

    def __init__(
        self,
        context: Context,
        connection: Connection,
        handover: servers.Handover,
        extensions: str | None,
    ) -> None:
        super().__init__(connection, handover.is_upgraded)
        self._context = context
        self._handler = handover.handler
        self._extensions = extensions
        #: When the answer was sent, in the terms of :func:`time.monotonic`.
        self.opened_at = 0.0
        # The session as it was when it was saved with the answer.
        self._saved_session: SavedSession | None = None
        # The first use of the WebSocket may be in another greenlet or thread, where
        # Flask's context isn't.
        self._variables: contextvars.Context | None = contextvars.copy_context()

        if handover.is_upgraded:
            self._remember_session(())
        else:
            self.subprotocol = self._default_subprotocol()

    def make_answer(self, subprotocol: str | None, headers: Headers | None) -> bytes:
        assert self._variables is not None
        return self._variables.run(self._make_answer, subprotocol, headers)

    def has_opened(self) -> None:
        assert self._variables is not None
        app, variables = self._context.app, self._variables
        self._variables = self._extensions = None  # They keep much in memory.
        self.opened_at = time.monotonic()
        app.extensions["sockets"].topics.count_socket(1)
        servers.announce(self._handler)
        variables.run(
            websocket_opened.send,
            app,
            _async_wrapper=app.ensure_sync,
            websocket=self._handler.websocket,
        )

    def save_session(self, context: Context) -> None:
        """Save what the handler changed in the session after the handshake.

        A session kept on the server is saved by that. One kept in a cookie is not.

        :param context: of the request, the one that is pushed now.
        """
        app, session, saved = context.app, _session_of(context), self._saved_session

        if saved is None or app.session_interface.is_null_session(session):
            return

        if not saved.save_changes(app, context.request, session):
            app.logger.warning(
                "The handler of the WebSocket %r changed the session after the"
                " handshake, when its cookie can't reach the browser any more: the"
                " change is lost. Change it before the first use of the WebSocket, or"
                " keep sessions on the server.",
                context.request.path,
            )

    def _make_answer(self, subprotocol: str | None, headers: Headers | None) -> bytes:
        """Do what :meth:`make_answer` does, in Flask's context."""
        environ, is_foreign = self._context.request.environ, self.state is _FOREIGN
        chosen = self.subprotocol

        if subprotocol is not None and not is_foreign:
            chosen = choose_subprotocol(environ, (), subprotocol)

        # What the caller has got wrong is found before any 'after_request' function
        # has seen a response.
        checked = check_headers(headers or ())
        response = self._context.app.response_class(status=101)
        response.headers.extend(checked)
        response = _flask.process_response(self._context, response)

        if is_foreign:  # Nothing of ours reaches the browser, and so no cookie.
            self.save_session(self._context)
            self._remember_session(())
            return b""

        answer = build_answer(environ, response.headers, chosen, self._extensions)
        self._remember_session(response.headers.getlist("Set-Cookie"))
        self.subprotocol = chosen
        return answer

    def _remember_session(self, cookies: Iterable[str]) -> None:
        session = _session_of(self._context)
        self._saved_session = SavedSession(self._context.app, session, cookies)

    def _default_subprotocol(self) -> str | None:
        app, request = self._context.app, self._context.request
        supported = getattr(request.url_rule, "subprotocols", ())
        app_protocol = getattr(app, "app_protocol", None)

        if not supported and app_protocol is not None:
            # This is how gevent-websocket is told.
            supported = [app_protocol(request.environ["PATH_INFO"])]

        return choose_subprotocol(request.environ, supported, None)


def _session_of(context: Context) -> SessionMixin:
    # There is one while the context is pushed.
    return t.cast("SessionMixin", context.session)
