"""Clients of bytes, which do what no library does."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import typing as t
import zlib

from ..frames import CLOSE, PING, PONG, TEXT, Frame, frame, read_frame
from ..live.clients import Raw, handshake
from ..process import PATIENCE

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The header of a client that compresses each message by itself.
DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate; client_no_context_takeover"}


def compressed(payload: bytes, window: int = 15) -> bytes:
    """A client's frame, compressed without context (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-window)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return frame(TEXT, data[:-4], reserved=4)


class Attacker(Raw):
    """A client of bytes that can leave its kernel little room for what it doesn't read.

    :param receive_buffer: in bytes; what the kernel thinks best if it is ``None``.
    """

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self._inflater = zlib.decompressobj(wbits=-15)

    def __enter__(self) -> t.Self:
        return self

    def read(self, size: int) -> bytes:
        """Read so many bytes, and take no more from the kernel.

        :raises EOFError: at the end of the stream.
        """
        parts = []
        while size:
            part = self.socket.recv(min(size, 2**20))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def shake_hands(self, path: str, **headers: str) -> str:
        """As :meth:`connect`, but return the answer as it came."""
        self.send(handshake(path, **headers))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return head.decode("latin-1")

    def read_frame(self) -> Frame:
        """Read a frame of the server, inflated if it is compressed."""
        opcode, payload = read_frame(self.read)
        if opcode & 0x40:
            payload = self._inflater.decompress(payload + b"\0\0\xff\xff")
        return Frame(opcode & 0x0F, payload)

    def read_message(self) -> bytes:
        """Read frames up to the next message, and answer pings.

        :raises EOFError: if the server closes.
        """
        while True:
            opcode, payload = self.read_frame()
            if opcode == PING:
                self.send(frame(PONG, payload))
            elif opcode == CLOSE:
                raise EOFError
            elif opcode != PONG:
                return payload

    def send_what_fits(self, data: bytes, patience: float) -> int:
        """Send the same again and again until the server takes no more of it.

        :param patience: how long to wait for the server to take more, in seconds.
        :return: how many bytes were taken.
        """
        sent = 0
        self.socket.settimeout(patience)
        with contextlib.suppress(TimeoutError, OSError):
            while True:
                sent += self.socket.send(memoryview(data)[sent % len(data) :])
        self.socket.settimeout(PATIENCE)
        return sent


@contextlib.contextmanager
def running(*functions: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run functions in threads, which get an event that tells them to end.

    That the server hangs up on them is no error.
    """
    stop = threading.Event()

    def run(function: Callable[[threading.Event], None]) -> None:
        with contextlib.suppress(OSError, EOFError, AssertionError):
            function(stop)

    threads = [
        threading.Thread(target=run, args=(function,), daemon=True)
        for function in functions
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)


def is_readable(sock: socket.socket, timeout: float) -> bool:
    return bool(select.select([sock], [], [], timeout)[0])
