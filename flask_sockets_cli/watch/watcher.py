"""Watches directories with watchdog's observer: passes on every event that may matter,
tells when events were lost, and polls where the system has run out of watches, where
the person asks for it, and on file systems that do not tell of all changes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import typing as t

from watchdog import events
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from ._watchdog import MISSES_DIRECTORIES, tell_losses
from .events import Event
from .mounts import Mount, Mounts
from .poller import Poller

#: What watchdog is asked for. Else it would also tell of files that are only read, and
#: to read them all after a loss would be the next one.
_EVENTS: list[type[FileSystemEvent]] = [
    events.DirCreatedEvent,
    events.DirDeletedEvent,
    events.DirMovedEvent,
    events.FileClosedEvent,
    events.FileCreatedEvent,
    events.FileDeletedEvent,
    events.FileModifiedEvent,
    events.FileMovedEvent,
]

#: How often a directory is tried in which others vanish.
_ATTEMPTS = 10

_LIMIT_ADVICE = (
    "The system's limit of watched files is reached ({error}), so changes are looked"
    " for instead, which is slower."
)
_LINUX_ADVICE = (
    " To raise the limit:"
    " sudo sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512"
)
_OVERFLOW_ADVICE = (
    "More changed at once than the system's queue of file events can hold, so all files"
    " are compared with those that are served, and no change is lost. To enlarge the"
    " queue: sudo sysctl fs.inotify.max_queued_events=131072"
)
_FAILURE_ADVICE = (
    "The library 'watchdog' has failed ({error!r}), so all files are watched anew and"
    " compared with those that are served, and no change is lost."
)


class Watcher:
    """Watches directories.

    :param found: called with the events, in a thread of watchdog's.
    :param lost: called, in whatever thread, when events were lost. It is not called
        again before :meth:`watch_anew` has been.
    :param warn: called with a sentence when the watching has become worse.
    :param polls: whether all directories are polled.
    :param passes_over: says of a directory that is polled whether it is not looked
        into.
    """

    def __init__(
        self,
        found: t.Callable[[Event], object],
        lost: t.Callable[[], object],
        warn: t.Callable[[str], object],
        polls: bool = False,
        passes_over: t.Callable[[str], bool] = lambda directory: False,
    ) -> None:
        self._handler = _Handler(found)
        self._poller = Poller(found, passes_over)
        self._mounts = Mounts.of_this_process()
        # The mounts that are polled.
        self._polled: dict[Mount, None] = {}
        self._observer: BaseObserver | None = None
        self._tell_lost = lost
        self._warn = warn
        self._warned: set[str] = set()
        self._watched: dict[str, bool] = {}
        self._watches: dict[str, ObservedWatch] = {}
        self._polls = polls
        self._limit: OSError | None = None
        self._whole = True
        tell_losses(self._lost)
        self._start()

    @property
    def way(self) -> str:
        """How directories are watched, for the person: with ``watchdog``, as the system
        tells of changes, or ``polling``, or with both.
        """
        if self._polls:
            return "polling"

        if not self._polled:
            return "watchdog"

        mounts = ", ".join(f"{m.directory!r} ({m.type})" for m in self._polled)
        return f"watchdog, and polling in {mounts}, which may not tell of changes"

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

            self._stop_observer()
            self._poll(error)
            new = {**self._watched, **new}
            self._schedule(new)
            # Something may have come after the one observer and before the other.
            self._pass_on_loss()

        self._watched.update(new)

    def watch_anew(self, directories: t.Mapping[str, bool]) -> None:
        """Watch these directories and no others, after events were lost: directories
        may have come of which nobody has heard.
        """
        self._stop_observer()
        self._poller.forget_all()
        self._watched.clear()
        self._watches.clear()
        self._whole = True

        if self._limit is not None and not self._polls:
            self._poll(self._limit)
        else:
            self._start()

        self.watch(directories)

    def watches_below(self, directory: str) -> bool:
        """Whether directories that are new in a watched one are watched with it."""
        return self._watched.get(directory, True)

    def check(self) -> None:
        """Make sure that directories which are new in watched ones are watched, too."""
        if MISSES_DIRECTORIES and not self._polls:
            self._pass_on_loss()

    def forget(self, directory: str) -> None:
        """A directory is gone; if it comes back it is to be watched anew."""
        below = os.path.join(directory, "")

        for watched in [
            d for d in self._watched if os.path.join(d, "").startswith(below)
        ]:
            del self._watched[watched]
            self._poller.forget(watched)

            # Else watchdog would take it for watched already.
            if self._observer is not None and watched in self._watches:
                with contextlib.suppress(KeyError):
                    self._observer.unschedule(self._watches.pop(watched))

    def stop(self) -> None:
        self._poller.stop()
        self._stop_observer()

    def _start(self) -> None:
        if self._polls:
            return

        try:
            self._observer = Observer()
        except OSError as error:
            self._poll(error)
        else:
            self._observer.start()

    def _stop_observer(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer = None

    def _poll(self, error: OSError) -> None:
        advice = _LINUX_ADVICE if sys.platform == "linux" else ""
        self._warn(_LIMIT_ADVICE.format(error=error.strerror or error) + advice)
        self._polls = True

    def _schedule(self, directories: t.Mapping[str, bool]) -> None:
        for directory, recursive in directories.items():
            mount = self._mounts.silent_one_of(directory)

            if self._polls or self._observer is None or mount is not None:
                self._poller.watch(directory, recursive)
                self._polled.update({mount: None} if mount is not None else {})
                continue

            for below in self._mounts.silent_ones_below(directory) if recursive else ():
                self._poller.watch(below.directory, recursive=True)
                self._polled[below] = None

            # One that has vanished meanwhile has nothing to tell. watchdog 6 also fails
            # for the sake of a directory below that vanishes as it gets there.
            for attempt in range(_ATTEMPTS):
                try:
                    self._watches[directory] = self._observer.schedule(
                        self._handler,
                        directory,
                        recursive=recursive,
                        event_filter=_EVENTS,
                    )
                    break
                except (FileNotFoundError, NotADirectoryError):
                    if not os.path.isdir(directory):
                        break
                    elif attempt == _ATTEMPTS - 1:
                        raise

        if self._limit is not None and not self._polls:
            raise self._limit

    def _lost(self, error: BaseException | None) -> None:
        if error is None:
            self._warn_once(_OVERFLOW_ADVICE)
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
            self._limit = error
        elif self._limit is None:  # else that is what watchdog has stumbled over
            self._warn_once(_FAILURE_ADVICE.format(error=error))

        self._pass_on_loss()

    def _pass_on_loss(self) -> None:
        if self._whole:
            self._whole = False
            self._tell_lost()

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            self._warn(sentence)


class _Handler(FileSystemEventHandler):
    def __init__(self, found: t.Callable[[Event], object]) -> None:
        self._found = found

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._found(event)
