"""What is shown of exceptions: in the terminal, and in the browser where the app could
not be loaded.
"""

from __future__ import annotations

import io
import traceback
import types
import typing as t
from html import escape

from flask.cli import NoAppException

from ..terminal import say
from .core import is_handshake

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: The package of the command, whose frames nobody needs to see.
_COMMAND = __package__.partition(".")[0]

#: Other modules whose frames nobody needs to see: what calls the app, what loads it.
_CALLERS = frozenset({"flask.cli", "flask_sockets.serving.handler", "gevent.pywsgi"})


#: How :mod:`asyncio` begins what it says of a second loop in a thread.
_RUNNING_LOOP = "asyncio.run() cannot be called from a running event loop"

_ONE_LOOP = (
    "Another request may have been in 'asyncio.run()' at that moment: all greenlets"
    " share one thread, which can run one event loop. Write the view with 'async def',"
    " which gives it a thread of its own."
)


class ServerCrashed(Exception):
    """The process that served the app has ended by itself."""


def app_frames(tb: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback without the frames of servers, loaders, and imports."""
    kept = []

    while tb is not None:
        if not is_hidden(tb.tb_frame):
            kept.append(tb)

        tb = tb.tb_next

    following = None

    for tb in reversed(kept):
        tb.tb_next = following
        following = tb

    return following


def is_hidden(frame: types.FrameType) -> bool:
    """Whether a frame is one that nobody needs to see."""
    module: str = frame.f_globals.get("__name__", "")
    return (
        module in _CALLERS
        or module.startswith(f"{_COMMAND}.")
        or frame.f_code.co_filename.startswith("<frozen importlib")
    )


def explain(failure: BaseException) -> None:
    """Say in the terminal why the app was not loaded."""
    say(told_of(failure, whole=True))


def told_of(failure: BaseException, whole: bool) -> str:
    """What the person is told of the reason why the app was not loaded.

    :param whole: whether the traceback is part of it.
    """
    if isinstance(failure, NoAppException):
        return f"Error: {failure.format_message()}"

    if isinstance(failure, ServerCrashed):
        return f"Error: {failure}"

    return _traceback(failure, failure.__traceback__) if whole else _reason(failure)


def show_exception(error: BaseException, tb: types.TracebackType | None) -> None:
    """Say in the terminal what Python says of an exception that nobody has caught."""
    say(_traceback(error, tb))


def _traceback(error: BaseException, tb: types.TracebackType | None) -> str:
    return "".join(traceback.format_exception(type(error), error, tb)).rstrip()


def _reason(failure: BaseException) -> str:
    name = type(failure).__name__
    return f"{name}: {failure}" if str(failure) else name


class AppExited(Exception):
    """The app wanted to end the process while it handled a request."""


def outlive_exits(application: WSGIApplication) -> WSGIApplication:
    """Turn what ends a process into a mistake of the request that raises it, as threads
    do: ``sys.exit()``, a Click command that is called, ``KeyboardInterrupt``.
    """

    def application_that_stays(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> t.Iterable[bytes]:
        try:
            return application(environ, start_response)
        except (SystemExit, KeyboardInterrupt) as error:
            raise AppExited(
                f"{type(error).__name__} was raised by the app. It would end a program,"
                " and ends this request."
            ) from error
        except RuntimeError as error:
            if str(error).startswith(_RUNNING_LOOP):
                error.add_note(_ONE_LOOP)

            raise

    return application_that_stays


def failed_app(failure: BaseException, raises: bool, html: bool) -> WSGIApplication:
    """An app that tells why the true one was not loaded.

    :param raises: whether it raises the failure, for the debugger to show.
    :param html: whether it tells so in a page, which can be reloaded by itself.
    """
    reason = _reason(failure)
    sentence = f"The app could not be loaded. {reason}\n"
    frames = failure.__traceback__

    if html:
        sentence = f"<!doctype html>\n<pre>{escape(sentence)}</pre>\n"

    body = sentence.encode()

    def application(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> t.Iterable[bytes]:
        __traceback_hide__ = True
        upgrade = is_handshake(environ)

        if raises and not upgrade:
            # The terminal has shown it already, once for all requests.
            environ["wsgi.errors"] = io.StringIO()
            raise (
                failure.with_traceback(frames)
                if isinstance(failure, Exception)
                else RuntimeError(reason)  # SystemExit would end the server
            )

        start_response(
            "503 Service Unavailable" if upgrade else "500 Internal Server Error",
            [
                ("Content-Type", f"text/{'html' if html else 'plain'}; charset=utf-8"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ],
        )
        return [body]

    return application
