"""Apps served in this process, for tests that look at both ends of a connection."""

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t

import pytest
from websockets.sync.client import ClientConnection, connect
from werkzeug.serving import make_server

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask


class Served:
    """An app that is being served on a free port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"

    def connect(self, path: str, **options: t.Any) -> ClientConnection:
        """Open a WebSocket. Raises ``InvalidStatus`` if the server refuses."""
        return connect(f"ws://{self.host}{path}", **options)


@pytest.fixture
def serve() -> Iterator[t.Callable[[Flask], Served]]:
    """Serve apps with Werkzeug's threads until the end of the test."""
    with contextlib.ExitStack() as stack:

        def serve(app: Flask) -> Served:
            server = make_server("127.0.0.1", 0, app, threaded=True)
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return Served(server.server_port)

        yield serve


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on, for servers that can't choose one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return t.cast(int, listener.getsockname()[1])
