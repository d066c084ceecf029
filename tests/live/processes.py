"""Servers as processes: started, waited for by evidence, and always ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

#: Where the apps are that the servers serve.
LIVE_APPS = Path(__file__).parent / "live_apps"

#: Seconds after which something that has to happen is given up. Nothing is measured
#: against it.
PATIENCE = 30.0

#: What no server may write to its log.
_BAD = re.compile(
    r"Exception ignored|Error on request|Error handling request|Invalid request"
    r"|failed with|Bad request|\[ERROR\]|\[CRITICAL\]|WORKER TIMEOUT|BlockingIOError"
    r"|Looking after a WebSocket failed|never awaited|Worker graceful timeout"
)

Predicate = t.Callable[[], t.Any]


def until(condition: Predicate, what: str) -> t.Any:
    """Wait until a condition holds, and return what it says."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"It did not come: {what}"
        time.sleep(0.02)
    return result


def free_port() -> int:
    """A port for a server that can't tell which one it got."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return t.cast(int, sock.getsockname()[1])


class Response(t.NamedTuple):
    """An HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: str


class Server:
    """A server in a process group of its own.

    :param command: the arguments for this Python.
    :param ready: finds the port in the log. ``None`` if the server says nothing: then
        ``port`` is the one it was told, and it is ready when it can be connected to.
    """

    def __init__(
        self,
        command: t.Sequence[str],
        ready: str | None,
        env: t.Mapping[str, str] | None = None,
    ) -> None:
        self.command = [sys.executable, *command]
        self.ready = ready
        self.port = 0
        self.log = ""
        #: What may be in the log: matched against the last line of each traceback,
        #: and against lines that look bad.
        self.expected: list[str] = []
        # What the environment says of other servers isn't meant for this one.
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FLASK_", "WERKZEUG_", "GUNICORN_"))
        }
        self.env.update(PYTHONUNBUFFERED="1", **(env or {}))
        if ready is None:
            self.port = free_port()
            self.env["PORT"] = str(self.port)
        self._grown = threading.Condition()
        self._is_log_ended = False

    def __enter__(self) -> Server:
        self.process = subprocess.Popen(
            self.command,
            cwd=LIVE_APPS,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def _wait_until_ready(self) -> None:
        if self.ready is not None:
            self.port = int(self.wait_for_log(self.ready)[1])
            return

        def can_connect() -> bool:
            assert self.process.poll() is None, f"The server has ended.\n{self.log}"
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                return False
            return True

        until(can_connect, f"a server on port {self.port}")

    def kill(self) -> None:
        """End the whole process group, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the first process, as 'kill' does."""
        self.process.send_signal(number)

    def interrupt_group(self) -> None:
        """Send SIGINT to all processes of the group, as Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait_until_ended(self) -> int:
        """Wait for the process and for all who hold its output; return its status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), f"Some process goes on.\n{self.log}"
        return status

    # The log

    def _read(self) -> None:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 65536):
            with self._grown:
                self.log += data.decode(errors="replace")
                self._grown.notify_all()
        with self._grown:
            self._is_log_ended = True
            self._grown.notify_all()

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Wait until the log has a match of a pattern."""
        compiled = re.compile(pattern, re.MULTILINE)
        with self._grown:
            self._grown.wait_for(
                lambda: compiled.search(self.log) or self._is_log_ended, PATIENCE
            )
        found = compiled.search(self.log)
        assert found, f"{pattern!r} is not in the log:\n{self.log}"
        return found

    def complaints(self) -> list[str]:
        """What is in the log that shouldn't be: tracebacks, and lines of errors."""
        return [
            line
            for line in _last_lines_of_tracebacks(self.log) + _bad_lines(self.log)
            if not any(re.search(pattern, line) for pattern in self.expected)
        ]

    def assert_log_is_clean(self) -> None:
        """Check that nothing went wrong that no test has seen."""
        complaints = self.complaints()
        assert not complaints, "\n".join([*complaints, "", "The log:", self.log])

    # HTTP

    def url(self, path: str, scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def get(
        self, path: str, headers: t.Mapping[str, str] | None = None, method: str = "GET"
    ) -> Response:
        """Do one HTTP request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read().decode())
        finally:
            connection.close()


def _last_lines_of_tracebacks(log: str) -> list[str]:
    """The lines that name the exceptions."""
    found = []
    lines = iter(log.splitlines())
    for line in lines:
        if "Traceback (most recent call last)" in line:
            for line in lines:
                if not line.startswith(" "):
                    break
            found.append(f"Traceback: {line}")
    return found


def _bad_lines(log: str) -> list[str]:
    return [line for line in log.splitlines() if _BAD.search(line)]
