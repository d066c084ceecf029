"""gevent's WSGI server with WebSockets, a log as of ``flask run``, and an end that lets
requests and WebSockets finish.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import types
import typing as t

import gevent
from gevent.pywsgi import WSGIServer

from flask_sockets import WebSocket, WebSocketHandler

from ..settings import Settings
from .access_log import OURS, access_line, access_logger, websocket_line
from .core import TLSHandshakes, close_all
from .failures import app_frames, show_exception

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: What WebSockets are closed with whenever the server ends: "come again". Pages that
#: connect again by themselves stay away after 1001.
_CLOSE_CODE = 1012

#: Seconds in which a fresh connection's first request is waited for when the server
#: stops, since its client has been told that it is connected. Few are left to wait for
#: where connections are accepted with their first request: those that speak TLS.
_FIRST_REQUEST = 0.25

#: Seconds after which a person wonders what the server is waiting for.
_NOTICEABLE = 0.3


class Handler(WebSocketHandler):
    """One connection."""

    server: Server
    _opened = 0.0

    def handle_one_response(self) -> None:
        with self.server.request_of(self):
            super().handle_one_response()

        if self.server.stopping:
            self.close_connection = True

    def _log_error(
        self,
        kind: type[BaseException],
        error: BaseException,
        tb: types.TracebackType | None,
    ) -> None:
        """Show what has come out of the app as Python does. gevent would show the
        request's environment with it.
        """
        # The hub of gevent would end the process for some of them. A response that is
        # sent piece by piece may raise anything.
        if not isinstance(error, gevent.GreenletExit):
            # A mistake that the server finds has no other frames than its own.
            show_exception(error, app_frames(tb) or tb)

    def websocket_opened(self, websocket: WebSocket) -> None:
        super().websocket_opened(websocket)
        self._opened = time.monotonic()

        if OURS in self.environ:
            self.server.forget_request_of(self)
        else:
            self._log(101)

    def log_request(self) -> None:
        """Write the access line, unless the request is none of the app's. A WebSocket
        had one when it opened, and gets another when it has ended.
        """
        if self.environ and OURS in self.environ:
            return

        websocket = getattr(self, "websocket", None)

        if self.code == 101 and isinstance(websocket, WebSocket):
            line = websocket_line(
                _name_of(self.client_address),
                websocket.path or "",
                websocket.connection.ending,
                time.monotonic() - self._opened,
                time.localtime(),
            )
            access_logger().info("%s", line)
            return

        # A socket error while writing turns the code negative. A request that cannot
        # be read has a status only.
        self._log(abs(self.code or 0) if self.environ else int(self.status))

    def _log(self, code: int) -> None:
        line = access_line(
            _name_of(self.client_address),
            self.requestline or "",
            code,
            time.localtime(),
        )
        access_logger().info("%s", line)


class Server(TLSHandshakes, WSGIServer):
    """Serves one load of the app on a listening socket that outlives it."""

    def __init__(
        self, listener: socket.socket, application: WSGIApplication, settings: Settings
    ) -> None:
        options: dict[str, t.Any] = {}

        if settings.certificate is not None:
            # Made here and not handed down: only the patched module's connections
            # let other greenlets run.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*settings.certificate)
            options["ssl_context"] = context

        super().__init__(
            listener,
            application,
            handler_class=Handler,
            environ={
                # Else gevent asks the name service for it, before every first request.
                "SERVER_NAME": settings.host,
                # Greenlets are no threads, but just as little one after the other.
                "wsgi.multithread": True,
            },
            **options,
        )
        #: Whether it accepts no more, and only finishes what is under way.
        self.stopping = False
        self._requests: set[Handler] = set()
        # When the connections were accepted that have not sent a request yet.
        self._fresh: dict[t.Any, float] = {}

    def do_handle(self, *args: t.Any) -> None:
        self._fresh[_identity(*args)] = time.monotonic()
        super().do_handle(*args)

    def do_close(self, *args: t.Any) -> None:
        self._fresh.pop(_identity(*args), None)
        super().do_close(*args)

    @contextlib.contextmanager
    def request_of(self, handler: Handler) -> t.Iterator[None]:
        """Count a request, or a WebSocket, as under way."""
        self._fresh.pop(_identity(handler.socket, handler.client_address), None)
        self._requests.add(handler)

        try:
            yield
        finally:
            self.forget_request_of(handler)

    def forget_request_of(self, handler: Handler) -> None:
        """Wait for it no longer when the server stops."""
        self._requests.discard(handler)

    def is_busy(self) -> bool:
        """Whether there is something to wait for: requests, and connections so fresh
        that one is on its way. Those merely kept open for another request do not count.
        """
        now = time.monotonic()
        return bool(self._requests) or any(
            now - since < _FIRST_REQUEST for since in self._fresh.values()
        )

    def drain(
        self,
        reason: str,
        grace: float,
        tell: t.Callable[[str], object] = lambda waited_for: None,
    ) -> None:
        """Accept no more, close the WebSockets, and wait for what is under way.

        :param reason: the close reason for the WebSockets.
        :param grace: seconds to wait at most.
        :param tell: called with what is waited for, if that takes long.
        """
        began = time.monotonic()
        deadline = began + grace
        told = False
        self.stopping = True
        self.stop_accepting()
        close_all(_CLOSE_CODE, reason)

        while time.monotonic() < deadline and self.is_busy():
            gevent.sleep(0.002)
            # A handshake may have been under way.
            close_all(_CLOSE_CODE, reason)

            if not told and self._requests and time.monotonic() - began > _NOTICEABLE:
                told = True
                tell(_describe(self._requests))

    def log_tls_error(self, address: t.Any, error: OSError) -> None:
        access_logger().error("TLS error from %s: %s", _name_of(address), error)


def _describe(requests: t.Collection[Handler]) -> str:
    """How many requests and WebSockets there are, in words."""
    websockets = sum(
        isinstance(getattr(handler, "websocket", None), WebSocket)
        for handler in requests
    )
    counts = {"request": len(requests) - websockets, "WebSocket": websockets}
    return " and ".join(
        f"{count} {what}{'' if count == 1 else 's'}"
        for what, count in counts.items()
        if count
    )


def _identity(sock: t.Any, address: t.Any) -> t.Any:
    """What tells a connection from others: the client's address, which survives the
    change to TLS, or the socket where clients have none.
    """
    return address or sock


def _name_of(address: t.Any) -> str:
    """What the log calls a client, which has no address if the server has none."""
    return str(address[0]) if isinstance(address, tuple) else "<local>"
