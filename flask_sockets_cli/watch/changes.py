"""From the events of the watched directories to the files that have changed, and the
libraries that have been installed or removed: what counts, and when a burst is over.
"""

from __future__ import annotations

import math
import os
import time
import typing as t

from .contents import Contents
from .events import Event, Lost, touched
from .installed import Found, Installed
from .rules import Rules, import_root, module_root
from .watcher import Watcher

#: Seconds without another change after which a burst of them is taken to be over.
_QUIET = 0.01
#: The same where a file is empty or gone, as it is for a moment when it is being saved.
_QUIET_UNFINISHED = 0.1
#: Seconds after which a burst is not waited for any longer.
_LONGEST_BURST = 0.25
#: From so many files on a program writes them, such as Git for another branch,
#: and not a person who saves. It may pause in between, and goes on for longer.
_MANY = 5
_QUIET_OF_MANY = 0.1
_LONGEST_BURST_OF_MANY = 2.0
#: Seconds from such a burst in which what changes may be the rest of it.
_AFTER_MANY = 1.0
#: Seconds of getting to know files until something else has its turn.
_PATIENCE = 0.01
#: Seconds from what happens in a directory of libraries to a look at them, and from one
#: look to the next where an installation is under way.
_LOOK = 0.5
#: Seconds after which the end of an installation is not waited for any longer.
_LONGEST_INSTALLATION = 120


class Burst(t.NamedTuple):
    """What has changed together."""

    #: The moment of the first one, in the terms of :func:`time.monotonic`.
    since: float
    #: The files that the app is loaded from.
    code: list[str]
    #: The files that pages are made of.
    pages: list[str]
    #: Libraries that have been installed or removed.
    libraries: Found


