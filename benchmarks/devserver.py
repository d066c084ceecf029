"""A development server as people start it: its processes, edits of its app, and a
client that waits for them.
"""

from __future__ import annotations

import collections
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from harness import free_port

#: What a request meets instead of a version: a connection that is refused, one that
#: ends or hangs without a whole answer, and an answer that is another page.
TROUBLES = ("refused", "cut", "error")

#: Seconds after which an edit counts as lost, and those for a server to start.
PATIENCE, START_PATIENCE = 30.0, 60.0
#: Seconds after which a request counts as not answered.
REQUEST_PATIENCE = 3.0
#: Seconds between two requests.
PAUSE = 0.002
#: Seconds until all that a reload has left to do is done.
SETTLING = 2.0

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def ask(port: int) -> str:
    """The version that answers a new connection, or else one of TROUBLES."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), REQUEST_PATIENCE) as sock:
            sock.sendall(REQUEST)
            while data := sock.recv(65536):
                answer += data
                if version := re.search(rb"version (\d{6})", answer):
                    return version[1].decode()
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "cut"
    return "error" if answer.startswith(b"HTTP/") else "cut"


class Idle(t.NamedTuple):
    """What a server costs that nobody asks for anything."""

    processor_seconds: float
    mib: float
    processes: int


class DevServer:
    """A server as a session of its own, with a directory for its app.

    :param command: the command, without the port.
    :param app: the source of the app, with a place for the version.
    :param directory: a directory to make.
    :param files: the sources of other modules, by their paths.
    """

    def __init__(
        self,
        command: list[str],
        app: str,
        directory: Path,
        files: t.Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir()
        for path, source in (files or {}).items():
            (directory / path).parent.mkdir(exist_ok=True)
            (directory / path).write_text(source)
        #: How often a version answered, and how often each of TROUBLES came instead.
        self.answers: collections.Counter[str] = collections.Counter()
        self._port = free_port()
        self._command = [*command, "--port", str(self._port)]
        self._app = app
        self._path = directory / "app.py"
        self._log = directory / "log"
        self._version = 0

    def __enter__(self) -> DevServer:
        self.write()
        self._started = time.monotonic()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._path.parent,
                env={
                    name: value
                    for name, value in os.environ.items()
                    # Python writes .pyc files, as it does for most people.
                    if not name.startswith(("FLASK_", "PYTHON"))
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        # All of them are of one process group, too.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        while self._members():
            time.sleep(0.01)

    def start(self) -> float:
        """Seconds from the command to the first response."""
        seconds = self._wait(self._started, START_PATIENCE)
        if seconds == math.inf:
            raise RuntimeError(f"It doesn't answer.\n{self._last_words()}")
        self.answers.clear()  # It refused until then, of course.
        return seconds

    def write(self) -> None:
        """Write the next version, which is as long as the last one."""
        self._version += 1
        self._path.write_text(self._app.format(version=self._version))

    def edit(self) -> float:
        """Seconds from an edit to the first response of its version, infinite if it
        is lost.
        """
        start = time.monotonic()
        self.write()
        seconds = self._wait(start, PATIENCE)
        if seconds == math.inf:
            self._recover()
        return seconds

    def idle(self, seconds: float) -> Idle:
        time.sleep(SETTLING)
        before = self._processor_seconds()
        time.sleep(seconds)
        after = self._processor_seconds()
        used = sum(used - before.get(thread, 0.0) for thread, used in after.items())
        return Idle(used, self._mib(), len(self._members()))

    def _recover(self) -> None:
        """Go on after a lost edit, with one in a later second: Python does not take
        that for what it has compiled.
        """
        time.sleep(1.1)
        self.write()
        if self._wait(time.monotonic(), START_PATIENCE) == math.inf:
            raise RuntimeError(f"It reloads no more.\n{self._last_words()}")

    def _wait(self, start: float, patience: float) -> float:
        """Ask until the last version answers. Return the seconds since the start,
        infinite if that takes too long.
        """
        while time.monotonic() - start < patience:
            answer = ask(self._port)
            if answer == f"{self._version:06}":
                return time.monotonic() - start
            self.answers[answer] += 1
            if self._process.poll() is not None:
                raise RuntimeError(f"It has ended.\n{self._last_words()}")
            time.sleep(PAUSE)
        return math.inf

    def _last_words(self) -> str:
        return self._log.read_text()[-2000:]

    def _members(self) -> list[Path]:
        """The processes that have not ended, as directories."""
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                stat = (directory / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # It has just ended.
            if int(stat[3]) == self._process.pid and stat[0] not in "ZX":
                found.append(directory)
        return found

    def _processor_seconds(self) -> dict[Path, float]:
        """What each thread has used, more finely than in the ticks of 'stat'."""
        return {
            thread: int((thread / "schedstat").read_text().split()[0]) / 1e9
            for directory in self._members()
            for thread in directory.glob("task/*")
        }

    def _mib(self) -> float:
        """The memory of all processes, with what they share counted once."""
        return sum(
            int(line.split()[1]) / 1024
            for directory in self._members()
            for line in (directory / "smaps_rollup").read_text().splitlines()
            if line.startswith("Pss:")
        )


def environment(directory: Path, packages: list[str]) -> Path:
    """Make a virtual environment. Return the directory of its commands."""
    commands = directory / "bin"
    for command in (
        [sys.executable, "-m", "venv", str(directory)],
        [str(commands / "pip"), "install", "-q", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return commands


def versions(commands: Path, packages: list[str]) -> str:
    """What is installed in the environment of these commands."""
    code = (
        "import sys, importlib.metadata as m;"
        "print(*(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep=', ')"
    )
    command = [str(commands / "python"), "-c", code, *packages]
    return subprocess.check_output(command, text=True).strip()
