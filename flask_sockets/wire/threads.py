"""Ordinary sockets: threads wait, and one more watches what no thread waits for."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import selectors
import socket
import threading
import time
import typing as t

from .transport import Event, Lock, Task, Transport

if t.TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# poll() has no limit on descriptors; Windows has only select().
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Watchman:
    """The thread that watches sockets which no other thread waits for.

    There is one for the process, and it runs only while there is something to watch.
    """

    def __init__(self) -> None:
        # Held by whoever changes what is watched. Never while waiting.
        self._lock = threading.Lock()
        self._selector: selectors.BaseSelector | None = None
        self._callbacks: dict[tuple[int, int], Callable[[], None]] = {}
        self._wake_up: socket.socket | None = None

    def watch(self, fileno: int, event: int, callback: Callable[[], None]) -> None:
        """Call a function again and again while a socket is ready.

        :param event: of :mod:`selectors`.
        :raises RuntimeError: if there can't be another thread.
        """
        with self._lock:
            if self._selector is None:
                self._start()
            self._callbacks[fileno, event] = callback
            self._register(fileno)
            self._wake()

    def unwatch(self, fileno: int, event: int) -> None:
        """Don't watch a socket any more. To be called before it is closed."""
        with self._lock:
            if self._callbacks.pop((fileno, event), None) is not None:
                self._register(fileno)
                if not self._callbacks:
                    self._wake()  # It ends.

    def _register(self, fileno: int) -> None:
        """Tell the selector what is watched."""
        assert self._selector is not None
        events = sum(
            event
            for event in (selectors.EVENT_READ, selectors.EVENT_WRITE)
            if (fileno, event) in self._callbacks
        )
        with contextlib.suppress(KeyError):
            self._selector.unregister(fileno)
        if events:
            self._selector.register(fileno, events)

    def _start(self) -> None:
        selector = selectors.DefaultSelector()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        selector.register(theirs, selectors.EVENT_READ)
        self._selector, self._wake_up = selector, ours
        thread = threading.Thread(
            target=functools.partial(self._run, selector, ours, theirs),
            name="flask-sockets",
            daemon=True,
        )
        try:
            thread.start()
        except BaseException:
            self._stop(selector, ours, theirs)
            raise

    def _wake(self) -> None:
        assert self._wake_up is not None
        with contextlib.suppress(BlockingIOError):  # It is about to wake up.
            self._wake_up.send(b"\0")

    def _stop(self, selector: selectors.BaseSelector, *pair: socket.socket) -> None:
        self._selector = self._wake_up = None
        selector.close()
        for sock in pair:
            sock.close()

    def _run(
        self, selector: selectors.BaseSelector, ours: socket.socket, own: socket.socket
    ) -> None:
        while True:
            ready = selector.select()
            with self._lock:
                if not self._callbacks:
                    self._stop(selector, ours, own)
                    return
                callbacks = [
                    callback
                    for key, mask in ready
                    for event in (selectors.EVENT_READ, selectors.EVENT_WRITE)
                    if mask & event
                    and (callback := self._callbacks.get((key.fd, event))) is not None
                ]
            with contextlib.suppress(BlockingIOError):
                own.recv(4096)
            for callback in callbacks:
                try:
                    callback()
                except BaseException:  # The others are served all the same.
                    logger.exception("Looking after a WebSocket failed.")


_watchman = Watchman()


def _reset() -> None:
    """A forked process has its parent's connections in memory, but not its threads."""
    global _watchman
    _watchman = Watchman()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)


class ThreadTransport(Transport):
    """For an ordinary socket, served by a thread."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        # OpenSSL allows one call at a time on a connection. None of them blocks.
        self._tls_lock = threading.Lock() if self.is_tls else contextlib.nullcontext()
        self._watchman = _watchman
        self._fileno = -1

    def close(self) -> None:
        self.unwatch_writable()
        super().close()

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

    def watch_writable(self, callback: Callable[[], None]) -> None:
        self._fileno = self.socket.fileno()
        if self._fileno < 0:
            self.spawn(callback)  # It finds that out.
        else:
            self._watchman.watch(self._fileno, selectors.EVENT_WRITE, callback)

    def unwatch_writable(self) -> None:
        if self._fileno >= 0:
            self._watchman.unwatch(self._fileno, selectors.EVENT_WRITE)
            self._fileno = -1  # Soon another socket may have this number.

    @property
    def scheduler(self) -> object:
        return threading

    def call_soon(self, function: Callable[[], None]) -> None:
        function()

    def new_lock(self) -> Lock:
        return t.cast(Lock, threading.Lock())

    def new_mutex(self) -> t.Any:
        return threading.Lock()

    @staticmethod
    def new_event() -> Event:
        return threading.Event()

    @staticmethod
    def spawn(function: Callable[[], None]) -> Task:
        thread = threading.Thread(target=function, name="flask-sockets", daemon=True)
        thread.start()
        return thread

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds)
