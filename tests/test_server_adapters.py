"""What is taken from the inside of servers is where our adapters look for it."""

from __future__ import annotations

import contextlib
import io
import signal
import socket
import threading
import typing as t
from unittest import mock

import pytest
from gevent.pywsgi import WSGIHandler
from geventwebsocket.websocket import WebSocket as GeventWebSocket
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.workers.base import Worker
from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler, PyWSGIServer
from werkzeug.serving import make_server

from flask_sockets.serving import _gevent_websocket, _gunicorn
from flask_sockets.serving.early import peek
from flask_sockets.serving.gunicorn import GunicornHandler
from flask_sockets.serving.handler import WebSocketHandler

from .process import PATIENCE

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def test_what_gunicorn_has_read_behind_a_request_is_found() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nearly"
    request = next(RequestParser(Config(), iter([data]), ("127.0.0.1", 1)))
    assert _gunicorn.peek_early(request.body) == b"early", (
        "The body of gunicorn's requests doesn't lead to what its parser has read ahead"
        " any more. Find out what does, and mend 'peek_early' in"
        " 'flask_sockets/serving/_gunicorn.py': what clients send behind a handshake is"
        " lost otherwise."
    )


def test_a_worker_of_gunicorn_is_found_by_its_signal_handler() -> None:
    worker = Worker(0, 0, [], None, 0, Config(), None)
    before = signal.signal(signal.SIGTERM, worker.handle_exit)
    try:
        assert _gunicorn.worker() is worker, (
            "The handler of SIGTERM is no method of gunicorn's worker any more, or the"
            " worker doesn't say whether it is 'alive'. Mend 'worker' in"
            " 'flask_sockets/serving/_gunicorn.py': nobody tells WebSockets otherwise"
            " that the worker stops."
        )
        assert not _gunicorn.is_stopping()
        worker.handle_exit(signal.SIGTERM, None)
        assert _gunicorn.is_stopping()
    finally:
        signal.signal(signal.SIGTERM, before)
        worker.tmp.close()


def test_a_websocket_that_was_taken_from_gevent_websocket_writes_nothing() -> None:
    used = ("closed", "stream", "raw_read", "raw_write", "handler")
    missing = [name for name in used if not hasattr(GeventWebSocket, name)]
    assert missing == [], (
        f"gevent-websocket's WebSocket has no {missing[:1]} any more. Find out how"
        " it is kept from writing now, and mend 'take_from' in"
        " 'flask_sockets/serving/_gevent_websocket.py'."
    )
    written: list[bytes] = []

    class Stream:
        handler = mock.MagicMock()

        def read(self, size: int) -> bytes:
            return b""

        def write(self, data: bytes) -> None:
            written.append(data)

    theirs = GeventWebSocket({}, Stream(), Stream.handler)
    assert _gevent_websocket.is_its_own(theirs)
    assert _gevent_websocket.take_from(theirs) is Stream.handler
    theirs.close()
    del theirs
    assert written == [], (
        "gevent-websocket's WebSocket writes although it was taken from. Mend"
        " 'take_from' in 'flask_sockets/serving/_gevent_websocket.py'."
    )


@pytest.mark.parametrize("ours", [WebSocketHandler, GunicornHandler])
def test_the_methods_that_our_handlers_extend_are_those_of_gevent_s_server(
    ours: t.Any,
) -> None:
    extended = (
        *("handle_one_request", "handle_one_response", "run_application"),
        *("start_response", "format_request", "get_environ", "log_request"),
    )
    missing = [name for name in extended if not hasattr(WSGIHandler, name)]
    assert missing == [], (
        f"gevent's 'WSGIHandler' has no {missing[:1]} any more, which"
        f" '{ours.__name__}' extends. Find out what is called instead."
    )
    assert issubclass(ours, WSGIHandler)


def test_a_handler_of_gevent_s_server_has_what_ours_uses() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        address: t.Any = ("127.0.0.1", 1)
        handler: t.Any = WSGIHandler(ours, address, mock.MagicMock())
        used = (
            *("rfile", "socket", "client_address", "server", "environ"),
            *("requestline", "code", "headers_sent", "close_connection"),
        )
        missing = [name for name in used if not hasattr(handler, name)]
        stream = getattr(handler, "rfile", None)
        if stream is not None:
            stream.close()
    assert missing == [], (
        f"The handler of gevent's server has no {missing[:1]} any more, which"
        " 'flask_sockets/serving/handler.py' uses. Find out what stands for it."
    )
    assert isinstance(stream, io.BufferedReader), (
        "gevent's server doesn't read requests from an 'io.BufferedReader' any more."
        " Mend 'peek' in 'flask_sockets/serving/early.py' and 'wait_for_request' in"
        " 'flask_sockets/serving/handler.py'."
    )


def test_the_worker_of_gunicorn_has_what_ours_extends() -> None:
    worker = Worker(0, 0, [], None, 0, Config(), mock.MagicMock())
    worker.tmp.close()
    used = {
        GeventPyWSGIWorker: ("wsgi_handler", "server_class", "handle_quit"),
        PyWSGIHandler: ("log_request", "get_environ"),
        PyWSGIServer: ("do_handle", "wrap_socket_and_handle", "close"),
        worker: ("nr", "max_requests", "alive", "log", "cfg"),
        worker.cfg: ("timeout", "proxy_protocol", "proxy_allow_ips"),
    }
    missing = [
        f"{getattr(owner, '__name__', type(owner).__name__)}.{name}"
        for owner, names in used.items()
        for name in names
        if not hasattr(owner, name)
    ]
    assert missing == [], (
        f"gunicorn has no {missing} any more, which 'flask_sockets/serving/gunicorn.py'"
        " uses. Find out what stands for it."
    )


def test_werkzeug_s_server_gives_its_socket_and_what_it_has_read() -> None:
    found: list[tuple[t.Any, t.Any, bytes]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        sock, stream = environ.get("werkzeug.socket"), environ["wsgi.input"]
        early = b"" if sock is None else peek(sock, stream)
        found.append((sock, stream, early))
        start_response("204 No Content", [])
        return []

    server = make_server("127.0.0.1", 0, app)
    with contextlib.closing(server.socket):
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nearly")
            with contextlib.suppress(ConnectionError):  # "early" is read by nobody.
                client.recv(65536)
        thread.join()
    [(sock, stream, early)] = found
    assert isinstance(sock, socket.socket), (
        "Werkzeug's server doesn't put its socket into the request as 'werkzeug.socket'"
        " any more. Find out where it is, and mend 'SOCKET_KEYS' in"
        " 'flask_sockets/serving/handover.py': 'flask run' serves no WebSockets"
        " otherwise."
    )
    assert isinstance(stream, io.BufferedReader), (
        "The 'wsgi.input' of Werkzeug's server is no 'io.BufferedReader' any more. Mend"
        " 'peek' in 'flask_sockets/serving/early.py': what clients send behind a"
        " handshake is lost otherwise."
    )
    assert early == b"early", (
        "What Werkzeug's server has read behind a request isn't in its 'wsgi.input' any"
        " more. Mend 'peek' in 'flask_sockets/serving/early.py'."
    )
