"""The private part of gevent that the warm process needs: whether there is a hub. Every
public function would make one.
"""

from __future__ import annotations

import typing as t

from gevent import monkey
from gevent._hub_local import get_hub_if_exists

fork: t.Callable[[], int] = monkey.get_original("os", "fork")
waitpid: t.Callable[[int, int], tuple[int, int]] = monkey.get_original("os", "waitpid")


def has_hub() -> bool:
    """Whether there is a hub."""
    return get_hub_if_exists() is not None


def is_hub_unused() -> bool:
    """Whether the hub has run nothing yet and waits for nothing: some libraries make a
    socket as they are imported, which makes the hub. It is renewed in a forked process.
    """
    hub: t.Any = get_hub_if_exists()
    return not hub and not hub.loop.activecnt and not hub.loop.pendingcnt
