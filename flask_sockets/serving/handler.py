"""WebSockets on gevent's WSGI server."""

from __future__ import annotations

import contextlib
import ssl
import types
import typing as t

import gevent
from gevent.pywsgi import WSGIHandler
from geventwebsocket.handler import WebSocketHandler as GeventWebSocketHandler

from . import clients
from .escape import quoted
from .handover import HANDLER_KEY

if t.TYPE_CHECKING:
    from ..websocket import WebSocket

_REQUEST_TIMEOUT = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class WebSocketHandler(GeventWebSocketHandler):  # type: ignore[misc]
    """The ``handler_class`` for :class:`gevent.pywsgi.WSGIServer`.

    .. code-block:: python

        server = WSGIServer(("", 5000), app, handler_class=WebSocketHandler)

    It is a :class:`geventwebsocket.handler.WebSocketHandler` that leaves the
    handshake to the app: requests are checked, hooks run and errors are answered
    with HTTP before the protocol is switched.

    .. versionadded:: 1.0
    """

    #: How long the first request of a connection may take to come, and each request
    #: from its first byte to its last header, in seconds. Clients that take longer
    #: would keep others out, where the number of connections is limited.
    request_timeout: float = 30.0

    #: How long a connection may be idle between two requests, in seconds. It is more
    #: than the 60 seconds after which most proxies close such a connection themselves.
    idle_timeout: float = 75.0

    application: t.Any
    environ: dict[str, t.Any]
    client_address: t.Any
    requestline: str | None
    wsgi_input: t.Any

    _has_served = False
    _deadline: gevent.Timeout | None = None

    def handle_one_request(self) -> t.Any:
        """Read a request in the time that it may take, and answer it."""
        if self.rfile.closed or not self.wait_for_request():
            return None

        deadline = gevent.Timeout.start_new(self.request_timeout)
        self._deadline = deadline

        try:
            return self.handle_request()
        except gevent.Timeout as timeout:
            if timeout is not deadline:
                raise

            with contextlib.suppress(OSError):
                self.socket.sendall(_REQUEST_TIMEOUT)

            return None
        finally:
            self._end_deadline()

    def wait_for_request(self) -> bool:
        """Wait for the first byte of a request, and say if it has come."""
        seconds = self.idle_timeout if self._has_served else self.request_timeout

        try:
            with gevent.Timeout(seconds, False):  # type: ignore[arg-type]
                return bool(self.rfile.peek(1))
        except ssl.SSLError as error:
            # Without 'do_handshake_on_connect' the first read does the TLS handshake.
            self.log_error("TLS error from %s: %s", self.client_address, error)
        except OSError:
            pass

        return False

    def handle_request(self) -> t.Any:
        """Read a request that has begun to come, and answer it."""
        return super().handle_one_request()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.close()
            self._deadline = None

    def handle_one_response(self) -> None:
        self._end_deadline()
        self._has_served = True
        super().handle_one_response()

    def get_environ(self) -> dict[str, t.Any]:
        environ = t.cast("dict[str, t.Any]", super().get_environ())
        # Many a proxy says "Connection: upgrade" with every request. pywsgi takes each
        # of them for a WebSocket, and the app reads from the connection itself: the
        # server doesn't know then that the body was read, and waits for it.
        environ["wsgi.input"] = self.wsgi_input
        environ["wsgi.input_terminated"] = True
        return environ

    def run_application(self) -> None:
        self.environ[HANDLER_KEY] = self
        # Python calls an object by way of C. Every greenlet that waits below has a copy
        # of its C stack in memory, and each switch to it moves that.
        call = self.application.__call__

        if isinstance(call, types.MethodType):
            self.application = call

        WSGIHandler.run_application(self)

    @property
    def active_client(self) -> t.Any:
        """The entry of this handler's client in ``server.clients``."""
        return clients.active_client(self)

    def websocket_opened(self, websocket: WebSocket) -> None:
        """Called when the handshake is answered."""
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

    def format_request(self) -> str:
        """The line of the access log."""
        requestline = self.requestline
        self.requestline = quoted(requestline or "")

        try:
            return t.cast(str, super().format_request())
        finally:
            self.requestline = requestline
