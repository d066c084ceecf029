"""A reader of connections whose clients may send so many messages in a time."""

from __future__ import annotations

import time
import typing as t

from .rate import Meter
from .reader import Owner, Reader

if t.TYPE_CHECKING:
    from .protocol import Message, Progress, Protocol
    from .rate import Rate
    from .transport import Transport


class MeteredOwner(Owner, t.Protocol):
    """What this reader needs of its connection besides."""

    def end_hasty(self) -> None:
        """The client has sent more than it may: close, unless that is done."""


class MeteredReader(Reader):
    """Counts what comes, whether it is received soon or read ahead.

    What is over the limit is thrown away. What came before can be received.
    """

    def __init__(
        self, transport: Transport, protocol: Protocol, owner: MeteredOwner, rate: Rate
    ) -> None:
        super().__init__(transport, protocol, owner)
        self._meter = Meter(rate)
        self._end_hasty = owner.end_hasty

    def _read_one(self) -> Message | None:
        message = super()._read_one()

        if message is None or self._meter.admit(1, time.monotonic()):
            return message

        self._end()
        return None

    def _parse(self, ahead: bool, may_wait: bool) -> Progress:
        protocol = self._protocol
        before = protocol.received.messages
        progress = super()._parse(ahead, may_wait)
        new = protocol.received.messages - before

        if new:
            excess = new - self._meter.admit(new, time.monotonic())

            for _ in range(min(excess, len(self.messages))):
                self.messages.pop()

            if excess:
                self._end()

        return progress

    def _end(self) -> None:
        # There may be more in what was read from the socket already.
        self._protocol.is_discarding = True
        self._end_hasty()
