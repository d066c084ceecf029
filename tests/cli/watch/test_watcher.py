"""Watching: watchdog's events arrive, whatever the system can watch, and losses of
events are told.
"""

from __future__ import annotations

import ctypes
import errno
import struct
import sys
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from flask_sockets_cli.watch import _watchdog
from flask_sockets_cli.watch import watcher as watching
from flask_sockets_cli.watch.watcher import Watcher

from ...process import PATIENCE


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


class Losses:
    """Counts how often events were lost."""

    def __init__(self) -> None:
        self.count = 0
        self._told = threading.Semaphore(0)

    def __call__(self) -> None:
        self.count += 1
        self._told.release()

    def wait_for_one(self) -> None:
        assert self._told.acquire(timeout=PATIENCE)


@pytest.fixture
def found() -> Found:
    return Found()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def lost() -> Losses:
    return Losses()


@pytest.fixture
def watcher(
    found: Found,
    lost: Losses,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Watcher]:
    # Which a watcher replaces.
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    watcher = Watcher(found, lost, warnings.append)
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
    assert watcher.way == "watchdog"
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
    lost: Losses,
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
        monkeypatch.setattr(watching, "Observer", fail)

    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    watcher = Watcher(found, lost, warnings.append)

    try:
        if when == "later":
            watcher.watch({str(directories[0]): True})
            assert warnings == []
            monkeypatch.setattr(Observer, "schedule", fail)

        watcher.watch({str(directory): True for directory in directories})
        assert watcher.way == "polling"
        assert len(warnings) == 1
        assert "inotify watch limit reached" in warnings[0]
        assert "sysctl" in warnings[0]
        # Between the one observer and the other something may have been overlooked.
        assert lost.count == (when == "later")

        for directory in directories:
            (directory / "c.py").touch()
            found.wait_for(directory / "c.py")
    finally:
        watcher.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux'")
@pytest.mark.parametrize("when", ["start", "later"])
def test_no_watch_for_a_directory_inside_of_a_tree_is_polled_around(
    tmp_path: Path,
    watcher: Watcher,
    found: Found,
    lost: Losses,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    """watchdog itself passes over it, at once or when the directory comes later."""
    add_watch = _watchdog.inotify_add_watch

    def fail_inside(inotify: int, path: bytes, mask: int) -> t.Any:
        if not path.endswith(b"inside"):
            return add_watch(inotify, path, mask)

        ctypes.set_errno(errno.ENOSPC)
        return -1

    monkeypatch.setattr(_watchdog, "inotify_add_watch", fail_inside)

    if when == "start":
        (tmp_path / "inside").mkdir()
        watcher.watch({str(tmp_path): True})
        lost.wait_for_one()
    else:
        watcher.watch({str(tmp_path): True})
        (tmp_path / "inside").mkdir()
        lost.wait_for_one()
        watcher.watch_anew({str(tmp_path): True})

    assert watcher.way == "polling"
    assert lost.count == 1
    assert len(warnings) == 1
    assert "fs.inotify.max_user_watches" in warnings[0]
    (tmp_path / "inside" / "a.py").touch()
    found.wait_for(tmp_path / "inside" / "a.py")


def test_thread_that_dies_is_a_loss_and_is_replaced(
    tmp_path: Path,
    watcher: Watcher,
    found: Found,
    lost: Losses,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mistake in watchdog is told in a sentence, and the watching goes on."""
    watcher.watch({str(tmp_path): True})

    def fail(*args: t.Any) -> t.NoReturn:
        raise KeyError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(Observer, "dispatch_events", fail)
        (tmp_path / "a.py").touch()
        lost.wait_for_one()

    assert len(warnings) == 1
    assert "KeyError('a mistake')" in warnings[0]
    watcher.watch_anew({str(tmp_path): True})
    (tmp_path / "b.py").touch()
    found.wait_for(tmp_path / "b.py")
    assert lost.count == 1


@pytest.mark.skipif(sys.platform != "linux", reason="a queue of Linux'")
def test_full_queue_is_a_loss_that_is_told_until_it_is_mended(
    tmp_path: Path, watcher: Watcher, lost: Losses, warnings: list[str]
) -> None:
    """Ten losses before the watching is mended are one; the next one is another."""
    overflow = struct.pack("iIII", -1, 0x4000, 0, 0)

    for number in (1, 2):
        list(_watchdog.reader._parse_event_buffer(overflow * 10))
        assert lost.count == number
        watcher.watch_anew({str(tmp_path): True})

    assert len(warnings) == 1
    assert "fs.inotify.max_queued_events" in warnings[0]


def test_directory_that_cannot_be_watched_for_another_is_tried_again(
    tmp_path: Path, watcher: Watcher, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    """watchdog 6 fails if a directory below vanishes at the wrong moment."""
    schedule = BaseObserver.schedule
    failures = [FileNotFoundError(), NotADirectoryError()]

    def fail_twice(*args: t.Any, **kwargs: t.Any) -> t.Any:
        if failures:
            raise failures.pop()

        return schedule(*args, **kwargs)

    monkeypatch.setattr(BaseObserver, "schedule", fail_twice)
    watcher.watch({str(tmp_path): True})
    assert watcher.way == "watchdog"
    (tmp_path / "a.py").touch()
    found.wait_for(tmp_path / "a.py")
