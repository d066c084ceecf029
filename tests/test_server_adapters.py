"""What is taken from the inside of servers is where our adapters look for it."""

from __future__ import annotations

import signal
import typing as t
from unittest import mock

import pytest
from gevent.pywsgi import WSGIHandler
from geventwebsocket.websocket import WebSocket as GeventWebSocket
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.workers.base import Worker

from flask_sockets.serving import _gevent_websocket, _gunicorn
from flask_sockets.serving.gunicorn import GunicornHandler
from flask_sockets.serving.handler import WebSocketHandler


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
