"""Loads the app, or finds out why it can't be, and makes what is served for it."""

from __future__ import annotations

import importlib
import typing as t

from flask import Flask
from flask.cli import NoAppException, ScriptInfo, prepare_import
from werkzeug.debug import DebuggedApplication

from ..files import current_directory
from ..settings import Settings
from .core import is_handshake, run_in_threads
from .failures import ServerCrashed, app_frames, failed_app, outlive_exits

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def load(
    settings: Settings, crash: str | None
) -> tuple[Flask, None] | tuple[None, BaseException]:
    """The app, or the reason why there is none.

    :param crash: why the last server is gone, if that is the reason.
    """
    if crash is not None:
        return None, ServerCrashed(crash)

    try:
        return _script_info(settings).load_app(), None
    except (Exception, SystemExit) as error:
        return None, _true_error(error)


def _script_info(settings: Settings) -> ScriptInfo:
    """What knows how to load the app, as in the process of the command."""
    if not settings.is_group:
        return ScriptInfo(
            app_import_path=settings.app, set_debug_flag=settings.set_debug_flag
        )

    path, _, name = str(settings.app).rpartition(":")
    group = getattr(importlib.import_module(prepare_import(path)), name)
    return ScriptInfo(
        create_app=group.create_app, set_debug_flag=settings.set_debug_flag
    )


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

    if isinstance(error, FileNotFoundError) and current_directory() is None:
        return NoAppException(
            "The directory that 'flask wsrun' was started in has been deleted. Start it"
            " again in one that exists."
        )

    return error.with_traceback(app_frames(error.__traceback__))


def wrap(
    settings: Settings, app: Flask | None, failure: BaseException | None
) -> tuple[WSGIApplication, DebuggedApplication | None]:
    """What is served for the app, and the debugger if it is part of it."""
    served: WSGIApplication

    if app is not None:
        run_in_threads(app)
        served = outlive_exits(app)
    else:
        assert failure is not None
        served = failed_app(failure, raises=settings.debugger, html=settings.live)

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
