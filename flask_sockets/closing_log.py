"""A line for each WebSocket that was closed, for programs that read logs."""

from __future__ import annotations

import dataclasses
import json
import logging
import typing as t

if t.TYPE_CHECKING:
    from .wire.connection import Ending

#: Its lines have the level ``INFO``. It is off unless it is set to that level.
logger = logging.getLogger("flask_sockets.closed")

if logger.level == logging.NOTSET:
    # Not what the root logger has: apps that log everything haven't asked for this.
    logger.setLevel(logging.WARNING)


def write_closed(path: str, duration: float, ending: Ending) -> None:
    """Write the line of a WebSocket, if anybody wants it.

    It has the form ``name=value name=value``, known as logfmt. The path is in quotes,
    with all that isn't printable ASCII spelled out as in JSON. The record has the same
    values as the attribute ``websocket``.

    :param path: of the URL, without the query string, in which there may be secrets.
    :param duration: seconds.
    """
    if not logger.isEnabledFor(logging.INFO):
        return

    values = {
        "path": path,
        **dataclasses.asdict(ending),
        "duration": round(duration, 3),
    }
    del values["reason"]  # A text of the client's, or of the app's exception.
    # JSON leaves one control character as it is.
    quoted = json.dumps(path).replace("\x7f", r"\u007f")
    shown = {**values, "path": quoted}
    text = " ".join(f"{name}={value}" for name, value in shown.items())
    logger.info("%s", text, extra={"websocket": values})
