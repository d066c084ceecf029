"""Times as people and tokens give them."""

from __future__ import annotations

import datetime
import math
import time


def monotonic_time(when: float | datetime.datetime) -> float:
    """A time in the terms of :func:`time.monotonic`, in which deadlines are kept.

    :param when: seconds since the epoch, or a time with a time zone.
    :raises ValueError: if it has no time zone, or isn't finite.
    :raises TypeError: if it is of no such type.
    """
    if isinstance(when, datetime.datetime):
        if when.tzinfo is None:
            raise ValueError(
                f"The time {when} has no time zone. Make it with"
                " 'datetime.now(timezone.utc)', or give seconds since the epoch."
            )

        when = when.timestamp()
    elif isinstance(when, bool) or not isinstance(when, (int, float)):
        raise TypeError(
            "A time is given in seconds since the epoch or as a 'datetime', not"
            f" {when!r}."
        )

    if not math.isfinite(when):
        raise ValueError(f"The time {when!r} never comes. Give None for never.")

    return time.monotonic() + when - time.time()
