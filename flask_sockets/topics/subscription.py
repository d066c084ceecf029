"""What ``ws.subscribe()`` returns."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from .fanout import Fanout
    from .subscriber import Subscriber


class Subscription:
    """The subscription of a WebSocket to one or several topics.

    It needn't be kept. In a ``with`` block, nothing of the topics is sent before the
    block ends, neither history nor what is published meanwhile, so that something else
    can be sent first:

    .. code-block:: python

        with ws.subscribe("scores", history=10, since=request.args.get("since")) as sub:
            if not sub.recovered:
                ws.send_json({"scores": load_scores()})

    .. versionadded:: 1.0
    """

    #: Whether the client gets everything that was published since the position it came
    #: back with, in each of the topics. ``False`` if it came with none.
    recovered: bool
    #: The position of the newest publication in each of the topics, as text. ``None``
    #: for topics without history.
    positions: Mapping[str, str | None]

    def __init__(
        self,
        fanout: Fanout,
        subscriber: Subscriber,
        positions: Mapping[str, str | None],
        recovered: bool,
    ) -> None:
        self._fanout = fanout
        self._subscriber = subscriber
        self.positions = positions
        self.recovered = recovered

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics, in the order in which they were given."""
        return tuple(self.positions)

    @property
    def position(self) -> str | None:
        """The position of the newest publication, if this is about a single topic.

        A client that comes back with it gets all that was published later.

        :raises RuntimeError: if there are several topics. Each has its own position.
        """
        if len(self.positions) != 1:
            raise RuntimeError(
                "This is a subscription to several topics, and each has a position of"
                " its own. Use 'positions', by topic."
            )

        return next(iter(self.positions.values()))

    def __enter__(self) -> Subscription:
        self._fanout.hold(self._subscriber, self.positions)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._fanout.open(self._subscriber, self.positions)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(map(repr, self.positions))}>"
