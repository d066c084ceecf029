"""The open WebSockets of this process: kept alive, and told when the server stops.

One background task serves all connections of a gevent hub, or all connections of
the threads of the process. It runs only while there are connections.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import typing as t
import weakref

from ..serving import handover as servers

if t.TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from .transport import Event, Task, Transport

logger = logging.getLogger(__name__)

#: How often each connection is looked after, in seconds. A handler that never
#: receives learns within this time that its client has gone.
INTERVAL = 0.4

#: How long a process that ends waits for connections it has just closed, in seconds.
GOODBYE = 1.0

#: How clients are closed when their server ends. The code 1012 means "come again"
#: (IANA's registry of close codes). Clients that reconnect by themselves, such as htmx
#: and sockette, do so then, and stay away after 1001.
SERVER_RESTART = (1012, "server restarting")

#: How many connections are looked after before others may run.
BATCH = 50


class KeptConnection(t.Protocol):
    """What the keeper asks of a connection. None of it may block."""

    transport: Transport

    @property
    def is_closed(self) -> bool:
        """Whether it is closed, or has started to."""

    def look_after(self, now: float) -> None:
        """Read what has come, answer pings, send pings, cut what is overdue.

        :param now: what :func:`time.monotonic` says.
        """

    def go_away(self, code: int, reason: str) -> None:
        """Start to close the connection."""


class _Keeper:
    """The connections of one scheduler, and the task that looks after them."""

    def __init__(self) -> None:
        self.connections: set[KeptConnection] = set()
        self.is_running = False
        self.task: Task | None = None
        #: Makes the task look at once whether it is still needed.
        self.wake: Event | None = None

    def run(self, sleep: Callable[[float], None], wake: Event) -> None:
        while True:
            wake.wait(INTERVAL)
            wake.clear()
            with _lock:
                if not self.connections:
                    self.is_running = False
                    return
            if servers.is_stopping():
                close_all(*SERVER_RESTART)
            self.make_rounds(sleep)

    def make_rounds(self, sleep: Callable[[float], None]) -> None:
        with _lock:
            connections = list(self.connections)
        for number, connection in enumerate(connections, 1):
            try:
                connection.look_after(time.monotonic())
            except Exception:
                logger.exception("Looking after a WebSocket failed.")
            if number % BATCH == 0:
                sleep(0)


# Held for an instant only, and never while greenlets can switch.
_lock = threading.Lock()
# By scheduler. A hub goes with its thread.
_keepers: MutableMapping[object, _Keeper] = weakref.WeakKeyDictionary()


def keep(connection: KeptConnection) -> None:
    """Look after a connection from now on."""
    transport = connection.transport
    with _lock:
        keeper = _keepers.get(transport.scheduler)
        if keeper is None:
            keeper = _keepers[transport.scheduler] = _Keeper()
        keeper.connections.add(connection)
        start = not keeper.is_running
        keeper.is_running = True
    if not start:
        return
    sleep = transport.sleep  # All there is to keep of this one.
    keeper.wake = wake = transport.new_event()
    try:
        keeper.task = transport.spawn(lambda: keeper.run(sleep, wake))
    except BaseException:  # There may be too many threads.
        with _lock:
            keeper.connections.discard(connection)
            keeper.is_running = False
        raise


def forget(connection: KeptConnection) -> None:
    """Stop looking after a connection that has ended."""
    with _lock:
        keeper = _keepers.get(connection.transport.scheduler)
        if keeper is not None:
            keeper.connections.discard(connection)


def dismiss(scheduler: object, timeout: float = GOODBYE) -> None:
    """End the background task now, if it has nothing to look after.

    Otherwise, or if this isn't called, it ends by itself. For tests, which are to
    leave nothing behind.

    :param timeout: seconds to wait at most.
    """
    with _lock:
        keeper = _keepers.get(scheduler)
        if keeper is None or not keeper.is_running or keeper.connections:
            return
        task, wake = keeper.task, keeper.wake
    if task is not None and wake is not None:
        wake.set()
        task.join(timeout)


def close_all(code: int, reason: str = "") -> None:
    """Tell every open WebSocket of this process that the server goes away.

    Returns at once. Connections whose client doesn't answer are cut a little later.

    :param code: the close code. See :data:`SERVER_RESTART`.
    :param reason: up to 123 bytes of UTF-8.
    """
    with _lock:
        connections = [c for k in _keepers.values() for c in k.connections]
    for connection in connections:
        try:
            connection.go_away(code, reason)
        except Exception:  # The others are told all the same.
            logger.exception("Closing a WebSocket failed.")


def open_count() -> int:
    """How many WebSockets of this process are open or still closing."""
    with _lock:
        return sum(len(keeper.connections) for keeper in _keepers.values())


def _reset() -> None:
    """A forked process has its parent's connections in memory, and its greenlets,
    but not its threads. The connections are the parent's to look after."""
    global _lock
    _lock = threading.Lock()
    for keeper in _keepers.values():
        keeper.connections.clear()
    _keepers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)


@atexit.register
def _say_goodbye() -> None:
    """A server may stop without telling us, as that of 'flask run' does.

    Give the handlers a moment: a socket that is cut while there is something to read
    is reset, and the client may lose the Close frame.
    """
    with _lock:
        connections = [c for k in _keepers.values() for c in k.connections]
    untold = [connection for connection in connections if not connection.is_closed]
    close_all(*SERVER_RESTART)
    deadline = time.monotonic() + GOODBYE
    while untold and open_count() and time.monotonic() < deadline:
        untold[0].transport.sleep(0.01)
        # A handshake may have been under way.
        close_all(*SERVER_RESTART)
