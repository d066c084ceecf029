"""How each WSGI server hands over its socket.

How a request ends afterwards is the same everywhere: the socket is shut down, so that
the HTTP the server still tries to write has nowhere to go. See
:meth:`flask_sockets.wire.transport.Transport.close`.
"""

from __future__ import annotations

import dataclasses
import io
import typing as t

from ..wire.registry import watch_for_stop
from . import _gevent_websocket, _gunicorn
from .clients import Handler
from .early import peek
from .idle_greenlets import watch_for_idle_greenlets

if t.TYPE_CHECKING:
    import socket

    from _typeshed.wsgi import WSGIEnvironment

#: The key under which our own handler for gevent's pywsgi puts itself.
HANDLER_KEY = "flask_sockets.handler"

#: The key under which the test client puts the socket.
TEST_SOCKET_KEY = "flask_sockets.socket"

#: Where the test client puts a function for an exception that can't be answered with
#: HTTP any more. It returns whether the test gets the exception, so that it needn't be
#: logged.
ON_ERROR_KEY = "flask_sockets.on_error"

#: Where servers put the socket of a request: Werkzeug's development server, gunicorn,
#: gunicorn's worker 'gevent_pywsgi', and the test client.
SOCKET_KEYS = ("werkzeug.socket", "gunicorn.socket", "gunicorn.sock", TEST_SOCKET_KEY)

#: Where the server's own ``wsgi.input`` is kept.
INPUT_KEY = "flask_sockets.input"

#: Where gevent-websocket, and others like it, put their WebSocket.
WEBSOCKET_KEY = "wsgi.websocket"


@dataclasses.dataclass(frozen=True)
class Handover:
    """What a server hands over."""

    socket: socket.socket
    #: The handler of gevent's pywsgi, or what stands for it with other servers.
    handler: t.Any
    #: Whether the server has answered the handshake already.
    is_upgraded: bool = False
    #: What the client has sent behind its request, as far as the server has read it.
    early: bytes = b""


def take_over(environ: WSGIEnvironment) -> Handover | None:
    """Take the socket of a request from the server.

    :return: ``None`` if the server keeps it to itself.
    """
    handler = environ.get(HANDLER_KEY)

    if handler is not None:
        early = peek(handler.socket, handler.rfile)
        return Handover(handler.socket, handler, early=early)

    stock = environ.get(WEBSOCKET_KEY)

    if _gevent_websocket.is_its_own(stock):
        handler = _gevent_websocket.take_from(stock)
        early = peek(handler.socket, handler.rfile)
        return Handover(handler.socket, handler, is_upgraded=True, early=early)

    for key in SOCKET_KEYS:
        if key in environ:
            sock = environ[key]

            if key.startswith("gunicorn."):
                watch_for_stop(_gunicorn.is_stopping)
                _gunicorn.tell_of_sync_worker()

            if key != TEST_SOCKET_KEY:
                watch_for_idle_greenlets(sock)

            handler = Handler(environ, sock)
            return Handover(sock, handler, early=peek(sock, environ.get(INPUT_KEY)))

    return None


def replace_input(environ: WSGIEnvironment) -> None:
    """Give a handshake the empty body that it has.

    What servers put there leads to the connection: reading from it would take what
    belongs to the WebSocket, and wait until the client sends something.
    """
    environ[INPUT_KEY] = environ["wsgi.input"]
    environ["wsgi.input"] = io.BytesIO()
    environ["wsgi.input_terminated"] = True


def announce(handler: t.Any) -> None:
    """Tell the server that the handshake of a handler's WebSocket is answered."""
    opened = getattr(handler, "websocket_opened", None)

    if opened is not None:  # Only our own handler for gevent's pywsgi wants to know.
        opened(handler.websocket)


def foreign_websocket(environ: WSGIEnvironment) -> t.Any:
    """A WebSocket that some server brings along and speaks for itself, or ``None``."""
    websocket = environ.get(WEBSOCKET_KEY)
    return None if _gevent_websocket.is_its_own(websocket) else websocket
