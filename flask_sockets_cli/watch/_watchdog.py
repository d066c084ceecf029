"""The private parts of watchdog that are needed to hear of lost events.

watchdog tells nobody that events got lost, and has no public place to find out. So its
innermost functions are wrapped, those that are the same in its versions 6 and 7.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import sys
import threading
import typing as t

from watchdog.utils import BaseThread, UnsupportedLibcError

_IN_Q_OVERFLOW = 0x4000

_hook_before = threading.excepthook
_silence = logging.NullHandler()
_inotify: t.Any = None
reader: t.Any = None

if sys.platform == "linux":
    with contextlib.suppress(UnsupportedLibcError):  # then watchdog polls
        from watchdog.observers import inotify_c as _inotify

#: The class that reads events, in watchdog 6 and in 7.
for _name in ("Inotify", "InotifyFD"):
    reader = getattr(_inotify, _name, reader)

#: watchdog's own functions, before they are wrapped.
inotify_add_watch: t.Any = getattr(_inotify, "inotify_add_watch", None)
_parse: t.Any = getattr(reader, "_parse_event_buffer", None)

#: Whether directories that are moved into a watched tree are not watched with it, and
#: cannot be told from those that are made there, which are: so it is in watchdog 6.
MISSES_DIRECTORIES = hasattr(_inotify, "Inotify")


def tell_losses(lost: t.Callable[[BaseException | None], object]) -> None:
    """Tell of losses in this process from now on, to this function only.

    :param lost: called in whatever thread finds out: with ``None`` if the kernel's
        queue was full, with an ``OSError`` of the number ``ENOSPC`` if no watch was
        left for a directory, with the exception that ends a thread of watchdog's.
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

    def add_watch(*args: t.Any) -> t.Any:
        descriptor = inotify_add_watch(*args)

        if descriptor == -1 and ctypes.get_errno() == errno.ENOSPC:
            lost(OSError(errno.ENOSPC, "inotify watch limit reached"))

        return descriptor

    # Some threads of watchdog 6 die when directories come and go quickly.
    threading.excepthook = hook

    # watchdog 6 passes over the kernel's word for a full queue, and 7 only logs it.
    if _parse is not None:
        reader._parse_event_buffer = staticmethod(parse)

    # Both pass over directories that they cannot watch: 7 over all but the one that it
    # is asked for itself, 6 over new ones.
    if inotify_add_watch is not None:
        _inotify.inotify_add_watch = add_watch

    # What is logged about it is said in better words.
    for name in ("inotify", "inotify_c"):
        logging.getLogger(f"watchdog.observers.{name}").addHandler(_silence)
