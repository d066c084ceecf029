"""A long session of ``flask wsrun``: edits without end, and clients that stay.

``SOAK_EDITS`` in the environment is the number of edits, ``SOAK_SEED`` stands for
another session of that length.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import re
import sys
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from ...process import PATIENCE, port_of, until
from ..apps import get, wsrun

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="counts threads and files in /proc"
)

EDITS = int(os.environ.get("SOAK_EDITS", "100"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
CLIENTS = 8
#: Seconds between two edits at most. Most gaps are far shorter, so that many edits come
#: while the last one's reload is under way.
LONGEST_GAP = 0.6

APP = """\
from flask import Flask
from flask_sockets import Sockets
from other import version as other

app = Flask(__name__)
sockets = Sockets(app)
version = "{version:06}"


@app.route("/")
def index():
    return f"{{version}} {{other}}"


@sockets.route("/hold")
def hold(ws):
    ws.send(index())
    ws.receive()
"""
OTHER = 'version = "{version:06}"\n'
BROKEN = "def broken(:\n"
SYNTAX_ERROR = "SyntaxError"

#: How WebSockets may end, and attempts to open one while there is no app.
RELOADED = "closed with 1012"
UNAVAILABLE = "refused with 503"


class Project:
    """Two modules, which are written in place or replaced, as editors do the one or
    the other. All versions have the same length, so a file's size tells nothing.

    :param directory: where the modules are.
    :param chance: decides about every edit.
    """

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self._directory = directory
        self._random = chance
        self._app = self._other = 0
        #: Whether what was saved last does not load.
        self.is_broken = False
        self._write_app()
        self._write_other()

    @property
    def expected(self) -> str:
        """What an answer is to hold in the end."""
        return SYNTAX_ERROR if self.is_broken else f"{self._app:06} {self._other:06}"

    def mend(self, version: int) -> None:
        """Save what loads, a version never seen before."""
        self._edit_both(version)

    def edit(self, version: int) -> None:
        """Save a version never seen before in one module or in both, or a mistake."""
        if self.is_broken:
            self._edit_app(version)
        elif self._random.random() < 0.06:
            self.is_broken = True
            self._save("app.py", BROKEN)
        else:
            edits = (self._edit_app, self._edit_other, self._edit_both)
            self._random.choice(edits)(version)

    def _edit_app(self, version: int) -> None:
        self._app = version
        self.is_broken = False
        self._write_app()

    def _edit_other(self, version: int) -> None:
        self._other = version
        self._write_other()

    def _edit_both(self, version: int) -> None:
        self._edit_other(version)
        self._edit_app(version)

    def _write_app(self) -> None:
        # Half of them are longer all the same.
        padding = "\n" * max(0, self._random.randint(-20, 20))
        self._save("app.py", APP.format(version=self._app) + padding)

    def _write_other(self) -> None:
        self._save("other.py", OTHER.format(version=self._other))

    def _save(self, name: str, text: str) -> None:
        path = self._directory / name

        if self._random.random() < 0.5:
            path.write_text(text)
        else:
            temporary = path.with_suffix(".tmp")
            temporary.write_text(text)
            temporary.replace(path)


class Client(threading.Thread):
    """Keeps a WebSocket open, with a new one at once whenever it is closed.

    :param url: what to connect to.
    """

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._connection: t.Any = None
        self._leaving = threading.Event()
        #: The version that the open WebSocket was greeted with.
        self.greeting: str | None = None
        #: How every WebSocket has ended, and every attempt to open one has failed.
        self.endings: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        while not self._leaving.is_set():
            try:
                self._hold()
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd is not None else 1006
                self.endings[f"closed with {code}"] += 1
            except InvalidStatus as refused:
                self.endings[f"refused with {refused.response.status_code}"] += 1
                self._leaving.wait(0.02)
            except Exception as error:
                self.endings[f"failed with {error!r}"] += 1
                self._leaving.wait(0.02)

    def _hold(self) -> None:
        with connect(
            self._url, open_timeout=PATIENCE, ping_interval=None, compression=None
        ) as self._connection:
            try:
                self.greeting = self._connection.recv()
                self._connection.recv()
            finally:
                self.greeting = None

    def wait_for_greeting(self, text: str) -> None:
        """Wait until a WebSocket is open that was greeted with a text."""
        until(lambda: self.greeting == text, text)

    def leave(self) -> None:
        """Close the WebSocket, and open no other."""
        self._leaving.set()

        while self.is_alive():
            if self._connection is not None:
                self._connection.close()

            self.join(0.1)


@contextlib.contextmanager
def clients(port: int) -> Iterator[list[Client]]:
    found = [Client(f"ws://127.0.0.1:{port}/hold") for _ in range(CLIENTS)]

    for client in found:
        client.start()

    try:
        yield found
    finally:
        for client in found:
            client.leave()


def holdings(pid: int) -> collections.Counter[str]:
    """What a process holds that could leak: threads, and open files by their kind."""
    found = collections.Counter(threads=len(os.listdir(f"/proc/{pid}/task")))

    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            # Sockets and pipes have numbers.
            found[re.sub(r"\d+", "", os.readlink(link))] += 1

    return found


def until_it_holds(pid: int, expected: collections.Counter[str]) -> None:
    until(lambda: holdings(pid) == expected, f"{expected} in {pid}")


def child_of(pid: int) -> int:
    """The one child of a process."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def settle(project: Project, port: int, held: list[Client]) -> None:
    """Wait until everybody is served what was saved last."""
    expected = project.expected
    until(lambda: expected in get(port)[1], expected)

    if not project.is_broken:
        for client in held:
            client.wait_for_greeting(expected)


@pytest.mark.timeout(120 + 2 * EDITS)
def test_no_edit_is_lost_and_nothing_leaks_in_a_long_session(tmp_path: Path) -> None:
    """Whatever is saved is served in the end, every WebSocket is told of each reload,
    and the command and the warm process hold no more in the end than at first.
    """
    chance = random.Random(SEED)
    project = Project(tmp_path, chance)

    with wsrun(tmp_path) as server:
        port = port_of(server)

        with clients(port) as held:
            settle(project, port, held)
            processes = (server.pid, child_of(server.pid))
            before = [holdings(pid) for pid in processes]

            for version in range(1, EDITS + 1):
                project.edit(version)

                if chance.random() < 0.25:
                    settle(project, port, held)
                else:
                    time.sleep(LONGEST_GAP * chance.random() ** 2)

            project.mend(EDITS + 1)
            settle(project, port, held)
            endings = [client.endings.copy() for client in held]

        for counter in endings:
            assert set(counter) <= {RELOADED, UNAVAILABLE}, server.output
            assert counter[RELOADED] > EDITS / 10

        until(lambda: len(server.members()) == 3, "the earlier servers to end")
        assert (server.pid, child_of(server.pid)) == processes

        for pid, found in zip(processes, before, strict=True):
            until_it_holds(pid, found)
