"""Notices greenlets of gevent that never run, under a server that has threads.

An app that calls :func:`gevent.spawn` waits in vain there: greenlets run when their
thread waits by way of gevent, and such a server waits by itself. Nothing fails, so the
app is silent, and people look for the mistake in their own code.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import typing as t

if t.TYPE_CHECKING:
    import socket

logger = logging.getLogger("flask_sockets")

#: How long a greenlet that can run has to wait before it counts as idle, in seconds.
PATIENCE = 2.0

#: For how many handshakes greenlets are looked for. That takes a moment each time.
MAX_LOOKS = 5

_lock = threading.Lock()
_looks_left = MAX_LOOKS
_was_told = False


def watch_for_idle_greenlets(sock: socket.socket) -> None:
    """Look for greenlets after a while, and say in one line of the log if any are idle.

    :param sock: the socket of a handshake. Under servers that use gevent's nobody
        looks.
    """
    global _looks_left

    if not _can_be_idle(sock):
        return

    with _lock:
        if not _looks_left:
            return

        _looks_left -= 1

    _after(PATIENCE, _look)


def _can_be_idle(sock: socket.socket) -> bool:
    """Whether somebody has imported gevent, which the server doesn't use."""
    if "gevent.greenlet" not in sys.modules:
        return False

    monkey = sys.modules.get("gevent.monkey")

    if monkey is not None and monkey.is_module_patched("socket"):
        return False

    return not type(sock).__module__.startswith("gevent.")


def _look(before: frozenset[int] = frozenset()) -> None:
    """Compare the greenlets that have not run yet with those of the look before."""
    global _looks_left, _was_told
    waiting = waiting_greenlets()
    idle = [greenlet for greenlet in waiting if id(greenlet) in before]

    if not idle:
        if waiting and not before:
            _after(PATIENCE, _look, frozenset(map(id, waiting)))

        return

    with _lock:
        was_told, _was_told, _looks_left = _was_told, True, 0

    if not was_told:
        logger.warning(
            "A greenlet of gevent never runs: %s. This server handles requests in"
            " threads, where greenlets don't get their turn. Use 'flask wsrun' for"
            " development, or gunicorn with 'gunicorn -k flask_sockets.worker'.",
            idle[0],
        )


def waiting_greenlets() -> list[t.Any]:
    """The greenlets that were spawned and have not begun to run."""
    import greenlet
    from gevent import Greenlet

    return [
        thing
        for thing in gc.get_objects()
        # Not 'isinstance()', which asks weak proxies for what may be gone.
        if issubclass(type(thing), Greenlet)
        and thing.started
        and not thing.dead
        # gevent's own answer is true before the first turn as well.
        and not greenlet.greenlet.__bool__(thing)
    ]


def _after(seconds: float, function: t.Callable[..., None], *args: t.Any) -> None:
    timer = threading.Timer(seconds, function, args)
    timer.daemon = True
    timer.start()