class Changes:
    """Finds the files whose content is another one than the server has read.

    It has no thread of its own: events are put where somebody calls :meth:`take` with
    them, and fetches the burst that they add up to when it is :attr:`due`.

    :param app: the import path of the app.
    :param extra_files: as for :class:`Rules`.
    :param exclude_patterns: as for :class:`Rules`.
    :param polls: whether files are looked at, where the system may not tell of changes.
    :param put: called with each event, in a thread of watchdog's.
    :param warn: called with a sentence when the watching has become worse.
    """

    def __init__(
        self,
        app: str | None,
        extra_files: t.Iterable[str],
        exclude_patterns: t.Iterable[str],
        polls: bool,
        put: t.Callable[[Event | Lost], object],
        warn: t.Callable[[str], object],
    ) -> None:
        #: Whether it is known what all files held.
        self.knows_all = False
        # When the burst is over, in the terms of time.monotonic().
        self._due = math.inf
        self._since = 0.0
        # Until when that goes on which a program has begun, in these terms.
        self._many_until = 0.0
        # What the server has, as far as it is known, of each file that has changed.
        self._code: dict[str, str | None] = {}
        self._pages: dict[str, None] = {}
        self._new_directories: list[str] = []

        # When to look for libraries, and how long at most, in these terms.
        self._look_at = math.inf
        self._look_until = 0.0
        self._installed = Installed()

        self._contents = Contents()
        self._rules = Rules(extra_files, exclude_patterns)
        self._rules.add_root(import_root(app))
        self._rules.add_extra_roots()
        self._watcher = Watcher(
            put, lambda: put(Lost()), warn, polls, self._rules.prunes
        )
        self._watch()
        # The watching has begun, so that whatever is edited from here on has an event.
        # A file that isn't known yet when it has one counts as changed.
        self._unknown = self._rules.all_files()

    @property
    def way(self) -> str:
        """How files are watched, for the banner: as :attr:`Watcher.way` says."""
        return self._watcher.way

    @property
    def due(self) -> float:
        """When there is something to fetch, in the terms of :func:`time.monotonic`;
        :data:`math.inf` where nothing is known to come.
        """
        return min(self._due, self._look_at)

    @property
    def has_code(self) -> bool:
        """Whether what the app is loaded from has changed since the last burst."""
        return bool(self._code)

    def stop(self) -> None:
        """Watch nothing any more."""
        self._watcher.stop()

    def fetch(self) -> Burst:
        """What has changed since the last time."""
        libraries = Found([], [], unfinished=False)
        now = time.monotonic()

        if now >= self._look_at:
            libraries = self._installed.look()
            goes_on = libraries.unfinished and now < self._look_until
            self._look_at = now + _LOOK if goes_on else math.inf

            if now < self._due:
                return Burst(now, [], [], libraries)

        self._due = math.inf
        # A file may have been empty, or away, for a moment.
        code = [
            path
            for path, served in self._code.items()
            if self._contents.digest(path) != served
        ]
        pages = [path for path in self._pages if self._contents.differs(path)]
        burst = Burst(self._since, code, pages, libraries)

        if len(code) + len(pages) >= _MANY:
            self._many_until = now + _AFTER_MANY

        self._code.clear()
        self._pages.clear()
        return burst

    def get_to_know(self) -> None:
        """Take some more files, as they are now, for what the server has. Trees of many
        thousands take seconds, so this is to be called when nothing else is waiting,
        until :attr:`knows_all`.
        """
        until = time.monotonic() + _PATIENCE
        self.knows_all = True

        for path in self._unknown:
            self._contents.take([path])

            if time.monotonic() > until:
                self.knows_all = False
                break

    # What the server has read

    def learn(self, read: dict[str, str], imported: t.Iterable[str]) -> None:
        """Take in what the server has read: watch its directories, and see whether any
        of the files have changed since.

        :param read: the digests of files by their paths.
        :param imported: the paths of files whose digests are not known.
        """
        paths = {*read, *imported}
        new = [path for path in paths if path not in self._rules.imported]
        self._rules.imported.update(new)
        roots_before = len(self._rules.roots)

        for path in new:
            if self._rules.needs_root(path):
                self._rules.add_root(*module_root(path))

        if len(self._rules.roots) > roots_before:
            self._watch()
            self._unknown = self._rules.all_files()
            self.knows_all = False

        self._contents.take(filter(self._rules.counts, new))

        for path, digest in read.items():
            self._contents.tell(path, digest)

            if path in self._code:
                self._code[path] = digest

        self._note(read)

    def watch_pages(self, directories: t.Iterable[str]) -> None:
        """Watch the directories of the app's templates and static files.

        :param directories: none if there is no app, so that nothing is done for pages
            that it couldn't show.
        """
        found = {*directories}

        if self._rules.page_directories != found:
            self._rules.page_directories = found
            self._watch()

    # What has happened

    def take(self, event: Event | Lost) -> None:
        """See whether what an event speaks of is a change."""
        if isinstance(event, Lost):
            self._examine_everything()
            return

        for path, is_directory in touched(event):
            parent = os.path.dirname(path)

            if parent in self._installed.directories:
                self._look_at = time.monotonic() + _LOOK
                self._look_until = self._look_at + _LONGEST_INSTALLATION

                if parent not in self._rules.roots:
                    continue

            if not is_directory:
                self._note([path])
            elif not os.path.isdir(path):
                self._watcher.forget(path)
                self._note(self._contents.below(path))
            elif not self._rules.passes_over(path):
                self._new_directories.append(path)

    def settle(self) -> None:
        """Watch the directories that have come. To be called when no more events are
        waiting, since they often come many at once.
        """
        if not self._new_directories:
            return

        directories, self._new_directories = self._new_directories, []
        parents = map(os.path.dirname, directories)

        if not all(map(self._watcher.watches_below, parents)):
            self._watch()

        self._watcher.check()

        for directory in directories:
            # Files may have come into it before it was watched.
            self._note(self._rules.files(directory))
            self._note(self._rules.page_files(directory))

    def _watch(self) -> None:
        self._watcher.watch(self._watches())

    def _watches(self) -> dict[str, bool]:
        """The directories to watch, and whether recursively."""
        libraries = dict.fromkeys(self._installed.directories, False)
        return {**libraries, **self._rules.watches()}

    def _examine_everything(self) -> None:
        """Find what no event has told of."""
        self._watcher.watch_anew(self._watches())
        paths = dict.fromkeys(self._rules.all_files())

        for root in (*self._rules.roots, *self._rules.page_directories):
            paths.update(dict.fromkeys(self._contents.below(root)))

        self._note(paths)

    def _note(self, paths: t.Iterable[str]) -> None:
        """Add those files to the burst that count and have another content, and those
        that pages are made of.
        """
        paths = list(paths)
        # Whether a file of pages has another content is asked once for a burst: such
        # files may be large, and are written in many pieces then.
        pages = [path for path in paths if self._rules.is_part_of_pages(path)]
        code = {}

        for path in filter(self._rules.counts, paths):
            served = self._contents.digest(path)

            if self._contents.differs(path):
                code[path] = served

        if not (code or pages):
            return

        now = time.monotonic()

        if self._due == math.inf:
            self._since = now

        for path, served in code.items():
            self._code.setdefault(path, served)

        self._pages.update(dict.fromkeys(pages))
        quiet, longest = _QUIET, _LONGEST_BURST

        if len(self._code) + len(self._pages) >= _MANY or now < self._many_until:
            quiet, longest = _QUIET_OF_MANY, _LONGEST_BURST_OF_MANY
        elif any(map(_is_unfinished, (*self._code, *self._pages))):
            quiet = _QUIET_UNFINISHED

        self._due = min(now + quiet, self._since + longest)


def _is_unfinished(path: str) -> bool:
    try:
        return os.path.getsize(path) == 0
    except OSError:
        return True
