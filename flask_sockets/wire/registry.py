"""The open connections of this process: each is looked after when that is due, and all
are told when the server stops.

A connection says when it wants to be looked after next. Until then it costs nothing,
however many there are.
"""

from __future__ import annotations

import atexit
import functools
import heapq
import itertools
import logging
import os
import time
import typing as t
import weakref

from .keepalive import NEVER

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .scheduler import Scheduler
    from .transport import Transport

logger = logging.getLogger(__name__)

#: How long a process that ends waits for connections it has just closed, in seconds.
GOODBYE = 1.0

#: How clients are closed when their server ends. The code 1012 means "come again"
#: (IANA's registry of close codes). Clients that reconnect by themselves, such as htmx
#: and sockette, do so then, and stay away after 1001.
SERVER_RESTART = (1012, "server restarting")

#: How many connections are looked after before others may run.
BATCH = 50

#: How often a server is asked whether it is stopping, in seconds.
STOP_INTERVAL = 0.4


class Connection(t.Protocol):
    """What is asked of a connection here. None of it may block."""

    transport: Transport

    @property
    def closed(self) -> object | None:
        """Not ``None`` if it is closed, or has started to."""

    def look_after(self, now: float) -> float:
        """Do what is due.

        :param now: what :func:`time.monotonic` says.
        :return: when to look again, :data:`.NEVER` if that isn't known yet.
        """

    def go_away(self, code: int, reason: str) -> None:
        """Start to close the connection."""

    def lose(self) -> None:
        """Cut the connection."""


class Entry:
    """A connection that is looked after."""

    __slots__ = ("connection", "due", "keeper")

    def __init__(self, keeper: Keeper, connection: Connection) -> None:
        self.keeper = keeper
        #: ``None`` once it is forgotten.
        self.connection: Connection | None = connection
        #: When it is looked after next.
        self.due = NEVER


