"""watchdog's events, and which paths each one speaks of."""

from __future__ import annotations

import os
import typing as t


class Event(t.Protocol):
    """What is used of watchdog's events, the same in versions 6 and 7."""

    event_type: str
    is_directory: bool
    src_path: t.Any
    dest_path: t.Any


class Lost(t.NamedTuple):
    """In place of an event: some changes of files have gone unnoticed."""


#: Events that may mean another content. Reading a file is reported too, as "opened" and
#: "closed_no_write", and changed permissions as "attrib" or "modified".
_TELLING = frozenset({"created", "modified", "deleted", "moved", "closed"})


def touched(event: Event) -> list[tuple[str, bool]]:
    """The paths whose content an event may have changed, and whether each is a
    directory.
    """
    if event.event_type not in _TELLING:
        return []

    if event.is_directory and event.event_type in {"modified", "closed"}:
        return []  # what changed in it has an event of its own

    return [
        (os.fsdecode(path), event.is_directory)
        for path in (event.src_path, event.dest_path)
        if path
    ]
