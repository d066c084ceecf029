"""The sockets that one scheduler serves: what is to be delivered to them, and when."""

from __future__ import annotations

import collections
import time
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire.transport import Transport
    from .groups import Batch, Group
    from .subscriber import Subscriber

#: How long it takes to deliver, in seconds, where a hub waits for more that it can
#: deliver at once, and the longest such time that counts.
MIN_TURN_TIME = 0.001
MAX_TURN_TIME = 0.02

#: How many sockets of a scheduler are closed at once, and how long until the next ones
#: are, in seconds. All of them may come back at once.
MAX_ENDINGS = 50
ENDING_INTERVAL = 0.05


class Lane:
    """What is to be delivered to the sockets that one scheduler serves.

    For gevent the hub delivers it, in the next turn of its loop. For threads the
    publisher does, along with what others publish at the same time.

    Where that takes long, as there are many sockets, a hub waits a little for more, so
    that it has less to do: to deliver ten publications at once takes not much longer
    than one.

    :param transport: that of one of the sockets.
    :param deliver: delivers what is pending. Called by whoever holds the turn.
    :param end_turn: called when a turn has ended.
    """

    def __init__(
        self,
        transport: Transport,
        deliver: Callable[[Lane], None],
        end_turn: Callable[[Lane], None],
    ) -> None:
        self._deliver = deliver
        self._end_turn = end_turn
        self._scheduler = transport.scheduler
        #: Held by whoever delivers. Greenlets never switch meanwhile.
        self.turn = transport.new_lock()
        # What these hold is changed under the mutex of the fan-out.
        self.group_count = 0
        self.pending: dict[Group, Batch] = {}
        #: How much is pending, in bytes.
        self.size = 0
        #: Subscribers for which more was kept than is allowed.
        self.slow: list[Subscriber] = []
        #: Subscribers that are to be closed, because of which topic, and how.
        self.ending: list[tuple[Subscriber, Group, int, str]] = []
        #: Subscribers that are to be closed, and have got everything.
        self.ended: collections.deque[tuple[Subscriber, int, str]] = collections.deque()
        #: When some of these may be closed, and what sees to that.
        self.next_ending = 0.0
        self.alarm = transport.scheduler.new_alarm(lambda: end_turn(self))
        #: Subscribers that get the newest publication when there is room for it.
        self.behind: list[tuple[Subscriber, Group]] = []
        #: Whether the lane is on its way to be drained.
        self.is_called = False
        # How long it took to drain the lane the last time, in seconds.
        self._turn_time = 0.0
        # When the lane is drained if nothing more comes, and whatever comes.
        self._quiet_at = 0.0
        self._patience_end = 0.0
        self._timer = transport.scheduler.new_alarm(self._drain_if_quiet)

    def has_work(self) -> bool:
        """Whether there is anything to be done in a turn."""
        return bool(self.pending or self.slow or self.ending)

    def call(self) -> None:
        """See to it that it is drained."""
        now = time.monotonic()
        turn_time = min(self._turn_time, MAX_TURN_TIME)

        if self.is_called:
            self._quiet_at = min(now + turn_time / 4, self._patience_end)
            return

        self.is_called = True

        if not self._scheduler.is_hub or turn_time < MIN_TURN_TIME:
            self._scheduler.call_soon(self.drain)
        else:
            self._quiet_at = now + turn_time / 4
            self._patience_end = now + 2 * turn_time
            self._scheduler.run_or_call_soon(self._drain_if_quiet)

    def _drain_if_quiet(self) -> None:
        if time.monotonic() < self._quiet_at:
            self._timer.set(self._quiet_at)
        else:
            self.drain()

    def drain(self) -> None:
        """Deliver what is pending. Called by the scheduler of the sockets."""
        start = time.monotonic()
        self.turn.acquire()

        try:
            self._deliver(self)
        finally:
            self.turn.release()

        self._end_turn(self)
        self._turn_time = time.monotonic() - start

    def take_ended(self) -> list[tuple[Subscriber, int, str]]:
        """Take those that may be closed now. Called under the mutex."""
        now = time.monotonic()

        if not self.ended or now < self.next_ending:
            return []

        self.next_ending = now + ENDING_INTERVAL
        count = min(MAX_ENDINGS, len(self.ended))
        return [self.ended.popleft() for _ in range(count)]
