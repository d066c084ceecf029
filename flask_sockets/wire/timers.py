"""When a connection is closed that nobody closes. There is no clock here."""

from __future__ import annotations

import typing as t

from .keepalive import NEVER

#: How a connection is closed on which no message was sent for too long.
IDLE = (1000, "idle")

#: How often a connection is looked at in the time that it may be idle.
LOOKS = 10


class Expiry(t.NamedTuple):
    """When a connection is closed, and how."""

    when: float
    code: int
    reason: str


class Timers:
    """Decides when a connection is closed: at a time, or for being idle.

    All times are seconds of the same clock, whichever that is.

    :param idle_timeout: how long there may be no message, in either direction. ``None``
        sets no limit.
    :param now: the time.
    """

    __slots__ = ("_idle_timeout", "_messages", "_seen_at", "deadline", "expiry")

    def __init__(self, idle_timeout: float | None, now: float) -> None:
        self._idle_timeout = idle_timeout
        # How many there were when the last one was seen, and when that was.
        self._messages = 0
        self._seen_at = now
        #: At which time the connection is closed, if at any.
        self.expiry: Expiry | None = None
        #: When to check next.
        self.deadline = NEVER if idle_timeout is None else now + idle_timeout / LOOKS

    def check(self, now: float, messages: int) -> tuple[int, str] | None:
        """Decide whether the connection is to be closed now.

        :param messages: how many were sent so far, in both directions.
        :return: the code and the reason to close it with.
        """
        expiry, timeout = self.expiry, self._idle_timeout

        if expiry is not None and now >= expiry.when:
            return expiry.code, expiry.reason

        self.deadline = NEVER if expiry is None else expiry.when

        if timeout is not None:
            if messages != self._messages:
                self._messages, self._seen_at = messages, now
            elif now >= self._seen_at + timeout:
                return IDLE

            # A message may have come at any time since the last look. So nobody is
            # closed before their time, and all soon after it.
            next_look = min(now + timeout / LOOKS, self._seen_at + timeout)
            self.deadline = min(self.deadline, next_look)

        return None
