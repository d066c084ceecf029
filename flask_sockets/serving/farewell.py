"""How a worker that ends takes leave of its WebSockets: some at a time.

Clients come back as soon as they are told, each with a handshake. If thousands of them
came in the same instant, those who serve them from then on would be busy with nothing
else for seconds.
"""

from __future__ import annotations

import math
import time

import gevent

from ..wire import registry

#: How many clients are told in a second, unless there is time for fewer seconds than
#: that would take.
RATE = 300

#: Seconds between two groups of clients that are told.
INTERVAL = 0.1

#: The part of its patience in which a worker tells all of its clients.
TELLING = 0.5

#: The part of its patience after which connections are cut that are still there. Their
#: handlers find the end then, and have the rest: gunicorn's arbiter kills a worker when
#: its patience is over, and the worker notices up to a second late that it has to stop.
CUT = 0.75


def number_due(untold: int, seconds: float) -> int:
    """How many clients are told next.

    :param untold: how many there are.
    :param seconds: how long there is time for all of them.
    """
    turns = max(1, math.floor(seconds / INTERVAL))
    return max(math.ceil(RATE * INTERVAL), math.ceil(untold / turns))


def take_leave(patience: float, is_hurried: bool = False) -> None:
    """Tell all WebSockets of this process that the server ends, those as well that are
    opened meanwhile, and cut those that are left in the end.

    It takes as long as that, so call it in a greenlet of its own.

    :param patience: seconds for all of it.
    :param is_hurried: whether nobody serves the clients until this process has ended.
        Then all of them are told at once.
    """
    start = time.monotonic()
    told = start if is_hurried else start + patience * TELLING
    cut = start + patience * CUT

    while True:
        now = time.monotonic()
        limit = number_due(registry.untold_count(), told - now)
        registry.close_some(limit, *registry.SERVER_RESTART)

        if now >= cut:
            break

        gevent.sleep(min(INTERVAL, cut - now))

    registry.cut_all()
