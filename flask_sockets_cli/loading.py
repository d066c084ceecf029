"""Loads the app, or finds out why it can't be, and makes what is served for it."""

from __future__ import annotations

import io
import traceback
import types
import typing as t
from html import escape

from flask import Flask
from flask.cli import NoAppException, ScriptInfo
from werkzeug.debug import DebuggedApplication

from flask_sockets.handshake import is_handshake

from .environment import read_again
from .logs import say
from .settings import Settings

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Modules whose part in an exception is nobody's business, besides those of this
#: package: what calls the app, and what loads it.
_CALLERS = frozenset({"flask.cli", "flask_sockets.serving.handler", "gevent.pywsgi"})


def load(
    settings: Settings, first: bool, crash: str | None
) -> tuple[Flask, None] | tuple[None, BaseException]:
    """The app, or the reason why there is none.

    :param first: whether nothing has been loaded yet since the command was started.
    :param crash: why the last server is gone, if that is the reason.
    """
    if crash is not None:
        return None, ServerCrashed(crash)

    if settings.dotenv is not None and not first:
        read_again(settings.dotenv)

    info = ScriptInfo(
        app_import_path=settings.app, set_debug_flag=settings.set_debug_flag
    )

    try:
        return info.load_app(), None
    except (Exception, SystemExit) as error:
        return None, _true_error(error)


class ServerCrashed(Exception):
    """The process that served the app has ended by itself."""


def _true_error(error: BaseException) -> BaseException:
    """The error as the app raised it.

    Flask makes the text of an ``ImportError`` inside of the app's module part of its
    own error. That a module was not found at all has no frame below Flask's own.
    """
    cause = error.__context__

    if (
        isinstance(error, NoAppException)
        and isinstance(cause, ImportError)
        and cause.__traceback__ is not None
        and cause.__traceback__.tb_next is not None
    ):
        error = cause

    return error.with_traceback(app_frames(error.__traceback__))


def app_frames(tb: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback without the frames of servers, loaders, and imports."""
    kept = []

    while tb is not None:
        if not _is_hidden(tb.tb_frame):
            kept.append(tb)

        tb = tb.tb_next

    following = None

    for tb in reversed(kept):
        tb.tb_next = following
        following = tb

    return following


def _is_hidden(frame: types.FrameType) -> bool:
    module: str = frame.f_globals.get("__name__", "")
    return (
        module in _CALLERS
        or module.startswith(f"{__package__}.")
        or frame.f_code.co_filename.startswith("<frozen importlib")
    )


def explain(failure: BaseException) -> None:
    """Say in the terminal why the app was not loaded."""
    if isinstance(failure, NoAppException):
        say(f"Error: {failure.format_message()}")
    elif isinstance(failure, ServerCrashed):
        say(f"Error: {failure}")
    else:
        show_exception(failure, failure.__traceback__)


def show_exception(error: BaseException, tb: types.TracebackType | None) -> None:
    """Say in the terminal what Python says of an exception that nobody has caught."""
    lines = traceback.format_exception(type(error), error, tb)
    say("".join(lines).rstrip())


def wrap(
    settings: Settings, app: Flask | None, failure: BaseException | None
) -> tuple[WSGIApplication, DebuggedApplication | None]:
    """What is served for the app, and the debugger if it is part of it."""
    served: WSGIApplication

    if app is not None:
        served = app
    else:
        assert failure is not None
        served = _failed_app(failure, raises=settings.debugger, html=settings.live)

    if not settings.debugger:
        return served, None

    debugged = DebuggedApplication(served, evalex=True, pin_logging=False)
    # Only now: it would have logged the PIN once more, for each reload.
    debugged.pin_logging = True
    debugged.trusted_hosts.append(settings.host)

    def application(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> t.Iterable[bytes]:
        # The page of an error is nothing a WebSocket could show.
        if is_handshake(environ):
            return served(environ, start_response)

        return debugged(environ, start_response)

    return application, debugged


def _failed_app(failure: BaseException, raises: bool, html: bool) -> WSGIApplication:
    """An app that tells why the true one was not loaded.

    :param raises: whether it raises the failure, for the debugger to show.
    :param html: whether it tells so in a page, which can be reloaded by itself.
    """
    name = type(failure).__name__
    reason = f"{name}: {failure}" if str(failure) else name
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
