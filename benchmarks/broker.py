"""What one Redis takes for a publication, and what the processes around it do.

    python benchmarks/broker.py [--quick] [--write]

One process publishes, one message after the other, to a topic that some processes are
subscribed to. What counts is the processor time, user and system, of Redis, of the
publisher and of one of those that listen. The others are connections that are read
and whose bytes are dropped.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import selectors
import socket
import time
import typing as t

from harness import (
    HERE,
    Server,
    end_with_servers,
    header_of,
    replace_section,
    table,
    versions,
)

from flask_sockets.topics.publication import Kind, Publication
from flask_sockets.topics.redis import RedisBroker
from flask_sockets.topics.redis.scripts import keys_of
from flask_sockets.topics.rules import TopicOptions

if t.TYPE_CHECKING:
    from multiprocessing.synchronize import Event

REDIS = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--port"]
TOPIC = "news"
PREFIX = "sockets"
MESSAGE = b"x" * 100
KINDS = {"plain": TopicOptions(), "with a history": TopicOptions(history=100)}


class Plan(t.NamedTuple):
    #: How many processes are subscribed.
    listeners: t.Sequence[int]
    #: How many messages are published.
    messages: int


FULL = Plan((1, 10, 100), 5000)
QUICK = Plan((1, 10), 200)


class Nobody:
    """Has no sockets for what the broker brings."""

    def receive(self, publication: Publication) -> None: ...
    def flush(self) -> None: ...
    def lose(self, topic: str) -> None: ...
    def disconnect(self, topic: str, code: int, reason: str) -> None: ...
    def member_left(self, topic: str, member: str, info: t.Any) -> None: ...
    def stats(self) -> dict[str, int]:
        return {}


def start_broker(port: int) -> RedisBroker:
    broker = RedisBroker(f"redis://127.0.0.1:{port}", PREFIX)
    broker.start(Nobody())
    return broker


def listen(port: int, options: TopicOptions, is_ready: Event) -> None:
    """Be a process that is subscribed, without end."""
    broker = start_broker(port)
    broker.subscribe({TOPIC: options})
    is_ready.set()
    while True:
        time.sleep(60)


def drain(port: int, count: int, is_ready: Event) -> None:
    """Be many processes that are subscribed, as far as Redis knows, without end."""
    channel = keys_of(PREFIX, TOPIC).channel
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(f"SUBSCRIBE {channel}\r\n".encode())
            sock.recv(4096)
            selector.register(sock, selectors.EVENT_READ, sock)
        is_ready.set()
        while True:
            for key, _ in selector.select():
                key.fileobj.recv(2**16)  # type: ignore[union-attr]


def seconds_of(pid: int) -> float:
    """The processor time of a process, as in :meth:`harness.Server`."""
    return time.clock_gettime((~pid << 3) | 2)


class Costs(t.NamedTuple):
    """Processor microseconds for a publication."""

    redis: float
    publisher: float
    listener: float


def measure(options: TopicOptions, listeners: int, messages: int) -> Costs:
    context = multiprocessing.get_context("fork")
    with contextlib.ExitStack() as stack:
        server = Server(REDIS)
        stack.callback(server.stop)
        processes = []
        for target, what in ((listen, options), (drain, listeners - 1)):
            is_ready = context.Event()
            process = context.Process(
                target=target, args=(server.port, what, is_ready), daemon=True
            )
            process.start()
            stack.callback(process.kill)
            if not is_ready.wait(60):
                raise RuntimeError("A listener doesn't listen.")
            processes.append(process.pid or 0)
        publisher = start_broker(server.port)
        publication = Publication(TOPIC, Kind.TEXT, MESSAGE)

        def publish(count: int) -> None:
            for _ in range(count):
                publisher.publish(publication, options)

        publish(messages // 10)  # To warm up.
        pids = (server.process.pid, os.getpid(), processes[0])
        before = [seconds_of(pid) for pid in pids]
        publish(messages)
        used = [seconds_of(pid) - b for pid, b in zip(pids, before, strict=True)]
        return Costs(*(seconds / messages * 1e6 for seconds in used))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="few messages")
    extent.add_argument("--write", action="store_true", help="update RESULTS.md")
    options = parser.parse_args()
    end_with_servers()
    plan = QUICK if options.quick else FULL
    rows = []
    for kind, topic_options in KINDS.items():
        for listeners in plan.listeners:
            costs = measure(topic_options, listeners, plan.messages)
            rows.append((kind, str(listeners), *(f"{cost:.1f}" for cost in costs)))
    head = (
        "topic",
        "processes that listen",
        "Redis: µs",
        "publisher: µs",
        "one that listens: µs",
    )
    text = table(head, rows)
    print(text)
    if options.write:
        how = f"messages of {len(MESSAGE)} bytes, one after the other"
        how += f"; {versions(['redis'])}"
        section = f"{header_of(how)}\n\n{text}"
        replace_section(HERE / "RESULTS.md", "Broker", section)


if __name__ == "__main__":
    main()
