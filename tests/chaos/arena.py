"""Servers that share topics, clients that follow them, and a publisher."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import time
import typing as t
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from ..live.ways import TWO_WORKERS, WSRUN
from .followers import HISTORY, PLAIN, Follower, check, check_positions

if t.TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..live.processes import Server

IS_LONG = os.environ.get("CHAOS") == "long"

#: Seconds after which a test gives up. Nothing is ever measured against it.
PATIENCE = 60.0

#: Seconds between two publications while something is broken.
PACE = 0.02 if IS_LONG else 0.05


class Published(t.NamedTuple):
    """What became of a publication."""

    #: Seconds until the server answered.
    took: float
    error: str | None


class Publisher:
    """Publishes numbered messages to all topics in turn."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ws: ClientConnection | None = None
        self._lock = asyncio.Lock()
        self._number = itertools.count(1)
        #: The numbers that were published without an error, by topic.
        self.published: dict[str, list[int]] = {
            topic: [] for topic in (*HISTORY, *PLAIN)
        }
        self.failed: list[Published] = []

    async def publish(self, topic: str, size: int = 0) -> Published:
        async with self._lock:
            if self._ws is None:
                self._ws = await connect(
                    self._server.url("/publish"),
                    compression=None,
                    ping_interval=None,
                    open_timeout=PATIENCE,
                    proxy=None,
                )
            number = next(self._number)
            await self._ws.send(json.dumps([topic, f"{number} {'x' * size}"]))
            published = Published(*json.loads(await self._ws.recv()))
            if published.error is None:
                self.published[topic].append(number)
            else:
                self.failed.append(published)
            return published

    async def go_on(self, size: int = 0) -> None:
        """Publish until this is cancelled."""
        for topic in itertools.cycle((*HISTORY, *PLAIN)):
            # An answer that nobody waits for would be taken for that of the next one.
            await asyncio.shield(self.publish(topic, size))
            await asyncio.sleep(PACE)

    async def end(self) -> None:
        if self._ws is not None:
            await self._ws.close()


