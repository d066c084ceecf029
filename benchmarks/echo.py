"""Echo benchmark: what a message costs each server.

    python benchmarks/echo.py [--quick] [--only NAME ...] [--seconds S] [--rounds N]

Each server runs alone, as a process of its own. For each shape of load, rounds of all
servers take turns, so that what disturbs the machine disturbs all of them. What counts
is the processor time of the server, user and system, per message: it stays the same
when the machine is busy with something else.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from load import Load, Shape

HERE = Path(__file__).parent

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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Server:
    """A server as a process."""

    def __init__(self, name: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, HERE / "servers" / f"{name}.py", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"The server {name!r} didn't start.") from None
                time.sleep(0.05)

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def measure(name: str, shape: Shape, seconds: float) -> tuple[float, float]:
    """Messages per second, and processor microseconds per message."""
    server = Server(name)
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
    packages = SERVERS[name]
    return ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)


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
    width, bar, left, scale = 720, 16, 160, 130
    y = 8
    parts = []
    for shape in dict.fromkeys(shape for _, shape in results):
        costs = {
            name: statistics.median(cost for _, cost in rounds)
            for (name, s), rounds in results.items()
            if s == shape and name != "gevent_floor"
        }
        ours = costs.get("ours")
        if ours is None:
            continue
        title = f"{shape}: processor time per message, ours = {ours:,.1f} µs"
        parts.append(f'<text x="8" y="{y + 12}" font-weight="bold">{title}</text>')
        y += 20
        for name, cost in sorted(costs.items(), key=lambda item: item[1]):
            length = min(cost / ours, 3.5) * scale
            colour = "#0f766e" if name == "ours" else "#94a3b8"
            parts += [
                f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{name}</text>',
                f'<rect x="{left}" y="{y}" width="{length:.0f}" height="{bar - 3}"'
                f' fill="{colour}"/>',
                f'<text x="{left + length + 6:.0f}" y="{y + 12}">'
                f"{cost / ours:.2f}</text>",
            ]
            y += bar
        y += 14
    parts.append(f'<text x="8" y="{y + 4}">Bars are cut off at 3.5.</text>')
    y += 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}"'
        ' font-family="sans-serif" font-size="12">'
        f'<rect width="{width}" height="{y}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def header_of(how: str) -> str:
    """When, where and how it was measured."""
    return (
        f"Measured on {datetime.date.today().isoformat()}, on {platform.system()}"
        f" {platform.machine()} with {os.cpu_count()} cores, Python"
        f" {platform.python_version()}; {how}."
    )


def replace_section(path: Path, title: str, text: str) -> None:
    """Write one section of a file of results, and leave the others as they are."""
    sections: dict[str, str] = {}
    if path.exists():
        for part in path.read_text().split("\n## ")[1:]:
            name, _, body = part.partition("\n")
            sections[name] = body.strip()
    sections[title] = text
    bodies = "".join(f"\n## {name}\n\n{body}\n" for name, body in sections.items())
    path.write_text(f"# Results\n{bodies}")


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
