"""How each WSGI server hands over its socket.

How a request ends afterwards is the same everywhere: the socket is shut down, so that
the HTTP the server still tries to write has nowhere to go. See
:meth:`flask_sockets.wire.transport.Transport.close`.
"""

from __future__ import annotations

import dataclasses
import signal
import typing as t

from geventwebsocket.websocket import WebSocket as GeventWebSocket

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

#: Where gevent-websocket, and others like it, put their WebSocket.
WEBSOCKET_KEY = "wsgi.websocket"


@dataclasses.dataclass(frozen=True)
class Handover:
    """What a server hands over."""

    socket: socket.socket
    #: The handler of gevent's pywsgi, if that is the server.
    handler: t.Any = None
    #: Whether the server has answered the handshake already.
    is_upgraded: bool = False


def take_over(environ: WSGIEnvironment) -> Handover | None:
    """Take the socket of a request from the server.

    :return: ``None`` if the server keeps it to itself.
    """
    handler = environ.get(HANDLER_KEY)
    if handler is not None:
        return Handover(handler.socket, handler)
    stock = environ.get(WEBSOCKET_KEY)
    if isinstance(stock, GeventWebSocket):
        handler = stock.handler
        _silence(stock)
        return Handover(handler.socket, handler, is_upgraded=True)
    for key in SOCKET_KEYS:
        if key in environ:
            return Handover(environ[key])
    return None


def is_stopping() -> bool:
    """Whether the server is known to be stopping.

    gunicorn's own workers tell nobody, and wait for the handlers to end. But it is a
    method of the worker that handles SIGTERM, and the worker says if it is alive.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(worker, "alive", True) is False


def foreign_websocket(environ: WSGIEnvironment) -> t.Any:
    """A WebSocket that some server brings along and speaks for itself, or ``None``."""
    websocket = environ.get(WEBSOCKET_KEY)
    return None if isinstance(websocket, GeventWebSocket) else websocket


def introduce(websocket: t.Any, handler: t.Any) -> None:
    """Put our WebSocket where gevent-websocket has its own.

    Apps broadcast to ``ws.handler.server.clients``.
    """
    from geventwebsocket.handler import Client

    handler.websocket = websocket
    if not hasattr(handler.server, "clients"):
        handler.server.clients = {}
    handler.server.clients[handler.client_address] = Client(
        handler.client_address, websocket
    )
    opened = getattr(handler, "websocket_opened", None)
    if opened is not None:  # Not with gevent-websocket's own handler.
        opened(websocket)


def _silence(stock: t.Any) -> None:
    """See to it that gevent-websocket's own object writes nothing more."""
    stock.closed = True
    stock.stream = stock.raw_read = stock.raw_write = None
