"""Looks for changes by itself, where the system tells of none.

watchdog's own polling takes several times the processor time for as many files.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import typing as t

#: Seconds from one look at all files to the next, at least.
_INTERVAL = 0.3
#: How much longer than its processor time a look is waited for: for 1.7 % of it.
_REST = 60
#: Seconds for which a file counts as changed again at each look. Some file systems keep
#: times by the second or two, so that the next edit may leave no trace in them.
_FRESH = 3.0
#: From this size on files are only compared when their times change, in bytes.
_LARGE = 1 << 20

#: What tells a file from one that was written over it: when its content and its
#: attributes have changed, in nanoseconds, and its size in bytes. ``None`` stands for a
#: directory.
Stamp = tuple[int, int, int] | None


@dataclasses.dataclass
class Change:
    """What was found, in the way of watchdog's events."""

    event_type: str
    is_directory: bool
    src_path: str
    dest_path: str = ""


class Poller:
    """Looks at directories in a thread of its own, as often as is cheap.

    :param found: called with each change, in that thread.
    :param passes_over: says of a directory whether it is not looked into.
    """

    def __init__(
        self,
        found: t.Callable[[Change], object],
        passes_over: t.Callable[[str], bool],
    ) -> None:
        self._found = found
        self._passes_over = passes_over
        self._trees: dict[str, Tree] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, directory: str, recursive: bool) -> None:
        """Look at one more directory: what changes after the call has returned is told.

        :param recursive: whether all that is below it is looked at, too.
        """
        tree = Tree(directory, recursive, self._passes_over)

        with self._lock:
            self._trees[directory] = tree

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def forget(self, directory: str) -> None:
        """Do not look at a directory any longer, if it is looked at."""
        with self._lock:
            self._trees.pop(directory, None)

    def forget_all(self) -> None:
        """Look at nothing any longer."""
        with self._lock:
            self._trees.clear()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        rest = _INTERVAL

        while not self._stopped.wait(rest):
            began, used = time.monotonic(), time.thread_time()

            with self._lock:
                trees = list(self._trees.values())

            for tree in trees:
                for change in tree.changes():
                    self._found(change)

            # Over a network a look may take long without taking processor time here.
            rest = max(
                _INTERVAL,
                _REST * (time.thread_time() - used),
                time.monotonic() - began,
            )


class Tree:
    """What is in a directory, as of the last look.

    The parameters are those of :meth:`Poller.watch` and :class:`Poller`.
    """

    def __init__(
        self, directory: str, recursive: bool, passes_over: t.Callable[[str], bool]
    ) -> None:
        self._directory = directory
        self._recursive = recursive
        self._passes_over = passes_over
        # Until when files count as changed, in the terms of time.monotonic().
        self._fresh: dict[str, float] = {}
        self._entries: dict[str, Stamp] = {}
        self._entries = self._look()
        recent = (time.time() - _FRESH) * 1e9
        self._refresh(
            path
            for path, stamp in self._entries.items()
            if stamp is not None and stamp[0] > recent
        )

    def changes(self) -> list[Change]:
        """What has changed since the last look."""
        before, now = self._entries, self._look()
        self._entries = now
        changes = [
            Change("deleted", stamp is None, path)
            for path, stamp in before.items()
            if path not in now or (stamp is None) != (now[path] is None)
        ]
        changed = []

        for path, stamp in now.items():
            if path not in before or (stamp is None) != (before[path] is None):
                changes.append(Change("created", stamp is None, path))
            elif stamp == before[path]:
                continue

            changed.append(path)

        moment = time.monotonic()
        self._fresh = {
            path: until for path, until in self._fresh.items() if until > moment
        }
        self._refresh(changed)
        changes += [Change("modified", False, path) for path in self._fresh]
        return changes

    def _refresh(self, paths: t.Iterable[str]) -> None:
        """Let files count as changed for a while."""
        until = time.monotonic() + _FRESH

        for path in paths:
            stamp = self._entries[path]

            if stamp is not None and stamp[2] < _LARGE:
                self._fresh[path] = until

    def _look(self) -> dict[str, Stamp]:
        found: dict[str, Stamp] = {}
        waiting = [self._directory]

        while waiting:
            directory = waiting.pop()

            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        path = entry.path

                        if not entry.is_dir(follow_symlinks=False):
                            self._stamp(entry, found)
                            continue

                        found[path] = None

                        if (
                            self._recursive
                            and entry.name != "__pycache__"
                            and not self._passes_over(path)
                        ):
                            waiting.append(path)
            except (FileNotFoundError, NotADirectoryError):
                found.pop(directory, None)
            except OSError:
                # A network may be down for a moment. That deletes nothing.
                prefix = os.path.join(directory, "")
                found.update(
                    (path, stamp)
                    for path, stamp in self._entries.items()
                    if path.startswith(prefix)
                )

        return found

    def _stamp(self, entry: os.DirEntry[str], found: dict[str, Stamp]) -> None:
        try:
            status = entry.stat()
        except FileNotFoundError:
            return  # gone by now, or a link to nowhere
        except OSError:
            if entry.path in self._entries:
                found[entry.path] = self._entries[entry.path]

            return

        found[entry.path] = status.st_mtime_ns, status.st_ctime_ns, status.st_size
