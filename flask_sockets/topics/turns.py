"""Letting others run, whoever is running."""

from __future__ import annotations

import sys
import time

#: A timer of gevent, however short, lets its loop look at the sockets.
_SHORTLY = 1e-6


def give_way() -> bool:
    """Let other greenlets or threads run.

    :return: ``False`` if that can't be: the hub of gevent itself is running.
    """
    gevent = sys.modules.get("gevent")

    if gevent is not None:
        current = gevent.getcurrent()

        if isinstance(current, gevent.hub.Hub):
            return False

        if current.parent is not None:
            gevent.sleep(_SHORTLY)
            return True

    # The main greenlet of a thread: where gevent has patched it, so is this.
    time.sleep(_SHORTLY)
    return True
