"""What the benchmarks share: servers as processes, and where results are written."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

HERE = Path(__file__).parent

#: Seconds for a server to start.
START_PATIENCE = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def python_server(name: str) -> list[str]:
    """The command that starts a server of the directory ``servers``."""
    return [sys.executable, str(HERE / "servers" / f"{name}.py")]


class Server:
    """A server as a process.

    :param command: the command, without the port, which comes after it.
    :param env: environment variables on top of those of this process.
    """

    def __init__(
        self, command: list[str], env: t.Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [*command, str(self.port)],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    shown = " ".join(command)
                    raise RuntimeError(f"{shown!r} didn't start.") from None
                time.sleep(0.05)

    def processor_seconds(self) -> float:
        """User and system time of all threads, also of those that have ended."""
        # The clock that clock_getcpuclockid(3) names. 'stat' in /proc counts 10 ms.
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError("no VmRSS")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def end_with_servers() -> None:
    """Let SIGTERM end a benchmark as Ctrl-C does, so that no server outlives it."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))


def versions(packages: t.Iterable[str]) -> str:
    return ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def table(head: t.Sequence[str], rows: t.Iterable[t.Sequence[str]]) -> str:
    lines = [row(*head), "|---" * len(head) + "|", *(row(*cells) for cells in rows)]
    return "\n".join(lines)


def svg(groups: t.Mapping[str, t.Mapping[str, float]]) -> str:
    """Bars of the costs of servers, relative to ours, as an SVG.

    :param groups: the costs by the name of the server, by the title of the group.
    """
    width, bar, left, scale = 720, 16, 160, 130
    y = 8
    parts = []
    for title, costs in groups.items():
        ours = costs["ours"]
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
