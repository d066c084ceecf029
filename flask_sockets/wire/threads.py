"""Ordinary sockets: threads wait, and one more watches what no thread waits for."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
import typing as t

from .keepalive import NEVER
from .scheduler import Scheduler
from .transport import Event, Lock, Task, Transport

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from .scheduler import Alarm

    T = t.TypeVar("T")

logger = logging.getLogger(__name__)

# poll() has no limit on descriptors; Windows has only select().
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)

_EVENTS = (selectors.EVENT_READ, selectors.EVENT_WRITE)


class Threads(Scheduler):
    """The threads of the process, and one more that watches sockets for them.

    That one runs only while there is something to watch, or a connection.
    """

    def __init__(self) -> None:
        # Held by whoever changes what is watched. Never while waiting.
        self._lock = threading.Lock()
        self._watch: _Watch | None = None
        self._callbacks: dict[tuple[int, int], Callable[[], None]] = {}
        self._alarms: dict[_Alarm, float] = {}
        self._has_connections = False

    def watch(self, fileno: int, event: int, callback: Callable[[], None]) -> None:
        """Call a function again and again while a socket is ready.

        :param event: of :mod:`selectors`.
        :raises RuntimeError: if there can't be another thread.
        """
        with self._lock:
            watch = self._start()
            self._callbacks[fileno, event] = callback
            self._register(watch, fileno)
            watch.wake_up()

    def unwatch(self, fileno: int, event: int) -> None:
        """Don't watch a socket any more. To be called before it is closed."""
        with self._lock:
            if self._callbacks.pop((fileno, event), None) is not None:
                assert self._watch is not None
                self._register(self._watch, fileno)

                if not self._is_needed():
                    self._watch.wake_up()

    def set_alarm(self, alarm: _Alarm, when: float) -> None:
        with self._lock:
            if when == NEVER:
                self._alarms.pop(alarm, None)
                return

            is_first = when < min(self._alarms.values(), default=NEVER)
            self._alarms[alarm] = when

            if is_first:
                self._start().wake_up()

    def begin(self) -> None:
        with self._lock:
            self._start()
            self._has_connections = True

    def end(self) -> None:
        with self._lock:
            self._has_connections = False
            self._alarms.clear()

            if self._watch is not None and not self._is_needed():
                self._watch.wake_up()

    def call_soon(self, function: Callable[[], None]) -> None:
        function()

    def run_or_call_soon(self, function: Callable[[], None]) -> None:
        function()

    def enter(self) -> bool:
        return True  # The operating system lets others run.

    def is_turn_over(self) -> bool:
        return False

    def new_alarm(self, function: Callable[[], None]) -> Alarm:
        return _Alarm(self, function)

    def new_mutex(self) -> t.Any:
        return threading.Lock()

    def abandon(self) -> None:
        global _threads
        _threads = Threads()

    def dismiss(self, timeout: float) -> None:
        with self._lock:
            watch = self._watch

            if watch is None or self._is_needed():
                return

        watch.thread.join(timeout)

    # With the lock held

    def _is_needed(self) -> bool:
        return bool(self._callbacks) or self._has_connections

    def _start(self) -> _Watch:
        if self._watch is None:
            self._watch = _Watch(self._run)

        return self._watch

    def _register(self, watch: _Watch, fileno: int) -> None:
        """Tell the selector what is watched."""
        events = sum(event for event in _EVENTS if (fileno, event) in self._callbacks)

        with contextlib.suppress(KeyError):
            watch.selector.unregister(fileno)

        if events:
            watch.selector.register(fileno, events)

    # In the thread

    def _run(self, watch: _Watch) -> None:
        while True:
            with self._lock:
                if not self._is_needed():
                    self._watch = None
                    watch.close()
                    return

                when = min(self._alarms.values(), default=NEVER)

            ready = watch.wait(when)
            now = time.monotonic()

            with self._lock:
                functions = [a.function for a, w in self._alarms.items() if w <= now]

                for alarm in [a for a, w in self._alarms.items() if w <= now]:
                    del self._alarms[alarm]

                functions += [
                    callback
                    for fileno, mask in ready
                    for event in _EVENTS
                    if mask & event
                    and (callback := self._callbacks.get((fileno, event))) is not None
                ]

            for function in functions:
                try:
                    function()
                except BaseException:  # The others are served all the same.
                    logger.exception("Looking after a WebSocket failed.")


