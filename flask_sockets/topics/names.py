"""Which names topics and members may have."""

from __future__ import annotations

import re
import typing as t

#: How long a name may be, in bytes of UTF-8.
MAX_NAME_SIZE = 255

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_name(name: t.Any, what: str = "topic") -> str:
    """Say what is wrong with a name, if anything is.

    :param what: what has that name, for the message of the error.
    :return: the name.
    :raises TypeError: if the name isn't a ``str``.
    :raises ValueError: if it is empty, longer than :data:`MAX_NAME_SIZE`, or holds
        control characters or half of a surrogate pair.
    """
    if not isinstance(name, str):
        raise TypeError(f"The name of a {what} is a 'str', not {_type_name(name)!r}.")

    if not name:
        raise ValueError(f"The name of a {what} can't be empty.")

    if _CONTROL_CHARACTER.search(name):
        raise ValueError(f"The name of the {what} {name!r} has control characters.")

    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(
            f"The name of the {what} {name!r} has half of a surrogate pair, which"
            " UTF-8 can't encode."
        ) from None

    if size > MAX_NAME_SIZE:
        raise ValueError(
            f"The name of the {what} {name[:40]!r}... has {size} bytes, and at most"
            f" {MAX_NAME_SIZE} are allowed."
        )

    return name


def _type_name(value: object) -> str:
    return type(value).__name__
