"""Whether a file holds something else than what the server read."""

from __future__ import annotations

import os
from pathlib import Path

from flask_sockets_cli.watch.contents import Contents


def test_only_another_content_is_a_difference(tmp_path: Path) -> None:
    """Times and permissions say nothing; the content does, and once."""
    file = tmp_path / "a.py"
    path = str(file)
    file.write_text("one")
    contents = Contents()
    contents.take([path])
    file.touch()
    file.chmod(0o600)
    file.write_text("one")
    assert not contents.differs(path)
    file.write_text("two")
    os.utime(path, (0, 0))
    assert contents.differs(path)
    assert not contents.differs(path)
    file.unlink()
    assert contents.differs(path)
    assert not contents.differs(path)
    file.write_text("two")
    assert contents.differs(path)


def test_what_the_server_read_is_what_counts(tmp_path: Path) -> None:
    """An edit between the server's reading and the first look is a difference."""
    file = tmp_path / "a.py"
    file.write_text("edited since")
    contents = Contents()
    contents.take([str(file)])
    contents.tell(str(file), "digest of what was read")
    assert contents.differs(str(file))


def test_files_of_a_directory_that_is_gone_are_known(tmp_path: Path) -> None:
    """A directory that is moved away takes its files with it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "ab").mkdir()
    inside = tmp_path / "a" / "x.py"
    beside = tmp_path / "ab" / "x.py"
    inside.touch()
    beside.touch()
    contents = Contents()
    contents.take([str(inside), str(beside)])
    assert contents.below(str(tmp_path / "a")) == [str(inside)]
