"""Bytes that a server has read behind the handshake.

A client may send messages right behind its request, before it has seen the answer. The
server's buffer takes them up with the request's headers. They belong to the WebSocket:
were they lost, the client could choose where the next frame seems to begin.
"""

from __future__ import annotations

import contextlib
import io
import typing as t

from . import _gunicorn

if t.TYPE_CHECKING:
    import socket


def peek(sock: socket.socket, stream: t.Any) -> bytes:
    """What the server has read behind a request that has no body.

    The bytes stay where they are: if the handshake is refused, they are the next
    request. Nothing else reads them if it is accepted.

    :param stream: what the server reads requests from: a buffer around the socket, or
        the body of one of gunicorn's requests.
    """
    early = _gunicorn.peek_early(stream)

    if early is not None:
        return early

    if not isinstance(stream, io.BufferedReader):
        return b""

    # Where the buffer is empty, peek() reads from the socket, and must not wait for it.
    timeout = sock.gettimeout()
    sock.settimeout(0)

    try:
        with contextlib.suppress(OSError):  # Nothing there, in the terms of TLS.
            return stream.peek()

        return b""
    finally:
        sock.settimeout(timeout)
