"""What sockets cost that nobody uses, and what it costs to open and close one.

    python benchmarks/idle.py [--quick] [--only NAME ...] [--write]

Idle sockets: the server's processor time, user and system, while 10,000 of them are
open, as a part of one processor. Opening and closing: the same for a handshake and a
whole closing handshake, beside a page of the same app; both on a new connection.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import select
import socket
import statistics
import time
import typing as t

from audience import open_one
from harness import (
    HERE,
    Server,
    end_with_servers,
    header_of,
    python_server,
    replace_section,
    row,
    table,
    versions,
)
from load import client_frame, handshake

CLOSE, PING, PONG = 0x88, 0x89, 10
#: The packages that make a server what it is, and the kinds of its handlers.
SERVERS = {
    "ours": (["flask", "gevent"], ["receiving", "waiting"]),
    "aiohttp": (["aiohttp"], ["receiving"]),
}
#: Seconds between pings.
PINGS = 25


class Plan(t.NamedTuple):
    sockets: int
    #: Seconds for what a server has left to do once it has all sockets.
    settling: float
    #: Seconds of measuring, without pings and with them.
    seconds: float
    seconds_with_pings: float
    #: How many sockets and pages are opened in a row, and how often.
    opened: int
    turns: int


FULL = Plan(10_000, 5, 10, PINGS, 200, 10)
QUICK = Plan(200, 0.5, 1, 1, 50, 2)


class Idlers:
    """Sockets that say nothing, except to answer pings."""

    def __init__(self, port: int, target: str, count: int) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for number in range(count):
            sock = open_one(port, target, (("", "ready"),))
            self._sockets[sock.fileno()] = sock
            self._epoll.register(sock, select.EPOLLIN)
            if not number % 100:
                self._answer(0)

    def stay(self, seconds: float) -> int:
        """Answer pings for so long. Return how many there were."""
        pings = 0
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            pings += self._answer(left)
        return pings

    def _answer(self, timeout: float) -> int:
        """Answer the pings that are there, or the first ones that come."""
        events = self._epoll.poll(timeout)
        for fd, _ in events:
            frame = self._sockets[fd].recv(1024)
            if frame[:1] != bytes((PING,)) or len(frame) != 2 + frame[1]:
                raise ValueError(f"An idle socket got {frame!r}.")
            self._sockets[fd].sendall(client_frame(PONG, frame[2:]))
        return len(events)

    def close(self) -> None:
        self._epoll.close()
        for sock in self._sockets.values():
            sock.close()


def idle_share(name: str, kind: str, pings: int, plan: Plan) -> tuple[float, int]:
    """The part of a processor that idle sockets take, and how many pings were sent."""
    server = Server([*python_server(f"idle_{name}"), str(pings)])
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        idlers = Idlers(server.port, f"/{kind}", plan.sockets)
        stack.callback(idlers.close)
        idlers.stay(plan.settling)
        seconds = plan.seconds_with_pings if pings else plan.seconds
        before, start = server.processor_seconds(), time.monotonic()
        count = idlers.stay(seconds)
        used = server.processor_seconds() - before
        return used / (time.monotonic() - start), count


def open_and_close(port: int) -> None:
    """Open a WebSocket and close it, with Close frames of both sides."""
    with handshake(port, "/receiving") as sock:
        sock.sendall(client_frame(CLOSE & 15, b"\x03\xe8"))
        while sock.recv(4096):
            pass


def get_page(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(
            b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        while sock.recv(4096):
            pass


def opening_costs(plan: Plan) -> dict[str, float]:
    """Processor microseconds of our server, for each of the two."""
    server = Server([*python_server("idle_ours"), "0"])
    costs: dict[str, list[float]] = {}
    try:
        for turn in range(plan.turns + 1):
            for what in (open_and_close, get_page):
                before = server.processor_seconds()
                for _ in range(plan.opened):
                    what(server.port)
                cost = (server.processor_seconds() - before) / plan.opened * 1e6
                if turn:  # The first one warms up.
                    costs.setdefault(what.__name__, []).append(cost)
    finally:
        server.stop()
    return {what: statistics.median(all_costs) for what, all_costs in costs.items()}


def openings_table(costs: dict[str, float]) -> str:
    opened, page = costs["open_and_close"], costs["get_page"]
    return table(
        ("ours", "µs", "x page"),
        (
            ("a page", f"{page:,.0f}", "1.00"),
            ("handshake and close", f"{opened:,.0f}", f"{opened / page:.2f}"),
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="few sockets")
    extent.add_argument("--write", action="store_true", help="update RESULTS.md")
    parser.add_argument("--only", nargs="*", choices=SERVERS, default=list(SERVERS))
    options = parser.parse_args()
    end_with_servers()
    plan = QUICK if options.quick else FULL

    rows = []
    for name in options.only:
        packages, kinds = SERVERS[name]
        for kind, pings in itertools.product(kinds, (0, PINGS)):
            share, count = idle_share(name, kind, pings, plan)
            label = f"{name} ({versions(packages)})"
            every = f"every {pings} s" if pings else "off"
            rows.append((label, kind, every, f"{share:.2%}", f"{count:,}"))
            print(row(*rows[-1]), flush=True)
    text = table(("server", "handlers", "pings", "of a processor", "pings sent"), rows)
    if "ours" in options.only:
        text += f"\n\n{openings_table(opening_costs(plan))}"
    print(text)
    if options.write:
        how = f"{plan.sockets:,} idle sockets"
        replace_section(HERE / "RESULTS.md", "Idle", f"{header_of(how)}\n\n{text}")


if __name__ == "__main__":
    main()
