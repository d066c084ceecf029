"""Which libraries are installed, as the directories say that they are installed in."""

from __future__ import annotations

import csv
import os
import sys
import typing as t

#: What the directory of a distribution's metadata ends with (PEP 376).
_METADATA = ".dist-info"

#: What the name of a directory begins with that pip puts aside: those of a library that
#: it removes, or replaces by another version, until it is done.
_PUT_ASIDE = "~"

#: What directories are called that libraries are installed in; Debian's is the second.
_NAMES = ("site-packages", "dist-packages")


class Installation(t.NamedTuple):
    """A distribution that has come, or another version of it."""

    #: Its name and its version, as in ``Flask 3.1.0``.
    title: str
    #: The names of modules, at the top level, that it consists of.
    modules: list[str]
    #: Whether it leads to others, as where a project is installed as a link.
    is_link: bool


class Found(t.NamedTuple):
    """What a look has found."""

    installed: list[Installation]
    #: The name and the version of each library that is gone.
    removed: list[str]
    #: Whether more is on its way.
    unfinished: bool


class Installed:
    """Finds out which libraries have been installed or removed since it looked last.

    :param path: where modules are imported from, as in :data:`sys.path`.
    """

    def __init__(self, path: t.Iterable[str] = sys.path) -> None:
        #: The real paths of directories that libraries are installed in.
        self.directories = [
            directory
            for directory in dict.fromkeys(map(os.path.realpath, path))
            if os.path.basename(directory) in _NAMES and os.path.isdir(directory)
        ]
        # What lies aside now was left there when pip was interrupted.
        self._known, self._left_aside = self._list()

    def look(self) -> Found:
        """What has changed since last time, unless pip is in the middle of it."""
        records, aside = self._list()

        if aside - self._left_aside:
            return Found([], [], unfinished=True)

        installed = []
        unfinished = False

        for path, record in records.items():
            if self._known.get(path, ()) == record:
                continue

            if record is None:
                unfinished = True
            else:
                self._known[path] = record
                installed.append(_describe(path))

        if unfinished:
            # What is gone may be about to come back as another version.
            return Found(installed, [], unfinished)

        gone = self._known.keys() - records.keys()
        self._known = records
        names = {_name_and_version(path)[0] for path in records}
        removed = [_name_and_version(path) for path in sorted(gone)]
        return Found(
            installed,
            [f"{name} {version}" for name, version in removed if name not in names],
            unfinished,
        )

    def _list(self) -> tuple[dict[str, tuple[int, int] | None], set[str]]:
        """The directories of metadata, and those that pip has put aside. Of the former
        each with what tells its record from another one. It is the last file that
        installers write: ``None`` if it is not there.
        """
        records: dict[str, tuple[int, int] | None] = {}
        aside = set()

        for directory in self.directories:
            try:
                names = os.listdir(directory)
            except OSError:
                continue

            for name in names:
                path = os.path.join(directory, name)

                if name.startswith(_PUT_ASIDE):
                    aside.add(path)
                elif name.endswith(_METADATA):
                    try:
                        status = os.stat(os.path.join(path, "RECORD"))
                    except OSError:
                        records[path] = None
                    else:
                        records[path] = (status.st_mtime_ns, status.st_size)

        return records, aside


def _name_and_version(path: str) -> tuple[str, str]:
    """Those of the distribution whose metadata are in a directory."""
    title = os.path.basename(path).removesuffix(_METADATA)
    name, _, version = title.partition("-")
    return name, version


def _describe(path: str) -> Installation:
    """The distribution whose metadata are in a directory."""
    name, version = _name_and_version(path)
    modules: set[str] = set()
    is_link = False

    try:
        with open(os.path.join(path, "RECORD"), encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                first, _, rest = row[0].replace(os.sep, "/").partition("/")

                is_link |= first.endswith(".pth")

                if rest or first.endswith((".py", ".so", ".pyd")):
                    modules.add(first.partition(".")[0])
    except (OSError, ValueError, IndexError, csv.Error):
        pass  # it has been replaced meanwhile, or says nothing that could be read

    return Installation(
        f"{name} {version}", sorted(filter(str.isidentifier, modules)), is_link
    )
