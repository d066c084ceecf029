"""Both ends of a WebSocket in one process: threads or greenlets at the server's end,
frames made by hand at the client's. And real servers around a single handler."""

from __future__ import annotations

import contextlib
import functools
import gc
import socket
import ssl
import struct
import threading
import time
import typing as t

import gevent
import gevent.event
import gevent.pool
import gevent.socket
import gevent.ssl
from flask import Flask, got_request_exception
from gevent.pywsgi import WSGIServer
from websockets.extensions.permessage_deflate import PerMessageDeflate
from werkzeug.serving import ThreadedWSGIServer, make_server

from flask_sockets import Sockets, WebSocket, WebSocketHandler
from flask_sockets.opening import Opening
from flask_sockets.wire.connection import Connection
from flask_sockets.wire.protocol import Options
from flask_sockets.wire.transport import transport_for

from ..frames import BINARY as BINARY
from ..frames import CLOSE as CLOSE
from ..frames import CONTINUATION as CONTINUATION
from ..frames import MASK as MASK
from ..frames import PING as PING
from ..frames import PONG as PONG
from ..frames import TEXT as TEXT
from ..frames import Frame as Frame
from ..frames import close_frame as close_frame
from ..frames import frame as frame
from ..frames import read_frame
from ..process import PATIENCE as PATIENCE


class Peer:
    """The client's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.socket.settimeout(PATIENCE)
        self.buffer = bytearray()

    def send(self, *data: bytes) -> None:
        self.socket.sendall(b"".join(data))

    def _read(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def read(self) -> Frame:
        """Wait for the next frame.

        :raises EOFError: at the end of the stream.
        """
        return read_frame(self._read)

    def read_to_end(self) -> list[Frame]:
        """All frames up to the end of the stream, where nothing may be left over."""
        result = []
        while True:
            try:
                result.append(self.read())
            except EOFError:
                break
        assert not self.buffer, "the stream ends inside of a frame"
        return result

    def reset(self) -> None:
        """Vanish without a word, not even a FIN."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.socket.close()


class Task:
    """A function that runs beside the test, in a thread or a greenlet."""

    def __init__(self, flavour: Flavour, function: t.Callable[[], t.Any]) -> None:
        self.flavour = flavour
        self.is_done = False
        self.value: t.Any = None
        self.error: BaseException | None = None
        self.handle = flavour.start(functools.partial(self._run, function))

    def _run(self, function: t.Callable[[], t.Any]) -> None:
        try:
            self.value = function()
        except BaseException as error:
            self.error = error
        finally:
            self.is_done = True

    def result(self) -> t.Any:
        """Wait for the end of it. Raises what it raised."""
        self.handle.join(PATIENCE)
        assert self.is_done, "the task doesn't end"
        if self.error is not None:
            raise self.error
        return self.value


class _Opening(Opening):
    """A handshake that is answered with whatever a test likes, or with nothing."""

    def __init__(
        self, connection: Connection, answer: t.Callable[[], bytes] | None
    ) -> None:
        super().__init__(connection)
        self._answer = answer

    def make_answer(self, subprotocol: t.Any, headers: t.Any) -> bytes:
        answer = b"" if self._answer is None else self._answer()
        self.subprotocol = subprotocol
        return answer


