"""Echo benchmark: what a message costs each server.

    python benchmarks/echo.py [--quick] [--only NAME ...] [--seconds S] [--rounds N]

Each server runs alone, as a process of its own. For each shape of load, rounds of all
servers take turns, so that what disturbs the machine disturbs all of them. What counts
is the processor time of the server, user and system, per message: it stays the same
when the machine is busy with something else.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from harness import HERE, Server, header_of, python_server, replace_section, svg
from harness import versions as versions_of
from load import Load, Shape

#: The module of each server, with the packages that make it what it is.
SERVERS = {
    "ours": ["gevent", "websockets", "flask"],
    "aiohttp_server": ["aiohttp"],
    "gevent_floor": ["gevent"],
    "gevent_websocket": ["gevent-websocket", "gevent"],
    "websockets_asyncio": ["websockets"],
    "uvicorn_starlette": ["uvicorn", "starlette"],
    "flask_sock_gevent": ["flask-sock", "simple-websocket", "gevent"],
    "flask_sock_threads": ["flask-sock", "simple-websocket", "werkzeug"],
}
SHAPES = [
    Shape(50, 1, 32),
    Shape(20, 64, 32),
    Shape(4, 1, 2**20, binary=True),
]
#: The server without a protocol counts frames of one small size.
UNABLE = {("gevent_floor", SHAPES[2])}


def measure(name: str, shape: Shape, seconds: float) -> tuple[float, float]:
    """Messages per second, and processor microseconds per message."""
    server = Server(python_server(name))
    try:
        load = Load(server.port, shape)
        try:
            load.run(min(1.0, seconds / 2))
            before, start = server.processor_seconds(), time.monotonic()
            messages = load.run(seconds)
            elapsed = time.monotonic() - start
            used = server.processor_seconds() - before
        finally:
            load.close()
    finally:
        server.stop()
    return messages / elapsed, used / messages * 1e6


def versions(name: str) -> str:
    return versions_of(SERVERS[name])


def table(results: dict[tuple[str, Shape], list[tuple[float, float]]]) -> str:
    names = list(dict.fromkeys(name for name, _ in results))
    shapes = list(dict.fromkeys(shape for _, shape in results))
    lines = [
        "| server |" + "".join(f" {s}: msg/s | µs | x ours |" for s in shapes),
        "|---" * (1 + 3 * len(shapes)) + "|",
    ]
    for name in names:
        cells = [f"{name} ({versions(name)})"]
        for shape in shapes:
            rounds = results.get((name, shape))
            if not rounds:
                cells += ["-"] * 3
                continue
            rate = statistics.median(rate for rate, _ in rounds)
            cost = statistics.median(cost for _, cost in rounds)
            cells += [f"{rate:,.0f}", f"{cost:,.1f}"]
            ours = results.get(("ours", shape))
            if ours:
                cells.append(f"{cost / statistics.median(c for _, c in ours):.2f}")
            else:
                cells.append("-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def chart(results: dict[tuple[str, Shape], list[tuple[float, float]]]) -> str:
    """Bars of the processor time per message, relative to ours, as an SVG."""
    groups = {}
    for shape in dict.fromkeys(shape for _, shape in results):
        costs = {
            name: statistics.median(cost for _, cost in rounds)
            for (name, s), rounds in results.items()
            if s == shape and name != "gevent_floor"
        }
        if "ours" in costs:
            title = (
                f"{shape}: processor time per message, ours = {costs['ours']:,.1f} µs"
            )
            groups[title] = costs
    return svg(groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--only", nargs="*", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="update RESULTS.md")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 1.5, 1
    results: dict[tuple[str, Shape], list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        for shape in SHAPES:
            for name in options.only:
                if (name, shape) in UNABLE:
                    continue
                try:
                    result = measure(name, shape, options.seconds)
                except (ConnectionError, RuntimeError, ValueError) as error:
                    print(f"{name} {shape}: {error}", file=sys.stderr)
                    continue
                results.setdefault((name, shape), []).append(result)
                print(f"{name:20} {shape!s:18} {result[0]:10,.0f}/s {result[1]:9,.1f}")
    text = table(results)
    print(text)
    if options.write:
        how = f"medians of {options.rounds} rounds of {options.seconds:g} s"
        (HERE / "echo.svg").write_text(chart(results))
        replace_section(
            HERE / "RESULTS.md",
            "Echo",
            f"{header_of(how)}\n\n![Processor time per message](echo.svg)\n\n{text}",
        )


if __name__ == "__main__":
    main()
