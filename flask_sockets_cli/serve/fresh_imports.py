"""Imports that read the source of each module, and tell which they have read.

Python takes a ``.pyc`` for current when its source has the second and the size it was
compiled with. Two edits of equal length within a second would leave the first one's
code in place. So the app's modules have others, which are checked by the hash of the
source (PEP 552). They lie in the user's cache directory, since Python itself would use
them without a look at the source if it was told to (``--check-hash-based-pycs``).
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import marshal
import os
import sys
import types
import typing as t
import warnings

from .. import cache
from ..files import digest, is_library, is_third_party

#: The flags of a .pyc that is checked by the hash of its source (PEP 552).
_CHECKED_HASH = (0b11).to_bytes(4, "little")
#: The bytes of a checksum.
_CHECKSUM = 16

_Loader = importlib.machinery.SourceFileLoader
_original_get_code = importlib.machinery.SourceFileLoader.get_code


def read_afresh(tell: t.Callable[[str, str], None]) -> None:
    """Take every module outside of the libraries as its source is, from now on.

    :param tell: called with the real path and the digest of each source that is read,
        before it is compiled: a file with a mistake in it is told as well.
    """

    def get_code(self: t.Any, fullname: str) -> types.CodeType | None:
        path: str = self.get_filename(fullname)

        if is_library(path):
            return _original_get_code(self, fullname)

        source: bytes = self.get_data(path)
        tell(os.path.realpath(path), digest(source))

        # Other kinds of loaders may make something else of a source.
        if type(self) is _Loader:
            return _code_of(self, source, path)

        return t.cast(types.CodeType, self.source_to_code(source, path))

    # Replacing the method reaches every way to a module: the path, the finders of
    # editable installs, runpy.
    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore


def _code_of(
    loader: importlib.machinery.SourceFileLoader, source: bytes, path: str
) -> types.CodeType:
    """The code of a source, compiled if it is not the one that was compiled last."""
    key = (path, sys.implementation.cache_tag, sys.flags.optimize, sys.warnoptions)
    kept_at = cache.path_for("code", *key, suffix=".pyc")
    header = (
        importlib.util.MAGIC_NUMBER + _CHECKED_HASH + importlib.util.source_hash(source)
    )
    kept = cache.read(kept_at)

    if kept is not None and kept.startswith(header):
        marshalled, checksum = kept[len(header) : -_CHECKSUM], kept[-_CHECKSUM:]

        # Damaged data could crash the interpreter.
        if _checksum(marshalled) == checksum:
            return t.cast(types.CodeType, marshal.loads(marshalled))

    code, is_silent = _compile(loader, source, path)

    # What the compiler has to say it says at each load. PYTHONDONTWRITEBYTECODE is not
    # asked: it is there to keep files from lying about among those of the person.
    if is_silent:
        marshalled = marshal.dumps(code)
        # What follows the code is ignored by whoever else may read the file.
        cache.write(kept_at, header + marshalled + _checksum(marshalled))

    return code


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM).digest()


def _compile(
    loader: importlib.machinery.SourceFileLoader, source: bytes, path: str
) -> tuple[types.CodeType, bool]:
    """Compile a source. Return the code, and whether there was no warning."""
    show = warnings.showwarning
    is_silent = True

    def note(*args: t.Any, **kwargs: t.Any) -> None:
        nonlocal is_silent
        is_silent = False
        show(*args, **kwargs)

    # To record warnings in the usual way would let others be shown again.
    warnings.showwarning = note

    try:
        return loader.source_to_code(source, path), is_silent
    finally:
        warnings.showwarning = show


def imported_files() -> list[str]:
    """The real paths of the imported modules that are not part of a library."""
    files = {os.path.realpath(path) for path in _module_files() if not is_library(path)}
    return sorted(files)


def lacks_files() -> bool:
    """Whether a library has been removed that modules were imported from."""
    return any(
        is_third_party(path) and not os.path.exists(path) for path in _module_files()
    )


def _module_files() -> t.Iterator[str]:
    for module in list(sys.modules.values()):
        # Not getattr: a lazy module would be imported by it.
        path = getattr(module, "__dict__", {}).get("__file__")

        if isinstance(path, str):
            yield path
