"""Clients that come back with their last positions, and what they must have heard."""

from __future__ import annotations

import asyncio
import json
import random
import typing as t
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..live.processes import Server

HISTORY = tuple(f"history/{number}" for number in range(5))
PLAIN = tuple(f"plain/{number}" for number in range(5))


class Begin(t.NamedTuple):
    """A topic was subscribed to."""

    #: Whether the server has promised everything since the position of before.
    is_recovered: bool
    position: str


class Heard(t.NamedTuple):
    """A message came."""

    number: int
    #: ``None`` on topics without a history.
    position: str | None


class Follower:
    """A client of all topics.

    :param gate: it connects only while this is set.
    """

    def __init__(self, name: str, server: Server, gate: asyncio.Event) -> None:
        self._name = name
        self._server = server
        self._gate = gate
        self._ws: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_ending = False
        self._positions: dict[str, str] = {}
        self._attempts = 0
        self.events: dict[str, list[Begin | Heard]] = {
            topic: [] for topic in (*HISTORY, *PLAIN)
        }
        #: The process that serves it.
        self.pid = 0
        #: How often it has subscribed.
        self.connections = 0
        #: The codes with which connections ended, the status of refused ones, and 0 for
        #: those that were not even refused.
        self.ends: list[int] = []
        self.troubles: list[str] = []

    @property
    def member(self) -> str:
        """As whom the newest connection is known."""
        return f"{self._name}-{self._attempts}"

    @property
    def is_connected(self) -> bool:
        return self.pid != 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        self._is_ending = True
        if self._ws is not None:
            await self._ws.close()
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    def cut(self) -> None:
        """Lose the connection without a word."""
        if self._ws is not None:
            self._ws.transport.abort()

    def newest(self, topic: str) -> int:
        """The number of the last message of a topic, 0 before the first."""
        for event in reversed(self.events[topic]):
            if isinstance(event, Heard):
                return event.number
        return 0

    async def _run(self) -> None:
        while not self._is_ending:
            await self._gate.wait()
            try:
                await self._follow()
            except ConnectionClosed as error:
                self.ends.append(1006 if error.rcvd is None else error.rcvd.code)
            except InvalidStatus as error:
                self.ends.append(error.response.status_code)
            except (OSError, WebSocketException) as error:
                self.ends.append(0)
                self.troubles.append(f"{error!r} {error.__cause__!r}")
            self.pid = 0
            await asyncio.sleep(random.uniform(0.05, 0.25))

    async def _follow(self) -> None:
        since = quote(json.dumps(self._positions))
        self._attempts += 1
        async with connect(
            self._server.url(f"/follow?name={self.member}&since={since}"),
            compression=None,
            ping_interval=None,
            open_timeout=60,
            max_queue=None,
            proxy=None,
        ) as self._ws:
            while True:
                self._take(json.loads(await self._ws.recv()))

    def _take(self, message: t.Any) -> None:
        if "topics" in message:
            self.pid = message["pid"]
            self.connections += 1
            for topic, (is_recovered, position) in message["topics"].items():
                self.events[topic].append(Begin(is_recovered, position))
                if not is_recovered:
                    self._positions[topic] = position
            return
        topic, position = message["topic"], message["position"]
        self.events[topic].append(Heard(int(message["data"].split()[0]), position))
        if position is not None:
            self._positions[topic] = position


class Losses(t.NamedTuple):
    """What a follower didn't hear of its topics with a history."""

    #: How often the server said that something may be missing.
    admitted: int
    #: How many messages that were.
    missing: int


def check(follower: Follower, published: Mapping[str, Sequence[int]]) -> Losses:
    """Check that a follower has all messages, each once and in order, but for what was
    admitted to be lost.

    :param published: the numbers that were published without an error, by topic.
    """
    admitted = missing = 0
    for topic in HISTORY:
        counts = _check_history(topic, follower.events[topic], published[topic])
        admitted, missing = admitted + counts.admitted, missing + counts.missing
    for topic in PLAIN:
        numbers = [e.number for e in follower.events[topic] if isinstance(e, Heard)]
        assert numbers == sorted(set(numbers)), f"{topic}: {numbers}"
    return Losses(admitted, missing)


def _check_history(
    topic: str, events: Sequence[Begin | Heard], published: Sequence[int]
) -> Losses:
    expected = ""  # The position that comes next.
    admitted = missing = 0
    at = 0  # How many of those that were published are accounted for.
    may_miss = True  # The beginning.
    before: Begin | Heard | None = None
    for event in events:
        context = f"{topic}: {before} {event}, where {expected} comes next"
        before = event
        if isinstance(event, Begin):
            if event.is_recovered:
                # What was missed comes now.
                assert expected, context
            else:
                if expected:
                    admitted += 1
                may_miss = True
                expected = _next(event.position)
            continue
        assert event.position == expected, context
        expected = _next(event.position)
        skipped = 0
        while at < len(published) and published[at] < event.number:
            at, skipped = at + 1, skipped + 1
        assert may_miss or not skipped, f"{context}: {skipped} are missing"
        if admitted:
            missing += skipped
        may_miss = False
        if at < len(published) and published[at] == event.number:
            at += 1
    assert at == len(published), f"{topic}: the end is missing, from {published[at:]}"
    return Losses(admitted, missing)


def _next(position: str) -> str:
    epoch, _, offset = position.partition("-")
    return f"{epoch}-{int(offset) + 1}"


def check_positions(followers: Sequence[Follower]) -> None:
    """Check that each position was given to one message only."""
    numbers: dict[tuple[str, str], int] = {}
    for follower in followers:
        for topic in HISTORY:
            for event in follower.events[topic]:
                if isinstance(event, Heard) and event.position is not None:
                    key = topic, event.position
                    assert numbers.setdefault(key, event.number) == event.number, key
