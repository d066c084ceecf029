"""The access log: lines as of ``flask run``, and one for the end of each WebSocket."""

from __future__ import annotations

import contextlib
import logging
import time
import typing as t

from werkzeug.urls import uri_to_iri

from ..terminal import styled
from .core import Ending, explain_close_code

#: A request with this in its WSGI environment is one of this server and not of the app:
#: it has no line in the log, and nobody waits for its end.
OURS = "flask_sockets_cli.ours"

#: Close codes that nobody needs to look into: those of a client that leaves, and of a
#: server that reloads or stops. Codes from 3000 on are the app's.
_USUAL_CODES = frozenset({1000, 1001, 1005, 1012})

_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def access_line(address: str, request: str, status: int, now: time.struct_time) -> str:
    """The line for a request, in Werkzeug's format.

    :param address: the client's.
    :param request: the request line as it came.
    :param status: the status of the response, 0 if there was none.
    """
    command, _, rest = request.partition(" ")
    path, _, version = rest.rpartition(" ")

    with contextlib.suppress(ValueError):  # no path is bad enough to fail here
        request = f"{command} {uri_to_iri(path)} {version}" if path else request

    text = styled(_escaped(request), *_request_styles(status))
    return f'{address} - - [{_date(now)}] "{text}" {status or "-"} -'


def websocket_line(
    address: str, path: str, ending: Ending, seconds: float, now: time.struct_time
) -> str:
    """The line for a WebSocket that has ended: why, who closed it, what went over it.

    :param address: the client's.
    :param path: the path of the WebSocket.
    :param seconds: how long it was open.
    """
    meaning = explain_close_code(ending.code)

    if ending.reason:
        meaning = f"{meaning}: {_escaped(ending.reason)}"

    is_usual = ending.code in _USUAL_CODES or ending.code >= 3000
    text = styled(f"WebSocket {_escaped(path)}", *(() if is_usual else ("yellow",)))
    received = _amount(ending.messages_received, ending.bytes_received)
    sent = _amount(ending.messages_sent, ending.bytes_sent)
    return (
        f'{address} - - [{_date(now)}] "{text}"'
        f" closed by the {ending.closed_by} with {ending.code} ({meaning})"
        f" after {seconds:.1f} s, {received} in, {sent} out"
    )


def _escaped(text: str) -> str:
    """Text that a client has chosen, with all that a terminal would obey spelled out:
    control characters, and those that change the order in which text is shown.
    """
    if text.isprintable() and "\\" not in text:
        return text

    return "".join(
        c if c.isprintable() and c != "\\" else _escape_sequence(c) for c in text
    )


def _escape_sequence(character: str) -> str:
    number = ord(character)

    if character == "\\":
        return r"\\"

    if number < 0x100:
        return rf"\x{number:02x}"

    return rf"\u{number:04x}" if number < 0x10000 else rf"\U{number:08x}"


def _amount(messages: int, size: int) -> str:
    plural = "" if messages == 1 else "s"
    return f"{messages} message{plural} of {size} bytes"


def _date(now: time.struct_time) -> str:
    return (
        f"{now.tm_mday:02}/{_MONTHS[now.tm_mon - 1]}/{now.tm_year}"
        f" {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
    )


def _request_styles(code: int) -> t.Sequence[str]:
    if 100 <= code < 200:
        return ("bold",)

    if code == 304:
        return ("cyan",)

    if 200 <= code < 300:
        return ()

    if 300 <= code < 400:
        return ("green",)

    if code == 404:
        return ("yellow",)

    if 400 <= code < 500:
        return ("bold", "red")

    return ("bold", "magenta")


def access_logger() -> logging.Logger:
    """The logger of the access lines.

    The logger is Werkzeug's, so an app that quiets or redirects ``flask run`` does the
    same to this server.
    """
    logger = logging.getLogger("werkzeug")

    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)

    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())

    return logger
