"""What is taken from gevent-websocket's inside: how to take a connection from it.

gevent-websocket's own handler answers the handshake before it calls the app, and puts
its WebSocket into the request. Apps that are served so are served as ever, with our
protocol on the connection.
"""

from __future__ import annotations

import typing as t


def is_its_own(websocket: t.Any) -> bool:
    """Whether a WebSocket is one that gevent-websocket speaks."""
    if websocket is None:
        return False

    # Imported only where something of that kind is in the request.
    from geventwebsocket.websocket import WebSocket

    return isinstance(websocket, WebSocket)


def take_from(websocket: t.Any) -> t.Any:
    """See to it that gevent-websocket's WebSocket writes nothing more.

    It is closed when the app returns, or when nobody holds it any more. There is no
    other way to keep it from sending a Close frame then.

    :return: the handler of gevent's pywsgi, which has the socket.
    """
    websocket.closed = True
    websocket.stream = websocket.raw_read = websocket.raw_write = None
    return websocket.handler
