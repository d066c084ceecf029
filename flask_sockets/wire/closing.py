"""How a connection closes (RFC 6455 section 7): what may be said, and what was.

The closing handshake is the business of the engine of the library *websockets*.
"""

from __future__ import annotations

import logging
import typing as t

from websockets import frames
from websockets.exceptions import ProtocolError
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from ..exceptions import ConnectionClosed
from .frames import MAX_CONTROL_PAYLOAD

#: The engine's own words are of interest only to those who ask for them.
engine_logger = logging.getLogger("flask_sockets.engine")
engine_logger.setLevel(logging.WARNING)


def check_close(code: int, reason: str) -> None:
    """Find out whether a Close frame can be made (RFC 6455 section 5.5.1).

    :raises ValueError: if the code can't be sent, or the reason is too long.
    """
    try:
        size = len(frames.Close(code, reason).serialize())
    except ProtocolError:
        raise ValueError(
            f"{code!r} is no close code that can be sent. Use 1000, another code of"
            " RFC 6455 section 7.4.1, or one of your own from 4000 to 4999."
        ) from None

    if size > MAX_CONTROL_PAYLOAD:
        raise ValueError(
            "The reason of a close has at most"
            f" {MAX_CONTROL_PAYLOAD - 2} bytes, not {size - 2}."
        )


class Close(t.NamedTuple):
    """How a connection was closed, as the side that closed first says it."""

    code: int
    reason: str
    #: ``"client"`` or ``"server"``.
    by: str


class Closing:
    """How a connection closes, or was closed.

    Both sides of a connection can close it. It is done by one at a time: the connection
    has a lock for that.
    """

    __slots__ = ("_engine_or_none", "close", "frames_due", "is_over")

    def __init__(self) -> None:
        # Made when the connection closes.
        self._engine_or_none: ServerProtocol | None = None
        #: Frames that close the connection, until they are taken.
        self.frames_due: list[bytes] = []
        #: How it was closed. ``None`` until a Close frame was sent or received, or the
        #: connection was lost.
        self.close: Close | None = None
        #: Whether both sides have said Close, or the client may not say more.
        self.is_over = False

    @property
    def _engine(self) -> ServerProtocol:
        if self._engine_or_none is None:
            self._engine_or_none = ServerProtocol(state=OPEN, logger=engine_logger)

        return self._engine_or_none

    def send_close(self, code: int, reason: str) -> None:
        """Make a Close frame due, unless the connection is closed."""
        if self.close is None:
            self._engine.send_close(code, reason)
            self._take_output()

    def read_close(self, frame: bytes) -> None:
        """Read the client's Close frame."""
        self._engine.receive_data(frame)
        self._take_output()

    def fail(self, code: int, reason: str) -> None:
        """The client has done what the protocol forbids (RFC 6455 section 7.1.7)."""
        self._engine.fail(code, reason)
        self._take_output()

    def refuse_more(self, code: int, reason: str) -> None:
        """Close a connection whose client may not go on, unless it is closed.

        Nothing that comes from then on is looked at.
        """
        if self.close is None:
            self.fail(code, reason)

    def give_up(self) -> None:
        """Close a connection whose client answers nothing, unless it is closed."""
        if self.close is None:
            reason = "keepalive ping timeout"
            self._set_closed(1006, reason, "server")
            self._engine.send_close(1011, reason)
            self._take_output()

    def lose(self) -> None:
        """The connection is lost."""
        self._set_closed(1006, "", "client")

    def error(self, websocket: object = None) -> ConnectionClosed:
        """What to raise since the connection is closed.

        :param websocket: see :attr:`.ConnectionClosed.websocket`.
        """
        code, reason, _ = self.close or Close(1006, "", "client")
        return ConnectionClosed(code, reason, websocket)

    def _set_closed(self, code: int, reason: str, by: str) -> None:
        if self.close is None:
            self.close = Close(code, reason, by)

    def _take_output(self) -> None:
        """Take up what the engine wants to send, and whether that closes."""
        self.frames_due += filter(None, self._engine.data_to_send())
        received, sent = self._engine.close_rcvd, self._engine.close_sent

        if received is not None:
            self._set_closed(int(received.code), received.reason, "client")
        elif sent is not None:
            self._set_closed(int(sent.code), sent.reason, "server")

        self.is_over = self._engine.eof_sent
