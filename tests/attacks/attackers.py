"""Clients of bytes, which do what no library does."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import typing as t

from ..frames import BINARY as BINARY
from ..frames import PING as PING
from ..frames import PONG as PONG
from ..frames import TEXT as TEXT
from ..frames import frame as frame
from ..live.clients import Raw, handshake
from ..process import PATIENCE

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
        self._buffer = b""

    def __enter__(self) -> Attacker:
        return self

    def shake_hands(self, path: str, **headers: str) -> dict[str, str]:
        """As :meth:`connect`, but read no more than the answer."""
        self.send(handshake(path, **headers))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, head
            head += byte
        assert head.startswith(b"HTTP/1.1 101 "), head
        lines = head.decode("latin-1").strip().split("\r\n")[1:]
        return {
            name.lower(): value
            for name, value in (line.split(": ", 1) for line in lines)
        }

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