class Keeper:
    """The connections of one scheduler, and when they are looked after."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.entries: set[Entry] = set()
        # By time. An entry is here once for each time it got earlier, and what was
        # forgotten stays until it would be due.
        self._queue: list[tuple[float, int, Entry]] = []
        self._numbers = itertools.count()
        self._mutex = scheduler.new_mutex()
        self._alarm = scheduler.new_alarm(self._run)
        self._alarm_at = NEVER
        self._next_stop_check = NEVER
        _keepers.add(self)

    def keep(self, connection: Connection) -> Entry:
        """Look after a connection, when it wants that."""
        entry = Entry(self, connection)

        with self._mutex:
            if not self.entries:
                self.scheduler.begin()

            self.entries.add(entry)
            starts = _is_stopping is not None and self._next_stop_check == NEVER

            if starts:
                self._next_stop_check = time.monotonic() + STOP_INTERVAL

        if starts:
            self.scheduler.run_or_call_soon(self._set_alarm)

        return entry

    def forget(self, entry: Entry) -> None:
        """Stop looking after a connection that has ended."""
        entry.connection = None

        with self._mutex:
            if entry in self.entries:
                self.entries.remove(entry)

                if not self.entries:
                    self._queue.clear()
                    self._next_stop_check = self._alarm_at = NEVER
                    self.scheduler.end()

    def wake(self, entry: Entry, when: float) -> None:
        """Look after a connection at a time, unless that is done before anyway."""
        with self._mutex:
            if when >= entry.due or entry.connection is None:
                return

            self._push(entry, when)
            is_first = when < self._alarm_at

        if is_first:
            # On the hub: its timers are nothing for other threads.
            self.scheduler.run_or_call_soon(self._set_alarm)

    def _push(self, entry: Entry, when: float) -> None:
        entry.due = when
        heapq.heappush(self._queue, (when, next(self._numbers), entry))

    def _set_alarm(self) -> None:
        with self._mutex:
            when = self._queue[0][0] if self._queue else NEVER
            when = min(when, self._next_stop_check)
            self._alarm_at = when
            self._alarm.set(when)

    def _run(self) -> None:
        """Look after those that are due. Called on the scheduler."""
        now = time.monotonic()

        if now >= self._next_stop_check:
            self._next_stop_check = now + STOP_INTERVAL

            if _is_stopping is not None and _is_stopping():
                self.close_all(*SERVER_RESTART)

        for _ in range(BATCH):
            entry = self._pop(now)

            if entry is None:
                break

            connection = entry.connection

            if connection is not None:
                self._look_after(entry, connection, now)

        self._set_alarm()

    def _pop(self, now: float) -> Entry | None:
        """The next connection that is due."""
        with self._mutex:
            while self._queue and self._queue[0][0] <= now:
                when, _, entry = heapq.heappop(self._queue)

                if when == entry.due:
                    entry.due = NEVER
                    return entry

        return None

    def _look_after(self, entry: Entry, connection: Connection, now: float) -> None:
        try:
            when = connection.look_after(now)
        except BaseException:  # The others are looked after all the same.
            logger.exception("Looking after a WebSocket failed.")
            when = now + 1

        with self._mutex:
            if when < entry.due and entry.connection is not None:
                self._push(entry, when)

    def connections(self) -> list[Connection]:
        with self._mutex:
            return [e.connection for e in self.entries if e.connection is not None]

    def untold(self) -> list[Connection]:
        """The connections that nobody has started to close."""
        return [c for c in self.connections() if c.closed is None]

    def close_all(self, code: int, reason: str) -> None:
        """Close the connections of this scheduler, on which it has to be called."""
        close_each(self.connections(), code, reason)

    def cut_all(self) -> None:
        """Cut them. On the scheduler as well."""
        for connection in self.connections():
            connection.lose()


def close_each(connections: Iterable[Connection], code: int, reason: str) -> None:
    """Close connections of one scheduler, on which it has to be called."""
    for connection in connections:
        try:
            connection.go_away(code, reason)
        except Exception:  # The others are told all the same.
            logger.exception("Closing a WebSocket failed.")


_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()

_is_stopping: Callable[[], bool] | None = None


def keeper_for(scheduler: Scheduler) -> Keeper:
    """The keeper of a scheduler, of which each has one."""
    if scheduler.keeper is None:
        scheduler.keeper = Keeper(scheduler)

    return scheduler.keeper


def watch_for_stop(is_stopping: Callable[[], bool]) -> None:
    """Close all connections when a function says that the server is stopping.

    For servers that tell nobody. It is called every now and then while connections
    are open, and must not block.
    """
    global _is_stopping
    _is_stopping = is_stopping


def close_all(code: int, reason: str = "") -> None:
    """Tell every open WebSocket of this process that the server goes away.

    Returns at once, and may be called from any thread. Connections whose client
    doesn't answer are cut a little later.

    :param code: the close code: 1012 when the server stops or restarts.
    :param reason: up to 123 bytes of UTF-8.
    """
    for keeper in list(_keepers):
        if not keeper.entries:
            continue

        keeper.scheduler.run_or_call_soon(
            functools.partial(keeper.close_all, code, reason)
        )


def close_some(limit: int, code: int, reason: str = "") -> None:
    """Tell some of those that :func:`close_all` would tell, and that aren't closing.

    :param limit: how many.
    """
    for keeper in list(_keepers):
        some = keeper.untold()[:limit]
        limit -= len(some)

        if some:
            keeper.scheduler.run_or_call_soon(
                functools.partial(close_each, some, code, reason)
            )


def untold_count() -> int:
    """How many WebSockets of this process are open, and nobody has started to close."""
    return sum(len(keeper.untold()) for keeper in list(_keepers))


def cut_all() -> None:
    """Cut all WebSockets of this process, so that their handlers find the end.

    Returns at once, and may be called from any thread.
    """
    for keeper in list(_keepers):
        if keeper.entries:
            keeper.scheduler.run_or_call_soon(keeper.cut_all)


def open_count() -> int:
    """How many WebSockets of this process are open or still closing."""
    return sum(len(keeper.entries) for keeper in list(_keepers))


def _reset() -> None:
    """A forked process has its parent's connections in memory, and its greenlets,
    but not its threads. The connections are the parent's to look after."""
    for keeper in list(_keepers):
        for entry in keeper.entries:
            if entry.connection is not None:
                entry.connection.transport.abandon()

            entry.connection = None

        keeper.scheduler.abandon()

    _keepers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)


@atexit.register
def _say_goodbye() -> None:
    """A server may stop without telling us, as that of 'flask run' does.

    Give the handlers a moment: a socket that is cut while there is something to read
    is reset, and the client may lose the Close frame.
    """
    connections = [c for keeper in list(_keepers) for c in keeper.connections()]
    untold = [connection for connection in connections if connection.closed is None]
    close_all(*SERVER_RESTART)
    deadline = time.monotonic() + GOODBYE

    while untold and open_count() and time.monotonic() < deadline:
        untold[0].transport.sleep(0.01)
        # A handshake may have been under way.
        close_all(*SERVER_RESTART)
