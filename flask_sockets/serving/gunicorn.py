"""The gunicorn worker. Nothing in the package imports this before it is asked for."""

from __future__ import annotations

import contextlib
import socket
import typing as t

import gevent
from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler, PyWSGIServer

from ..wire import registry
from .handler import WebSocketHandler


class GunicornHandler(WebSocketHandler, PyWSGIHandler):  # type: ignore[misc]
    """Serves WebSockets, and writes gunicorn's access log."""

    server: GunicornServer

    def read_requestline(self) -> str:
        # Until there is a request, nobody has to wait for this connection.
        self.server.idle_sockets.add(self.socket)
        try:
            return t.cast(str, super().read_requestline())
        finally:
            self.server.idle_sockets.discard(self.socket)

    def handle_one_response(self) -> None:
        super().handle_one_response()
        if self.server.closed:
            self.close_connection = True

    def log_request(self) -> None:
        # What isn't HTTP at all has no environ, which gunicorn's log relies on.
        if self.environ is not None:
            PyWSGIHandler.log_request(self)


class GunicornServer(PyWSGIServer):  # type: ignore[misc]
    """Tells the WebSockets when the worker stops."""

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        #: Of connections that are open between two requests.
        self.idle_sockets: set[socket.socket] = set()

    def close(self) -> None:
        super().close()
        registry.close_all(*registry.SERVER_RESTART)
        # Browsers keep connections open for their next request. The worker would wait
        # for them until its patience ends. A request that has come already is still
        # read and answered.
        for idle in list(self.idle_sockets):
            with contextlib.suppress(OSError):
                idle.shutdown(socket.SHUT_RD)


class GeventWebSocketWorker(GeventPyWSGIWorker):  # type: ignore[misc]
    """``gunicorn -k flask_sockets.worker``: gevent's WSGI server with WebSockets.

    Open WebSockets get a Close frame with code 1012 when the worker stops, and have
    gunicorn's ``--graceful-timeout`` to end.
    """

    server_class = GunicornServer
    wsgi_handler = GunicornHandler

    _is_quitting = False

    def handle_quit(self, sig: int, frame: t.Any) -> None:
        """SIGINT or SIGQUIT: stop at once."""
        # Ctrl-C reaches the worker twice, from the terminal and through gunicorn's
        # arbiter. To leave a second time would show a traceback.
        if not self._is_quitting:
            self._is_quitting = True
            # What is called inside a signal handler must not block.
            gevent.spawn(registry.close_all, *registry.SERVER_RESTART)
            super().handle_quit(sig, frame)
