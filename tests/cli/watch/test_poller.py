"""Polling: what is found where the system tells of nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flask_sockets_cli.watch.poller import Tree

#: The second that a file system with coarse times shows for long.
LONG_AGO = (1_700_000_000, 1_700_000_000)


def tree_of(directory: Path, recursive: bool = True) -> Tree:
    return Tree(str(directory), recursive, lambda path: path.endswith("node_modules"))


def changes(tree: Tree) -> set[tuple[str, str]]:
    """What a tree says has changed: how, and the name of what."""
    return {
        (change.event_type, os.path.basename(change.src_path))
        for change in tree.changes()
    }


def write_old(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, LONG_AGO)


def test_files_and_directories_that_come_and_go(tmp_path: Path) -> None:
    """Each is told, with what is in a directory, and a change of either kind."""
    write_old(tmp_path / "old.py", "old")
    write_old(tmp_path / "gone.py", "gone")
    (tmp_path / "swapped").mkdir()
    tree = tree_of(tmp_path)
    assert changes(tree) == set()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "module.py").touch()
    (tmp_path / "gone.py").unlink()
    (tmp_path / "swapped").rmdir()
    (tmp_path / "swapped").touch()
    write_old(tmp_path / "old.py", "edited")
    assert changes(tree) == {
        ("created", "new"),
        ("created", "module.py"),
        ("modified", "module.py"),
        ("deleted", "gone.py"),
        ("deleted", "swapped"),
        ("created", "swapped"),
        ("modified", "swapped"),
        ("modified", "old.py"),
    }


def test_edit_that_leaves_no_trace_in_coarse_times_is_told(tmp_path: Path) -> None:
    """As long as the next one may have the same time: the content decides then."""
    fresh = tmp_path / "fresh.py"
    fresh.touch()
    later = tmp_path / "later.py"
    write_old(later, "1")
    tree = tree_of(tmp_path)
    assert changes(tree) == {("modified", "fresh.py")}
    write_old(later, "2")
    assert ("modified", "later.py") in changes(tree)
    # Nothing has changed since.
    assert ("modified", "later.py") in changes(tree)


def test_what_is_passed_over_is_not_looked_into(tmp_path: Path) -> None:
    """Nor is what is below a directory that is looked at alone, but it is told of."""
    tree = tree_of(tmp_path)
    flat = tree_of(tmp_path, recursive=False)

    for name in ("node_modules", "__pycache__", "package"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").touch()

    directories = {("created", n) for n in ("node_modules", "__pycache__", "package")}
    files = {("created", "package.py"), ("modified", "package.py")}
    assert changes(tree) == directories | files
    assert changes(flat) == directories


def test_directory_that_is_gone_has_lost_all(tmp_path: Path) -> None:
    """The one that is looked at included."""
    directory = tmp_path / "directory"
    directory.mkdir()
    write_old(directory / "a.py", "a")
    tree = tree_of(directory)
    (directory / "a.py").unlink()
    directory.rmdir()
    assert changes(tree) == {("deleted", "a.py")}


def test_directory_that_cannot_be_read_for_a_moment_has_lost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a network is down."""
    write_old(tmp_path / "a.py", "a")
    tree = tree_of(tmp_path)

    def fail(path: str) -> None:
        raise OSError(112, "Host is down")

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", fail)
        assert changes(tree) == set()

    assert changes(tree) == set()
