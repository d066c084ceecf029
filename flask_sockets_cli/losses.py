"""Hears of file events that are lost on the way, of which watchdog tells nobody."""

from __future__ import annotations

import logging
import sys
import threading
import typing as t

from watchdog.utils import BaseThread, UnsupportedLibcError

_IN_Q_OVERFLOW = 0x4000

_silence = logging.NullHandler()
_hook_before = threading.excepthook
_reader: t.Any = None

if sys.platform == "linux":
    try:
        from watchdog.observers import inotify_c
    except UnsupportedLibcError:
        pass  # then watchdog polls
    else:
        # What reads the kernel's events and takes them apart, in watchdog 6 and in 7.
        for name in ("Inotify", "InotifyFD"):
            _reader = getattr(inotify_c, name, _reader)

_parse: t.Any = getattr(_reader, "_parse_event_buffer", None)

#: Whether directories that are moved into a watched tree are not watched with it, and
#: cannot be told from those that are made there, which are: so it is in watchdog 6.
MISSES_DIRECTORIES = _reader is not None and _reader.__name__ == "Inotify"


def listen(lost: t.Callable[[BaseException | None], object]) -> None:
    """Be told of losses in this process, in place of whoever was told before.

    :param lost: called in a thread of watchdog's, with the exception that ends this
        thread, or ``None`` if the kernel's queue was full.
    """

    def hook(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.thread, BaseThread) and args.exc_value is not None:
            lost(args.exc_value)
        else:
            _hook_before(args)

    def parse(buffer: bytes) -> t.Iterator[t.Any]:
        for event in _parse(buffer):
            if event[1] & _IN_Q_OVERFLOW:
                lost(None)

            yield event

    # A thread that dies leaves its directories unwatched. Some of watchdog 6 do when
    # directories come and go quickly.
    threading.excepthook = hook

    if _parse is not None:
        # watchdog 6 passes over the kernel's word for a full queue, and 7 does no more
        # than log it. No public part of either tells, so it is taken from where both
        # come across it.
        _reader._parse_event_buffer = staticmethod(parse)

        for name in ("inotify", "inotify_c"):
            # It is said in better words than those.
            logging.getLogger(f"watchdog.observers.{name}").addHandler(_silence)