class _Watch:
    """The thread, and what it needs while it runs.

    :param run: what it does, called with this.
    """

    def __init__(self, run: Callable[[_Watch], None]) -> None:
        self.selector = selectors.DefaultSelector()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self.selector.register(self._theirs, selectors.EVENT_READ)
        self.thread = threading.Thread(
            target=run, args=(self,), name="flask-sockets", daemon=True
        )

        try:
            self.thread.start()
        except BaseException:
            self.close()
            raise

    def wait(self, when: float) -> list[tuple[int, int]]:
        """Wait for sockets, or for a time, and say which are ready for what."""
        timeout = None if when == NEVER else max(0.0, when - time.monotonic())
        ready = [(key.fd, mask) for key, mask in self.selector.select(timeout)]

        with contextlib.suppress(BlockingIOError):
            self._theirs.recv(4096)

        return ready

    def wake_up(self) -> None:
        if threading.current_thread() is not self.thread:
            with contextlib.suppress(BlockingIOError):  # It is about to wake up.
                self._ours.send(b"\0")

    def close(self) -> None:
        self.selector.close()
        self._ours.close()
        self._theirs.close()


class _Alarm:
    """An alarm that the thread sees to."""

    def __init__(self, threads: Threads, function: Callable[[], None]) -> None:
        self._threads = threads
        self.function = function

    def set(self, when: float) -> None:
        self._threads.set_alarm(self, when)


_threads = Threads()


class ThreadTransport(Transport):
    """For an ordinary socket, served by a thread."""

    scheduler: Threads

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)

        if self.is_tls:
            # OpenSSL allows one call at a time on a connection. None of them blocks.
            self._tls_lock = threading.Lock()
            self.raw_receive, self.raw_send = self._receive_tls, self._send_tls

        self.scheduler = _threads
        # What is watched of it, by event.
        self._watched: dict[int, int] = {}

    def close(self) -> None:
        self.unwatch_readable()
        self.unwatch_writable()
        super().close()

    def abandon(self) -> None:
        pass  # The thread isn't there.

    def _receive_tls(self, size: int) -> bytes:
        with self._tls_lock:
            return self.socket.recv(size)

    def _send_tls(self, data: bytes | memoryview) -> int:
        with self._tls_lock:
            return self.socket.send(data)

    def wait_readable(self, timeout: float | None = None) -> bool:
        return self._wait(selectors.EVENT_READ, timeout)

    def wait_writable(self, timeout: float | None = None) -> bool:
        return self._wait(selectors.EVENT_WRITE, timeout)

    def _wait(self, events: int, timeout: float | None) -> bool:
        fileno = self.socket.fileno()

        if fileno < 0:  # Closed by the server. The next read or write says so.
            return True

        with _Selector() as selector:
            selector.register(fileno, events)
            return bool(selector.select(timeout))

    def watch_readable(self, callback: Callable[[], None]) -> None:
        self._begin_to_watch(selectors.EVENT_READ, callback)

    def unwatch_readable(self) -> None:
        self._unwatch(selectors.EVENT_READ)

    def watch_writable(self, callback: Callable[[], None]) -> None:
        self._begin_to_watch(selectors.EVENT_WRITE, callback)

    def unwatch_writable(self) -> None:
        self._unwatch(selectors.EVENT_WRITE)

    def _begin_to_watch(self, event: int, callback: Callable[[], None]) -> None:
        fileno = self.socket.fileno()

        if fileno < 0:  # Closed by the server, which the function finds out.
            self.spawn(callback)
        else:
            self._watched[event] = fileno
            self.scheduler.watch(fileno, event, callback)

    def _unwatch(self, event: int) -> None:
        # Soon another socket may have the same number.
        fileno = self._watched.pop(event, None)

        if fileno is not None:
            self.scheduler.unwatch(fileno, event)

    def run_aside(self, function: Callable[[], T]) -> T:
        return function()

    def new_lock(self) -> Lock:
        return t.cast(Lock, threading.Lock())

    @staticmethod
    def identify() -> int:
        return threading.get_ident()

    @staticmethod
    def new_event() -> Event:
        return threading.Event()

    @staticmethod
    def new_thread_event() -> Event:
        return threading.Event()

    @staticmethod
    def spawn(function: Callable[[], None]) -> Task:
        thread = threading.Thread(target=function, name="flask-sockets", daemon=True)
        thread.start()
        return thread

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds)
