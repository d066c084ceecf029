"""Says where the app stands when it keeps everybody waiting: while it is loaded, and in
a view that lets no other greenlet run.

A thread of the system's looks out, since no greenlet would get to it.
"""

from __future__ import annotations

import sys
import types

import gevent
import greenlet
from gevent import monkey

from ..files import is_library
from ..terminal import notice, shown_path
from .failures import is_hidden

#: Seconds from one look to the next.
_INTERVAL = 0.5
#: After how many looks a load is told of: 5 seconds.
_LOOKS_AT_LOAD = 10
#: After how many looks without a sign of life a view is told of: 3 seconds.
_LOOKS_AT_VIEW = 6

#: In these a person waits, and nobody else has to be told.
_PROMPTS = frozenset({"pdb", "bdb", "code", "cmd"})

_sleep = monkey.get_original("time", "sleep")
_start_thread = monkey.get_original("_thread", "start_new_thread")
_get_ident = monkey.get_original("_thread", "get_ident")


class Lookout:
    """Looks out from now on until the process ends.

    To be made in the thread, and the greenlet, that load the app.
    """

    def __init__(self) -> None:
        self._loader = greenlet.getcurrent()
        self._thread: int = _get_ident()
        self._is_loading = True
        self._looks = 0
        _start_thread(self._look_out, ())

    def loaded(self) -> None:
        """The app is loaded, so that greenlets are to run."""
        self._is_loading = False
        # The timer does not keep the loop running, and nobody else has to know it.
        self._timer = gevent.get_hub().loop.timer(_INTERVAL, _INTERVAL, ref=False)
        self._timer.start(self._show_life)

    def _show_life(self) -> None:
        self._looks = 0

    def _look_out(self) -> None:
        while True:
            _sleep(_INTERVAL)
            # Looks are counted, and not seconds, since a process may be stopped.
            self._looks += 1

            if self._is_loading:
                if self._looks == _LOOKS_AT_LOAD:
                    self._tell("Still loading, at {place}")
            elif self._looks == _LOOKS_AT_VIEW:
                self._tell(
                    "All requests and WebSockets have waited for 3 s, since {place} has"
                    " let no other run"
                )

    def _tell(self, sentence: str) -> None:
        frame = sys._current_frames().get(self._thread)

        if self._is_loading:
            # Another greenlet may be the one that has the thread.
            frame = self._loader.gr_frame or frame

        if (place := _place_of(frame)) is not None:
            notice(sentence.format(place=place))


def _place_of(frame: types.FrameType | None) -> str | None:
    """The line of the app that a frame belongs to, ``None`` where a person is asked."""
    place = None

    while frame is not None:
        path = frame.f_code.co_filename

        if frame.f_globals.get("__name__") in _PROMPTS:
            return None

        if place is None and not is_library(path) and not is_hidden(frame):
            place = f"{shown_path(path)}:{frame.f_lineno}"

        frame = frame.f_back

    return place
