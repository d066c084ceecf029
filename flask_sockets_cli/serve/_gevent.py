"""The private parts of gevent that the server needs."""

from __future__ import annotations

import gc
import sys
import typing as t

import gevent


def forget_other_greenlets() -> None:
    """Let no greenlet run again but this one, and those that it starts.

    To be called in a forked process, which has a copy of them all. gevent has no way to
    list what its loop waits for, so that is found among all objects.
    """
    loop: t.Any = gevent.get_hub().loop
    module = sys.modules[type(loop.timer(1)).__module__]

    for found in gc.get_objects():
        if isinstance(found, (module.io, module.timer)) and found.active:
            found.stop()

    for callback in list(loop._callbacks):
        callback.stop()
