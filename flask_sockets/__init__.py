"""WebSocket routes for Flask."""

from __future__ import annotations

import typing as t

from .dispatch import SocketMiddleware as SocketMiddleware
from .exceptions import ConnectionClosed as ConnectionClosed
from .exceptions import UpgradeRequired as UpgradeRequired
from .exceptions import WebSocketError as WebSocketError
from .extension import Sockets as Sockets
from .handler import WebSocketHandler as WebSocketHandler
from .websocket import WebSocket as WebSocket


def __getattr__(name: str) -> t.Any:
    # Only gunicorn asks for this, as 'gunicorn -k flask_sockets.worker'.
    if name in ("worker", "Worker"):
        from .workers import GeventWebSocketWorker

        return GeventWebSocketWorker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
