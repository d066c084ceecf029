"""How a connection waits: on gevent's hub or in a thread, and with which locks.

The socket a server hands over is made non-blocking while a WebSocket uses it, and
waiting is a step of its own. That gives timeouts, reading what has come without
waiting, and safe use of TLS from several threads, on every kind of socket.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
import typing as t

import gevent
import gevent.event
import gevent.lock
import gevent.socket
import gevent.ssl

if t.TYPE_CHECKING:
    from collections.abc import Callable

#: Errors of a non-blocking socket that mean "not now".
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_TLS_CLASSES: tuple[t.Any, ...] = (gevent.ssl.SSLSocket, ssl.SSLSocket)


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

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._tls_class = next(
            (cls for cls in _TLS_CLASSES if isinstance(sock, cls)), None
        )
        self.is_tls = self._tls_class is not None
        self._timeout_before: float | None = None
        self._is_shut_down = False
        self._receive = sock.recv
        self._send = sock.send

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
            return self._receive(size)
        except _NOT_NOW:
            return None

    def send(self, data: bytes | memoryview) -> int:
        """Give the kernel as much of ``data`` as it takes now.

        :return: how many bytes it took, possibly 0.
        :raises OSError: if the connection is lost.
        """
        try:
            return self._send(data)
        except _NOT_NOW:
            return 0

    def wait_readable(self, timeout: float | None) -> bool:
        """Wait until there is something to read, or for ``timeout`` seconds.

        :return: whether it is worth reading.
        """
        raise NotImplementedError

    def wait_writable(self, timeout: float | None) -> bool:
        """Wait until the kernel takes more, or for ``timeout`` seconds.

        :return: whether it is worth writing.
        """
        raise NotImplementedError

    def new_lock(self) -> Lock:
        """Make a lock that excludes whatever this server runs handlers in."""
        raise NotImplementedError

    @staticmethod
    def new_event() -> Event:
        """Make an event that whatever this server runs handlers in can wait for."""
        raise NotImplementedError

    #: Connections with the same scheduler may be served by one background task.
    @property
    def scheduler(self) -> object:
        raise NotImplementedError

    @staticmethod
    def spawn(function: Callable[[], None]) -> Task:
        """Run ``function`` in the background, without keeping the process alive."""
        raise NotImplementedError

    @staticmethod
    def sleep(seconds: float) -> None:
        """Let others run. With 0, those that are ready to."""
        raise NotImplementedError


class GeventTransport(Transport):
    """For a gevent socket, whether or not the process is monkey-patched.

    A threading lock would not exclude two greenlets of one thread, or would freeze
    the thread, in a process that isn't patched: gevent's own are used everywhere.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._hub = gevent.get_hub()
        # Made once: that takes longer than most of the waiting.
        self._read_watcher: t.Any = None
        self._write_watcher: t.Any = None
        # gevent's methods would wait where these say that there is nothing.
        raw = getattr(sock, "_sock", None)
        if raw is not None and not self.is_tls:
            self._receive, self._send = raw.recv, raw.send
        self._fileno = sock.fileno if raw is None else raw.fileno

    def close(self) -> None:
        super().close()
        for watcher in (self._read_watcher, self._write_watcher):
            if watcher is not None:
                watcher.close()
        self._read_watcher = self._write_watcher = None

    def wait_readable(self, timeout: float | None) -> bool:
        if self._fileno() < 0:  # Closed by the server. The next use says so.
            return True
        if self._read_watcher is None:
            self._read_watcher = self._hub.loop.io(self._fileno(), 1)
        return self._wait(self._read_watcher, timeout)

    def wait_writable(self, timeout: float | None) -> bool:
        if self._fileno() < 0:
            return True
        if self._write_watcher is None:
            self._write_watcher = self._hub.loop.io(self._fileno(), 2)
        return self._wait(self._write_watcher, timeout)

    def _wait(self, watcher: t.Any, timeout: float | None) -> bool:
        if timeout is None:
            self._hub.wait(watcher)
            return True
        if timeout <= 0:
            return False
        with gevent.Timeout(timeout, False):  # type: ignore[arg-type]
            self._hub.wait(watcher)
            return True
        return False

    def new_lock(self) -> Lock:
        return t.cast(Lock, gevent.lock.Semaphore())

    @staticmethod
    def new_event() -> Event:
        return t.cast(Event, gevent.event.Event())

    @property
    def scheduler(self) -> object:
        return self._hub

    @staticmethod
    def spawn(function: Callable[[], None]) -> Task:
        return t.cast(Task, gevent.spawn(function))

    @staticmethod
    def sleep(seconds: float) -> None:
        gevent.sleep(seconds)


# poll() has no limit on descriptors; Windows has only select().
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class ThreadTransport(Transport):
    """For an ordinary socket, served by a thread."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        # OpenSSL allows one call at a time on a connection. None of them blocks.
        self._tls_lock = threading.Lock() if self.is_tls else contextlib.nullcontext()

    def receive(self, size: int) -> bytes | None:
        with self._tls_lock:
            return super().receive(size)

    def send(self, data: bytes | memoryview) -> int:
        with self._tls_lock:
            return super().send(data)

    def wait_readable(self, timeout: float | None) -> bool:
        return self._wait(selectors.EVENT_READ, timeout)

    def wait_writable(self, timeout: float | None) -> bool:
        return self._wait(selectors.EVENT_WRITE, timeout)

    def _wait(self, events: int, timeout: float | None) -> bool:
        fileno = self.socket.fileno()
        if fileno < 0:  # Closed by the server. The next read or write says so.
            return True
        with _Selector() as selector:
            selector.register(fileno, events)
            return bool(selector.select(timeout))

    def new_lock(self) -> Lock:
        return t.cast(Lock, threading.Lock())

    @staticmethod
    def new_event() -> Event:
        return threading.Event()

    @property
    def scheduler(self) -> object:
        return threading

    @staticmethod
    def spawn(function: Callable[[], None]) -> Task:
        thread = threading.Thread(target=function, name="flask-sockets", daemon=True)
        thread.start()
        return thread

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds)


def transport_for(sock: socket.socket) -> Transport:
    """Choose how to wait by the kind of socket the server uses."""
    if isinstance(sock, gevent.socket.socket):
        return GeventTransport(sock)
    return ThreadTransport(sock)
