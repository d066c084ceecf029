"""What can go wrong with a WebSocket, under the base class apps already catch.

Nothing here knows HTTP: the layers below Flask raise these as well.
"""

from __future__ import annotations

import typing as t

from websockets.frames import CLOSE_CODE_EXPLANATIONS

from .legacy_bases import with_base

if t.TYPE_CHECKING:
    from geventwebsocket.exceptions import WebSocketError

__all__ = ["ConnectionClosed", "WebSocketError"]


def __getattr__(name: str) -> t.Any:
    # Whoever catches this has imported gevent-websocket by that.
    if name == "WebSocketError":
        from geventwebsocket.exceptions import WebSocketError

        return WebSocketError

    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def explain_close_code(code: int) -> str:
    """Say what a close code means, such as ``"going away"`` for 1001.

    The words are those of the registry at
    https://www.iana.org/assignments/websocket/websocket.xhtml.
    """
    if 3000 <= code < 4000:
        return "registered"

    if 4000 <= code < 5000:
        return "private use"

    return CLOSE_CODE_EXPLANATIONS.get(code, "unknown").removesuffix(" [internal]")


class ConnectionClosed(OSError):
    """The WebSocket is closed: nothing more can be sent or received.

    Where gevent-websocket is imported it is a
    :class:`~geventwebsocket.exceptions.WebSocketError`, too.

    .. versionadded:: 1.0
    """

    #: The close code, as in :attr:`WebSocket.close_code`.
    code: int
    #: The close reason, as in :attr:`WebSocket.close_reason`.
    reason: str
    #: The WebSocket that is closed. Only its own handler may let this exception
    #: pass without it being an error.
    websocket: object

    def __new__(
        cls, code: int, reason: str = "", websocket: object = None
    ) -> ConnectionClosed:
        because = f" {reason}" if reason else ""
        return super().__new__(
            with_base(cls, "geventwebsocket.exceptions", "WebSocketError"),
            "The WebSocket connection is closed:"
            f" {code} ({explain_close_code(code)}){because}",
        )

    def __init__(self, code: int, reason: str = "", websocket: object = None) -> None:
        self.code = code
        self.reason = reason
        self.websocket = websocket
