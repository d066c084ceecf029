"""The variables of ``.env`` and ``.flaskenv``, which may change as the server runs."""

from __future__ import annotations

import os

from flask.cli import load_dotenv


def files() -> list[str]:
    """The files that ``flask`` reads, as far as they exist."""
    try:
        from dotenv import find_dotenv  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return []

    try:
        found = [find_dotenv(name, usecwd=True) for name in (".flaskenv", ".env")]
    except OSError:
        return []  # the current directory is gone

    return [path for path in found if path]


def values_in_effect() -> dict[str, str]:
    """The variables of the environment that have been taken from the files."""
    if not files():
        return {}

    from dotenv import dotenv_values

    values: dict[str, str | None] = {}

    for path in files():
        values |= dotenv_values(path, encoding="utf-8")

    return {
        name: value
        for name, value in values.items()
        if value is not None and os.environ.get(name) == value
    }


def read_again(before: dict[str, str]) -> None:
    """Take the values the files hold now in place of those they held before.

    Variables that the person has set in the shell stay, as ever.

    :param before: what :func:`values_in_effect` said when the command started.
    """
    if not before and not files():
        return

    for name, value in before.items():
        if os.environ.get(name) == value:
            del os.environ[name]

    load_dotenv()
