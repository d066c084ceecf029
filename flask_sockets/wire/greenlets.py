"""Sockets of gevent: greenlets wait on their hub.

Nothing imports this but for a gevent socket.
"""

from __future__ import annotations

import typing as t

import gevent
import gevent.event
import gevent.lock
import gevent.monkey
import gevent.ssl

from .transport import Event, Lock, Task, Transport

if t.TYPE_CHECKING:
    import socket
    from collections.abc import Callable

# Those of real threads, also in a process that gevent has patched.
_allocate_lock = gevent.monkey.get_original("_thread", "allocate_lock")
_get_ident = gevent.monkey.get_original("_thread", "get_ident")


class GeventTransport(Transport):
    """For a gevent socket, whether or not the process is monkey-patched.

    A threading lock would not exclude two greenlets of one thread, or would freeze
    the thread, in a process that isn't patched: gevent's own are used everywhere.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, gevent.ssl.SSLSocket)
        self._hub = gevent.get_hub()
        self._thread = _get_ident()
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

    def watch_writable(self, callback: Callable[[], None]) -> None:
        if self._fileno() < 0:
            self.call_soon(callback)  # It finds that out.
            return
        if self._write_watcher is None:
            self._write_watcher = self._hub.loop.io(self._fileno(), 2)
        self._write_watcher.start(callback)

    def unwatch_writable(self) -> None:
        if self._write_watcher is not None:
            self._write_watcher.stop()

    @property
    def scheduler(self) -> object:
        return self._hub

    def call_soon(self, function: Callable[[], None]) -> None:
        if _get_ident() == self._thread:
            self._hub.loop.run_callback(function)
        else:
            self._hub.loop.run_callback_threadsafe(function)

    def new_lock(self) -> Lock:
        return t.cast(Lock, gevent.lock.Semaphore())

    def new_mutex(self) -> t.Any:
        return _allocate_lock()

    @staticmethod
    def new_event() -> Event:
        return t.cast(Event, gevent.event.Event())

    @staticmethod
    def spawn(function: Callable[[], None]) -> Task:
        return t.cast(Task, gevent.spawn(function))

    @staticmethod
    def sleep(seconds: float) -> None:
        gevent.sleep(seconds)
