"""Servers as processes: started, waited for by evidence, and always ended."""

from __future__ import annotations

import http.client
import re
import sys
import typing as t
from pathlib import Path

from ..process import Process, free_port

#: Where the apps are that the servers serve.
LIVE_APPS = Path(__file__).parent / "live_apps"

#: What no server may write to its log.
_BAD = re.compile(
    r"Exception ignored|Error on request|Error handling request|Invalid request"
    r"|failed with|Bad request|\[ERROR\]|\[CRITICAL\]|WORKER TIMEOUT|BlockingIOError"
    r"|Looking after a WebSocket failed|never awaited|Worker graceful timeout"
)


class Response(t.NamedTuple):
    """An HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: str


class Server(Process):
    """A server in a process group of its own.

    :param command: the arguments for this Python.
    :param ready: finds the port in the log. ``None`` if the server says nothing: then
        it is told a free one, and is ready when it can be connected to.
    """

    def __init__(
        self,
        command: t.Sequence[str],
        ready: str | None,
        env: t.Mapping[str, str] | None = None,
    ) -> None:
        self.ready = ready
        self.port = 0
        #: What may be in the log: matched against the last line of each traceback,
        #: and against lines that look bad.
        self.expected: list[str] = []
        values = dict(env or {})
        if ready is None:
            self.port = free_port()
            values["PORT"] = str(self.port)
        super().__init__(sys.executable, *command, cwd=LIVE_APPS, env=values)

    def __enter__(self) -> Server:
        super().__enter__()
        try:
            if self.ready is None:
                self.wait_until_listening(self.port)
            else:
                self.port = int(self.wait_for_log(self.ready)[1])
        except BaseException:
            self.__exit__()
            raise
        return self

    # The log

    @property
    def log(self) -> str:
        return self.output

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Wait until the log, from its beginning, has a match of a pattern."""
        self.rewind()
        return self.wait_for(pattern)

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
        before, found_one, _ = line.partition("Traceback (most recent call last)")
        if found_one and "Exception Group" not in before:
            # Those in a group, such as Flask 3.2 raises, are indented.
            indent = before if re.fullmatch(r"[ |+]*", before) else ""
            for line in lines:
                if not line.startswith(f"{indent} "):
                    break
            found.append(f"Traceback: {line}")
    return found


def _bad_lines(log: str) -> list[str]:
    return [line for line in log.splitlines() if _BAD.search(line)]
