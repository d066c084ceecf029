"""What becomes of the server in a process that the app forks: nothing.

Such a process has copies of the server's sockets and greenlets, and gevent goes on with
them. So it would accept connections, read what clients send to the server, and answer.
"""

from __future__ import annotations

import functools
import os
import typing as t

from ._gevent import forget_other_greenlets


class Closable(t.Protocol):
    """What has a file descriptor to close."""

    def close(self) -> None: ...


def leave_serving_to_this_process(*mine: Closable) -> None:
    """Let a process that is forked from now on do what it was forked for, and no more.

    :param mine: what it closes of its copy, so that nobody waits for a process that
        knows nothing of it.
    """
    for name in ("fork", "forkpty"):
        if hasattr(os, name):
            setattr(os, name, _apart(getattr(os, name), mine))


def _apart(
    fork: t.Callable[..., t.Any], mine: t.Iterable[Closable]
) -> t.Callable[..., t.Any]:
    @functools.wraps(fork)
    def fork_apart(*args: t.Any, **kwargs: t.Any) -> t.Any:
        found = fork(*args, **kwargs)
        pid = found[0] if isinstance(found, tuple) else found

        if pid == 0:
            forget_other_greenlets()

            for each in mine:
                each.close()

        return found

    return fork_apart
