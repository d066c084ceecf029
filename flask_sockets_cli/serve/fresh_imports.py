"""Imports that compile modules afresh, from the source, and tell which they read.

Python takes a ``.pyc`` for current when its source has the second and the size it was
compiled with. Two edits of equal length within a second would leave the first one's
code in place. The app's modules are few, so they are compiled afresh for each load.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
import types
import typing as t

from ..files import digest, is_library

_original_get_code = importlib.machinery.SourceFileLoader.get_code


def read_afresh(tell: t.Callable[[str, str], None]) -> None:
    """Compile every module outside of the libraries from its source, from now on.

    :param tell: called with the real path and the digest of each source that is read,
        before it is compiled: a file with a mistake in it is told as well.
    """

    def get_code(self: t.Any, fullname: str) -> types.CodeType | None:
        path: str = self.get_filename(fullname)

        if is_library(path):
            return _original_get_code(self, fullname)

        source: bytes = self.get_data(path)
        tell(os.path.realpath(path), digest(source))
        return t.cast(types.CodeType, self.source_to_code(source, path))

    # Replacing the method reaches every way to a module: the path, the finders of
    # editable installs, runpy.
    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore


def imported_files() -> list[str]:
    """The real paths of the imported modules that are not part of a library."""
    files = set()

    for module in list(sys.modules.values()):
        # Not getattr: a lazy module would be imported by it.
        path = getattr(module, "__dict__", {}).get("__file__")

        if isinstance(path, str) and not is_library(path):
            files.add(os.path.realpath(path))

    return sorted(files)
