"""What can go wrong with a WebSocket, under the base class apps already catch.

Nothing here knows HTTP: the layers below Flask raise these as well.
"""

from __future__ import annotations

from geventwebsocket.exceptions import WebSocketError
from websockets.frames import CLOSE_CODE_EXPLANATIONS

__all__ = ["ConnectionClosed", "WebSocketError"]


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


class ConnectionClosed(WebSocketError):  # type: ignore[misc]
    """The WebSocket is closed: nothing more can be sent or received.

    Like every :class:`~geventwebsocket.exceptions.WebSocketError` it is an
    :class:`OSError`.

    .. versionadded:: 1.0
    """

    #: The close code, as in :attr:`WebSocket.close_code`.
    code: int
    #: The close reason, as in :attr:`WebSocket.close_reason`.
    reason: str
    #: The WebSocket that is closed. Only its own handler may let this exception
    #: pass without it being an error.
    websocket: object

    def __init__(self, code: int, reason: str = "", websocket: object = None) -> None:
        because = f" {reason}" if reason else ""
        super().__init__(
            "The WebSocket connection is closed:"
            f" {code} ({explain_close_code(code)}){because}"
        )
        self.code = code
        self.reason = reason
        self.websocket = websocket
