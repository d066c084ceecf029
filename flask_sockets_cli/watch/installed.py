"""Which libraries are installed, as the directories say that they are installed in."""

from __future__ import annotations

import csv
import os
import sys
import typing as t

#: What the directory of a distribution's metadata ends with (PEP 376).
_METADATA = ".dist-info"

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


class Installed:
    """Finds out which libraries have been installed since it looked last.

    :param path: where modules are imported from, as in :data:`sys.path`.
    """

    def __init__(self, path: t.Iterable[str] = sys.path) -> None:
        #: The real paths of directories that libraries are installed in.
        self.directories = [
            directory
            for directory in dict.fromkeys(map(os.path.realpath, path))
            if os.path.basename(directory) in _NAMES and os.path.isdir(directory)
        ]
        self._known = dict(self._list())

    def look(self) -> tuple[list[Installation], bool]:
        """What has been installed since last time, and whether more is on its way."""
        found = []
        unfinished = False

        for path, record in self._list():
            if self._known.get(path, ()) == record:
                continue

            if record is None:
                unfinished = True
            else:
                self._known[path] = record
                found.append(_describe(path))

        return found, unfinished

    def _list(self) -> t.Iterator[tuple[str, tuple[int, int] | None]]:
        """The directories of metadata, each with what tells its record from another
        one. It is the last file that installers write: ``None`` if it is not there.
        """
        for directory in self.directories:
            try:
                names = os.listdir(directory)
            except OSError:
                continue

            for name in names:
                if name.endswith(_METADATA):
                    path = os.path.join(directory, name)

                    try:
                        status = os.stat(os.path.join(path, "RECORD"))
                    except OSError:
                        yield path, None
                    else:
                        yield path, (status.st_mtime_ns, status.st_size)


def _describe(path: str) -> Installation:
    """The distribution whose metadata are in a directory."""
    name, _, version = os.path.basename(path).removesuffix(_METADATA).partition("-")
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
