"""Where the handlers of some connections run: on a hub of gevent, or in threads."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from .registry import Keeper


class Alarm(t.Protocol):
    """Calls a function at a time."""

    def set(self, when: float) -> None:
        """Call it at ``when``, in the terms of :func:`time.monotonic`, and not at the
        time that was set before."""


class Scheduler:
    """Where the handlers of some connections run. Compare them by identity."""

    #: Whether it is a hub, on which nothing may block, or all threads.
    is_hub = False

    #: Looks after the connections, once there are any.
    keeper: Keeper | None = None

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a function here, from any thread.

        On a hub it is called in the next turn of the loop, in whose greenlet it must
        not block. Threads have no such place: there it is called at once.
        """
        raise NotImplementedError

    def run_or_call_soon(self, function: Callable[[], None]) -> None:
        """Call a function at once if this is its place, or soon."""
        raise NotImplementedError

    def enter(self) -> bool:
        """Let others run, if whoever calls this has run for a long time.

        :return: whether this thread may use connections: on gevent that of the hub.
        """
        raise NotImplementedError

    def is_turn_over(self) -> bool:
        """Whether others should run. For those that can't wait."""
        raise NotImplementedError

    def new_alarm(self, function: Callable[[], None]) -> Alarm:
        """Make an alarm that calls a function here. It must not block."""
        raise NotImplementedError

    def new_mutex(self) -> t.Any:
        """Make a lock that is held for an instant only, and never while greenlets can
        switch. It excludes threads, so that nobody has to wait for it on a hub."""
        raise NotImplementedError

    def begin(self) -> None:
        """Take note that there is a connection now.

        :raises RuntimeError: if there can't be another thread.
        """

    def end(self) -> None:
        """Take note that there is no connection any more."""

    def dismiss(self, timeout: float) -> None:
        """End what runs for connections, if there is none any more.

        That happens by itself, but a little later. For tests, which are to leave
        nothing behind.

        :param timeout: seconds to wait at most.
        """

    def abandon(self) -> None:
        """Forget everything, which is the parent's of this forked process."""
