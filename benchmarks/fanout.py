"""Fan-out benchmark: what it costs a server to bring a message to many.

    python benchmarks/fanout.py [--redis] [--quick] [--only NAME ...]
        [--subscribers N ...] [--sizes N ...] [--in-flight N ...]
        [--seconds S] [--rounds N] [--write]

One client publishes, and many are subscribed. Each server runs alone, as a process of
its own; servers take turns, round by round. What counts is the processor time of the
server, user and system, for each delivery of one message to one subscriber.

With ``--redis`` each server is two processes and one Redis, half of the subscribers are
connected to each, and what counts is the processor time of all three.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import resource
import shutil
import statistics
import subprocess
import sys
import typing as t

from audience import PLAIN, SOCKETIO, Audience, Protocol
from harness import (
    HERE,
    Server,
    end_with_servers,
    header_of,
    python_server,
    replace_section,
    svg,
    table,
    versions,
)

MODULES = HERE / "servers" / "fanout" / "node_modules"


class Peer(t.NamedTuple):
    """A server, and what makes it what it is."""

    command: list[str]
    packages: t.Sequence[str]
    protocol: Protocol = PLAIN
    is_javascript: bool = False


def python(name: str, packages: str, protocol: Protocol = PLAIN) -> Peer:
    module, *arguments = name.split()
    command = [*python_server(f"fanout/{module}"), *arguments]
    return Peer(command, packages.split(), protocol)


def javascript(
    runtime: str, name: str, packages: str, protocol: Protocol = PLAIN
) -> Peer:
    command = [runtime, str(HERE / "servers" / "fanout" / f"{name}.js")]
    return Peer(command, packages.split(), protocol, is_javascript=True)


PEERS = {
    "ours": python("ours", "flask gevent"),
    "gevent_floor": python("gevent_floor each", "gevent"),
    "gevent_floor_joined": python("gevent_floor joined", "gevent"),
    "bun": javascript(str(MODULES / ".bin" / "bun"), "bun", "bun"),
    "node_ws": javascript("node", "node_ws", "ws"),
    "node_socketio": javascript("node", "node_socketio", "socket.io", SOCKETIO),
    "aiohttp_loop": python("aiohttp_loop", "aiohttp"),
    "websockets_broadcast": python("websockets_broadcast", "websockets"),
    "starlette_loop": python("starlette_loop", "starlette uvicorn websockets"),
    "flask_socketio_gevent": python(
        "flask_socketio_gevent", "flask-socketio gevent gevent-websocket", SOCKETIO
    ),
    "readme_loop": python("readme_loop", "flask gevent"),
}
#: Those that are several processes with Redis.
REDIS_PEERS = {
    "ours": python("ours", "flask gevent redis"),
    "node_socketio": javascript(
        "node", "node_socketio", "socket.io @socket.io/redis-adapter redis", SOCKETIO
    ),
    "flask_socketio_gevent": python(
        "flask_socketio_gevent", "flask-socketio gevent redis", SOCKETIO
    ),
    "redis_loop": python("redis_loop", "flask gevent redis"),
    "django_channels": python("django_channels", "channels channels-redis uvicorn"),
}
REDIS = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--port"]


class Shape(t.NamedTuple):
    """How a load looks."""

    subscribers: int
    size: int
    in_flight: int

    def __str__(self) -> str:
        return f"{self.subscribers:,} x {amount(self.size)} x {self.in_flight}"


def amount(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


#: Seconds of load for a server that has just started.
WARM_UP = 1.0

#: All shapes: how many subscribers, of which sizes, how many messages at once.
SHAPES = ((10, 100, 1000, 5000), (100, 4096), (1, 8, 32))
REDIS_SHAPES = ((1000,), (100,), (1, 16))


class Plan(t.NamedTuple):
    """How much is measured."""

    rounds: int
    #: For each shape.
    seconds: float
    has_redis: bool


class Figures(t.NamedTuple):
    """What one run has shown."""

    #: Microseconds of the server's processor time for each delivery.
    cost: float
    #: The same of the load generator.
    load_cost: float
    #: Milliseconds from publishing to the last delivery.
    p50: float
    p99: float


Results = dict[tuple[str, Shape], list[Figures]]


def own_processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Deployment:
    """The processes that are one server together."""

    def __init__(self, command: list[str], has_redis: bool) -> None:
        self._processes: list[Server] = []
        try:
            env = {}
            if has_redis:
                redis = self._start(REDIS)
                env["REDIS_URL"] = f"redis://127.0.0.1:{redis.port}"
            count = 2 if has_redis else 1
            self.ports = [self._start(command, env).port for _ in range(count)]
        except BaseException:
            self.stop()
            raise

    def _start(
        self, command: list[str], env: t.Mapping[str, str] | None = None
    ) -> Server:
        self._processes.append(Server(command, env))
        return self._processes[-1]

    def processor_seconds(self) -> float:
        return sum(process.processor_seconds() for process in self._processes)

    def stop(self) -> None:
        for process in self._processes:
            process.stop()


def measure(
    server: Deployment, audience: Audience, shape: Shape, seconds: float
) -> Figures:
    audience.check(shape.size)
    audience.run(shape.size, shape.in_flight, seconds / 4)
    before, own_before = server.processor_seconds(), own_processor_seconds()
    delivered = audience.run(shape.size, shape.in_flight, seconds)
    used = server.processor_seconds() - before
    own = own_processor_seconds() - own_before
    audience.check(shape.size)  # Nobody has got more than that.
    quantiles = statistics.quantiles(delivered.latencies * 2, n=100, method="inclusive")
    return Figures(
        used / delivered.deliveries * 1e6,
        own / delivered.deliveries * 1e6,
        quantiles[49] * 1e3,
        quantiles[98] * 1e3,
    )


def measure_peer(
    peer: Peer, shapes: t.Sequence[Shape], seconds: float, has_redis: bool
) -> t.Iterator[tuple[Shape, Figures]]:
    """Start a server, and put the same subscribers through all these shapes."""
    with contextlib.ExitStack() as stack:
        server = Deployment(peer.command, has_redis)
        stack.callback(server.stop)
        audience = Audience(server.ports, peer.protocol)
        stack.callback(audience.close)
        audience.grow(shapes[0].subscribers)
        # Some runtimes compile what has run for a while.
        audience.run(shapes[0].size, 8, WARM_UP)
        for shape in shapes:
            audience.grow(shape.subscribers)
            yield shape, measure(server, audience, shape, seconds)


def measure_all(
    peers: t.Mapping[str, Peer],
    shapes: t.Sequence[Shape],
    plan: Plan,
) -> Results:
    results: Results = {}
    for _ in range(plan.rounds):
        for _, group in itertools.groupby(shapes, key=lambda shape: shape.subscribers):
            of_group = list(group)
            for name, peer in peers.items():
                try:
                    for shape, figures in measure_peer(
                        peer, of_group, plan.seconds, plan.has_redis
                    ):
                        results.setdefault((name, shape), []).append(figures)
                        print(
                            f"{name:22} {shape!s:18} {figures.cost:8.2f} µs"
                            f" (load {figures.load_cost:.2f})"
                            f" {figures.p50:8.2f} {figures.p99:8.2f} ms",
                            flush=True,
                        )
                except (OSError, RuntimeError, ValueError) as error:
                    print(f"{name}: {error}", file=sys.stderr)
    return results


def label(name: str, peer: Peer) -> str:
    """The name of a server with its versions."""
    if not peer.is_javascript:
        return f"{name} ({versions(peer.packages)})"
    found = []
    for package in peer.packages:
        about = json.loads((MODULES / package / "package.json").read_text())
        found.append(f"{package} {about['version']}")
    if peer.command[0] == "node":
        version = subprocess.check_output(["node", "--version"], text=True).strip()
        found.insert(0, f"node {version.lstrip('v')}")
    return f"{name} ({', '.join(found)})"


def is_installed(peer: Peer) -> bool:
    if not peer.is_javascript:
        return True
    return bool(shutil.which(peer.command[0])) and all(
        (MODULES / package).exists() for package in peer.packages
    )


def median(results: Results, name: str, shape: Shape, field: str) -> float | None:
    """The median of a figure over all rounds, if there were any."""
    rounds = results.get((name, shape))
    return statistics.median(getattr(f, field) for f in rounds) if rounds else None


def shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def milliseconds(value: float | None) -> str:
    return shown(value, ",.0f" if value and value >= 100 else ".3g")


def costs_table(results: Results, names: t.Sequence[str], size: int) -> str:
    """Processor time per delivery, with messages of one size."""
    shapes = [shape for shape in shapes_of(results) if shape.size == size]
    head = ["µs per delivery", *(f"{s.subscribers:,} x {s.in_flight}" for s in shapes)]
    rows = [
        [name, *(shown(median(results, name, s, "cost"), ",.2f") for s in shapes)]
        for name in names
    ]
    loads = (
        statistics.median(
            figures.load_cost
            for (_, s), rounds in results.items()
            if s == shape
            for figures in rounds
        )
        for shape in shapes
    )
    return table(head, [*rows, ["the load generator", *(f"{x:,.2f}" for x in loads)]])


def latencies_table(results: Results, names: t.Sequence[str], size: int) -> str:
    """Publish to last delivery, with messages of one size."""
    shapes = [shape for shape in shapes_of(results) if shape.size == size]
    head = [
        "p50 / p99, ms",
        *(f"{s.subscribers:,} x {s.in_flight}" for s in shapes),
    ]
    return table(
        head,
        (
            [
                name,
                *(
                    " / ".join(
                        milliseconds(median(results, name, s, field))
                        for field in ("p50", "p99")
                    )
                    for s in shapes
                ),
            ]
            for name in names
        ),
    )


def shapes_of(results: Results) -> list[Shape]:
    return sorted({shape for _, shape in results})


#: At most how much of a peer's processor time ours is to take, by messages in flight,
#: with 1,000 subscribers and 100 bytes.
TARGETS = (
    ("bun", 1, 1.35),
    ("bun", 8, 1.15),
    ("bun", 32, 1.15),
    ("aiohttp_loop", 1, 0.95),
)
REDIS_TARGETS = (("node_socketio", 1, 0.6), ("node_socketio", 16, 0.15))


def targets_table(results: Results, targets: t.Iterable[tuple[str, int, float]]) -> str:
    """Our figures beside what they are to be."""
    lines = []
    for peer, in_flight, most in targets:
        shape = Shape(1000, 100, in_flight)
        ours = median(results, "ours", shape, "cost")
        theirs = median(results, peer, shape, "cost")
        ratio = ours / theirs if ours and theirs else None
        verdict = "-" if ratio is None else "met" if ratio <= most else "missed"
        cells = (f"<= {most:.2f}", shown(ratio, ".2f"), verdict)
        lines.append([f"{shape}, x {peer}", *cells])
    return table(["ours", "target", "measured", ""], lines)


def chart(results: Results) -> str:
    """Bars of the processor time per delivery, relative to ours, as an SVG."""
    groups = {}
    for shape in shapes_of(results):
        if shape[:2] != (1000, 100):
            continue
        costs = {
            name: statistics.median(figures.cost for figures in rounds)
            for (name, s), rounds in results.items()
            if s == shape and not name.startswith("gevent_floor")
        }
        if "ours" in costs:
            ours = f"ours = {costs['ours']:,.2f} µs"
            groups[f"{shape}: processor time per delivery, {ours}"] = costs
    return svg(groups)


def report(results: Results, peers: t.Mapping[str, Peer], has_redis: bool) -> str:
    """All tables."""
    names = [name for name in peers if any(name == n for n, _ in results)]
    labels = "; ".join(label(name, peers[name]) for name in names)
    parts = [f"Servers: {labels}."]
    if "ours" in names:
        targets = REDIS_TARGETS if has_redis else TARGETS
        parts.append(targets_table(results, targets))
    for size in sorted({shape.size for _, shape in results}):
        parts.append(f"Messages of {amount(size)}, subscribers x messages in flight:")
        parts.append(costs_table(results, names, size))
        parts.append(latencies_table(results, names, size))
    return "\n\n".join(parts)


def installed(peers: t.Mapping[str, Peer], names: t.Sequence[str]) -> dict[str, Peer]:
    """Those of the peers that can be started."""
    found = {}
    for name, peer in peers.items():
        if names and name not in names:
            continue
        if is_installed(peer):
            found[name] = peer
        else:
            directory = MODULES.parent.relative_to(HERE.parent)
            command = f"npm install --prefix {directory}"
            print(f"{name!r} isn't installed: {command}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="one short round")
    extent.add_argument("--write", action="store_true", help="update RESULTS.md")
    parser.add_argument("--redis", action="store_true", help="two processes each")
    parser.add_argument("--only", nargs="*", choices={**PEERS, **REDIS_PEERS})
    parser.add_argument("--subscribers", nargs="*", type=int)
    parser.add_argument("--sizes", nargs="*", type=int)
    parser.add_argument("--in-flight", nargs="*", type=int)
    parser.add_argument("--seconds", type=float, default=0.8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    end_with_servers()
    plan = Plan(options.rounds, options.seconds, options.redis)
    subscribers, sizes, in_flight = REDIS_SHAPES if options.redis else SHAPES
    if options.quick:
        plan = plan._replace(rounds=1, seconds=0.4)
        subscribers, sizes = (100,), (100,)
    shapes = itertools.product(
        options.subscribers or subscribers,
        options.sizes or sizes,
        options.in_flight or in_flight,
    )
    peers = installed(REDIS_PEERS if options.redis else PEERS, options.only)
    results = measure_all(peers, [Shape(*each) for each in shapes], plan)
    text = report(results, peers, plan.has_redis)
    print(text)
    if options.write:
        title, picture = "Fan-out", "fanout.svg"
        if plan.has_redis:
            title, picture = "Fan-out with Redis", "fanout-redis.svg"
        (HERE / picture).write_text(chart(results))
        how = f"medians of {plan.rounds} rounds of {plan.seconds:g} s"
        text = (
            f"{header_of(how)}\n\n![Processor time per delivery]({picture})\n\n{text}"
        )
        replace_section(HERE / "RESULTS.md", title, text)


if __name__ == "__main__":
    main()
