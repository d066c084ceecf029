"""A command as a person runs it: a process whose output can be waited for."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pty
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import typing as t
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGKILL, Signals

import pytest

#: Seconds after which a test gives up. Nothing is ever measured against it.
PATIENCE = 60


def missing(what: str) -> t.NoReturn:
    """Skip the test, since something isn't there. In CI that is a failure.

    :param what: a sentence.
    """
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def program(*names: str) -> str:
    """The path of the first of these programs that is installed here."""
    # Servers stand where the PATH of a person doesn't lead.
    path = os.pathsep.join([os.environ["PATH"], "/usr/local/sbin", "/usr/sbin"])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    missing(f"{' or '.join(names)} is not installed.")


@functools.cache
def _cache_directory() -> str:
    """What commands keep for later is not to be found after the tests."""
    directory = tempfile.mkdtemp(prefix="cache-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


class Process:
    """Runs a command in a process group of its own, and ends the group with itself.

    :param arguments: the command; a name without a slash is one of this environment's.
    :param cwd: the directory to run it in.
    :param env: environment variables on top of the usual ones; ``None`` removes one.
    :param patience: seconds to wait for anything at most.
    :param terminal: whether the output goes to a terminal and not to a pipe.
    :param keyboard: whether it has a terminal of its own, on which it can be typed.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: t.Mapping[str, str | None] | None = None,
        patience: float = PATIENCE,
        terminal: bool = False,
        keyboard: bool = False,
    ) -> None:
        self.output = ""
        self._arguments = list(arguments)

        if "/" not in self._arguments[0]:
            scripts = Path(sys.executable).parent
            self._arguments[0] = str(scripts / self._arguments[0])

        self._cwd = cwd
        self._patience = patience
        self._terminal = terminal or keyboard
        self._keyboard = keyboard
        self._env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FLASK_", "WERKZEUG_", "GUNICORN_"))
        }
        self._env |= {"PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": _cache_directory()}

        for name, value in (env or {}).items():
            if value is None:
                self._env.pop(name, None)
            else:
                self._env[name] = value

        self._grown = threading.Condition()
        self._ended = False
        self._seen = 0

    def __enter__(self) -> Process:
        self._reading_end, writing_end = pty.openpty() if self._terminal else os.pipe()
        self._process = subprocess.Popen(
            self._arguments,
            cwd=self._cwd,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=writing_end,
            stderr=writing_end,
            start_new_session=not self._keyboard,
            # That makes a session, too, with this terminal, in the foreground.
            preexec_fn=partial(os.login_tty, writing_end) if self._keyboard else None,
        )
        os.close(writing_end)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if "COVERAGE_RUN" in os.environ:
            # A process that ends by itself says what it has run.
            self.signal_group(SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self.signal_group(SIGKILL)
        self._process.wait()
        self._reader.join(self._patience)
        os.close(self._reading_end)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the output after the last match has a match of the pattern."""
        with self._grown:
            found = self._grown.wait_for(
                lambda: self._search(pattern) or self._ended, self._patience
            )
            match = self._search(pattern)

        if match is None:
            state = "The process has ended." if found else "It did not come."
            raise AssertionError(f"No {pattern!r}. {state} Output:\n{self.output}")

        self._seen = match.end()
        return match

    def type(self, keys: str) -> None:
        """Type something on the keyboard."""
        os.write(self._reading_end, keys.encode())

    def has_echo(self) -> bool:
        """Whether the terminal shows what is typed, as it does for who reads lines."""
        return bool(termios.tcgetattr(self._reading_end)[3] & termios.ECHO)

    def rewind(self) -> None:
        """Let the next search begin at the beginning of the output."""
        self._seen = 0

    def wait_until_listening(self, port: int) -> None:
        """Wait until somebody accepts connections at the port."""
        deadline = time.monotonic() + self._patience

        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, self.output
                assert self._process.poll() is None, self.output
                time.sleep(0.02)

    def wait(self) -> int:
        """Wait until the process and all that share its output have ended. Return the
        exit status.
        """
        status = self._process.wait(self._patience)
        self._reader.join(self._patience)
        assert not self._reader.is_alive(), "Another process still holds the output."
        return status

    def signal(self, number: Signals) -> None:
        """Send a signal to the process alone."""
        os.kill(self.pid, number)

    def signal_group(self, number: Signals) -> None:
        """Send a signal to all processes, as the terminal does for Ctrl-C."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def members(self) -> dict[int, str]:
        """The processes of the group that are alive, with their state, by their ids."""
        found = {}

        for directory in Path("/proc").iterdir():
            if directory.name.isdigit():
                with contextlib.suppress(OSError):
                    stat = (directory / "stat").read_text().rpartition(")")[2].split()

                    if int(stat[2]) == self.pid and stat[0] not in "ZX":
                        found[int(directory.name)] = stat[0]

        return found

    def _search(self, pattern: str) -> re.Match[str] | None:
        return re.compile(pattern, re.MULTILINE).search(self.output, self._seen)

    def _read(self) -> None:
        # Not by line: a prompt has no end of line. A terminal ends with an error.
        with contextlib.suppress(OSError):
            while data := os.read(self._reading_end, 65536):
                with self._grown:
                    self.output += data.decode(errors="replace")

                    if self._terminal:
                        self.output = self.output.replace("\r\n", "\n")

                    self._grown.notify_all()

        with self._grown:
            self._ended = True
            self._grown.notify_all()


def free_port() -> int:
    """A port for a server that can't choose one itself, or that comes back to it.

    It lies below those that the system gives to whoever asks for any: nobody else gets
    one of these before the server is there.
    """
    while True:
        port = random.randrange(20_000, 32_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def port_of(process: Process) -> int:
    """Wait until a development server runs, and return its port."""
    return int(process.wait_for(r"Running on https?://\S+:(\d+)\n")[1])


def until(condition: t.Callable[[], t.Any], what: str) -> t.Any:
    """Wait for what no line of a log tells of."""
    end = threading.Event()

    for _ in range(PATIENCE * 100):
        if result := condition():
            return result

        end.wait(0.01)

    raise AssertionError(f"Waited in vain: {what}")
