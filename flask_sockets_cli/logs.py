"""What the person reads in the terminal: the banner, notices and the access lines."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
import typing as t

from werkzeug.urls import uri_to_iri

from .settings import UNIX

if t.TYPE_CHECKING:
    from flask_sockets.wire.connection import Connection
    from flask_sockets.wire.protocol import Traffic

#: A request with this in its WSGI environment is one of this server and not of the app:
#: it has no line in the log, and nobody waits for its end.
OURS = "flask_sockets_cli.ours"

_STYLES = {"bold": 1, "red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36}

_DEVELOPMENT_WARNING = (
    "WARNING: This is a development server. Do not use it in a production deployment."
    " Use gunicorn with 'flask_sockets.worker' instead."
)

#: A request's path is shown decoded, so what a terminal would obey is spelled out.
_CONTROL_CHARACTERS = {c: rf"\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0))}
_CONTROL_CHARACTERS[ord("\\")] = r"\\"

_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def styled(text: str, *styles: str) -> str:
    """Text with colours, where the terminal shows them and nobody minds (NO_COLOR)."""
    if os.environ.get("NO_COLOR") or not sys.stderr.isatty():
        return text

    # The last style comes first, as in Werkzeug's lines.
    codes = "".join(f"\x1b[{_STYLES[style]}m" for style in reversed(styles))
    return f"{codes}{text}\x1b[0m" if codes else text


def say(text: str, *styles: str) -> None:
    """Write a line for the person."""
    try:
        sys.stderr.write(styled(text, *styles) + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # the terminal is gone, and the signal that says so is on its way


def notice(text: str) -> None:
    """Write a line in the way of Flask's own notices."""
    say(f" * {text}")


def show_banner(
    app: str | None,
    debug: bool,
    host: str,
    port: int,
    secure: bool,
    websocket_routes: int | None,
) -> None:
    """Tell what is served, and where."""
    if app is not None:
        notice(f"Serving Flask app '{app}'")

    notice(f"Debug mode: {'on' if debug else 'off'}")
    say(_DEVELOPMENT_WARNING, "bold", "red")

    if host in ("0.0.0.0", "::"):
        notice(f"Running on all addresses ({host})")

    for url in urls("https" if secure else "http", host, port):
        notice(f"Running on {url}")

    count = ""

    if websocket_routes is not None:
        count = f" ({websocket_routes} route{'' if websocket_routes == 1 else 's'})"

    last = urls("wss" if secure else "ws", host, port)[-1]
    notice(f"WebSockets on {last}{count}")
    say("Press CTRL+C to quit", "yellow")


def urls(scheme: str, host: str, port: int) -> list[str]:
    """What a browser can open, for a host that may stand for all addresses."""
    if host.startswith(UNIX):
        return [host]

    if host == "0.0.0.0":
        hosts = ["127.0.0.1", _outer_address(socket.AF_INET)]
    elif host == "::":
        hosts = ["::1", _outer_address(socket.AF_INET6)]
    else:
        hosts = [host]

    return [
        f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        for host in dict.fromkeys(hosts)
    ]


def show_routes(rows: t.Sequence[t.Sequence[str]]) -> None:
    """List the WebSocket routes as ``flask routes`` lists all.

    :param rows: for each its endpoint, its host or subdomain, and its rule.
    """
    if not rows:
        notice("No WebSocket routes were registered.")
        return

    table = [("Endpoint", "Domain", "WebSocket rule"), *map(tuple, rows)]

    if not any(domain for _, domain, _ in rows):
        table = [(endpoint, rule) for endpoint, _, rule in table]

    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, tuple("-" * width for width in widths))

    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        say("   " + "  ".join(cells).rstrip())


def _outer_address(family: socket.AddressFamily) -> str:
    """The address other machines reach this one at."""
    # Connecting a datagram socket sends nothing. It only looks up the route to an
    # address, here one that is private and arbitrary.
    target = "fd00::1" if family == socket.AF_INET6 else "10.0.0.1"

    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((target, 9))
        except OSError:
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"

        return str(sock.getsockname()[0])


def access_line(
    address: str, request: str, code: int, size: int | None, now: time.struct_time
) -> str:
    """One line for a request, in Werkzeug's format.

    :param address: the client's.
    :param request: the request line as it came.
    :param code: the status, 0 if there never was one.
    :param size: bytes sent, ``None`` if that says nothing.
    """
    command, _, rest = request.partition(" ")
    path, _, version = rest.rpartition(" ")

    with contextlib.suppress(ValueError):  # no path is bad enough to fail here
        request = f"{command} {uri_to_iri(path)} {version}" if path else request

    text = request.translate(_CONTROL_CHARACTERS)
    return (
        f'{address} - - [{_date(now)}] "{styled(text, *_request_styles(code))}"'
        f" {code or '-'} {'-' if size is None else size}"
    )


def websocket_line(
    address: str,
    path: str,
    connection: Connection,
    seconds: float,
    now: time.struct_time,
) -> str:
    """One line for a WebSocket that has ended: why, who closed it, and what went on.

    :param seconds: how long it was open.
    """
    # Only a server comes here, where this is imported anyway.
    from flask_sockets.exceptions import explain_close_code

    code = connection.close_code or 1006
    text = f"WebSocket {path}".translate(_CONTROL_CHARACTERS)
    meaning = explain_close_code(code)

    if connection.close_reason:
        reason = connection.close_reason.translate(_CONTROL_CHARACTERS)
        meaning = f"{meaning}: {reason}"

    styles = () if code in (1000, 1001, 1005, 1012) or code >= 3000 else ("yellow",)
    return (
        f'{address} - - [{_date(now)}] "{styled(text, *styles)}"'
        f" closed by the {connection.closed_by} with {code} ({meaning})"
        f" after {seconds:.1f} s, {_amount(connection.received)} in,"
        f" {_amount(connection.sent)} out"
    )


def _amount(traffic: Traffic) -> str:
    plural = "" if traffic.messages == 1 else "s"
    return f"{traffic.messages} message{plural} of {traffic.bytes} bytes"


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

    It is Werkzeug's, so an app that quiets or redirects ``flask run`` does the same to
    this server.
    """
    logger = logging.getLogger("werkzeug")

    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)

    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())

    return logger
