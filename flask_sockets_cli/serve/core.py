"""All that the server uses of :mod:`flask_sockets` beyond its public names."""

from __future__ import annotations

from flask_sockets.exceptions import explain_close_code
from flask_sockets.handshake import is_handshake
from flask_sockets.serving.async_views import run_in_threads
from flask_sockets.serving.tls import TLSHandshakes
from flask_sockets.wire.connection import Ending
from flask_sockets.wire.registry import close_all

__all__ = [
    "Ending",
    "TLSHandshakes",
    "close_all",
    "explain_close_code",
    "is_handshake",
    "run_in_threads",
]
