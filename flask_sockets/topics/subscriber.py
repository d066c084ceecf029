"""One socket as topics know it."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ..wire.connection import Connection
    from ..wire.transport import Task
    from .fanout import Fanout
    from .groups import Group
    from .lane import Lane


class Subscriber:
    """A socket that is subscribed to topics.

    :param number: unique in this process.
    """

    __slots__ = (
        *("_fanout", "_farewell", "_is_accepted", "_number", "connection", "groups"),
        *("is_watched", "lane", "leaving", "members", "opening", "size", "uncounted"),
    )

    def __init__(
        self,
        connection: Connection,
        fanout: Fanout,
        number: int,
    ) -> None:
        self.connection = connection
        self._fanout = fanout
        self._number = number
        #: The topics it is subscribed to.
        self.groups: dict[str, Group] = {}
        #: All of them are in one lane, while there are any.
        self.lane: Lane | None = None
        #: As which member it is in topics with presence, and what it says about that.
        self.members: dict[str, tuple[str, t.Any]] | None = None
        #: Topics that are to be opened when the handler uses the socket again.
        self.opening: tuple[str, ...] = ()
        #: Topics that the broker is still subscribing to for it.
        self.uncounted: tuple[str, ...] = ()
        #: How much waits for it in all its topics, in bytes.
        self.size = 0
        #: Whether the end of the connection ends the subscriptions.
        self.is_watched = False
        #: Takes its members out of their topics.
        self.leaving: Task | None = None
        # How it is to be closed, which can't be done while HTTP is spoken.
        self._farewell: tuple[int, str] | None = None
        self._is_accepted = False

    @property
    def id(self) -> str:
        """Unique among all processes."""
        return f"{self._fanout.process_id}-{self._number}"

    def settle(self) -> None:
        """Deliver what was published before something else is sent to the socket."""
        lane = self.lane

        if self.opening or (lane is not None and lane.has_work()):
            self._fanout.settle(self)

    def accept(self) -> None:
        """The handshake is done."""
        self._is_accepted = True

        if self._farewell is not None:
            self.connection.go_away(*self._farewell)

    def go_away(self, code: int, reason: str) -> None:
        """Close the connection, behind the handshake."""
        # In this order: another thread may be accepting.
        self._farewell = code, reason

        if self._is_accepted:
            self.connection.go_away(code, reason)

    def watch(self) -> None:
        """See to it that the end of the connection ends the subscriptions."""
        if not self.is_watched:
            self.is_watched = True
            self.connection.when_closed(self._closed)

    def _closed(self) -> None:
        self.is_watched = False
        self._fanout.on_closed(self)
