"""Many clients that come back by themselves, as those of htmx do."""

from __future__ import annotations

import asyncio
import collections
import random
import threading
import typing as t

import websockets.exceptions
from websockets.asyncio.client import ClientConnection, connect

from ..process import PATIENCE, until

#: The codes on which htmx's extension for WebSockets comes back. It stays away after
#: all others.
COMING_BACK = {1006, 1012, 1013}


class ReturningClients:
    """Clients of a route that says first which process serves it.

    :param url: where they connect to.
    :param count: how many they are.
    :param pid_of: reads the process from what the route says first.
    """

    def __init__(
        self,
        url: str,
        count: int,
        pid_of: t.Callable[[str | bytes], str] = str,
    ) -> None:
        self._url = url
        self._count = count
        self._pid_of = pid_of
        #: By client, which process serves it now.
        self.served_by: dict[int, str] = {}
        #: What a person would have noticed: who was refused, and how, or stays away.
        self.complaints: list[str] = []
        #: How often they were closed, by code.
        self.codes: collections.Counter[int] = collections.Counter()
        self._loop = asyncio.new_event_loop()
        self._all: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ReturningClients:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(lambda: self._all and self._all.cancel())
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def pids(self) -> collections.Counter[str]:
        """The processes that serve the clients now, and how many of them."""
        return collections.Counter(self.served_by.copy().values())

    def until_served(self, but_not_by: t.Collection[str] = ()) -> None:
        """Wait until all are connected, and none of them to certain processes."""

        def is_done() -> bool:
            pids = self.pids()
            return bool(self.complaints) or (
                pids.total() == self._count and not pids.keys() & set(but_not_by)
            )

        until(is_done, f"that {self._count} are served")
        assert not self.complaints, self.complaints[:5]

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._stay_all())
        except asyncio.CancelledError:
            pass
        except Exception as error:
            self.complaints.append(repr(error))

    async def _stay_all(self) -> None:
        self._all = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._stay(number))

    async def _stay(self, number: int) -> None:
        retries = 0
        while True:
            try:
                async with connect(
                    self._url,
                    proxy=None,
                    open_timeout=3 * PATIENCE,
                    ping_interval=None,
                    compression=None,
                ) as ws:
                    retries = 0
                    code = await self._listen(number, ws)
            except (OSError, websockets.exceptions.InvalidHandshake) as error:
                self.complaints.append(f"refused: {error!r}")
                code = 1006
            self.codes[code] += 1
            if code not in COMING_BACK:
                self.complaints.append(f"stays away after {code}")
                return
            # "Full jitter", as the extension has it.
            await asyncio.sleep(random.random() * 2 ** min(retries, 6))
            retries += 1

    async def _listen(self, number: int, ws: ClientConnection) -> int:
        try:
            self.served_by[number] = self._pid_of(await ws.recv())
            await ws.recv()
        except websockets.exceptions.ConnectionClosed as error:
            return 1006 if error.rcvd is None else int(error.rcvd.code)
        finally:
            self.served_by.pop(number, None)
        raise AssertionError("a message that nobody has sent")
