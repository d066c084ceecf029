"""What is taken from gunicorn's inside, where it offers nothing public.

gunicorn is not imported here: this looks at objects that are there if gunicorn is.
"""

from __future__ import annotations

import signal
import typing as t


def peek_early(body: t.Any) -> bytes | None:
    """The bytes that gunicorn's parser has read behind a request without a body.

    The parser reads from the socket 8 KiB at a time. What it doesn't need waits in its
    ``Unreader``, to which the request's body (``wsgi.input``) is the only way.

    :return: ``None`` if this isn't the body of one of gunicorn's requests.
    """
    unreader = getattr(getattr(body, "reader", None), "unreader", None)
    buffer = getattr(unreader, "buf", None)
    return None if buffer is None else t.cast(bytes, buffer.getvalue())


def worker() -> t.Any:
    """The worker of gunicorn that this process is, or ``None``.

    Nothing leads from a request to the worker. But it is a method of the worker that
    handles SIGTERM.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return worker if hasattr(worker, "alive") else None


_is_sync_told = False


def tell_of_sync_worker() -> None:
    """Say once, in gunicorn's log, that its sync worker isn't made for WebSockets."""
    global _is_sync_told
    sync = worker()
    names = [cls.__name__ for cls in type(sync).__mro__]

    if _is_sync_told or "SyncWorker" not in names:
        return

    _is_sync_told = True
    sync.log.warning(
        "gunicorn's sync worker serves one WebSocket at a time, and nothing else"
        " meanwhile. Use 'gunicorn -k flask_sockets.worker' for any number of them."
    )


def is_stopping() -> bool:
    """Whether this process is a worker that is stopping.

    gunicorn's own workers tell nobody, and wait for the handlers to end.
    """
    return getattr(worker(), "alive", True) is False
