"""The gunicorn worker. Nothing in the package imports this before it is asked for."""

from __future__ import annotations

from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler, PyWSGIServer

from . import keeper
from .handler import WebSocketHandler


class GunicornHandler(WebSocketHandler, PyWSGIHandler):  # type: ignore[misc]
    """Serves WebSockets, and writes gunicorn's access log."""

    def log_request(self) -> None:
        # What isn't HTTP at all has no environ, which gunicorn's log relies on.
        if self.environ is not None:
            PyWSGIHandler.log_request(self)


class GunicornServer(PyWSGIServer):  # type: ignore[misc]
    """Tells the WebSockets when the worker stops."""

    def close(self) -> None:
        super().close()
        keeper.close_all(1001, "server stopping")


class GeventWebSocketWorker(GeventPyWSGIWorker):  # type: ignore[misc]
    """``gunicorn -k flask_sockets.worker``: gevent's WSGI server with WebSockets.

    Open WebSockets get a Close frame with code 1001 when the worker stops, and have
    gunicorn's ``--graceful-timeout`` to end.
    """

    server_class = GunicornServer
    wsgi_handler = GunicornHandler
