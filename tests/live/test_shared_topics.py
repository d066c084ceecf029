"""Topics that several processes share through Redis."""

from __future__ import annotations

import json
import os
import signal
import typing as t

import pytest

from ..process import Process, until
from ..redis_server import RedisServer
from .clients import Closed, Refused, WebsocketsClient
from .processes import LIVE_APPS, Server
from .ways import FLASK_RUN, GTHREAD, TWO_WORKERS, UNPATCHED, WSRUN, Way


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def serve(way: Way, redis: RedisServer) -> Server:
    return way.serve("shared_topics:app", {"SOCKETS_BROKER": redis.url})


class Reader:
    """A client of the log that comes back with its last position."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._position = ""
        self.data: list[str] = []
        self.pid = 0
        self.client = self._connect()

    def _connect(self) -> WebsocketsClient:
        path = f"/log?since={self._position}"
        client = WebsocketsClient(self._server.url(path))
        # What it missed may come first.
        while not (first := str(client.receive())).isdecimal():
            self._take(first)
        self.pid = int(first)
        return client

    def _take(self, message: str) -> None:
        envelope = json.loads(message)
        self._position = envelope["position"]
        self.data.append(envelope["data"])

    def read_until(self, last: str) -> None:
        """Receive until a message, and connect again whenever that is necessary."""
        while last not in self.data:
            try:
                self._take(t.cast(str, self.client.receive()))
            except Closed:
                self.client = until(self._reconnect, "another worker")

    def _reconnect(self) -> WebsocketsClient | None:
        try:
            return self._connect()
        except (OSError, Closed, Refused):
            return None


@pytest.mark.parametrize("way", [TWO_WORKERS, UNPATCHED, GTHREAD, FLASK_RUN, WSRUN])
def test_a_message_reaches_the_sockets_of_all_processes(
    redis: RedisServer, way: Way
) -> None:
    with serve(way, redis) as one, serve(WSRUN, redis) as other:
        readers = [Reader(server) for server in (one, other, one)]
        for number, reader in enumerate(readers):
            reader.client.send(f"from {number}")
            for each in readers:
                each.read_until(f"from {number}")
        for reader in readers:
            assert reader.data == ["from 0", "from 1", "from 2"]
            reader.client.close()
        one.assert_log_is_clean()
        assert "SOCKETS_BROKER" not in one.log
        other.assert_log_is_clean()


def test_nothing_is_lost_or_comes_twice_while_workers_are_killed(
    redis: RedisServer,
) -> None:
    with serve(TWO_WORKERS, redis) as server, serve(WSRUN, redis) as other:
        writer, *readers = Reader(other), *(Reader(server) for _ in range(6))
        # Who has no position yet can't come back to it.
        writer.client.send("begin")
        for reader in readers:
            reader.read_until("begin")
            reader.data.clear()
        for number in range(60):
            if number in (20, 40):
                reader = readers[number // 20]
                # Its first worker may have been killed already.
                reader.read_until(f"{number - 1}")
                os.kill(reader.pid, signal.SIGKILL)
            writer.client.send(f"{number}")
        for reader in readers:
            reader.read_until("59")
            assert reader.data == [f"{number}" for number in range(60)]
            reader.client.close()
        writer.client.close()


def test_sockets_stay_open_while_redis_loses_its_connections(
    redis: RedisServer,
) -> None:
    with serve(TWO_WORKERS, redis) as server, serve(WSRUN, redis) as other:
        reader, writer = Reader(server), Reader(other)
        first = reader.client
        admin = redis.client()
        for number in range(30):
            if number % 10 == 5:
                admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            writer.client.send(f"{number}")
        reader.read_until("29")
        assert reader.data == [f"{number}" for number in range(30)]
        assert reader.client is first
        reader.client.close()
        writer.client.close()


def test_members_are_known_in_all_processes(redis: RedisServer) -> None:
    with serve(TWO_WORKERS, redis) as one, serve(GTHREAD, redis) as other:
        ada = WebsocketsClient(one.url("/room/ada"))
        bob = WebsocketsClient(other.url("/room/bob"))
        assert (ada.receive(), bob.receive()) == ("entered", "entered")
        for server in (one, other):
            assert json.loads(server.get("/room").body) == ["ada", "bob"]
        ada.close()
        until(lambda: json.loads(other.get("/room").body) == ["bob"], "ada's end")
        bob.close()


def test_commands_reach_all_processes(redis: RedisServer) -> None:
    def flask_sockets(*arguments: str) -> str:
        command = ["flask", "--app", "shared_topics", "sockets", *arguments]
        env = {"SOCKETS_BROKER": redis.url}
        with Process(*command, cwd=LIVE_APPS, env=env) as process:
            assert process.wait() == 0
            return process.output

    with serve(TWO_WORKERS, redis) as server, serve(WSRUN, redis) as other:
        readers = [Reader(other), *(Reader(server) for _ in range(4))]
        flask_sockets("publish", "log", "from a shell")
        for reader in readers:
            reader.read_until("from a shell")
        rows = json.loads(flask_sockets("stats", "--json"))
        assert {row["pid"] for row in rows} == {reader.pid for reader in readers}
        for name in ("sockets", "subscriptions", "delivered"):
            assert sum(row[name] for row in rows) == len(readers)
        for reader in readers:
            reader.client.close()


def test_each_of_several_processes_says_once_that_memory_is_its_own() -> None:
    with TWO_WORKERS.serve(
        "shared_topics:app", {"SOCKETS_BROKER": "memory://"}
    ) as server:
        readers = [Reader(server) for _ in range(6)]
        for reader in readers:
            reader.client.close()
        processes = {reader.pid for reader in readers}
        assert server.log.count("'SOCKETS_BROKER'") == len(processes)
