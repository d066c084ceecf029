"""What all processes have to agree on about files: which belong to libraries, and what
stands for the content of one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import site
import sysconfig

_LIBRARIES = tuple(
    {
        os.path.realpath(directory)
        for directory in (
            *(
                sysconfig.get_paths()[name]
                for name in ("stdlib", "platstdlib", "purelib", "platlib")
            ),
            *site.getsitepackages(),
            site.getusersitepackages(),
        )
    }
)


@functools.cache
def is_library(path: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    # The answers are kept, since each imported module is asked about at each load. A
    # server inherits the answers of the process that it is forked from.
    return (
        path.startswith("<")  # frozen into the interpreter
        or is_third_party(path)
        # To find the real path takes much longer, so that comes last.
        or _is_within(path, _LIBRARIES)
        or _is_within(os.path.realpath(path), _LIBRARIES)
    )


def is_third_party(path: str) -> bool:
    """Whether a file belongs to a package that was installed, and not to Python."""
    parts = path.split(os.sep)
    return "site-packages" in parts or "dist-packages" in parts


def current_directory() -> str | None:
    """The current directory, ``None`` if it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def digest(source: bytes) -> str:
    """What stands for the content of a file."""
    return hashlib.blake2b(source, digest_size=16).hexdigest()


def digest_of(path: str) -> str | None:
    """The digest of a file, ``None`` where no file can be read."""
    found = hashlib.blake2b(digest_size=16)

    try:
        with open(path, "rb") as file:
            # A static file may be larger than the memory.
            while chunk := file.read(1 << 20):
                found.update(chunk)
    except OSError:
        return None

    return found.hexdigest()


def _is_within(path: str, directories: tuple[str, ...]) -> bool:
    return any(path.startswith(os.path.join(parent, "")) for parent in directories)
