"""The opening handshake (RFC 6455 section 4): what is asked for, and the answer."""

from __future__ import annotations

import base64
import binascii
import re
import typing as t

from websockets.utils import accept_key
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from _typeshed.wsgi import WSGIEnvironment

    Headers: t.TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

#: The name of a header is a token (RFC 9110 section 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: The value of a header (RFC 9110 section 5.5).
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

#: Headers that describe a body or the connection. An answer of 101 has no body, and
#: says of the connection what the protocol wants.
_NOT_IN_ANSWER = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "keep-alive",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "transfer-encoding",
        "upgrade",
    }
)


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


def _tokens(value: str) -> list[str]:
    return [token.strip() for token in value.split(",") if token.strip()]


def is_handshake(environ: WSGIEnvironment) -> bool:
    """Whether the request asks for a WebSocket, by the headers that make Werkzeug
    look for a rule with ``websocket=True``."""
    return environ.get(
        "HTTP_UPGRADE", ""
    ).lower() == "websocket" and "upgrade" in _tokens(
        environ.get("HTTP_CONNECTION", "").lower()
    )


def check_request(environ: WSGIEnvironment) -> None:
    """Check that a handshake is well-formed (RFC 6455 section 4.2.1).

    :raises werkzeug.exceptions.HTTPException: the answer to one that isn't.
    """
    if environ["REQUEST_METHOD"] != "GET":
        raise MethodNotAllowed(
            valid_methods=["GET"], description="A WebSocket handshake uses GET."
        )

    if environ.get("SERVER_PROTOCOL") != "HTTP/1.1":
        raise BadRequest(
            "A WebSocket handshake uses HTTP/1.1, not"
            f" {environ.get('SERVER_PROTOCOL')}. If a proxy stands in front of the"
            " server, make it speak HTTP/1.1 to the server."
        )

    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != "13":
        raise UpgradeRequired(
            "The only supported version of the WebSocket protocol is 13."
        )

    try:
        key = base64.b64decode(environ.get("HTTP_SEC_WEBSOCKET_KEY", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""

    if len(key) != 16:
        raise BadRequest("The 'Sec-WebSocket-Key' header must be 16 bytes in base64.")

    if environ.get("CONTENT_LENGTH", "0") not in ("", "0") or environ.get(
        "HTTP_TRANSFER_ENCODING"
    ):
        raise BadRequest("A WebSocket handshake has no body.")


def subprotocol_names(subprotocols: str | Iterable[str]) -> tuple[str, ...]:
    """Check what a route says of its subprotocols.

    :param subprotocols: one, or several, the best one first.
    :raises ValueError: if one of them is no name of a subprotocol, which is a token of
        HTTP (RFC 6455 section 4.1).
    """
    if isinstance(subprotocols, str):
        subprotocols = [subprotocols]

    names = tuple(subprotocols)

    for name in names:
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            raise ValueError(
                f"{name!r} is no name of a subprotocol. Give several as a list:"
                " subprotocols=['v2', 'v1']."
            )

    return names


def choose_subprotocol(
    environ: WSGIEnvironment, supported: Iterable[str], demanded: str | None
) -> str | None:
    """Choose one of the subprotocols the client offers (RFC 6455 section 4.2.2).

    :param supported: those of the route, the best one first.
    :param demanded: the one the handler has chosen.
    :raises ValueError: if the client doesn't offer that.
    """
    offered = _tokens(environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", ""))

    if demanded is None:
        return next((name for name in supported if name in offered), None)

    if demanded not in offered:
        raise ValueError(
            f"The client doesn't offer the subprotocol {demanded!r}: it offers"
            f" {', '.join(map(repr, offered)) or 'none'}. A client given another one"
            " closes the connection."
        )

    return demanded


def check_headers(headers: Headers) -> list[tuple[str, str]]:
    """Check that headers can be sent, and return them as pairs.

    A line break in one would begin another header, or end them all.

    :raises ValueError: if the name or the value of a header can't be sent.
    """
    pairs = headers.items() if hasattr(headers, "items") else headers
    checked = []

    for name, value in pairs:
        text = str(value)

        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            raise ValueError(f"{name!r} can't be the name of a header.")

        if _VALUE.fullmatch(text) is None:
            raise ValueError(
                f"The header {name!r} can't have the value {text!r}: it has a control"
                " character, or one that isn't in Latin-1."
            )

        checked.append((name, text))

    return checked


def build_answer(
    environ: WSGIEnvironment,
    headers: Iterable[tuple[str, str]],
    subprotocol: str | None,
    extensions: str | None = None,
) -> bytes:
    """Make the response *101 Switching Protocols* (RFC 6455 section 4.2.2).

    :param headers: of the Flask response. What would describe a body is left out.
    :param extensions: what was agreed on, as the header says it.
    :raises ValueError: if a header can't be sent.
    """
    answer = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(environ["HTTP_SEC_WEBSOCKET_KEY"])),
    ]

    if subprotocol is not None:
        answer.append(("Sec-WebSocket-Protocol", subprotocol))

    if extensions is not None:
        answer.append(("Sec-WebSocket-Extensions", extensions))

    answer += [
        (name, value)
        for name, value in check_headers(headers)
        if name.lower() not in _NOT_IN_ANSWER
    ]
    lines = ["HTTP/1.1 101 Switching Protocols"]
    lines += [f"{name}: {value}" for name, value in answer]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
