"""Sockets of gevent: greenlets wait on their hub.

Nothing imports this but for a gevent socket.
"""

from __future__ import annotations

import time
import typing as t

import gevent
import gevent.event
import gevent.lock
import gevent.monkey
import gevent.ssl

from .keepalive import NEVER
from .scheduler import Scheduler
from .transport import Event, Lock, Task, Transport

if t.TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from .scheduler import Alarm

    T = t.TypeVar("T")

# What tells real threads apart, also in a process that gevent has patched.
_allocate_lock = gevent.monkey.get_original("_thread", "allocate_lock")
_now = time.monotonic
_get_ident: Callable[[], int] = gevent.monkey.get_original("_thread", "get_ident")
_local = gevent.monkey.get_original("_thread", "_local")()

#: How long a hub may run greenlets without looking at its sockets, in seconds, before
#: a greenlet that uses a WebSocket lets it do so.
TURN = 0.005

#: How long a greenlet sleeps for that. Sleeping for 0 seconds lets other greenlets run,
#: but the hub doesn't look at its sockets.
_AN_INSTANT = 1e-9


# What a hub can watch a socket for.
_READ, _WRITE = 1, 2


class Hub(Scheduler):
    """A hub of gevent as far as WebSockets use it."""

    is_hub = True

    def __init__(self, hub: t.Any) -> None:
        self.hub = hub
        self.thread = _get_ident()
        #: When the turn ends. ``None`` if it begins with the next use of a WebSocket,
        #: since the hub has looked at its sockets.
        self.turn_end: float | None = None

    def enter(self) -> bool:
        now = _now()
        end = self.turn_end

        if end is None:
            self.turn_end = now + TURN
        elif now >= end:
            if _get_ident() != self.thread:
                return False

            if self._looked_lately():
                self.turn_end = now + TURN
            else:
                gevent.sleep(_AN_INSTANT)
                self.turn_end = None

            return True

        return _get_ident() == self.thread

    def _looked_lately(self) -> bool:
        """Whether the hub has looked at its sockets though no WebSocket was waited for.

        libev says when that was, in the terms of :func:`time.time`. libuv doesn't.
        """
        return bool(0 <= time.time() - self.hub.loop.now() < TURN)

    def is_turn_over(self) -> bool:
        end = self.turn_end

        if end is None:
            self.turn_end = _now() + TURN
            return False

        return _now() >= end and not self._looked_lately()

    def call_soon(self, function: Callable[[], None]) -> None:
        loop = self.hub.loop

        if loop is None:
            return  # The hub is gone, and all that was on it.

        if _get_ident() == self.thread:
            loop.run_callback(function)
        else:
            loop.run_callback_threadsafe(function)

    def run_or_call_soon(self, function: Callable[[], None]) -> None:
        if _get_ident() == self.thread:
            function()
        else:
            self.call_soon(function)

    def new_alarm(self, function: Callable[[], None]) -> Alarm:
        return _Timer(self.hub, function)

    def new_mutex(self) -> t.Any:
        return _allocate_lock()

    def abandon(self) -> None:
        if _local.__dict__.get("hub") is self:
            del _local.hub


class _Timer:
    """An alarm on a hub. It doesn't keep the hub running."""

    def __init__(self, hub: t.Any, function: Callable[[], None]) -> None:
        self._hub = hub
        self._function = function
        self._timer: t.Any = None

    def set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

        if when != NEVER:
            # Not zero: then the hub wouldn't look at its sockets meanwhile.
            seconds = max(_AN_INSTANT, when - time.monotonic())
            self._timer = self._hub.loop.timer(seconds, ref=False)
            self._timer.start(self._function, update=True)


def _this_hub() -> Hub:
    """The scheduler of this thread's hub, of which each has one."""
    hub = gevent.get_hub()
    scheduler: Hub | None = getattr(_local, "hub", None)

    if scheduler is None or scheduler.hub is not hub:
        scheduler = _local.hub = Hub(hub)

    return scheduler


class _ThreadEvent:
    """An event that is set once, and that a real thread waits for."""

    def __init__(self) -> None:
        self._lock = _allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        self._lock.release()

    def wait(self) -> None:
        self._lock.acquire()


