"""The lines of the access log, by themselves: what a client has chosen is harmless."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest

from flask_sockets_cli.serve.access_log import access_line, websocket_line
from flask_sockets_cli.serve.core import Ending

NOW = time.struct_time((2026, 11, 24, 15, 4, 5, 0, 0, 0))

#: What a client may choose, and how it is shown. The control characters of ASCII stay
#: encoded in a path.
CONTROLS = [("\x1b[31m", r"\x1b[31m"), ("\r\n", r"\x0d\x0a")]
CHOSEN = [
    ("\x85\x9b", r"\x85\x9b"),
    # A right-to-left override has what follows shown backwards.
    ("\u202etxt.exe", r"\u202etxt.exe"),
    ("\u2066a\u2069", r"\u2066a\u2069"),
    ("\u2028", r"\u2028"),
    ("\U000e0001", r"\U000e0001"),
    ("\\x1b", r"\\x1b"),
    ("\u00e9\u4e2d", "\u00e9\u4e2d"),
]


@pytest.mark.parametrize(("chosen", "shown"), CHOSEN)
def test_path_is_shown_without_what_a_terminal_obeys(chosen: str, shown: str) -> None:
    """A request's path is shown decoded, so the rest of it is spelled out."""
    request = f"GET /{quote(chosen)} HTTP/1.1"
    line = access_line("127.0.0.1", request, 200, NOW)
    assert line == (
        f'127.0.0.1 - - [24/Nov/2026 15:04:05] "GET /{shown} HTTP/1.1" 200 -'
    )


@pytest.mark.parametrize(("chosen", "shown"), [*CONTROLS, *CHOSEN])
def test_close_reason_is_shown_without_what_a_terminal_obeys(
    chosen: str, shown: str
) -> None:
    """Neither the path nor the reason of a WebSocket can do anything."""
    ending = Ending(4000, chosen, "client", 1, 5, 2, 10)
    assert websocket_line("127.0.0.1", f"/{chosen}", ending, 1.25, NOW) == (
        f'127.0.0.1 - - [24/Nov/2026 15:04:05] "WebSocket /{shown}" closed by the'
        f" client with 4000 (private use: {shown}) after 1.2 s, 1 message of 5 bytes"
        " in, 2 messages of 10 bytes out"
    )
