"""What can go wrong with a WebSocket, under the base class apps already catch."""

from __future__ import annotations

import typing as t

from geventwebsocket.exceptions import WebSocketError
from websockets.frames import CLOSE_CODE_EXPLANATIONS
from werkzeug.exceptions import HTTPException

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["ConnectionClosed", "UpgradeRequired", "WebSocketError"]


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


class UpgradeRequired(HTTPException):
    """*426* ``Upgrade Required``, for a request that is no WebSocket handshake
    we can speak (RFC 9110 section 15.5.22, RFC 6455 section 4.2.2).

    .. versionadded:: 1.0
    """

    code = 426
    description = (
        "This URL is a WebSocket endpoint: connect to it with a WebSocket client,"
        " and let every proxy in between pass on the 'Upgrade' header."
    )

    def get_headers(
        self,
        environ: WSGIEnvironment | None = None,
        scope: dict[str, t.Any] | None = None,
    ) -> list[tuple[str, str]]:
        return [
            *super().get_headers(environ, scope),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
        ]
