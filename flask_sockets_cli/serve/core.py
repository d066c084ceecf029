"""All that the server uses of :mod:`flask_sockets` beyond its public names."""

from __future__ import annotations

import dataclasses

from flask_sockets.exceptions import explain_close_code
from flask_sockets.handshake import is_handshake
from flask_sockets.serving.async_views import run_in_threads
from flask_sockets.serving.tls import TLSHandshakes
from flask_sockets.websocket import WebSocket
from flask_sockets.wire.protocol import Close
from flask_sockets.wire.registry import close_all

__all__ = [
    "Ending",
    "TLSHandshakes",
    "close_all",
    "ending_of",
    "is_handshake",
    "run_in_threads",
]


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a WebSocket has ended, and what went over it."""

    #: The close code (RFC 6455, section 7.4), 1006 where there was no Close frame.
    code: int
    #: The words for that code.
    meaning: str
    #: What the side that closed gave as its reason.
    reason: str
    #: The side that closed: ``"client"`` or ``"server"``.
    closed_by: str
    messages_received: int
    bytes_received: int
    messages_sent: int
    bytes_sent: int


def ending_of(websocket: WebSocket) -> Ending:
    """What is to be told of a WebSocket that has ended."""
    connection = websocket.connection
    closed = connection.closed or Close(1006, "", "client")
    received, writer = connection.protocol.received, connection.writer
    return Ending(
        code=closed.code,
        meaning=explain_close_code(closed.code),
        reason=closed.reason,
        closed_by=closed.by,
        messages_received=received.messages,
        bytes_received=received.bytes,
        messages_sent=writer.messages,
        bytes_sent=writer.bytes,
    )
