"""What lies between a browser and a server, where a test can cut it."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import WebSocketRoute


class Network:
    """What lies between a page's WebSockets and the server."""

    def __init__(self) -> None:
        self._is_cut = False
        #: Each connection has two ends.
        self._cuts: list[Callable[[], None]] = []

    def connect(self, connection: WebSocketRoute) -> None:
        if self._is_cut:
            connection.close(code=1011)
        else:
            self._cuts.append(lambda: connection.close(code=1011))
            self._cuts.append(connection.connect_to_server().close)

    def cut(self) -> None:
        self._is_cut = True
        for cut in self._cuts:
            cut()

    def mend(self) -> None:
        self._is_cut = False
