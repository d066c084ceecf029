"""How a connection uses its socket: reading and writing without waiting, and waiting.

The socket a server hands over is made non-blocking while a WebSocket uses it, and
waiting is a step of its own. That gives timeouts, reading what has come without
waiting, and safe use of TLS from several threads, on every kind of socket.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import typing as t

# Some systems can't be asked how much a socket holds.
_ioctl: t.Any = None
_FIONREAD: int | None = None
_TIOCOUTQ: int | None = None

with contextlib.suppress(ImportError):
    from fcntl import ioctl as _ioctl
    from termios import FIONREAD as _FIONREAD
    from termios import TIOCOUTQ as _TIOCOUTQ

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from .scheduler import Scheduler

    T = t.TypeVar("T")

#: Errors of a non-blocking socket that mean "not now".
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Lock(t.Protocol):
    """What the locks of :mod:`threading` and :mod:`gevent.lock` have in common."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool: ...
    def release(self) -> None: ...


class Event(t.Protocol):
    """What the events of :mod:`threading` and :mod:`gevent.event` have in common."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout: float | None = ...) -> bool: ...


class Task(t.Protocol):
    """What threads and greenlets have in common."""

    def join(self, timeout: float | None = ...) -> None: ...


class Transport:
    """A connected stream socket that belongs to one WebSocket.

    Nothing happens to the socket before :meth:`open`: until then the server still
    speaks HTTP on it.
    """

    #: Where the handler runs.
    scheduler: Scheduler

    def __init__(self, sock: socket.socket, tls_class: t.Any = ssl.SSLSocket) -> None:
        self.socket = sock
        self._tls_class = tls_class if isinstance(sock, tls_class) else None
        self.is_tls = self._tls_class is not None
        self._timeout_before: float | None = None
        self._is_shut_down = False
        #: The descriptor of the socket, -1 if the server has closed it.
        self.fileno = sock.fileno
        #: What :meth:`receive` and :meth:`send` do, but for exceptions that mean "not
        #: now": see :data:`NOT_NOW`.
        self.raw_receive: Callable[[int], bytes] = sock.recv
        self.raw_send: Callable[[bytes | memoryview], int] = sock.send
        #: What :attr:`raw_send` does, if one hub serves the socket and it isn't TLS:
        #: whoever runs on the hub needs no lock for it.
        self.send_on_hub: Callable[[bytes], int] | None = None

    def open(self) -> None:
        """Take the socket from the server.

        :raises OSError: if the server has closed it.
        """
        self._timeout_before = self.socket.gettimeout()
        self.socket.settimeout(0)

        # Servers leave Nagle's algorithm on: small messages wait for the
        # acknowledgement of the one before, and throughput is a third.
        with contextlib.suppress(OSError):  # Not TCP: a Unix socket.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """End all traffic, and give the socket back to the server.

        Servers still try to write or to read HTTP after the application returns.
        On a socket that is shut down the writing fails with EPIPE, which all of
        them take for a client that went away, and the reading finds the end.
        """
        self.shutdown()

        if self.is_tls:
            with contextlib.suppress(OSError):
                # Nobody uses it any more: now also what TLS makes of this.
                self.socket.shutdown(socket.SHUT_RDWR)

        with contextlib.suppress(OSError):
            self.socket.settimeout(self._timeout_before)

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """End the traffic. Whoever waits for the socket wakes up."""
        if self._is_shut_down:
            return

        self._is_shut_down = how == socket.SHUT_RDWR
        # What TLS makes of this drops the encryption at once, also from under a read
        # or write in another thread. What lies below it ends the stream only.
        cls = self._tls_class
        sock: t.Any = self.socket if cls is None else super(cls, self.socket)

        with contextlib.suppress(OSError):
            sock.shutdown(how)

    def receive(self, size: int) -> bytes | None:
        """Read what is there, up to ``size`` bytes.

        :return: ``None`` if nothing is there now, ``b""`` at the end of the stream.
        :raises OSError: if the connection is lost.
        """
        try:
            return self.raw_receive(size)
        except NOT_NOW:
            return None

    def send(self, data: bytes | memoryview) -> int:
        """Give the kernel as much of ``data`` as it takes now.

        :return: how many bytes it took, possibly 0.
        :raises OSError: if the connection is lost.
        """
        try:
            return self.raw_send(data)
        except NOT_NOW:
            return 0

    def wait_readable(self, timeout: float | None = None) -> bool:
        """Wait until there is something to read, or for ``timeout`` seconds.

        :return: whether it is worth reading.
        """
        raise NotImplementedError

    def wait_writable(self, timeout: float | None = None) -> bool:
        """Wait until the kernel takes more, or for ``timeout`` seconds.

        :return: whether it is worth writing.
        """
        raise NotImplementedError

    def watch_readable(self, callback: Callable[[], None]) -> None:
        """Call a function again and again while there is something to read.

        It is called on the scheduler, and must not block. Nobody may wait meanwhile.
        """
        raise NotImplementedError

    def unwatch_readable(self) -> None:
        """Don't call the function any more. It may still be in the middle of a call."""
        raise NotImplementedError

    def watch_writable(self, callback: Callable[[], None]) -> None:
        """Call a function again and again while the kernel takes more.

        It is called on the scheduler, and must not block.
        """
        raise NotImplementedError

    def unwatch_writable(self) -> None:
        """Don't call the function any more. It may still be in the middle of a call."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Watch nothing any more. This is a forked process, the socket its parent's."""
        raise NotImplementedError

    def unread(self) -> int:
        """How many bytes have come that nobody has read, 0 if that can't be known."""
        return self._ask_kernel(_FIONREAD)

    def unconfirmed(self) -> int:
        """How many bytes the kernel has that the other side's kernel hasn't confirmed,
        0 if that can't be known. See ``SIOCOUTQ`` in :manpage:`tcp(7)`."""
        return self._ask_kernel(_TIOCOUTQ)

    def _ask_kernel(self, request: int | None) -> int:
        if request is None:
            return 0

        try:
            answer = _ioctl(self.fileno(), request, bytes(4))
        except (OSError, ValueError):
            return 0

        return int.from_bytes(answer, sys.byteorder)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a function on the scheduler, from any thread.

        On a hub it is called in the next turn of its loop, in whose greenlet it must
        not block. Threads have no such place: there it is called at once.

        .. versionadded:: 1.0
        """
        self.scheduler.call_soon(function)

    def run_aside(self, function: Callable[[], T]) -> T:
        """Call a function that takes long, and let others run meanwhile."""
        raise NotImplementedError

    def new_lock(self) -> Lock:
        """Make a lock that excludes whatever this server runs handlers in."""
        raise NotImplementedError

    @staticmethod
    def identify() -> int:
        """Tell apart the greenlets or threads that run handlers."""
        raise NotImplementedError

    @staticmethod
    def new_event() -> Event:
        """Make an event that whatever this server runs handlers in can wait for."""
        raise NotImplementedError

    @staticmethod
    def new_thread_event() -> t.Any:
        """Make an event that a thread which isn't the connection's can wait for."""
        raise NotImplementedError

    @staticmethod
    def spawn(function: Callable[[], None]) -> Task:
        """Run ``function`` in the background, without keeping the process alive."""
        raise NotImplementedError

    @staticmethod
    def sleep(seconds: float) -> None:
        """Let others run. With 0, those that are ready to."""
        raise NotImplementedError


def transport_for(sock: socket.socket) -> Transport:
    """Choose how to wait by the kind of socket the server uses."""
    # An app that is served by threads needn't wait for the import of gevent.
    gevent_socket = sys.modules.get("gevent.socket")

    if gevent_socket is not None and isinstance(sock, gevent_socket.socket):
        from .greenlets import GeventTransport

        return GeventTransport(sock)

    from .threads import ThreadTransport

    return ThreadTransport(sock)
