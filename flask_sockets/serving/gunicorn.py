"""The gunicorn worker. Nothing in the package imports this before it is asked for."""

from __future__ import annotations

import contextlib
import socket
import typing as t

import gevent
from gunicorn.config import WorkerConnections
from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler, PyWSGIServer

from ..wire import registry
from . import farewell, proxy_protocol
from .descriptors import connections_within, raise_limit
from .escape import escaped
from .handler import WebSocketHandler
from .tls import TLSHandshakes

#: How long a worker that stops waits for the first request of a connection, in seconds,
#: while nobody serves its clients. The client has been told that it is connected, and
#: may be about to send.
LINGER = 2.0

#: How long it waits while others serve them: a part of ``--graceful-timeout``. A client
#: may be slow, as when all come back to a busy machine.
PATIENT_LINGER = 1 / 3

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
_FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"


def request_timeout(worker: GeventPyWSGIWorker) -> float:
    """How long a request may take to come: as long as gunicorn gives a sync worker."""
    return t.cast(float, worker.cfg.timeout or WebSocketHandler.request_timeout)


class GunicornHandler(WebSocketHandler, PyWSGIHandler):  # type: ignore[misc]
    """Serves WebSockets, and writes gunicorn's access log."""

    server: GunicornServer

    _route: proxy_protocol.Route | None = None

    @property
    def request_timeout(self) -> float:  # type: ignore[override]
        return request_timeout(self.server.worker)

    def wait_for_request(self) -> bool:
        # Until there is a request, nobody has to wait for this connection.
        with self.server.waiting(self.socket, is_fresh=not self._has_served):
            return super().wait_for_request()

    def handle_request(self) -> t.Any:
        if not self._has_served:
            refusal = self._read_proxy_header()

            if refusal is not None:
                return refusal

        return super().handle_request()

    def _read_proxy_header(self) -> tuple[str, bytes] | None:
        """Find out who the proxy's client is, if gunicorn is told to.

        :return: how to answer a peer that may not say so, or doesn't say it right.
        """
        config = self.server.worker.cfg
        mode = config.proxy_protocol

        if mode == "off" or not proxy_protocol.is_next(self.rfile, mode):
            return None

        if not proxy_protocol.is_trusted(self.client_address, config.proxy_allow_ips):
            self.server.log.warning(
                "Refused %r, which speaks the PROXY protocol and isn't among"
                " '--proxy-allow-from'.",
                self.client_address[0],
            )
            return "403", _FORBIDDEN

        try:
            self._route = proxy_protocol.read(self.rfile)
        except proxy_protocol.InvalidHeader as error:
            self.server.log.warning("Refused %r: %s", self.client_address, error)
            return "400", _BAD_REQUEST

        if self._route is not None:
            self.client_address = self._route.client

        return None

    def get_environ(self) -> dict[str, t.Any]:
        environ = super().get_environ()

        if self._route is not None:
            environ["PROXY_PROTOCOL"] = self._route.protocol
            environ["PROXY_ADDR"] = self._route.proxy[0]
            environ["PROXY_PORT"] = str(self._route.proxy[1])

        return environ

    def handle_one_response(self) -> None:
        self.server.worker.count_request()
        super().handle_one_response()

        if self.server.closed:
            self.close_connection = True

    def log_error(self, msg: str, *args: t.Any) -> None:
        """Say in one line what is wrong with a request that can't be served."""
        message = escaped(msg % args if args else msg)
        self.server.log.warning("Refused a request: %.200s", message)

    def log_request(self) -> None:
        # What isn't HTTP at all has no environ, which gunicorn's log relies on.
        if self.environ is None:
            return

        environ = self.environ
        self.environ = {
            key: escaped(value) if isinstance(value, str) else value
            for key, value in environ.items()
        }

        try:
            PyWSGIHandler.log_request(self)
        finally:
            self.environ = environ


