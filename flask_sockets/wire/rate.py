"""How many messages a client may send in a time. There is no clock here."""

from __future__ import annotations

import dataclasses
import math

#: Which part of a message may come too early, as times are rounded.
ROUNDING = 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """A limit, such as 20 in a second, and 50 at once."""

    #: How many, at least 1.
    count: int
    #: In how many seconds.
    seconds: float
    #: How many at once, after a pause.
    burst: int

    @property
    def interval(self) -> float:
        """After how many seconds there may be one more."""
        return self.seconds / self.count


class Meter:
    """Measures one client, as a bucket does that leaks: each message fills it a bit.

    :param rate: at which it leaks, and how much it holds.
    """

    __slots__ = ("_empty_at", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        # When all of it has leaked.
        self._empty_at = -math.inf

    def admit(self, messages: int, now: float) -> int:
        """Say how many of some messages are within the limit.

        :param messages: how many have come.
        :param now: the time in seconds, of the same clock each time.
        """
        interval = self._rate.interval
        empty_at = max(self._empty_at, now)
        used = math.ceil((empty_at - now) / interval - ROUNDING)
        admitted = max(0, min(messages, self._rate.burst - used))
        self._empty_at = empty_at + admitted * interval
        return admitted
