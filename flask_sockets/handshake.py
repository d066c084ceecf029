"""The opening handshake (RFC 6455 section 4): what is asked for, and the answer."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import re
import typing as t
from urllib.parse import urlsplit

from websockets.utils import accept_key
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import WSGIEnvironment

    Origins: t.TypeAlias = (
        "str | re.Pattern[str] | Iterable[str | re.Pattern[str]] | None"
    )

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


def is_origin_allowed(environ: WSGIEnvironment, allowed: Origins) -> bool:
    """Whether a page of the request's origin may connect (RFC 6455 section 10.2).

    Browsers let any page connect to any server, and send the server's cookies along.

    :param allowed: ``None`` for pages of the same host and port. The scheme doesn't
        count, since a proxy may end TLS. ``"*"`` for all, or one or more origins:
        ``"https://example.com"``, a pattern such as ``"https://*.example.com"``, or
        a compiled regular expression, which has to match all of the origin.
    """
    origin = environ.get("HTTP_ORIGIN")
    if origin is None:  # Not a browser.
        return True
    if allowed is None:
        return _is_same_host(environ, origin)
    if isinstance(allowed, (str, re.Pattern)):
        allowed = [allowed]
    return any(_matches(origin, pattern) for pattern in allowed)


def _matches(origin: str, pattern: str | re.Pattern[str]) -> bool:
    if isinstance(pattern, str):
        return fnmatch.fnmatchcase(origin.lower(), pattern.lower().rstrip("/"))
    return pattern.fullmatch(origin) is not None


def _is_same_host(environ: WSGIEnvironment, origin: str) -> bool:
    host = environ.get("HTTP_HOST")
    if not host:
        host = f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    try:
        ours, theirs = urlsplit(f"//{host}"), urlsplit(origin)
        # A default port may be left out. Which one that is depends on the scheme the
        # browser sees, and in 'Host' also on the one the server sees.
        default = {"http": 80, "https": 443}
        their_default = default.get(theirs.scheme)
        our_default = default.get(environ["wsgi.url_scheme"])
        our_port = None if ours.port in (our_default, their_default) else ours.port
        their_port = None if theirs.port == their_default else theirs.port
    except ValueError:
        return False
    return theirs.hostname is not None and (ours.hostname, our_port) == (
        theirs.hostname,
        their_port,
    )


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


def build_answer(
    environ: WSGIEnvironment,
    headers: Iterable[tuple[str, str]],
    subprotocol: str | None,
    extensions: str | None = None,
) -> bytes:
    """Make the response *101 Switching Protocols* (RFC 6455 section 4.2.2).

    :param headers: of the Flask response. What would describe a body is left out.
    :param extensions: what was agreed on, as the header says it.
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
        (name, value) for name, value in headers if name.lower() not in _NOT_IN_ANSWER
    ]
    lines = ["HTTP/1.1 101 Switching Protocols"]
    lines += [f"{name}: {value}" for name, value in answer]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
