"""The signals that ask a program to end, and how to keep them for later."""

from __future__ import annotations

import contextlib
import signal
import typing as t

#: What terminals, and programs that manage others, send to a process or a group.
SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]


@contextlib.contextmanager
def blocked() -> t.Iterator[None]:
    """Keep them for later, in this process and in one that is started meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return

    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
