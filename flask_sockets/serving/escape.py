"""What clients have written, as it is written to a log."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(r"[^ -~]")
_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]")


def escaped(text: str) -> str:
    """Spell out all bytes that a terminal may obey, or show as something else.

    :param text: bytes that were decoded as Latin-1, as servers do. What isn't ASCII may
        be control characters there, or characters of UTF-8 that change the direction of
        what follows.
    """
    return _UNPRINTABLE.sub(_spell_out, text)


def quoted(text: str) -> str:
    """Spell out quotes and backslashes as well, for text that stands in quotes."""
    return _UNQUOTABLE.sub(_spell_out, text)


def _spell_out(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"
