"""What many topics cost that two processes share through Redis, and the death of one.

    python benchmarks/sharing.py [--quick] [--write]

First each socket has a topic of its own, with and without a history, half of them at
each process, and one message is published to every topic by eight publishers at the
same time. Then many sockets come to one process at once: as newcomers, and again when
that one was killed, to the other one, where each gets the messages it has missed.

What counts is the processor time, user and system, of both processes and of Redis.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import re
import selectors
import socket
import statistics
import time
import typing as t

from audience import TEXT, open_one
from fanout import REDIS
from harness import (
    HERE,
    Server,
    end_with_servers,
    header_of,
    python_server,
    replace_section,
    table,
    versions,
)
from load import client_frame, payload_of, receive_exactly, server_frame

DONE = server_frame(TEXT, b"done")

#: How many publishers there are at each process.
PUBLISHERS = 4

#: How many messages of each topic a socket has missed that comes back.
MISSED = 10

#: How many of the sockets that come back share a topic.
PER_TOPIC = 100

#: Seconds within which something has to arrive.
PATIENCE = 120.0


class Plan(t.NamedTuple):
    topics: int
    sockets: int


FULL = Plan(10_000, 5000)
QUICK = Plan(200, 200)


class Costs(t.NamedTuple):
    """What something took."""

    seconds: float
    #: Of processor time.
    servers: float
    redis: float


class Site:
    """Two processes and a Redis."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        with self._stack as stack:
            self._redis = Server(REDIS)
            stack.callback(self._redis.stop)
            env = {"REDIS_URL": f"redis://127.0.0.1:{self._redis.port}"}
            self.servers = []
            for _ in range(2):
                server = Server(python_server("sharing"), env)
                stack.callback(server.stop)
                self.servers.append(server)
            self._stack = stack.pop_all()

    @contextlib.contextmanager
    def measured(self, costs: list[Costs]) -> t.Iterator[None]:
        def used() -> tuple[float, float]:
            alive = [s for s in self.servers if s.process.poll() is None]
            return (
                sum(server.processor_seconds() for server in alive),
                self._redis.processor_seconds(),
            )

        start, before = time.perf_counter(), used()
        yield
        seconds, after = time.perf_counter() - start, used()
        costs.append(Costs(seconds, after[0] - before[0], after[1] - before[1]))

    def close(self) -> None:
        self._stack.close()


