"""The warm process and its servers, with the test in the supervisor's place."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from flask_sockets_cli.interpreter import can_fork_with_libraries, start_interpreter
from flask_sockets_cli.warm_process import Gone, Preparation, WarmProcess

from ...process import PATIENCE
from ..apps import SETTINGS, get, write_app

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="sockets are inherited in another way"
)


NOTHING = Preparation(preload=(), steps=[], dotenv=({}, None, False), reload=True)


class Inbox(queue.SimpleQueue[tuple[object, t.Any]]):
    """What the warm process tells."""

    def wait_for(self, condition: t.Callable[[t.Any], bool]) -> None:
        while not condition(self.get(timeout=PATIENCE)[1]):
            pass


@pytest.mark.parametrize("forks", [True, False])
def test_warm_process_that_ends_leaves_nothing_open(forks: bool) -> None:
    """The supervisor closes its end of the conversation, or Python would warn here."""
    inbox = Inbox()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        WarmProcess(start_interpreter(listener, forks), NOTHING, inbox).end()

    inbox.wait_for(lambda item: isinstance(item, Gone))


@pytest.mark.parametrize("forks", [True, False])
def test_server_accepts_nothing_before_it_is_told_to_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: bool
) -> None:
    """A server that has only loaded leaves all connections to others: it may be killed
    at any moment, for the sake of an edit that it doesn't know of.
    """
    write_app(tmp_path)
    monkeypatch.chdir(tmp_path)
    inbox = Inbox()

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        contextlib.ExitStack() as stack,
    ):
        port = listener.getsockname()[1]
        warm = WarmProcess(start_interpreter(listener, forks), NOTHING, inbox)
        stack.callback(inbox.wait_for, lambda item: isinstance(item, Gone))
        stack.callback(warm.end)
        settings = dataclasses.asdict(SETTINGS)
        warm.send(do="load", settings=settings, first=True, crash=None)
        inbox.wait_for(lambda message: message["event"] == "loaded")
        listener.setblocking(False)

        for _ in range(1000):
            with socket.create_connection(("127.0.0.1", port)):
                # Raises if somebody else has taken it.
                listener.accept()[0].close()

        warm.send(do="serve")
        assert get(port) == (200, "version 1")


def test_private_part_of_subprocess_is_there() -> None:
    """Without it no interpreter would be started."""
    assert hasattr(subprocess, "_args_from_interpreter_flags"), (
        "The module 'subprocess' has no '_args_from_interpreter_flags' any more. Find"
        " out how 'multiprocessing' passes on the options of the interpreter, and do"
        " that in '_subprocess.py'."
    )


@pytest.mark.parametrize(("system", "expected"), [("linux", True), ("darwin", False)])
def test_libraries_are_kept_where_a_fork_is_safe_with_them(
    monkeypatch: pytest.MonkeyPatch, system: str, expected: bool
) -> None:
    """On macOS one that uses a framework of the system may end what is forked."""
    monkeypatch.setattr("sys.platform", system)
    assert can_fork_with_libraries() is expected
