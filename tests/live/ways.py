"""The ways to serve an app: which server, how it is started, and what it can do."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from .processes import Server

_LISTENING = r"Listening at: http://127\.0\.0\.1:(\d+)"
_RUNNING = r"Running on http://127\.0\.0\.1:(\d+)"

_GUNICORN = (
    *("-m", "gunicorn", "--bind", "127.0.0.1:0"),
    # Its masters would share a socket in the home directory.
    "--no-control-socket",
    *("--access-logfile", "-", "--graceful-timeout", "5"),
)


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to serve an app."""

    name: str
    #: The arguments for Python, with ``{app}`` for ``"module:app"``.
    command: tuple[str, ...]
    ready: str | None
    #: Handlers run in greenlets.
    is_gevent: bool = False
    #: Stock gevent-websocket answers the handshake before the app is asked.
    is_stock: bool = False
    #: ``ws.handler`` is a handler of gevent's pywsgi.
    has_handler: bool = False
    #: How many processes serve. What one of them knows another doesn't.
    processes: int = 1
    #: The command sets ``app.debug``.
    is_debug: bool = False
    #: After a handshake that was answered with HTTP the connection stays open.
    keeps_alive: bool = False

    def serve(self, app: str, env: t.Mapping[str, str] | None = None) -> Server:
        """A server for ``"module:app"`` that still has to be entered."""
        command = [part.replace("{app}", app) for part in self.command]
        return Server(command, self.ready, env)


@dataclasses.dataclass(frozen=True)
class Served:
    """An app that is being served in one of the ways."""

    way: Way
    server: Server

    def url(self, path: str) -> str:
        return self.server.url(path)


def _pywsgi(name: str, kind: str, **options: t.Any) -> Way:
    options = {"is_gevent": True, "has_handler": True, "keeps_alive": True, **options}
    return Way(name, ("serve.py", kind, "{app}"), _RUNNING, **options)


def _gunicorn(name: str, *arguments: str, **options: t.Any) -> Way:
    command = (*_GUNICORN, *arguments, "{app}")
    return Way(name, command, _LISTENING, keeps_alive=True, **options)


def _flask(name: str, *arguments: str, **options: t.Any) -> Way:
    return Way(name, ("-m", "flask", "--app", "{app}", *arguments), _RUNNING, **options)


PYWSGI = _pywsgi("pywsgi", "patched")
UNPATCHED = _pywsgi("pywsgi-unpatched", "unpatched")
STOCK = _pywsgi("pywsgi-stock", "stock", is_stock=True)
WORKER = _gunicorn(
    "gunicorn", "-k", "flask_sockets.worker", is_gevent=True, has_handler=True
)
TWO_WORKERS = _gunicorn(
    "gunicorn-w2",
    *("-k", "flask_sockets.worker", "-w", "2"),
    is_gevent=True,
    has_handler=True,
    processes=2,
)
STOCK_WORKER = _gunicorn(
    "gunicorn-stock",
    *("-k", "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"),
    is_gevent=True,
    is_stock=True,
    has_handler=True,
)
GTHREAD = _gunicorn("gunicorn-gthread", "-k", "gthread", "--threads", "16")
GEVENT = _gunicorn("gunicorn-gevent", "-k", "gevent", is_gevent=True)
GEVENT_PYWSGI = _gunicorn(
    "gunicorn-gevent_pywsgi", "-k", "gevent_pywsgi", is_gevent=True
)
FLASK_RUN = _flask("flask-run", "run", "--port", "0")
FLASK_DEBUG = _flask(
    "flask-run-debug", "run", "--debug", "--no-reload", "--port", "0", is_debug=True
)
WSRUN = _flask(
    "wsrun", "wsrun", "--port", "0", is_gevent=True, has_handler=True, keeps_alive=True
)
WSRUN_DEBUG = _flask(
    "wsrun-debug",
    *("--debug", "wsrun", "--no-reload", "--port", "0"),
    is_gevent=True,
    has_handler=True,
    keeps_alive=True,
    is_debug=True,
)

#: All with one process, whose apps may remember things.
WAYS = [
    *(PYWSGI, UNPATCHED, STOCK, WORKER, STOCK_WORKER, GTHREAD, GEVENT, GEVENT_PYWSGI),
    *(FLASK_RUN, FLASK_DEBUG, WSRUN, WSRUN_DEBUG),
]
GEVENT_WAYS = [way for way in WAYS if way.is_gevent]


def with_tls(way: Way, certificate: tuple[str, str]) -> Way:
    """gunicorn, or pywsgi, with a certificate and its key."""
    cert, key = certificate
    command = (*way.command, "--certfile", cert, "--keyfile", key)
    ready = (way.ready or "").replace("http:", "https:")
    return dataclasses.replace(way, command=command, ready=ready)


def shared(ways: t.Iterable[Way], module: str) -> list[t.Any]:
    """The parameters of a fixture that starts a server for all tests of a module.

    Tests that share a server run one after the other, in one worker of pytest-xdist:
    other workers would start servers of their own.

    :param module: its ``__name__``.
    """
    return [
        pytest.param(
            way, id=way.name, marks=pytest.mark.xdist_group(f"{module}-{way.name}")
        )
        for way in ways
    ]