def publish_to_all(sites: Site, kind: str, topics: int, text: str) -> None:
    """Publish one message to each topic, and wait until that is done."""
    ports = [server.port for server in sites.servers] * PUBLISHERS
    publishers = [open_one(port, "/publish", ()) for port in ports]
    share = -(-topics // len(publishers))
    for number, sock in enumerate(publishers):
        first, last = number * share, min(topics, (number + 1) * share)
        order = f"{kind} {first} {last} {text}".encode()
        sock.sendall(client_frame(TEXT, order))
    for sock in publishers:
        sock.settimeout(PATIENCE)
        if receive_exactly(sock, len(DONE)) != DONE:
            raise ValueError("The server didn't do it.")
        sock.close()


def measure_topics(kind: str, topics: int) -> Costs:
    """Publish to many topics with one subscriber each."""
    site = Site()
    with contextlib.closing(site):
        ports = [server.port for server in site.servers]
        subscribers = [
            open_one(ports[n % 2], f"/follow/{kind}/{n}", (("", "ready"),))
            for n in range(topics)
        ]
        text = payload_of(100).decode()
        costs: list[Costs] = []
        with site.measured(costs):
            publish_to_all(site, kind, topics, text)
            for sock in subscribers:
                got = b""
                while text.encode() not in got:
                    sock.settimeout(PATIENCE)
                    if not (part := sock.recv(4096)):
                        raise ConnectionError("The server closed a connection.")
                    got += part
        for sock in subscribers:
            sock.close()
    return costs[0]


class Coming:
    """A socket that opens a WebSocket, along with many others.

    :param last: what the last message contains that it is to get.
    """

    def __init__(self, port: int, target: str, last: bytes) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.request = (
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self.last = last
        self.got = b""
        self.port = port
        self.socket = socket.socket()
        self.socket.setblocking(False)

    def connect(self) -> None:
        self.socket.connect_ex(("127.0.0.1", self.port))


def come(all_of_them: t.Sequence[Coming]) -> list[float]:
    """Let sockets come at once. Return after how many seconds each had everything."""
    selector = selectors.DefaultSelector()
    start = time.perf_counter()
    times: list[float] = []
    for one in all_of_them:
        one.connect()
        selector.register(one.socket, selectors.EVENT_WRITE, one)
    while len(times) < len(all_of_them):
        if time.perf_counter() - start > PATIENCE:
            raise TimeoutError(f"{len(times)} of {len(all_of_them)} have all.")
        for key, event in selector.select(1):
            one = key.data
            if event & selectors.EVENT_WRITE:
                one.socket.sendall(one.request)
                selector.modify(one.socket, selectors.EVENT_READ, one)
            else:
                part = one.socket.recv(65536)
                if not part:
                    raise ConnectionError(f"The server closed: {one.got[-200:]!r}")
                one.got += part
                if one.last in one.got:
                    times.append(time.perf_counter() - start)
                    selector.unregister(one.socket)
    return times


class Return(t.NamedTuple):
    """What it took until all sockets had everything."""

    costs: Costs
    median: float


def measure_return(count: int) -> tuple[Return, Return]:
    """Let sockets come for the first time, and again when their process is dead."""
    site = Site()
    with contextlib.closing(site):
        first, second = site.servers
        costs: list[Costs] = []
        topics = -(-count // PER_TOPIC)
        newcomers = [
            Coming(first.port, f"/follow/history/{n % topics}", b"ready")
            for n in range(count)
        ]
        with site.measured(costs):
            times = [come(newcomers)]
        first.stop()
        site.servers = [second]
        for number in range(MISSED):
            publish_to_all(site, "history", topics, f"message {number}")
        back = []
        for number, one in enumerate(newcomers):
            match = re.search(rb"ready (\S+)", one.got)
            assert match is not None
            target = f"/follow/history/{number % topics}?since={match[1].decode()}"
            last = f"message {MISSED - 1}".encode()
            back.append(Coming(second.port, target, last))
            one.socket.close()
        with site.measured(costs):
            times.append(come(back))
        for one in back:
            if b"True" not in one.got or one.got.count(b"message ") != MISSED:
                raise ValueError(f"A socket got {one.got[-2000:]!r}.")
            one.socket.close()
    results = [
        Return(c, statistics.median(x)) for c, x in zip(costs, times, strict=True)
    ]
    return results[0], results[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="few topics and sockets")
    extent.add_argument("--write", action="store_true", help="update RESULTS.md")
    options = parser.parse_args()
    end_with_servers()
    plan = QUICK if options.quick else FULL
    rows = []
    for kind, name in (("plain", "plain"), ("history", "with a history")):
        costs = measure_topics(kind, plan.topics)
        rows.append(
            [
                f"{plan.topics:,} {name}",
                f"{plan.topics / costs.seconds:,.0f}",
                f"{costs.servers / plan.topics * 1e6:,.0f}",
                f"{costs.redis / plan.topics * 1e6:,.1f}",
            ]
        )
        print(rows[-1], flush=True)
    head = [
        "topics",
        "published and delivered per s",
        "both processes: µs",
        "Redis: µs",
    ]
    parts = ["One message to each of many topics, by message:", table(head, rows)]
    rows = [
        [
            name,
            f"{result.costs.seconds:,.2f}",
            f"{result.median:,.2f}",
            f"{result.costs.servers / plan.sockets * 1e6:,.0f}",
            f"{result.costs.redis / plan.sockets * 1e6:,.0f}",
        ]
        for name, result in zip(
            ("as newcomers", f"having missed {MISSED} messages"),
            measure_return(plan.sockets),
            strict=True,
        )
    ]
    head = [f"{plan.sockets:,} sockets", "all after: s", "half of them: s"]
    head += ["a process: µs for each", "Redis: µs for each"]
    parts += ["Sockets that come to one process at once:", table(head, rows)]
    text = "\n\n".join(parts)
    print(text)
    if options.write:
        how = f"ours, {versions(['flask', 'gevent', 'redis'])}"
        text = f"{header_of(how)}\n\n{text}"
        replace_section(HERE / "RESULTS.md", "Sharing", text)


if __name__ == "__main__":
    main()
