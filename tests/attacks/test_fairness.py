"""One client's flood is not everybody's wait: what others wait is bounded by what they
wait beside neighbours who keep the server busy, but not without a pause."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t

import pytest

from ..frames import BINARY, PING, TEXT, frame
from ..live.processes import Server
from ..live.ways import WORKER
from ..process import PATIENCE, until
from .attackers import DEFLATE, Attacker, compressed, running
from .target import open_names, serve

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Act = Callable[[threading.Event], None]

#: How many clients there are of those who flood, and of the neighbours.
CLIENTS = 3

#: For how long a neighbour keeps the server busy with each message, in seconds.
BUSY = 0.02

#: For how long the bystander measures, in seconds.
LENGTH = 0.8

#: How many times as long as beside the neighbours the bystander may wait.
FACTOR = 3.0

MIB = 2**20
CONFIG = {"SOCKETS_MAX_MESSAGE_SIZE": 16 * MIB, "SOCKETS_COMPRESSION": True}


class Flood(t.NamedTuple):
    """Clients that send without a pause, and read all that they are sent."""

    name: str
    path: str
    #: What is sent again and again.
    data: bytes = b""
    headers: t.Mapping[str, str] = {}
    #: How often ``data`` is sent each second at most.
    rate: float | None = None


FLOODS = [
    Flood("64 KiB", "/echo", frame(BINARY, bytes(65536))),
    Flood(
        "16 MiB with an emoji",
        "/swallow",
        frame(TEXT, b"x" * (15 * MIB) + "😀".encode()),
    ),
    Flood("empty texts", "/swallow", frame(TEXT) * 10_000),
    Flood("pings", "/echo", frame(PING) * 10_000),
    Flood(
        "fragments",
        "/swallow",
        frame(TEXT, b"x", fin=False) + frame(0, b"y", fin=False) * 10_000 + frame(0),
    ),
    Flood("bombs", "/swallow", compressed(bytes(15 * MIB)), DEFLATE),
    Flood("small bombs", "/swallow", compressed(bytes(65536)) * 100, DEFLATE),
    Flood("a compressed stream", "/stream?size=65536", b"", DEFLATE),
    Flood("a stream", "/stream?size=100"),
]


SLOW_HANDLER = Flood(
    "empty texts to a slow handler", "/work?seconds=0.001", frame(TEXT) * 500, {}, 30
)


def flood_with(raw: Attacker, flood: Flood) -> Iterable[Act]:
    """What one client does, in two threads: it floods, and reads all it is sent."""
    sign = "&" if "?" in flood.path else "?"
    raw.shake_hands(f"{flood.path}{sign}name={id(raw)}", **flood.headers)
    raw.socket.settimeout(0.1)  # To see in between whether this is to stop.

    def send(stop: threading.Event) -> None:
        rest = memoryview(flood.data)
        while flood.data and not stop.is_set():
            with contextlib.suppress(TimeoutError):
                rest = rest[raw.socket.send(rest) :]
            if not rest:
                rest = memoryview(flood.data)
                if flood.rate is not None:
                    stop.wait(1 / flood.rate)

    def read(stop: threading.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                if not raw.socket.recv(2**18):
                    return

    return send, read


def be_a_neighbour(raw: Attacker) -> Act:
    """Let the server work for a while, again and again, and wait for it each time."""
    raw.shake_hands(f"/work?seconds={BUSY}&answer=1")

    def act(stop: threading.Event) -> None:
        while not stop.is_set():
            raw.send(frame(TEXT, b"work"))
            raw.read_frame()

    return act


def waits(raw: Attacker, length: float, patience: float) -> list[float]:
    """How long a bystander waits for each of its echoes, in seconds, sorted.

    :param patience: what it waits at most, in seconds.
    """
    found: list[float] = []
    raw.socket.settimeout(patience)
    end = time.monotonic() + length
    while (begin := time.monotonic()) < end:
        try:
            raw.send(frame(TEXT, b"hello"))
            raw.read_frame()
        except TimeoutError:
            found.append(patience)
            break
        found.append(time.monotonic() - begin)
        threading.Event().wait(0.005)
    return sorted(found)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(WORKER, **CONFIG) as server:
        yield server


def measure(server: Server, flood: Flood) -> tuple[bool, str]:
    """Whether the bystander waits no longer than it may, and how long it waits."""
    until(lambda: not open_names(server), "the end of the flood before")
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(Attacker(server.port)) for _ in range(2 * CLIENTS + 1)
        ]
        bystander = clients.pop()
        bystander.shake_hands("/echo")
        with running(*map(be_a_neighbour, clients[:CLIENTS])):
            usual = waits(bystander, LENGTH, PATIENCE)
        bound = FACTOR * usual[-1]
        acts = [act for raw in clients[CLIENTS:] for act in flood_with(raw, flood)]
        with running(*acts):
            found = waits(bystander, LENGTH, 2 * bound)
    summary = (
        f"{len(found)} echoes, median {found[len(found) // 2]:.3f} s, at most"
        f" {found[-1]:.3f} s; beside neighbours {usual[len(usual) // 2]:.3f},"
        f" at most {usual[-1]:.3f} s"
    )
    return found[-1] <= bound, summary


def assert_fair(measure: Callable[[], tuple[bool, str]]) -> None:
    """Check it once in three times, as other things happen on this machine, which only
    make it worse."""
    summaries = []
    for _ in range(3):
        is_fair, summary = measure()
        if is_fair:
            return
        summaries.append(summary)
    pytest.fail("\n".join(summaries))


@pytest.mark.xdist_group(__name__)
@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.name)
def test_flood_lets_others_be_served(server: Server, flood: Flood) -> None:
    assert_fair(lambda: measure(server, flood))


def test_flood_to_a_slow_handler_lets_others_be_served() -> None:
    """On servers of its own, as they would work on it for long."""

    def measure_alone() -> tuple[bool, str]:
        with serve(WORKER, **CONFIG) as server:
            return measure(server, SLOW_HANDLER)

    assert_fair(measure_alone)
