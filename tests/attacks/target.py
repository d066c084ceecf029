"""The attacked app as a server process, and how to look at it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import typing as t
from pathlib import Path

from ..live.processes import Server
from ..live.ways import Way
from ..process import until


def serve(way: Way, **config: t.Any) -> Server:
    """The app with values for its config. The server still has to be entered."""
    # Large blocks of memory go back to the system as soon as they are free.
    env = {"MALLOC_MMAP_THRESHOLD_": "131072"}
    env |= {f"TARGET_{name}": json.dumps(value) for name, value in config.items()}
    return way.serve("target:app", env)


def open_names(server: Server) -> set[str]:
    """The names of the clients whose handlers are running."""
    return set(json.loads(server.get("/open").body))


def descriptors(server: Server) -> int:
    """How many descriptors the processes of the server have open."""
    count = 0
    for pid in server.members():
        with contextlib.suppress(FileNotFoundError):
            count += len(os.listdir(f"/proc/{pid}/fd"))
    return count


def resident(server: Server) -> int:
    """How much memory the processes of the server use, in bytes."""
    total = 0
    for pid in server.members():
        with contextlib.suppress(FileNotFoundError):
            pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
            total += int(pages) * os.sysconf("SC_PAGE_SIZE")
    return total


def settled(measure: t.Callable[[], int]) -> int:
    """A number that has stayed the same for a while."""
    numbers = [measure()]
    pause = threading.Event()

    def is_settled() -> bool:
        # To measure takes time itself, which whoever is measured can't have.
        pause.wait(0.02)
        numbers.append(measure())
        return len(numbers) > 10 and len(set(numbers[-10:])) == 1

    until(is_settled, f"a number that settles: {numbers[-10:]}")
    return numbers[-1]