class GunicornServer(TLSHandshakes, PyWSGIServer):  # type: ignore[misc]
    """Tells the WebSockets when the worker stops, and the log when it is full."""

    def __init__(self, *args: t.Any, worker: GeventWebSocketWorker, **kwargs: t.Any):
        super().__init__(*args, **kwargs)
        #: The worker that this is a server of.
        self.worker = worker
        # Connections that wait for a request, and whether it is their first.
        self._waiting: dict[socket.socket, bool] = {}
        self._was_full = False

    @contextlib.contextmanager
    def waiting(self, sock: socket.socket, is_fresh: bool) -> t.Iterator[None]:
        """Know that a connection has no request meanwhile."""
        self._waiting[sock] = is_fresh

        try:
            yield
        finally:
            del self._waiting[sock]

    def do_handle(self, *args: t.Any) -> None:
        super().do_handle(*args)
        assert self.pool is not None  # gunicorn gives us one.

        if self.pool.full() and not self._was_full:
            self._was_full = True
            self.log.warning(
                "This worker has %d connections open, and takes no more: the next one"
                " has to wait until another ends. '--worker-connections' sets how many"
                " there may be, WebSockets included.",
                self.pool.size,
            )

    @property
    def handshake_timeout(self) -> float:  # type: ignore[override]
        """How long a TLS handshake may take: as long as a request."""
        return request_timeout(self.worker)

    def shake_hands(self, sock: t.Any) -> None:
        with self.waiting(sock, is_fresh=True):
            super().shake_hands(sock)

    def log_tls_error(self, address: t.Any, error: OSError) -> None:
        self.log.warning("TLS error from %s: %s", address, error)

    def close(self) -> None:
        super().close()
        self.worker.take_leave()
        # Browsers keep connections open for their next request. The worker would wait
        # for them until its patience ends. A request that has come already is still
        # read and answered.
        self._end_waiting(with_fresh=False)
        gevent.spawn_later(self.worker.linger, self._end_waiting, with_fresh=True)

    def _end_waiting(self, with_fresh: bool) -> None:
        """Make connections find the end where they wait for a request.

        :param with_fresh: whether those end as well that haven't sent any.
        """
        for sock, is_fresh in list(self._waiting.items()):
            if with_fresh or not is_fresh:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RD)


class GeventWebSocketWorker(GeventPyWSGIWorker):  # type: ignore[misc]
    """``gunicorn -k flask_sockets.worker``: gevent's WSGI server with WebSockets.

    When the worker stops, its open WebSockets get a Close frame with code 1012, some
    hundred of them in a second, or more if gunicorn's ``--graceful-timeout`` is too
    short for that. What is left of them after three quarters of that time is cut.
    """

    wsgi_handler = GunicornHandler

    alive: bool
    nr: int
    worker_connections: int
    _is_quitting = False
    _is_taking_leave = False
    # Whether the arbiter starts another worker only when this one has ended.
    _is_replaced_later = False

    def server_class(self, *args: t.Any, **kwargs: t.Any) -> GunicornServer:
        """Make the server for a listening socket."""
        return GunicornServer(*args, worker=self, **kwargs)

    def run(self) -> None:
        """Serve until the worker has to end."""
        if self.cfg.worker_connections == WorkerConnections.default:
            self._raise_connections()

        super().run()

    def _raise_connections(self) -> None:
        """Take more connections than gunicorn's default, which is meant for requests.

        A worker has as many of these as it can work on. WebSockets are mostly idle.
        """
        descriptors = raise_limit()
        connections = connections_within(descriptors)

        if connections > self.worker_connections:
            self.worker_connections = connections

        self.log.info(
            "This worker takes up to %d connections, having %d file descriptors."
            " '--worker-connections' sets another number.",
            self.worker_connections,
            descriptors,
        )

    @property
    def is_alone(self) -> bool:
        """Whether nobody serves the clients of this worker until it has ended."""
        return self._is_replaced_later and self.cfg.workers == 1

    @property
    def linger(self) -> float:
        """How long the worker waits for first requests when it stops, in seconds."""
        if self.is_alone:
            return LINGER

        patience: float = self.cfg.graceful_timeout
        return max(LINGER, patience * PATIENT_LINGER)

    def take_leave(self) -> None:
        """Tell the WebSockets of all servers that the worker ends."""
        if not self._is_taking_leave:
            self._is_taking_leave = True
            gevent.spawn(farewell.take_leave, self.cfg.graceful_timeout, self.is_alone)

    def count_request(self) -> None:
        """Stop when there were as many requests as ``--max-requests`` says."""
        self.nr += 1

        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self._is_replaced_later = True
            self.alive = False

    def handle_quit(self, sig: int, frame: t.Any) -> None:
        """SIGINT or SIGQUIT: stop at once."""
        # Ctrl-C reaches the worker twice, from the terminal and through gunicorn's
        # arbiter. To leave a second time would show a traceback.
        if not self._is_quitting:
            self._is_quitting = True
            # What is called inside a signal handler must not block.
            gevent.spawn(registry.close_all, *registry.SERVER_RESTART)
            super().handle_quit(sig, frame)
