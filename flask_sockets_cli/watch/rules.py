"""Which files matter: one meaning for every pattern, on every system.

watchdog's own patterns mean different things in its versions 6 and 7. So watchdog is
asked for every event, and these rules decide which ones count.
"""

from __future__ import annotations

import fnmatch
import os
import re
import typing as t

#: Directories that hold nothing a person edits. Those whose name starts with a dot, and
#: virtual environments whatever their name, belong to them too.
PRUNED_NAMES = frozenset({"__pycache__", "node_modules", "site-packages"})

#: The files ``flask`` takes environment variables from.
DOTENV_NAMES = frozenset({".env", ".flaskenv"})

#: What editors leave beside a file for a moment: Emacs' locks and autosaves,
#: everybody's backups, Vim's swap files and the file it tries a directory with,
#: JetBrains' saves.
_EDITOR_TEMPORARY = re.compile(
    r"\.?#.*|.*~|\..*\.sw[a-z]|.*\.swp|4913|.*___jb_(tmp|old)___"
)

#: What an app writes as it runs, where its templates lie in the same directory. A page
#: that is reloaded for it may have it written again, and so forever.
_APPS_DATA = re.compile(r".*\.(db|sqlite\d?|log|out)(-\w+)?")


def import_root(import_path: str | None) -> str:
    """The directory the app is imported from, as ``flask --app`` finds it.

    :param import_path: what ``--app`` was given; ``None`` for the default names.
    """
    # A colon parts the module from the app's name, unless it is part of a path.
    module = re.split(r":(?![\\/])", import_path or "app", maxsplit=1)[0]
    path = os.path.realpath(module)
    directory = os.path.dirname(path)

    while os.path.exists(os.path.join(directory, "__init__.py")):
        directory = os.path.dirname(directory)

    return directory


def module_root(path: str) -> tuple[str, bool]:
    """The directory to watch for the sake of an imported module, and whether all that
    is below it counts: a package is watched whole, for a lone module its directory is.
    """
    directory = os.path.dirname(path)
    root = None

    while os.path.exists(os.path.join(directory, "__init__.py")):
        root = directory
        directory = os.path.dirname(directory)

    return (root, True) if root is not None else (directory, False)


