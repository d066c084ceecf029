"""The observer: watchdog's events arrive, whatever the system can watch."""

from __future__ import annotations

import errno
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.observers.polling import PollingObserver

from flask_sockets_cli import observer
from flask_sockets_cli.observer import Watcher

from ..process import PATIENCE


class Found:
    """The paths that events have come for."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self._grown = threading.Condition()

    def __call__(self, event: t.Any) -> None:
        with self._grown:
            self.paths.update({event.src_path, event.dest_path})
            self._grown.notify_all()

    def wait_for(self, path: Path) -> None:
        with self._grown:
            assert self._grown.wait_for(lambda: str(path) in self.paths, PATIENCE)


@pytest.fixture
def found() -> Found:
    return Found()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def watcher(found: Found, warnings: list[str]) -> Iterator[Watcher]:
    watcher = Watcher(found, warnings.append)
    yield watcher
    watcher.stop()


def test_events_arrive(
    tmp_path: Path, watcher: Watcher, found: Found, warnings: list[str]
) -> None:
    """Recursive watches tell of what is below, flat ones of new directories only."""
    (tmp_path / "whole" / "deep").mkdir(parents=True)
    (tmp_path / "flat").mkdir()
    watcher.watch({str(tmp_path / "whole"): True, str(tmp_path / "flat"): False})
    (tmp_path / "whole" / "deep" / "a.py").touch()
    found.wait_for(tmp_path / "whole" / "deep" / "a.py")
    (tmp_path / "flat" / "new").mkdir()
    found.wait_for(tmp_path / "flat" / "new")
    assert watcher.watches_below(str(tmp_path / "whole" / "deep"))
    assert not watcher.watches_below(str(tmp_path / "flat"))
    assert watcher.name == "watchdog"
    assert warnings == []


def test_directory_that_comes_back_is_watched_again(
    tmp_path: Path, watcher: Watcher, found: Found
) -> None:
    """A directory that was forgotten can be asked for anew."""
    directory = tmp_path / "a"
    directory.mkdir()
    watcher.watch({str(directory): True})
    directory.rmdir()
    found.wait_for(directory)
    watcher.forget(str(directory))
    directory.mkdir()
    watcher.watch({str(directory): True})
    (directory / "b.py").touch()
    found.wait_for(directory / "b.py")


def test_missing_directory_is_passed_over(
    tmp_path: Path, watcher: Watcher, found: Found
) -> None:
    """A directory that has just been removed is no reason to fail."""
    watcher.watch({str(tmp_path / "missing"): True, str(tmp_path): True})
    (tmp_path / "a.py").touch()
    found.wait_for(tmp_path / "a.py")


@pytest.mark.parametrize("when", ["start", "later"])
def test_limit_of_the_system_is_told_once_and_polled_around(
    tmp_path: Path,
    found: Found,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    """Without watches left it says how to get more, and polls."""
    directories = [tmp_path / "a", tmp_path / "b"]
    limit = OSError(errno.ENOSPC, "inotify watch limit reached")

    for directory in directories:
        directory.mkdir()

    def fail(*args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        raise limit

    if when == "start":
        monkeypatch.setattr(observer, "Observer", fail)

    watcher = Watcher(found, warnings.append)

    try:
        if when == "later":
            watcher.watch({str(directories[0]): True})
            assert warnings == []
            monkeypatch.setattr(watcher._observer, "schedule", fail)

        watcher.watch({str(directory): True for directory in directories})
        assert isinstance(watcher._observer, PollingObserver)
        assert watcher.name == "polling"
        assert len(warnings) == 1
        assert "inotify watch limit reached" in warnings[0]
        assert "sysctl" in warnings[0]

        for directory in directories:
            (directory / "c.py").touch()
            found.wait_for(directory / "c.py")
    finally:
        watcher.stop()
