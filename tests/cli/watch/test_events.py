"""Which paths an event of watchdog's speaks of."""

from __future__ import annotations

import pytest
from watchdog import events

from flask_sockets_cli.watch.events import touched


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (events.FileModifiedEvent("a.py"), ["a.py"]),
        (events.FileCreatedEvent("a.py"), ["a.py"]),
        (events.FileDeletedEvent("a.py"), ["a.py"]),
        (events.FileClosedEvent("a.py"), ["a.py"]),
        (events.FileMovedEvent("a.tmp", "a.py"), ["a.tmp", "a.py"]),
        (events.DirMovedEvent("a", "b"), ["a", "b"]),
        (events.DirCreatedEvent("a"), ["a"]),
        (events.DirDeletedEvent("a"), ["a"]),
        (events.DirModifiedEvent("a"), []),
        (events.FileOpenedEvent("a.py"), []),
        (events.FileClosedNoWriteEvent("a.py"), []),
    ],
)
def test_what_an_event_may_have_changed(
    event: events.FileSystemEvent, expected: list[str]
) -> None:
    """Every event that can mean another content names the paths; reading does not."""
    assert [path for path, _ in touched(event)] == expected


def test_bytes_paths_are_understood() -> None:
    """watchdog may give paths as bytes."""
    assert touched(events.FileModifiedEvent(b"a.py")) == [("a.py", False)]