class Rules:
    """Decides about paths, which are real and absolute everywhere here.

    A pattern is one of :mod:`fnmatch`'s. Without a slash it is compared with the name
    of the file and of each directory above it, up to the watched one. With a slash it
    is compared with the whole path, and counts from the current directory unless it is
    absolute or starts with a star. A pattern that names a directory holds for all that
    is in it.

    :param extra_files: files, directories and patterns that count whatever they hold.
    :param exclude_patterns: patterns of files and directories that never count.
    :param base: the current directory.
    """

    def __init__(
        self,
        extra_files: t.Iterable[str] = (),
        exclude_patterns: t.Iterable[str] = (),
        base: str | None = None,
    ) -> None:
        self._base = os.path.realpath(base or os.getcwd())
        self._extra = [self._anchored(pattern) for pattern in extra_files]
        self._excluded_names: list[str] = []
        self._excluded_paths: list[str] = []
        #: The watched directories, and whether all that is below them counts.
        self.roots: dict[str, bool] = {}
        #: Files the server has imported: they count whatever their name.
        self.imported: set[str] = set()
        #: Directories of templates and static files, whose files reload open pages.
        self.page_directories: set[str] = set()

        for pattern in exclude_patterns:
            pattern = pattern.rstrip("/")

            if "/" in pattern:
                self._excluded_paths.append(self._anchored(pattern))
            else:
                self._excluded_names.append(pattern)

    def add_root(self, directory: str, whole: bool = True) -> None:
        """Let a directory count, and all that is below it if *whole*."""
        self.roots[directory] = whole or self.roots.get(directory, False)

    def add_extra_roots(self) -> None:
        """Let the directories of the extra files count, if they exist yet or not."""
        for pattern in self._extra:
            # What is in front of the first star is a directory for certain.
            fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]

            if fixed == pattern and os.path.isdir(pattern):
                self.add_root(pattern)
            else:
                self.add_root(os.path.dirname(fixed), whole=fixed != pattern)

    def counts(self, path: str) -> bool:
        """Whether another content of this file is to reload the app."""
        name = os.path.basename(path)
        return (
            (
                name.endswith(".py")
                or path in self.imported
                or (name in DOTENV_NAMES and os.path.dirname(path) == self._base)
                or self._is_extra(path)
            )
            and not _EDITOR_TEMPORARY.fullmatch(name)
            and not self._is_excluded(path)
            and not self._is_below_pruned(path)
        )

    def is_part_of_pages(self, path: str) -> bool:
        """Whether another content of this file is to reload the open pages, and not
        the app.
        """
        name = os.path.basename(path)
        return (
            not self.page_directories.isdisjoint(_parents(path))
            and not self.counts(path)
            and not _EDITOR_TEMPORARY.fullmatch(name)
            and not _APPS_DATA.fullmatch(name)
            and not self._is_excluded(path)
            and not self._is_below_pruned(path)
        )

    def prunes(self, directory: str) -> bool:
        """Whether a directory is passed over with all that is in it. It is asked of one
        directory after the other on the way down.
        """
        name = os.path.basename(directory)
        return (
            not self._is_extra(directory)
            and (
                name in PRUNED_NAMES
                or name.startswith(".")
                or os.path.exists(os.path.join(directory, "pyvenv.cfg"))
            )
        ) or self._is_excluded(directory)

    def passes_over(self, directory: str) -> bool:
        """Whether a directory is pruned, or one that it is in."""
        return self.prunes(directory) or self._is_below_pruned(directory)

    def needs_root(self, path: str) -> bool:
        """Whether an imported file is in no directory that counts: outside of all, or
        below a pruned one, such as the ``.venv/src`` of an editable install.
        """
        nearest = os.path.dirname(path)

        for directory in _parents(path):
            if self._is_excluded(directory):
                return False  # the person doesn't want it

            if directory in self.roots:
                if self.roots[directory] or directory == nearest:
                    return False
            elif self.prunes(directory):
                return True

        return True

    def files(self, directory: str) -> t.Iterator[str]:
        """The files below a directory that count."""
        return filter(self.counts, self._files_below(directory))

    def page_files(self, directory: str) -> t.Iterator[str]:
        """The files below a directory that pages are made of."""
        files = self._files_below(directory) if self.page_directories else ()
        return filter(self.is_part_of_pages, files)

    def _files_below(self, directory: str) -> t.Iterator[str]:
        for parent, directories, names in os.walk(directory):
            directories[:] = [
                name
                for name in directories
                if not self.prunes(os.path.join(parent, name))
            ]

            for name in names:
                yield os.path.join(parent, name)

    def all_files(self) -> t.Iterator[str]:
        """The files that count, of all roots."""
        for root, whole in self.roots.items():
            if whole:
                yield from self.files(root)
            else:
                yield from filter(self.counts, _files_in(root))

    def watches(self) -> dict[str, bool]:
        """The directories to watch, and whether recursively.

        Whatever watches a tree recursively watches all of it, and one watch for every
        single directory would be a thread each. So a tree without anything to prune is
        one watch; others are taken apart.
        """
        watches: dict[str, bool] = {}

        for root, whole in self.roots.items():
            if whole:
                if not self._plan(root, watches):
                    watches[root] = True
            else:
                watches.setdefault(root, False)

        for directory in self.page_directories:
            if not os.path.isdir(directory):
                # A tool may be about to make it.
                watches.setdefault(os.path.dirname(directory), False)
            elif not self._plan(directory, watches):
                watches[directory] = True

        return {
            directory: recursive
            for directory, recursive in watches.items()
            if os.path.isdir(directory)
            and not any(watches.get(parent) for parent in _parents(directory) if parent)
        }

    def _plan(self, directory: str, watches: dict[str, bool]) -> bool:
        """Add the watches for a directory unless one for its whole tree will do; say
        whether any were added.
        """
        kept = []
        pruned = False

        for child in _directories_in(directory):
            if os.path.basename(child) == "__pycache__":
                continue  # small and everywhere: not worth a division
            elif self.prunes(child):
                pruned = True
            else:
                kept.append(child)

        below: dict[str, bool] = {}
        divided = [child for child in kept if self._plan(child, below)]

        if not pruned and not divided:
            return False

        watches.update(below)
        watches.update({child: True for child in kept if child not in divided})
        watches[directory] = False
        return True

    def _anchored(self, pattern: str) -> str:
        pattern = os.path.expanduser(pattern)

        if os.path.isabs(pattern) or pattern.startswith("*"):
            return pattern

        return os.path.normpath(os.path.join(self._base, pattern))

    def _is_extra(self, path: str) -> bool:
        return any(
            path == pattern
            or path.startswith(os.path.join(pattern, ""))
            or fnmatch.fnmatchcase(path, pattern)
            for pattern in self._extra
        )

    def _is_excluded(self, path: str) -> bool:
        name = os.path.basename(path)
        return any(
            fnmatch.fnmatchcase(name, pattern) for pattern in self._excluded_names
        ) or any(fnmatch.fnmatchcase(path, pattern) for pattern in self._excluded_paths)

    def _is_below_pruned(self, path: str) -> bool:
        """Whether a directory between a path and the nearest watched one is pruned."""
        for directory in _parents(path):
            if directory in self.roots or directory in self.page_directories:
                return False

            if self.prunes(directory):
                return True

        return False


def _parents(path: str) -> t.Iterator[str]:
    """The directories above a path, the nearest first."""
    parent = os.path.dirname(path)

    while parent != path:
        yield parent
        path, parent = parent, os.path.dirname(parent)


def _directories_in(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [e.path for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _files_in(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_file()]
    except OSError:
        return []