class GeventTransport(Transport):
    """For a gevent socket, whether or not the process is monkey-patched.

    A threading lock would not exclude two greenlets of one thread, or would freeze
    the thread, in a process that isn't patched: gevent's own are used everywhere.
    """

    scheduler: Hub

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, gevent.ssl.SSLSocket)
        self.scheduler = _this_hub()
        self._hub = self.scheduler.hub
        # Made once: that takes longer than most of the waiting.
        self._read_watcher: t.Any = None
        self._write_watcher: t.Any = None
        # gevent's methods would wait where these say that there is nothing.
        raw = getattr(sock, "_sock", None)

        if raw is not None and not self.is_tls:
            self.raw_receive, self.raw_send = raw.recv, raw.send
            self.send_on_hub = raw.send
            self.fileno = raw.fileno

    def close(self) -> None:
        super().close()

        for watcher in (self._read_watcher, self._write_watcher):
            if watcher is not None:
                watcher.close()

        self._read_watcher = self._write_watcher = None

    def abandon(self) -> None:
        self.unwatch_readable()
        self.unwatch_writable()

    def wait_readable(self, timeout: float | None = None) -> bool:
        watcher = self._read_watcher

        if watcher is None:
            watcher = self._read_watcher = self._new_watcher(_READ)

            if watcher is None:
                return True

        if timeout is None:
            self._hub.wait(watcher)
            self.scheduler.turn_end = None
            return True

        return self._wait(watcher, timeout)

    def wait_writable(self, timeout: float | None = None) -> bool:
        if self._write_watcher is None:
            self._write_watcher = self._new_watcher(_WRITE)

        return self._write_watcher is None or self._wait(self._write_watcher, timeout)

    def _wait(self, watcher: t.Any, timeout: float | None) -> bool:
        if timeout is None:
            self._hub.wait(watcher)
            return True

        if timeout <= 0:
            return False

        self.scheduler.turn_end = None

        with gevent.Timeout(timeout, False):  # type: ignore[arg-type]
            self._hub.wait(watcher)
            return True

        return False

    def watch_readable(self, callback: Callable[[], None]) -> None:
        self._read_watcher = self._start(self._read_watcher, _READ, callback)

    def unwatch_readable(self) -> None:
        if self._read_watcher is not None:
            self._read_watcher.stop()

    def watch_writable(self, callback: Callable[[], None]) -> None:
        self._write_watcher = self._start(self._write_watcher, _WRITE, callback)

    def unwatch_writable(self) -> None:
        if self._write_watcher is not None:
            self._write_watcher.stop()

    def _new_watcher(self, event: int) -> t.Any:
        """Make a watcher, or ``None`` for a socket that the server has closed, of which
        the next use says so."""
        return None if self.fileno() < 0 else self._hub.loop.io(self.fileno(), event)

    def _start(self, watcher: t.Any, event: int, callback: Callable[[], None]) -> t.Any:
        """Start a watcher, which is made if it isn't yet."""
        if watcher is None:
            watcher = self._new_watcher(event)

        if watcher is None:
            self.call_soon(callback)
        else:
            watcher.start(callback)

        return watcher

    def run_aside(self, function: Callable[[], T]) -> T:
        return t.cast("T", self._hub.threadpool.apply(function))

    def new_lock(self) -> Lock:
        return t.cast(Lock, gevent.lock.Semaphore())

    @staticmethod
    def identify() -> int:
        return id(gevent.getcurrent())

    @staticmethod
    def new_event() -> Event:
        return t.cast(Event, gevent.event.Event())

    @staticmethod
    def new_thread_event() -> _ThreadEvent:
        # One of gevent's would wait on a hub of the thread's own.
        return _ThreadEvent()

    @staticmethod
    def spawn(function: Callable[[], None]) -> Task:
        return t.cast(Task, gevent.spawn(function))

    @staticmethod
    def sleep(seconds: float) -> None:
        # Sleeping for 0 seconds would let other greenlets run, but not the hub look at
        # its sockets.
        gevent.sleep(max(_AN_INSTANT, seconds))
