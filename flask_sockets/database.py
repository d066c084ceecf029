"""Tells of handlers that wait for their client with a database connection checked out.

That is done in debug mode only, once for each route. The pools of SQLAlchemy say which
connections are checked out, to whichever extension.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger

    from .websocket import WebSocket

#: The records of the connections that the current handler has checked out.
_checked_out: contextvars.ContextVar[set[int] | None] = contextvars.ContextVar(
    "flask_sockets.checked_out", default=None
)

#: Under which the ``record_info`` of a connection has the set that it is in.
_KEY = "flask_sockets.checked_out"

_lock = threading.Lock()
_is_listening = False


def watch_for_held_connections(
    websocket: WebSocket, route: str, told: set[str], logger: Logger
) -> Callable[[], None] | None:
    """Watch what the handler that begins here checks out.

    :param route: its rule.
    :param told: the rules for which it was said already.
    :return: what to call when the handler is about to wait, ``None`` if that is of no
        use.
    """
    if route in told or not _listen():
        return None

    held: set[int] = set()
    _checked_out.set(held)

    def look() -> None:
        if not held or route in told or websocket.connection.reader.messages:
            return

        told.add(route)
        logger.warning(
            "The handler of the WebSocket %r waits for its client with a database"
            " connection checked out, which nobody else can use meanwhile. The pool is"
            " empty when as many clients are connected, 15 by default. Give the"
            " connection back before each wait: by the option 'context=\"message\"' of"
            " the route, with a 'WebSocketView', or by 'db.session.close()'. This is"
            " said once for each route, and in debug mode only.",
            route,
        )

    return look


def _listen() -> bool:
    """Listen to all pools, if there can be any."""
    global _is_listening

    if "sqlalchemy" not in sys.modules:
        return False

    with _lock:
        if not _is_listening:
            from sqlalchemy import event
            from sqlalchemy.pool import Pool

            event.listen(Pool, "checkout", _connection_taken)

            for name in ("checkin", "detach", "invalidate"):
                event.listen(Pool, name, _connection_left)

            _is_listening = True

    return True


def _connection_taken(connection: t.Any, record: t.Any, proxy: t.Any) -> None:
    held = _checked_out.get()

    if held is not None:
        held.add(id(record))
        record.record_info[_KEY] = held


def _connection_left(connection: t.Any, record: t.Any, error: t.Any = None) -> None:
    # Not always in the context that it was taken in.
    held = record.record_info.pop(_KEY, None)

    if held is not None:
        held.discard(id(record))
