"""From events to changes, with the test in the place of the supervisor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from watchdog.events import FileModifiedEvent

from flask_sockets_cli.files import digest
from flask_sockets_cli.watch.changes import Changes


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of an app, which the server has read."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path.resolve() / "app.py"
    path.write_text("old")
    return path


@pytest.fixture
def changes(module: Path) -> Iterator[Changes]:
    # The events that watchdog finds are left alone: the tests make their own.
    changes = Changes(None, (), (), False, lambda event: None, lambda warning: None)
    changes.learn({str(module): digest(b"old")}, ())
    yield changes
    changes.stop()


def happen(changes: Changes, path: Path) -> None:
    changes.take(FileModifiedEvent(str(path)))


def test_another_content_is_a_change(changes: Changes, module: Path) -> None:
    """Once, and at a moment that is told."""
    module.write_text("new")
    happen(changes, module)
    assert changes.due < math.inf
    assert changes.has_code
    assert changes.fetch().code == [str(module)]
    assert changes.due == math.inf
    assert not changes.has_code
    assert changes.fetch().code == []


@pytest.mark.parametrize("moment", ["empty", "away"])
def test_file_that_is_not_itself_for_a_moment_is_no_change(
    changes: Changes, module: Path, moment: str
) -> None:
    """As when an editor saves the same bytes in its own way."""
    if moment == "empty":
        module.write_text("")
    else:
        module.unlink()

    happen(changes, module)
    module.write_text("old")
    happen(changes, module)
    assert changes.due < math.inf
    assert changes.fetch().code == []


def test_file_that_was_read_while_it_was_not_itself_is_a_change(
    changes: Changes, module: Path
) -> None:
    """A server that has read it in that moment is outdated."""
    module.write_text("")
    happen(changes, module)
    module.write_text("old")
    happen(changes, module)
    changes.learn({str(module): digest(b"")}, ())
    assert changes.fetch().code == [str(module)]


def test_program_that_writes_many_files_is_waited_for(
    changes: Changes, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may pause between two of them, as Git does on a busy machine. One file that is
    saved is not waited for as long.
    """
    clock = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr("flask_sockets_cli.watch.changes.time", clock)
    module.write_text("new")
    happen(changes, module)
    due_with_one = changes.due

    for number in range(10):
        path = module.with_name(f"module{number}.py")
        path.write_text("new")
        happen(changes, path)

    assert changes.due > due_with_one
    assert len(changes.fetch().code) == 11
    # It was taken to be done too early: what follows is the rest of it.
    module.write_text("newer")
    happen(changes, module)
    assert changes.due > due_with_one


def test_many_files_are_got_to_know_bit_by_bit(
    changes: Changes, tmp_path: Path
) -> None:
    """Those that are known are compared with what they held. One that has an event
    before that counts as changed.
    """
    files = [tmp_path.resolve() / f"module{number}.py" for number in range(500)]

    for file in files:
        file.write_text("old")

    happen(changes, files[7])
    assert changes.fetch().code == [str(files[7])]

    while not changes.knows_all:
        changes.get_to_know()

    for file in files:
        happen(changes, file)

    assert not changes.has_code
    files[300].write_text("new")
    happen(changes, files[300])
    assert changes.fetch().code == [str(files[300])]
