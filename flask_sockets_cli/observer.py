"""The watchdog observer: passes on every event that may matter, from the directories it
is told to watch, and falls back to polling where the system has run out of watches.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import typing as t

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingObserver

from .watching import touched

_LIMIT_ADVICE = (
    "The system's limit of watched files is reached ({error}), so changes are looked"
    " for once a second instead, which is slower."
)
_LINUX_ADVICE = (
    " To raise the limit:"
    " sudo sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512"
)


class Watcher:
    """Watches directories.

    :param found: called with the events, in a thread of watchdog's.
    :param warn: called with a sentence when the watching has become worse.
    """

    def __init__(
        self,
        found: t.Callable[[FileSystemEvent], object],
        warn: t.Callable[[str], object],
    ) -> None:
        self._handler = _Handler(found)
        self._warn = warn
        self._watched: dict[str, bool] = {}
        self._watches: dict[str, ObservedWatch] = {}
        self._polls = False
        self._observer = self._start()

    @property
    def name(self) -> str:
        """What does the watching, for the banner."""
        return "polling" if self._polls else "watchdog"

    def watch(self, directories: t.Mapping[str, bool]) -> None:
        """Watch more directories.

        :param directories: each with whether all below it is watched, too.
        """
        new = {
            directory: recursive
            for directory, recursive in directories.items()
            if self._watched.get(directory, None) not in (True, recursive)
        }

        try:
            self._schedule(new)
        except OSError as error:
            if self._polls:
                raise

            self._poll(error)
            new = {**self._watched, **new}
            self._schedule(new)

        self._watched.update(new)

    def watches_below(self, directory: str) -> bool:
        """Whether directories that are new in a watched one are watched with it."""
        return self._watched.get(directory, True)

    def forget(self, directory: str) -> None:
        """A directory is gone; if it comes back it is to be watched anew."""
        below = os.path.join(directory, "")

        for watched in [
            d for d in self._watched if os.path.join(d, "").startswith(below)
        ]:
            del self._watched[watched]

            # Else watchdog would take it for watched already.
            with contextlib.suppress(KeyError):
                self._observer.unschedule(self._watches.pop(watched))

    def stop(self) -> None:
        self._observer.stop()

    def _start(self) -> BaseObserver:
        try:
            observer: BaseObserver = Observer()
        except OSError as error:
            return self._poll(error)

        observer.start()
        return observer

    def _poll(self, error: OSError) -> BaseObserver:
        advice = _LINUX_ADVICE if sys.platform == "linux" else ""
        self._warn(_LIMIT_ADVICE.format(error=error.strerror or error) + advice)

        if hasattr(self, "_observer"):
            self._observer.stop()

        self._polls = True
        self._observer = PollingObserver()
        self._observer.start()
        return self._observer

    def _schedule(self, directories: t.Mapping[str, bool]) -> None:
        for directory, recursive in directories.items():
            # A directory that has vanished meanwhile has nothing to tell.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._watches[directory] = self._observer.schedule(
                    self._handler, directory, recursive=recursive
                )

        if directories and not self._polls:
            self._probe()

    def _probe(self) -> None:
        """Raise if there are no watches left.

        watchdog 7 passes over a directory inside of a tree that it cannot watch. The
        directory it is asked for itself always tells.
        """
        with tempfile.TemporaryDirectory(prefix="flask-wsrun-") as directory:
            self._observer.unschedule(self._observer.schedule(self._handler, directory))


class _Handler(FileSystemEventHandler):
    def __init__(self, found: t.Callable[[FileSystemEvent], object]) -> None:
        self._found = found

    def on_any_event(self, event: FileSystemEvent) -> None:
        if touched(event):
            self._found(event)