class Arena:
    """Two workers of gunicorn and a 'flask wsrun' on one broker, and their clients.

    :param url: of the broker.
    """

    def __init__(self, url: str, followers: int) -> None:
        self._env = {"SOCKETS_BROKER": url}
        self._stack = contextlib.ExitStack()
        self._count = followers
        self._loop = asyncio.new_event_loop()
        #: The numbers of the last messages that all followers are known to have.
        self._caught_up: dict[str, int] = {}
        #: What was measured, for people.
        self.figures: list[str] = []

    def __enter__(self) -> Arena:
        with self._stack as stack:
            stack.callback(self._loop.close)
            self.gunicorn = stack.enter_context(self.serve(TWO_WORKERS))
            self.wsrun = stack.enter_context(self.serve(WSRUN))
            self.gunicorn.expected.append("SIGKILL")
            self.before = json.loads(self.wsrun.get("/state").body)
            self.run(self._start())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *args: object) -> None:
        with self._stack:
            self.run(self.end())
            for line in self.figures:
                print(line)

    def serve(self, way: t.Any) -> Server:
        return t.cast("Server", way.serve("chaos:app", self._env))

    def run(self, coroutine: Coroutine[t.Any, t.Any, None]) -> None:
        """Run a coroutine, beside which the clients run. They stop in between."""
        self._loop.run_until_complete(coroutine)

    async def _start(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.publisher = Publisher(self.wsrun)
        self.followers = [
            Follower(
                f"f{number}",
                self.wsrun if number % 3 == 2 else self.gunicorn,
                self.gate,
            )
            for number in range(self._count)
        ]
        for follower in self.followers:
            follower.start()
        await self.until_connected()
        await self.catch_up()

    async def end(self) -> None:
        followers, self.followers = self.followers, []
        for follower in followers:
            await follower.end()
        await self.publisher.end()

    async def until_connected(self) -> float:
        """Wait until all followers are connected. Return how many seconds it took."""
        return await until(
            lambda: all(follower.is_connected for follower in self.followers),
            "the followers",
        )

    async def settle(self) -> None:
        """Wait until nothing is left of what a test before this one has broken."""
        await self.catch_up()
        await self.until_connected()
        await self.until_present()

    async def until_published(self) -> float:
        """Publish until that succeeds. Return how many seconds it took."""
        start = time.monotonic()
        while (await self.publisher.publish(HISTORY[0])).error is not None:
            assert time.monotonic() < start + PATIENCE
            await asyncio.sleep(0.02)
        return time.monotonic() - start

    async def catch_up(self) -> float:
        """Wait until all followers get what is published to all topics.

        :return: how many seconds that took.
        """
        start = time.monotonic()
        await self.until_published()
        for topic in HISTORY:
            assert (await self.publisher.publish(topic)).error is None
        for topic in PLAIN:
            await self._catch_up_plain(topic)
        for topic in HISTORY:
            last = self.publisher.published[topic][-1]
            await until(
                lambda topic=topic, last=last: all(  # type: ignore[misc]
                    follower.newest(topic) >= last for follower in self.followers
                ),
                f"the end of {topic}",
            )
            self._caught_up[topic] = last
        return time.monotonic() - start

    async def _catch_up_plain(self, topic: str) -> None:
        """Publish until all get a message. Before that, some may be lost."""
        start = time.monotonic()
        while True:
            await self.publisher.publish(topic)
            last = self.publisher.published[topic][-1]
            for _ in range(10):
                if all(f.newest(topic) >= last for f in self.followers):
                    return
                await asyncio.sleep(0.02)
            assert time.monotonic() < start + PATIENCE, f"the end of {topic}"

    @contextlib.asynccontextmanager
    async def publishing(self, size: int = 0) -> t.AsyncIterator[None]:
        """Publish all the time."""
        task = asyncio.create_task(self.publisher.go_on(size))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            # The one that is under way.
            async with self.publisher._lock:
                pass
            if not task.cancelled():
                task.result()

    async def until_present(self) -> None:
        """Wait until the followers are listed as present, and nobody else is."""

        def people() -> set[str]:
            return set(json.loads(self.wsrun.get("/people").body))

        deadline = time.monotonic() + PATIENCE
        while (found := await asyncio.to_thread(people)) != {
            follower.member for follower in self.followers
        }:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.2)

    def check(self) -> tuple[int, int]:
        """Check what all followers have heard so far.

        :return: how often the server admitted that something may be lost, and how many
            messages were, of all followers together.
        """
        # What was published later may still be on its way.
        published = {
            topic: [number for number in numbers if number <= self._caught_up[topic]]
            for topic, numbers in self.publisher.published.items()
            if topic in HISTORY
        }
        losses = [check(f, published) for f in self.followers]
        check_positions(self.followers)
        answers = [x for f in self.followers for x in f.troubles if "Invalid" in x]
        assert not answers, f"These were no answers of HTTP: {answers}"
        for server in (self.gunicorn, self.wsrun):
            server.assert_log_is_clean()
        return sum(loss.admitted for loss in losses), sum(x.missing for x in losses)

    def connections(self) -> int:
        """How often followers have subscribed."""
        return sum(follower.connections for follower in self.followers)

    def longest_failure(self, since: int) -> float:
        """How many seconds a publisher had to wait for an error at most."""
        return max((p.took for p in self.publisher.failed[since:]), default=0.0)

    def note(self, trouble: str, **figures: object) -> None:
        shown = ", ".join(
            f"{name.replace('_', ' ')} {value:.2f}"
            if isinstance(value, float)
            else f"{name.replace('_', ' ')} {value}"
            for name, value in figures.items()
        )
        self.figures.append(f"{trouble}: {shown}")

    def processor_seconds(self) -> float:
        """What all servers have used."""
        pids = [*self.gunicorn.members(), *self.wsrun.members()]
        return sum(_processor_seconds(pid) for pid in pids)

    def reported_left(self) -> list[str]:
        """The members that the servers have reported left."""
        logs = self.gunicorn.log + self.wsrun.log
        return re.findall(r"left: (\S+) here\.", logs)


def _processor_seconds(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


async def until(condition: Callable[[], object], what: str) -> float:
    """Wait for something. Return how many seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + PATIENCE, f"Waited in vain: {what}"
        await asyncio.sleep(0.01)
    return time.monotonic() - start


async def beside(function: Callable[[], object]) -> None:
    """Call a function that waits, and let the clients run meanwhile."""
    await asyncio.to_thread(function)


def promised(figure: float, limit: float, what: str) -> None:
    """Hold a figure against what is promised, where the machine is quiet."""
    if IS_LONG:
        assert figure <= limit, f"{what}: {figure:.2f} s, and {limit:g} are promised"
