"""How many connections a process may have, as the system sees it."""

from __future__ import annotations

import contextlib
import resource

#: How many descriptors a process asks for at most. Linux gives no more to a process,
#: unless 'fs.nr_open' is changed.
MAX_DESCRIPTORS = 2**20

#: The part of the descriptors that is left to the app, for databases, files and the
#: like, as a divisor.
RESERVE = 10


def raise_limit() -> int:
    """Let this process have as many descriptors as the system allows without asking.

    The lower, soft limit is there for programs that call ``select()``, which knows no
    descriptor above 1023. gevent doesn't call it. Programs written in Go raise this
    limit for themselves as well.

    :return: how many descriptors the process may have now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _number(hard)

    if _number(soft) < wanted:
        # macOS has another limit besides, which it doesn't tell here.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted

    return _number(soft)


def connections_within(descriptors: int) -> int:
    """How many connections there may be, if each takes a descriptor."""
    return descriptors - descriptors // RESERVE


def _number(limit: int) -> int:
    if limit == resource.RLIM_INFINITY:
        return MAX_DESCRIPTORS

    return min(limit, MAX_DESCRIPTORS)
