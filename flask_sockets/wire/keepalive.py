"""When a client is pinged, and when it is given up. There is no clock here.

A client that is there answers a ping in time (RFC 6455 section 5.5.2). What stands in
the way of its pong excuses it: a frame that is still coming, what it has not read yet,
or messages that the handler doesn't receive. But only while that makes progress.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

#: How much of a frame has to come in the time for an answer, in bytes, so that it
#: counts as one. A client that is there sends more even over a slow line.
MIN_PROGRESS = 4096

#: How much the kernel may hold that nobody reads, in bytes, before the pong may not
#: even have reached it.
FULL = 65536

#: At how many times of an interval there are pings.
STEPS = 100

NEVER = float("inf")


class Verdict(enum.Enum):
    """What is to be done about a client."""

    WAIT = enum.auto()
    PING = enum.auto()
    GIVE_UP = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True)
class Signs:
    """What was seen of a client so far."""

    #: Whole frames that were read.
    frames: int
    #: Bytes that were read.
    read: int
    #: Bytes that have come and aren't read, since enough was read ahead.
    unread: int
    #: Bytes that the client's kernel has confirmed.
    confirmed: int
    #: Whether something waits for the client to read.
    is_blocked: bool


class Keepalive:
    """Decides what is to be done about one client.

    All times are seconds of the same clock, whichever that is.

    :param interval: how often the client is pinged.
    :param timeout: how long an answer may take, and how long what was sent may make no
        progress. ``None`` waits forever.
    :param now: the time.
    :param share: of the interval, after which the first ping is due. Connections that
        were opened together are not to be pinged together.
    """

    __slots__ = (
        "_at_ping",
        "_interval",
        "_next_ping",
        "_overdue",
        "_stalled",
        "_stalled_since",
        "_timeout",
        "deadline",
    )

    def __init__(
        self, interval: float, timeout: float | None, now: float, share: float = 1.0
    ) -> None:
        self._interval = interval
        self._timeout = timeout
        # Waking up for a connection takes longer than what is done then. So those that
        # are due at nearly the same time are due together.
        step = interval / STEPS
        self._next_ping = math.ceil((now + interval * share) / step) * step
        # While an answer is awaited: what had been seen before the ping, and when it
        # is overdue.
        self._at_ping: Signs | None = None
        self._overdue = NEVER
        # While something waits for the client to read: how much it had confirmed.
        self._stalled: int | None = None
        self._stalled_since = 0.0
        #: When to check next.
        self.deadline = self._next_ping

    def check(self, now: float, look: Callable[[], Signs]) -> Verdict:
        """Decide what is to be done now.

        :param look: says what was seen. It is only called if it matters.
        """
        if now < self.deadline:
            return Verdict.WAIT

        signs = look()
        verdict = self._judge(now, signs)
        self.deadline = min(self._next_ping, self._overdue)

        if self._stalled is not None and self._timeout is not None:
            self.deadline = min(self.deadline, self._stalled_since + self._timeout)

        return verdict

    def _judge(self, now: float, signs: Signs) -> Verdict:
        timeout = self._timeout

        if timeout is None:
            if now < self._next_ping:
                return Verdict.WAIT

            self._next_ping = now + self._interval
            return Verdict.PING

        if not signs.is_blocked:
            self._stalled = None
        elif signs.confirmed != self._stalled:
            self._stalled, self._stalled_since = signs.confirmed, now
        elif now >= self._stalled_since + timeout:
            return Verdict.GIVE_UP

        if self._at_ping is not None:
            if _is_answered(self._at_ping, signs):
                self._at_ping = None
                self._overdue = NEVER
            elif now >= self._overdue:
                return Verdict.GIVE_UP

        if now < self._next_ping:
            return Verdict.WAIT

        if self._at_ping is not None:  # One ping at a time.
            self._next_ping = self._overdue
            return Verdict.WAIT

        self._at_ping = signs
        self._next_ping = now + self._interval
        self._overdue = now + timeout
        return Verdict.PING


def _is_answered(before: Signs, now: Signs) -> bool:
    """Whether there is a sign of life since the ping."""
    return (
        now.frames != before.frames
        or now.read - before.read >= MIN_PROGRESS
        # The ping may be behind what the client hasn't read. Of the ping itself a
        # confirmation says nothing: that is the kernel's, not the client's.
        or (before.is_blocked and now.confirmed > before.confirmed)
        # The pong may be behind what the handler hasn't received.
        or now.unread != before.unread
        or now.unread >= FULL
    )
