"""The signals that ask a program to end, and what the processes do with them."""

from __future__ import annotations

import contextlib
import os
import signal
import types
import typing as t

#: What terminals, and programs that manage others, send to a process or a group.
SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]

# Taken before gevent patches it: its own would make a hub of greenlets.
_signal = signal.signal


@contextlib.contextmanager
def blocked() -> t.Iterator[None]:
    """Keep the signals for later, here and in a process that is started meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return

    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def handled(handle: t.Callable[[], object]) -> t.Iterator[None]:
    """Call a function whenever one of the signals comes, in place of what it does, or
    has come while they were blocked.

    :param handle: what may be called between any two steps of the main thread.
    """

    def call(number: int, frame: types.FrameType | None) -> None:
        handle()

    before = {number: signal.getsignal(number) for number in SIGNALS}

    for number in SIGNALS:
        # Ignored ones stay so: that is how 'nohup' and a script's '&' work.
        if before[number] != signal.SIG_IGN:
            signal.signal(number, call)

    _unblock()

    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_to_supervisor() -> None:
    """Pass over the signals, which reach all processes at once: the supervisor decides,
    and lets WebSockets and requests end.
    """
    owner = os.getpid()

    def pass_over(number: int, frame: types.FrameType | None) -> None:
        # A process that the app forks has this handler, too, and is to end.
        if os.getpid() != owner:
            _do_default(number, frame)

    for number in SIGNALS:
        # Not SIG_IGN, which programs that the app starts inherit: as they should if it
        # comes from 'nohup'.
        if signal.getsignal(number) != signal.SIG_IGN:
            _signal(number, pass_over)

    _unblock()


def _unblock() -> None:
    """Take the signals that have been kept for later, and those to come."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _do_default(number: int, frame: types.FrameType | None) -> None:
    """Do what a signal does in a process that has no handler of its own for it."""
    if number == signal.SIGINT:
        signal.default_int_handler(number, frame)

    _signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
