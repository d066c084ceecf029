"""WebSockets on gevent's WSGI server."""

from __future__ import annotations

import typing as t

from gevent.pywsgi import WSGIHandler
from geventwebsocket.handler import WebSocketHandler as GeventWebSocketHandler

from . import clients
from .handover import HANDLER_KEY

if t.TYPE_CHECKING:
    from ..websocket import WebSocket


class WebSocketHandler(GeventWebSocketHandler):  # type: ignore[misc]
    """The ``handler_class`` for :class:`gevent.pywsgi.WSGIServer`.

    .. code-block:: python

        server = WSGIServer(("", 5000), app, handler_class=WebSocketHandler)

    It is a :class:`geventwebsocket.handler.WebSocketHandler` that leaves the
    handshake to the app: requests are checked, hooks run and errors are answered
    with HTTP before the protocol is switched.

    .. versionadded:: 1.0
    """

    def run_application(self) -> None:
        self.environ[HANDLER_KEY] = self
        WSGIHandler.run_application(self)

    @property
    def active_client(self) -> t.Any:
        """The entry of this handler's client in ``server.clients``."""
        return clients.active_client(self)

    def websocket_opened(self, websocket: WebSocket) -> None:
        """Called when the handshake is about to be answered."""
        # A handshake has no body. This buffer would be a third of the memory that an
        # idle connection takes.
        self.rfile.close()

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: t.Any = None,
    ) -> t.Any:
        write = WSGIHandler.start_response(self, status, headers, exc_info)
        if self.code == 101:
            # The WebSocket has sent this long ago. Here it is for the log only.
            self.headers_sent = True
            self.close_connection = True
        return write

    # The base class keeps upgraded requests out of the log.
    log_request = WSGIHandler.log_request
