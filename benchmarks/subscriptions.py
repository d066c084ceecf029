"""What a subscription costs: memory, and processor time by the size of its topic.

    python benchmarks/subscriptions.py [--quick] [--write]

Sockets that are open subscribe, and leave, when they are told to. Memory is what the
process has grown by meanwhile, for each subscription. Processor time, user and system,
is that of the first and the last tenth of the sockets that subscribe or leave, without
that of sockets that are told to do nothing.
"""

from __future__ import annotations

import argparse
import socket
import typing as t

from audience import TEXT, open_one
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
from load import client_frame, receive_exactly, server_frame

DONE = server_frame(TEXT, b"done")


class Shape(t.NamedTuple):
    """How many sockets subscribe, and to how many topics each."""

    sockets: int
    topics: int

    def __str__(self) -> str:
        return f"{self.sockets:,} x {self.topics:,}"


FULL = (Shape(10_000, 1), Shape(100, 1000))
QUICK = (Shape(500, 1), Shape(20, 1000))


class Figures(t.NamedTuple):
    """What one shape has shown."""

    #: KiB for each subscription.
    memory: float
    #: Microseconds for each subscription, the first ones and the last ones.
    subscribing: tuple[float, float]
    leaving: tuple[float, float]


class Clients:
    """Sockets, and the server they are connected to."""

    def __init__(self, server: Server, count: int) -> None:
        self._server = server
        self._sockets: list[socket.socket] = []
        for _ in range(count):
            self._sockets.append(open_one(server.port, "/", (("", "ready"),)))

    def tell(self, what: str, count: int) -> list[float]:
        """Tell the sockets one after the other. Return what each tenth of them has
        cost, in seconds of processor time.
        """
        frame = client_frame(TEXT, f"{what} {count}".encode())
        costs = []
        size = len(self._sockets) // 10
        for start in range(0, len(self._sockets), size):
            before = self._server.processor_seconds()
            for sock in self._sockets[start : start + size]:
                sock.sendall(frame)
                if receive_exactly(sock, len(DONE)) != DONE:
                    raise ValueError("The server didn't do it.")
            costs.append(self._server.processor_seconds() - before)
        return costs

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


def measure(shape: Shape) -> Figures:
    server = Server(python_server("subscribing"))
    try:
        clients = Clients(server, shape.sockets)
        try:
            clients.tell("nothing", shape.topics)
            nothing = min(clients.tell("nothing", shape.topics))
            before = server.resident_kib()
            subscribing = clients.tell("subscribe", shape.topics)
            memory = server.resident_kib() - before
            leaving = clients.tell("leave", shape.topics)
        finally:
            clients.close()
    finally:
        server.stop()

    def each(seconds: float) -> float:
        return (seconds - nothing) / (shape.sockets // 10 * shape.topics) * 1e6

    return Figures(
        memory / (shape.sockets * shape.topics),
        (each(subscribing[0]), each(subscribing[-1])),
        (each(leaving[0]), each(leaving[-1])),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="few sockets")
    extent.add_argument("--write", action="store_true", help="update RESULTS.md")
    options = parser.parse_args()
    end_with_servers()
    rows = []
    for shape in QUICK if options.quick else FULL:
        figures = measure(shape)
        times = (*figures.subscribing, *figures.leaving)
        cells = (f"{figures.memory:.2f}", *(f"{cost:,.1f}" for cost in times))
        rows.append((str(shape), *cells))
    head = ["sockets x topics of each", "KiB per subscription"]
    head += ["subscribing, first tenth: µs", "last tenth: µs"]
    head += ["leaving, first tenth: µs", "last tenth: µs"]
    text = table(head, rows)
    print(text)
    if options.write:
        how = f"ours, {versions(['flask', 'gevent'])}"
        text = f"{header_of(how)}\n\n{text}"
        replace_section(HERE / "RESULTS.md", "Subscriptions", text)


if __name__ == "__main__":
    main()
