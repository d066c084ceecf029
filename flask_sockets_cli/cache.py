"""What is kept between runs, in the user's cache directory. It can all be made again:
it is safe to delete, and nothing fails where it can't be read or written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile


def directory() -> str | None:
    """The directory for what is kept, ``None`` where the user has none.

    It lies where the system keeps such things: in ``$XDG_CACHE_HOME`` (XDG Base
    Directory Specification), and without that in ``~/.cache``, in ``~/Library/Caches``
    on macOS, in ``%LOCALAPPDATA%`` on Windows.
    """
    if sys.platform == "win32":
        default = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        default = os.path.expanduser("~/Library/Caches")
    else:
        default = os.path.expanduser("~/.cache")

    for base in (os.environ.get("XDG_CACHE_HOME", ""), default):
        # A relative path is to be ignored, says the specification.
        if os.path.isabs(base):
            return os.path.join(base, "flask-sockets")

    return None


def path_for(kind: str, *key: object, suffix: str) -> str | None:
    """The path of the file for a key, ``None`` where nothing can be kept.

    :param kind: the name of a directory.
    :param key: what tells the file from others.
    """
    base = directory()
    name = hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
    return None if base is None else os.path.join(base, kind, name + suffix)


def read(path: str | None) -> bytes | None:
    """What is kept in a file, ``None`` if it is not there."""
    if path is None:
        return None

    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def write(path: str | None, data: bytes) -> None:
    """Keep data in a file, which others see as a whole or not at all."""
    if path is None:
        return

    parent = os.path.dirname(path)

    with contextlib.suppress(OSError):
        try:
            fd, temporary = tempfile.mkstemp(dir=parent)
        except FileNotFoundError:
            os.makedirs(parent, mode=0o700, exist_ok=True)
            fd, temporary = tempfile.mkstemp(dir=parent)

        try:
            with open(fd, "wb") as file:
                file.write(data)

            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
