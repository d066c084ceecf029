"""A lock for what takes an instant only."""

from __future__ import annotations

import _thread
import sys


def new_native_lock() -> _thread.LockType:
    """Make a lock that excludes threads, also where gevent has patched the process.

    Publishers may be in other threads than the hub of the sockets. Whoever holds the
    lock must not let greenlets switch, which would freeze the thread.
    """
    monkey = sys.modules.get("gevent.monkey")

    if monkey is None:
        return _thread.allocate_lock()

    lock: _thread.LockType = monkey.get_original("_thread", "allocate_lock")()
    return lock