class Flavour:
    """How a server runs its handlers."""

    name: str
    sockets: t.Any

    def start(self, function: t.Callable[[], None]) -> t.Any:
        raise NotImplementedError

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def __init__(self) -> None:
        self._tasks: list[Task] = []
        self._sockets: list[socket.socket] = []
        self._websockets: list[WebSocket] = []

    def spawn(self, function: t.Callable[..., t.Any], *args: t.Any) -> Task:
        task = Task(self, functools.partial(function, *args))
        self._tasks.append(task)
        return task

    def eventually(self, condition: t.Callable[[], t.Any]) -> None:
        """Wait until something is the case."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, "it never came true"
            self.sleep(0.005)

    def pair(self, tcp: bool = False) -> tuple[t.Any, t.Any]:
        """Two connected sockets, the server's and the client's."""
        if tcp:
            with self.sockets.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                client = self.sockets.create_connection(listener.getsockname())
                server, _ = listener.accept()
        else:
            server, client = self.sockets.socketpair()
        self._sockets += [server, client]
        return server, client

    def websocket(
        self,
        sock: t.Any,
        *,
        max_size: int | None = 2**20,
        ping_interval: float | None = None,
        ping_timeout: float | None = None,
        max_fragments: int | None = None,
        max_read_ahead: int = 2**20,
        deflate: bool = False,
        answer: t.Callable[[], bytes] | None = None,
    ) -> WebSocket:
        """The server's end, as its handler gets it.

        :param answer: returns what the handshake is answered with.
        """
        connection = Connection(
            transport_for(sock),
            Options(
                max_size, ping_interval, ping_timeout, max_fragments, max_read_ahead
            ),
            [PerMessageDeflate(False, False, 15, 15)] if deflate else [],
        )

        ws = WebSocket({"PATH_INFO": "/test"}, _Opening(connection, answer))
        self._websockets.append(ws)
        return ws

    def connect(self, tcp: bool = False, **options: t.Any) -> tuple[WebSocket, Peer]:
        """A WebSocket and its client. It is accepted, unless there is an ``answer``."""
        server, client = self.pair(tcp)
        ws = self.websocket(server, **options)
        if options.get("answer") is None:
            ws.accept()
        return ws, Peer(client)

    def clean_up(self) -> None:
        for ws in self._websockets:
            if ws.accepted:
                ws.connection.finish(1000, "", timeout=0)
        for sock in self._sockets:
            sock.close()
        for task in self._tasks:
            task.handle.join(PATIENCE)
            assert task.is_done, "a task is left over"


class Threads(Flavour):
    name = "threads"
    sockets = socket

    def start(self, function: t.Callable[[], None]) -> t.Any:
        thread = threading.Thread(target=function, daemon=True)
        thread.start()
        return thread

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Greenlets(Flavour):
    name = "greenlets"
    sockets = gevent.socket

    def start(self, function: t.Callable[[], None]) -> t.Any:
        return gevent.spawn(function)

    def sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)


Handler: t.TypeAlias = t.Callable[[WebSocket], t.Any]

#: What a real server can be.
SERVERS = ("werkzeug", "pywsgi")


class Server:
    """A server, the URL of its only WebSocket, and what its handler raised."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.errors: list[BaseException] = []


@contextlib.contextmanager
def serve(
    kind: str,
    handler: Handler,
    tls: tuple[str, str] | None = None,
    **config: t.Any,
) -> t.Iterator[Server]:
    """Serve a handler with a real server, in a thread of this process.

    :param tls: the files of a certificate and its key.
    """
    app = Flask(__name__)
    app.config.update(config)
    Sockets(app).add_url_rule("/ws", "ws", handler)
    run = {"werkzeug": _serve_with_werkzeug, "pywsgi": _serve_with_pywsgi}[kind]
    with run(app, tls) as port:
        server = Server(f"{'ws' if tls is None else 'wss'}://127.0.0.1:{port}/ws")

        def remember(sender: Flask, exception: BaseException, **extra: t.Any) -> None:
            server.errors.append(exception)

        with got_request_exception.connected_to(remember, app):
            yield server


@contextlib.contextmanager
def _serve_with_werkzeug(app: Flask, tls: tuple[str, str] | None) -> t.Iterator[int]:
    context = None if tls is None else server_tls(ssl.SSLContext, tls)
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
    assert isinstance(server, ThreadedWSGIServer)
    server.daemon_threads = False  # So that closing waits for them.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def _serve_with_pywsgi(app: Flask, tls: tuple[str, str] | None) -> t.Iterator[int]:
    is_ready = threading.Event()
    running: dict[str, t.Any] = {}

    def run() -> None:
        options = {}
        if tls is not None:
            options["ssl_context"] = server_tls(gevent.ssl.SSLContext, tls)
        server = WSGIServer(
            ("127.0.0.1", 0),
            app,
            handler_class=WebSocketHandler,
            log=None,
            spawn=gevent.pool.Pool(),  # So that stopping waits for them.
            **options,
        )
        server.start()
        stop = gevent.event.Event()
        hub = gevent.get_hub()
        # The one thing that may be touched from another thread.
        running["stop"] = hub.loop.async_()
        running["stop"].start(stop.set)
        running["port"] = server.server_port
        is_ready.set()
        stop.wait()
        server.stop(timeout=PATIENCE)
        running["stop"].close()
        # Sockets in cycles of references close by the loop, which has to be there yet.
        gc.collect()
        hub.destroy(destroy_loop=True)

    thread = threading.Thread(target=run)
    thread.start()
    assert is_ready.wait(PATIENCE)
    try:
        yield running["port"]
    finally:
        running["stop"].send()
        thread.join()


def server_tls(cls: t.Any, tls: tuple[str, str]) -> t.Any:
    """What a server needs for TLS.

    Without session tickets: a client with a thread that reads gets those while another
    thread sends the handshake, which then was lost now and then (Python 3.11).

    :param cls: the class of contexts.
    """
    context = cls(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    context.num_tickets = 0
    return context


def client_tls(certificate: str) -> ssl.SSLContext:
    """What a client needs to trust a server of :func:`serve`."""
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    return context


def flavours(cls: type[Flavour]) -> t.Iterator[Flavour]:
    """The body of a fixture."""
    flavour = cls()
    try:
        yield flavour
    finally:
        flavour.clean_up()
